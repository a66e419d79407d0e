//! Pods that sleep: woken when a request needs one, put to sleep when nobody uses them.
//!
//! A sleeping pod counts as down, and is not probed. Requests that need it are held as for a restart.
//! However many there are, its wake hook is called once, then again with growing pauses while some
//! wait. Whether its process lived on is not known, so a woken pod begins a new epoch.

mod others;

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    task::JoinHandle,
    time::{self, Instant},
};

use self::others::Others;
use super::roll::Rolls;
use crate::{
    health,
    observe::metrics::{Metrics, WakeHook},
    pod::{Condition, Moment, Pod, PodId, Pool, Rest},
    proxy::shared_state::SharedState,
    shutdown::Shutdown,
    wake::{self, Act as Hook, Machine},
};

/// Pause between two looks at the pods of a pool in which one can be woken.
const LOOK: Duration = Duration::from_millis(50);

/// Pause between two looks whether the configuration names such a pod.
const LOOK_FOR_ONE: Duration = Duration::from_secs(1);

/// A pod that is down by itself, and has answered nothing for so long, counts as asleep.
const DOZES_AFTER: Duration = Duration::from_secs(60);

/// A pod that nobody waits for any more and that has not woken so long after its hook sleeps on.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(120);

/// Pause after a hook until the next one, which doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A machine may go to sleep so long after its hook has said that it has slept.
const FALLS_ASLEEP: Duration = Duration::from_secs(60);

/// A request that is at a pod for so long is a client's. Calls of jellypin's own are shorter.
const LONG: Duration = Duration::from_secs(30);

/// Time between two questions whether another replica uses a pod.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// What is to be done with a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Nothing,
    /// It is awake.
    Rise,
    /// Its hook is to wake it.
    Wake,
    /// It was woken too early: its machine went to sleep only after that.
    WakeAgain,
    /// It counts as asleep.
    Doze,
    /// Nobody has used it: its hook lets it sleep.
    Sleep,
}

/// What is known of a pod at a look.
#[derive(Clone, Copy, Debug)]
struct Seen {
    rest: Rest,
    is_alive: bool,
    /// Requests that wait for it.
    waiting: usize,
    /// Nobody has used it for `idle_after`.
    is_idle: bool,
    /// How long it is down and answers nothing.
    down: Duration,
    /// Whether it answered its last probe, or says that it starts.
    answers: bool,
    /// Whether it may have gone to sleep after it was woken.
    falls_asleep: bool,
    /// Whether a request waits for it or is under way there.
    is_wanted: bool,
    /// Since its last hook, and the pause that is to pass after it; `None` before the first.
    since_hook: Option<(Duration, Duration)>,
}

/// What is remembered of a pod.
#[derive(Default)]
struct Sleeper {
    down_since: Option<Instant>,
    busy_since: Option<Instant>,
    hook: Option<(Instant, Duration)>,
    /// When its hook was told last that it may sleep, or was still at it.
    slept: Option<Instant>,
    /// When its hook was to wake it last, since then.
    woken: Option<Moment>,
    /// When that was found to have been too early.
    woken_again: Option<Instant>,
    noted: Option<Instant>,
    /// When the other replicas were asked last whether they use it.
    asked: Option<Instant>,
    running: Option<JoinHandle<()>>,
}

impl Sleeper {
    /// Whether the pod may have gone to sleep after it was woken: hooks return before machines sleep.
    fn falls_asleep(&self, pod: &Pod) -> bool {
        let status = pod.status();
        let is_late = match status.is_alive() {
            true => matches!(pod.vitals.condition(), Condition::Late | Condition::Silent),
            // One that refuses is on its way up.
            false => status.accepts && !pod.life.answers(),
        };
        // One that has not answered since was woken asleep.
        let is_first = || self.woken.is_none_or(|at| pod.vitals.was_heard_since(at));
        is_late
            && self.slept.is_some_and(|at| at.elapsed() < FALLS_ASLEEP)
            && self.woken_again.map_or_else(is_first, |at| at.elapsed() >= FIRST_PAUSE)
    }
}

/// Wakes pods, and lets them sleep.
pub(super) struct SleepKeeper {
    shared: Arc<SharedState>,
    rolls: Rolls,
    metrics: Metrics,
    shutdown: Shutdown,
    sleepers: HashMap<PodId, Sleeper>,
}

