//! Pods that sleep: woken when a request needs one, told that they may sleep when nobody used them.
//!
//! A sleeping pod is down, and nobody asks it for its health. Requests that need it are held as for
//! a restart; however many they are, its hook is called once, and again with growing pauses as long
//! as some wait. How it was put to sleep is not known, so it begins a new epoch.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    task::JoinHandle,
    time::{self, Instant},
};

use crate::{
    health,
    observe::metrics::{Metrics, WakeHook},
    pod::{Pod, PodId, Pool, Rest},
    proxy::shared_state::SharedState,
    shutdown::Shutdown,
    store::redis_store::RedisStore,
    wake::{self, Act as Hook, Machine},
};

/// Pause between two looks at the pods of a pool in which one can be woken.
const LOOK: Duration = Duration::from_millis(50);

/// Pause between two looks whether the configuration names such a pod.
const LOOK_FOR_ONE: Duration = Duration::from_secs(1);

/// A pod that has been down for so long by itself counts as asleep. One that restarts is back sooner.
const DOZES_AFTER: Duration = Duration::from_secs(60);

/// A pod that nobody waits for any more and that has not woken so long after its hook sleeps on.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(120);

/// Pause after a hook until the next one, which doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A request that is at a pod for so long is a client's. Calls of jellypin's own are shorter.
const LONG: Duration = Duration::from_secs(30);

/// Longest time between two notes in Redis that a pod is in use.
const NOTE: Duration = Duration::from_secs(5);

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
    /// How long it is down.
    down: Duration,
    /// Since its last hook, and the pause that is to pass after it; `None` before the first.
    since_hook: Option<(Duration, Duration)>,
}

/// What is remembered of a pod.
#[derive(Default)]
struct Sleeper {
    down_since: Option<Instant>,
    busy_since: Option<Instant>,
    hook: Option<(Instant, Duration)>,
    noted: Option<Instant>,
    /// When the other replicas were asked last whether they use it.
    asked: Option<Instant>,
    running: Option<JoinHandle<()>>,
}

/// Wakes pods, and lets them sleep.
pub(super) struct SleepKeeper {
    shared: Arc<SharedState>,
    metrics: Metrics,
    shutdown: Shutdown,
    sleepers: HashMap<PodId, Sleeper>,
}