impl SleepKeeper {
    pub(super) fn new(shared: Arc<SharedState>, rolls: Rolls, (metrics, shutdown): (Metrics, Shutdown)) -> SleepKeeper {
        SleepKeeper { shared, rolls, metrics, shutdown, sleepers: HashMap::new() }
    }

    /// Looks after a pool until the shutdown.
    pub(super) async fn run(mut self, pool: Arc<Pool>) {
        loop {
            let pause = if self.look(&pool).await { LOOK } else { LOOK_FOR_ONE };
            tokio::select! {
                () = time::sleep(pause) => {}
                () = self.shutdown.stopping() => return,
            }
        }
    }

    /// Returns whether a pod of the pool can be woken.
    async fn look(&mut self, pool: &Arc<Pool>) -> bool {
        let pods = pool.pods().to_vec();
        self.sleepers.retain(|id, _| pods.iter().any(|pod| pod.id == *id && pool.wake_of(&pod.name).is_some()));
        let mut any = false;
        for pod in &pods {
            let config = pool.wake_of(&pod.name);
            pod.sleep.set_wakeable(config.is_some());
            if let Some(config) = config {
                any = true;
                let mut sleeper = self.sleepers.remove(&pod.id).unwrap_or_else(|| self.new_sleeper(pod));
                self.look_at(pod, &config, &mut sleeper).await;
                self.sleepers.insert(pod.id, sleeper);
            }
        }
        any
    }

    fn new_sleeper(&self, pod: &Pod) -> Sleeper {
        for act in Hook::ALL {
            ["done", "failed"].into_iter().for_each(|outcome| count(&self.metrics, pod, act, outcome, 0));
        }
        Sleeper::default()
    }

    async fn look_at(&self, pod: &Arc<Pod>, config: &Arc<wake::Config>, sleeper: &mut Sleeper) {
        let now = Instant::now();
        let status = pod.status();
        let answers = status.is_alive() || pod.life.answers();
        // A roll waits for its pods, and goes on while all others serve.
        let is_rolled = self.rolls.lock().get(&pod.pool).is_some_and(|roll| !roll.is_over);
        sleeper.down_since = if answers || is_rolled { None } else { sleeper.down_since.or(Some(now)) };
        sleeper.busy_since = if pod.load.requests() == 0 { None } else { sleeper.busy_since.or(Some(now)) };
        let is_busy = sleeper.busy_since.is_some_and(|since| since.elapsed() >= LONG);
        if is_busy || pod.load.sockets() > 0 || self.plays(pod) {
            pod.sleep.record_use();
        }
        if sleeper.running.as_ref().is_some_and(|hook| !hook.is_finished()) {
            if pod.sleep.rest() == Rest::Asleep {
                sleeper.slept = Some(now);
            }
            return;
        }
        let unused = pod.sleep.unused_for();
        let seen = Seen {
            rest: pod.sleep.rest(),
            is_alive: status.is_alive(),
            waiting: pod.sleep.waiting(),
            is_idle: !is_rolled && is_idle(pod, config),
            answers: answers || is_rolled,
            falls_asleep: sleeper.falls_asleep(pod),
            is_wanted: pod.sleep.waiting() > 0 || pod.load.total() > 0,
            down: sleeper.down_since.map(|since| since.elapsed()).unwrap_or_default(),
            since_hook: sleeper.hook.map(|(at, pause)| (at.elapsed(), pause)),
        };
        let others = Others { shared: &self.shared, pod };
        if let Some(after) = config.idle_after.filter(|_| seen.is_alive) {
            others.note_use(&mut sleeper.noted, unused, after).await;
        }
        match act(seen) {
            Act::Nothing => {}
            Act::Rise => {
                sleeper.hook = None;
                pod.sleep.record_use();
                pod.sleep.set_rest(Rest::Awake);
                tracing::info!(pod.name = &*pod.name, pod.pool = &*pod.pool, "a pod is awake");
            }
            Act::Doze => {
                sleeper.hook = None;
                health::falls_asleep(pod, "it has been down for a while");
            }
            Act::Wake => {
                let pause = sleeper.hook.map_or(FIRST_PAUSE, |(_, pause)| (pause * 2).min(LONGEST_PAUSE));
                sleeper.hook = Some((now, pause));
                sleeper.woken = Some(Moment::now());
                pod.sleep.set_rest(Rest::Waking);
                if others.take_turn(Hook::Wake, pause).await {
                    sleeper.running = Some(self.start(pod, config, Hook::Wake));
                }
            }
            // Its own turn was before.
            Act::WakeAgain => {
                sleeper.hook = Some((now, FIRST_PAUSE));
                sleeper.woken_again = Some(now);
                sleeper.running = Some(self.start(pod, config, Hook::Wake));
            }
            Act::Sleep if sleeper.asked.is_some_and(|at| at.elapsed() < ASK_AGAIN) => {}
            Act::Sleep => {
                sleeper.asked = Some(now);
                // A client may have come while that was asked.
                if others.use_it().await || !is_idle(pod, config) {
                    return;
                }
                sleeper.hook = None;
                (sleeper.slept, sleeper.woken, sleeper.woken_again) = (Some(now), None, None);
                health::falls_asleep(pod, "nobody has used it");
                if others.take_turn(Hook::Sleep, FIRST_PAUSE).await {
                    sleeper.running = Some(self.start(pod, config, Hook::Sleep));
                }
            }
        }
    }

    /// Whether a client that is there plays something that the pod serves.
    fn plays(&self, pod: &Pod) -> bool {
        self.shared.clients_of(pod).iter().any(|session| session.calls.is_playing())
    }

    fn start(&self, pod: &Arc<Pod>, config: &Arc<wake::Config>, act: Hook) -> JoinHandle<()> {
        let machine = Machine { pool: pod.pool.to_string(), pod: pod.name.to_string() };
        let (pod, config, metrics) = (pod.clone(), config.clone(), self.metrics.clone());
        // A stop does not wait for it: it may take a minute.
        tokio::spawn(async move {
            let (name, pool, waiting) = (&*pod.name, &*pod.pool, pod.sleep.waiting());
            match wake::run(&config, act, &machine).await {
                Ok(()) => {
                    count(&metrics, &pod, act, "done", 1);
                    tracing::info!(
                        pod.name = name,
                        pod.pool = pool,
                        act = act.as_str(),
                        waiting,
                        "a pod's hook was called"
                    );
                }
                Err(why) => {
                    count(&metrics, &pod, act, "failed", 1);
                    tracing::error!(pod.name = name, pod.pool = pool, act = act.as_str(), why, "a pod's hook failed");
                }
            }
        })
    }
}

/// Whether nobody has used the pod for `idle_after`, and nobody waits for it.
fn is_idle(pod: &Pod, config: &wake::Config) -> bool {
    let is_unused = config.idle_after.is_some_and(|after| pod.sleep.unused_for() >= after);
    is_unused && pod.load.total() == 0 && pod.sleep.waiting() == 0
}

fn act(seen: Seen) -> Act {
    let may_rise = seen.is_alive && seen.rest == Rest::Waking;
    if seen.falls_asleep && seen.is_wanted && seen.rest != Rest::Asleep && !may_rise {
        return Act::WakeAgain;
    }
    if seen.is_alive {
        return match seen.rest {
            // The hook that lets it sleep may take a while; a check that is under way says nothing.
            Rest::Asleep => Act::Nothing,
            Rest::Waking => Act::Rise,
            Rest::Awake if seen.is_idle => Act::Sleep,
            Rest::Awake => Act::Nothing,
        };
    }
    match (seen.rest, seen.since_hook) {
        (Rest::Waking, Some((since, pause))) if seen.waiting > 0 && since < pause => Act::Nothing,
        _ if seen.waiting > 0 => Act::Wake,
        (Rest::Waking, Some((since, _))) if since < GIVEN_UP_AFTER || seen.answers => Act::Nothing,
        (Rest::Waking, _) => Act::Doze,
        (Rest::Awake, _) if seen.down >= DOZES_AFTER => Act::Doze,
        (Rest::Awake | Rest::Asleep, _) => Act::Nothing,
    }
}

fn count(metrics: &Metrics, pod: &Pod, act: Hook, outcome: &'static str, by: u64) {
    let labels = WakeHook { pool: pod.pool.clone(), pod: pod.name.clone(), act: act.as_str(), outcome };
    metrics.wake_hooks.get_or_create(&labels).inc_by(by);
}

#[cfg(test)]
mod tests;