impl SleepKeeper {
    pub(super) fn new(shared: Arc<SharedState>, metrics: Metrics, shutdown: Shutdown) -> SleepKeeper {
        SleepKeeper { shared, metrics, shutdown, sleepers: HashMap::new() }
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
                let mut sleeper = self.sleepers.remove(&pod.id).unwrap_or_else(|| self.begin(pod));
                self.look_at(pod, &config, &mut sleeper).await;
                self.sleepers.insert(pod.id, sleeper);
            }
        }
        any
    }

    fn begin(&self, pod: &Pod) -> Sleeper {
        for act in Hook::ALL {
            ["done", "failed"].into_iter().for_each(|outcome| count(&self.metrics, pod, act, outcome, 0));
        }
        Sleeper::default()
    }

    async fn look_at(&self, pod: &Arc<Pod>, config: &Arc<wake::Config>, sleeper: &mut Sleeper) {
        let now = Instant::now();
        let status = pod.status();
        sleeper.down_since = if status.is_alive() { None } else { sleeper.down_since.or(Some(now)) };
        sleeper.busy_since = if pod.load.requests() == 0 { None } else { sleeper.busy_since.or(Some(now)) };
        let is_busy = sleeper.busy_since.is_some_and(|since| since.elapsed() >= LONG);
        if is_busy || pod.load.sockets() > 0 || self.plays(pod) {
            pod.sleep.record_use();
        }
        if sleeper.running.as_ref().is_some_and(|hook| !hook.is_finished()) {
            return;
        }
        let unused = pod.sleep.unused_for();
        let is_idle = config.idle_after.is_some_and(|after| unused >= after) && pod.load.total() == 0;
        let seen = Seen {
            rest: pod.sleep.rest(),
            is_alive: status.is_alive(),
            waiting: pod.sleep.waiting(),
            is_idle,
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
                pod.sleep.set_rest(Rest::Waking);
                if others.take_turn(Hook::Wake, pause).await {
                    sleeper.running = Some(self.start(pod, config, Hook::Wake));
                }
            }
            Act::Sleep if sleeper.asked.is_some_and(|at| at.elapsed() < ASK_AGAIN) => {}
            Act::Sleep => {
                sleeper.asked = Some(now);
                if others.use_it().await {
                    return;
                }
                sleeper.hook = None;
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

fn act(seen: Seen) -> Act {
    if seen.is_alive {
        return match seen.rest {
            // The hook that lets it sleep may take a while; a check that is under way says nothing.
            Rest::Asleep => Act::Nothing,
            Rest::Waking => Act::Rise,
            Rest::Awake if seen.is_idle && seen.waiting == 0 => Act::Sleep,
            Rest::Awake => Act::Nothing,
        };
    }
    match (seen.rest, seen.since_hook) {
        (Rest::Waking, Some((since, pause))) if seen.waiting > 0 && since < pause => Act::Nothing,
        _ if seen.waiting > 0 => Act::Wake,
        (Rest::Waking, Some((since, _))) if since < GIVEN_UP_AFTER => Act::Nothing,
        (Rest::Waking, _) => Act::Doze,
        (Rest::Awake, _) if seen.down >= DOZES_AFTER => Act::Doze,
        (Rest::Awake | Rest::Asleep, _) => Act::Nothing,
    }
}

fn count(metrics: &Metrics, pod: &Pod, act: Hook, outcome: &'static str, by: u64) {
    let labels = WakeHook { pool: pod.pool.clone(), pod: pod.name.clone(), act: act.as_str(), outcome };
    metrics.wake_hooks.get_or_create(&labels).inc_by(by);
}

/// The other replicas, which use a pod and call its hook too.
struct Others<'a> {
    shared: &'a SharedState,
    pod: &'a Pod,
}

impl Others<'_> {
    fn redis(&self) -> Option<&Arc<RedisStore>> {
        self.shared.pins.persistence.redis()
    }

    fn key(&self, redis: &RedisStore, what: &str) -> String {
        redis.key(&format!("sleep:{}:{}:{what}", self.pod.pool, self.pod.name))
    }

    /// Tells the others that the pod is in use here.
    async fn note_use(&self, noted: &mut Option<Instant>, unused: Duration, after: Duration) {
        let Some(redis) = self.redis() else { return };
        let often = NOTE.min(after / 2);
        if unused < often && noted.is_none_or(|at| at.elapsed() >= often) {
            *noted = Some(Instant::now());
            // Without it another replica may let the pod sleep; the next request wakes it.
            redis.documents.set(&self.key(redis, "used"), b"1", after + often).await;
        }
    }

    /// Whether another replica uses the pod, or may.
    async fn use_it(&self) -> bool {
        let Some(redis) = self.redis() else { return false };
        !matches!(redis.documents.get(&self.key(redis, "used")).await, Some(None))
    }

    /// Whether this replica is the one that calls the hook.
    async fn take_turn(&self, act: Hook, lasts: Duration) -> bool {
        let Some(redis) = self.redis() else { return true };
        // A second call does less harm than none.
        redis.acquire_lock(&self.key(redis, act.as_str()), lasts / 2).await.unwrap_or(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_hook_wakes_for_all_and_again_only_while_somebody_waits() {
        use Rest::{Asleep, Awake, Waking};
        let secs = Duration::from_secs;
        let seen = |rest, is_alive, waiting, is_idle, down, since_hook: Option<u64>| Seen {
            rest,
            is_alive,
            waiting,
            is_idle,
            down: secs(down),
            since_hook: since_hook.map(|since| (secs(since), secs(10))),
        };
        for (seen, expected) in [
            (seen(Awake, true, 0, false, 0, None), Act::Nothing),
            (seen(Awake, true, 0, true, 0, None), Act::Sleep),
            (seen(Awake, true, 1, true, 0, None), Act::Nothing),
            (seen(Asleep, true, 0, true, 0, None), Act::Nothing),
            (seen(Asleep, false, 0, true, 900, None), Act::Nothing),
            (seen(Asleep, false, 1000, true, 900, None), Act::Wake),
            (seen(Waking, false, 1000, true, 900, Some(3)), Act::Nothing),
            (seen(Waking, false, 1, true, 900, Some(10)), Act::Wake),
            (seen(Waking, false, 0, true, 900, Some(30)), Act::Nothing),
            (seen(Waking, false, 0, true, 900, Some(120)), Act::Doze),
            (seen(Waking, true, 9, true, 0, Some(7)), Act::Rise),
            (seen(Awake, false, 0, false, 7, None), Act::Nothing),
            (seen(Awake, false, 0, false, 60, None), Act::Doze),
            (seen(Awake, false, 1, false, 1, None), Act::Wake),
        ] {
            assert_eq!(act(seen), expected, "{seen:?}");
        }
    }
}
