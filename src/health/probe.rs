//! One pod's prober: requests `/health` again and again over a connection that it keeps.
//!
//! The kept connection is also a sentinel. A process that dies ends it, so the prober probes it at
//! once and not only at the next interval.

mod connection;
mod identity;
pub(super) mod plain;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use http::StatusCode;
use tokio::{
    sync::oneshot,
    time::{self, Instant},
};

use super::{
    Config, log_change, log_condition,
    rules::{Outcome, Streak, condition_after, condition_meanwhile, pressure, resumes_drain},
    share::{self, Standing},
    silence::{self, Silence},
};
use crate::{
    jellyfin::client::system,
    jitter,
    pod::{Condition, Epoch, Moment, Pod, Pool, Pressure, Rest, Suspected},
};
use connection::{FALSE_ALARMS, ProbeConnection, ProbeFailure, ended, pinged, probe_once};

pub(super) struct Prober {
    pod: Arc<Pod>,
    pool: Arc<Pool>,
    config: Arc<Config>,
    latest: Arc<ArcSwap<Config>>,
    streak: Streak,
    silence: Silence,
    /// When the pod was first found ill, since it was last well.
    ill_since: Option<Moment>,
    /// Checks in a row that were answered in time.
    timely: u32,
    /// Looks at checks that waited.
    looks: u32,
    /// Checks in a row that were given up while the pod did not serve.
    given_up: u32,
    /// When the present process became ready, if the prober saw that.
    ready_since: Option<Instant>,
    connection: Option<ProbeConnection>,
    /// Notified after the first probe.
    first: Option<oneshot::Sender<()>>,
    /// Whether the pod has reported its identity and was healthy ever since.
    is_named: bool,
    false_alarms: u32,
    /// Whether the kept connection has ended.
    line_ended: bool,
}

/// Checks in time after which a pod that was late is well again.
const TIMELY: u32 = 3;

/// Time between two looks at a probe that waits for its answer.
const LOOK: Duration = Duration::from_millis(100);

/// Looks between two changes of what the pod is given to do, while a check waits.
const LOOKS_TO_ADAPT: u32 = 5;

/// Looks between two questions that need no database, while a check is late.
const LOOKS_TO_PING: u32 = 10;

/// A check that hangs so long is asked again, if the pod answers others: its connection may be lost.
const LOST: Duration = Duration::from_secs(10);

impl Prober {
    pub(super) fn new(pod: Arc<Pod>, pool: Arc<Pool>, latest: Arc<ArcSwap<Config>>) -> Prober {
        Prober {
            pod,
            pool,
            config: latest.load_full(),
            latest,
            streak: Streak::default(),
            silence: Silence::default(),
            ill_since: None,
            timely: 0,
            looks: 0,
            given_up: 0,
            ready_since: None,
            connection: None,
            first: None,
            is_named: false,
            false_alarms: 0,
            line_ended: false,
        }
    }

    /// Probes for ever. Notifies `first` after the first probe, or when that is late. If it found the
    /// pod [`Outcome::Nameless`], only once the pod has reported its identity or another outcome
    /// follows.
    pub(super) async fn run(mut self, first: oneshot::Sender<()>) {
        self.first = Some(first);
        while self.round().await == Some(Outcome::Nameless) && !self.pod.status().is_alive() {
            self.wait().await;
        }
        self.end_first_round();
        let pod = self.pod.clone();
        loop {
            tokio::select! {
                biased;
                () = pod.sleep.await_asleep(true) => self.sleep().await,
                () = self.wait_and_probe() => {}
            }
        }
    }

    async fn wait_and_probe(&mut self) {
        let alarm = self.wait().await;
        match self.round().await {
            Some(Outcome::Healthy | Outcome::Nameless) if alarm => self.false_alarms += 1,
            Some(Outcome::Healthy | Outcome::Nameless) | None => {}
            Some(_) => self.false_alarms = 0,
        }
    }

    /// Leaves the pod alone until it is to wake: a question, or a connection that is kept, might
    /// wake it, or keep it awake.
    async fn sleep(&mut self) {
        self.connection = None;
        self.pod.sleep.await_asleep(false).await;
        self.streak.slept();
        self.silence.forget();
        (self.is_named, self.line_ended, self.given_up, self.ready_since) = (false, false, 0, None);
    }

    fn end_first_round(&mut self) {
        if let Some(first) = self.first.take() {
            let _ = first.send(());
        }
    }

    /// Waits until the next probe is due. Returns whether the sentinel raised the alarm.
    async fn wait(&mut self) -> bool {
        self.config = self.latest.load_full();
        let settled = self.streak.is_settled(self.pod.status(), &self.config);
        let interval = match settled {
            true => self.config.interval,
            // Requests that wait for the pod wait for this probe.
            false if self.streak.is_rising(self.pod.status()) => self.config.fast_interval / 5,
            false => self.config.fast_interval,
        };
        let listens = self.false_alarms < FALSE_ALARMS;
        tokio::select! {
            () = time::sleep(jittered(interval)) => false,
            () = self.pod.suspicions.await_next() => false,
            () = ended(&mut self.connection), if listens && self.connection.is_some() => true,
        }
    }

    /// Probes once and applies the result. `None`: no file handle was free to ask the pod.
    async fn round(&mut self) -> Option<Outcome> {
        let began = Moment::now();
        let (mut outcome, took) = self.probe().await?;
        let Suspected { gravest: suspicion, farewell } = self.pod.suspicions.take();
        // By now it may be another process, of another version.
        let may_be_another = self.line_ended && self.false_alarms < FALSE_ALARMS;
        self.is_named &= outcome == Outcome::Healthy && suspicion.is_none() && !may_be_another;
        if outcome == Outcome::Healthy && !self.is_named {
            self.is_named = self.fetch_info().await;
            outcome = if self.is_named { Outcome::Healthy } else { Outcome::Nameless };
        }
        self.pod.life.set_answers_probes(outcome.is_answer());
        let was_leaving = self.streak.is_leaving() || farewell;
        if std::mem::take(&mut self.line_ended) {
            self.streak.line_ended();
        }
        let ill_since = *self.ill_since.get_or_insert(began);
        let others_are_well = self.others_were_well_since(ill_since);
        let mut streak = self.streak.clone();
        let (before, after) = self.pod.life.change(|status| {
            let after = streak.judge(status, outcome, suspicion, others_are_well, &self.config);
            resumes_drain(status, after, self.pod.drain.is_ordered(status.epoch))
        });
        self.streak = streak;
        // A new process has announced nothing, whatever was heard of the one before.
        if (was_leaving && !self.streak.is_leaving()) || before.epoch != after.epoch {
            self.pod.life.record_end();
        }
        if matches!(outcome, Outcome::Healthy | Outcome::Nameless) {
            self.ill_since = None;
        }
        self.record(outcome, began, took, before.is_alive());
        if after.is_alive() && (!before.is_alive() || before.epoch != after.epoch) {
            if after.epoch > Epoch(1) && before.epoch != after.epoch {
                self.pod.concurrency.begin_cold();
            }
            // An epoch of 1 began before the proxy did.
            self.ready_since = (after.epoch > Epoch(1)).then(Instant::now);
        }
        log_change(&self.pod, before, after, outcome.as_str());
        self.pod.vitals.set_halvings(self.halvings());
        self.pod.suspicions.record_probe();
        Some(outcome)
    }

    /// Records what the probe's time says, of a pod that served until then or did not.
    fn record(&mut self, outcome: Outcome, began: Moment, took: Duration, did_serve: bool) {
        match outcome {
            Outcome::Healthy | Outcome::Nameless | Outcome::Unhealthy => self.silence.answered(took),
            Outcome::Refused | Outcome::Starting => self.silence.forget(),
            Outcome::Silent | Outcome::Broken | Outcome::Loop | Outcome::Untrusted => {}
        }
        if outcome.is_answer() {
            self.pod.vitals.record_life();
            self.pod.vitals.set_check_time(took);
            self.given_up = 0;
            self.pod.concurrency.adapt(pressure(took, &self.config));
        }
        let condition = match outcome {
            Outcome::Silent if did_serve => Condition::Silent,
            outcome => condition_after(Some(outcome), took, &self.config),
        };
        self.timely = if condition == Condition::Well { self.timely.saturating_add(1) } else { 0 };
        // Nothing that a pod suffered from before it was out says how it does afterwards.
        let is_back = self.timely >= TIMELY || !did_serve;
        match (condition, self.pod.vitals.condition()) {
            (Condition::Well, Condition::Silent | Condition::NoDatabase) if !is_back && outcome == Outcome::Healthy => {
                self.set_condition(Condition::Late);
            }
            (Condition::Well, _) if !is_back => {}
            _ => self.set_condition(condition),
        }
        if outcome == Outcome::Healthy {
            self.pod.vitals.record_good_check(began);
        }
    }

    fn set_condition(&self, condition: Condition) {
        let before = self.pod.vitals.set_condition(condition);
        self.pod.extra_calls.set_late(condition != Condition::Well);
        if before != condition && self.pod.status().is_alive() {
            log_condition(&self.pod, before, condition);
        }
    }

    /// Whether another pod that serves was found healthy after this moment, however late.
    fn others_were_well_since(&self, moment: Moment) -> bool {
        let pods = self.pool.pods();
        let mut others = pods.iter().filter(|pod| pod.id != self.pod.id && pod.status().is_alive());
        others.any(|pod| pod.vitals.was_checked_since(moment))
    }

    /// Whether no way leads to this pod, while another one answers or none else serves. If no way leads
    /// to any of them, the cause is this machine's network.
    fn is_alone_unreachable(&mut self, waited: Duration) -> bool {
        let since = *self.ill_since.get_or_insert(Moment::before_now(waited));
        is_last(&self.pod, &self.pool) || self.others_were_well_since(since)
    }

    fn halvings(&self) -> u8 {
        let standing = |pod: &Pod| Standing {
            condition: pod.vitals.condition(),
            check_time: pod.vitals.check_time(),
            playing: pod.vitals.playing(),
            serves_for: None,
        };
        let own = Standing { serves_for: self.ready_since.map(|since| since.elapsed()), ..standing(&self.pod) };
        let pods = self.pool.pods();
        let others = pods.iter().filter(|pod| pod.id != self.pod.id && pod.status().is_alive());
        share::halvings(&own, &others.map(|pod| standing(pod)).collect::<Vec<_>>(), &self.config)
    }

    /// Asks for the pod's health, and waits for the answer as long as the pod shows that it lives. A
    /// second question in place of a late one would only give a slow pod more to do.
    ///
    /// Gives what came of it, and how long that took. What this process itself was late with does
    /// not count.
    async fn probe(&mut self) -> Option<(Outcome, Duration)> {
        let (pod, path) = (self.pod.clone(), format!("{}{}", self.pool.base_path, system::HEALTH));
        let ping_path = format!("{}{}", self.pool.base_path, system::PING);
        let mut question = Box::pin(probe_once(pod.clone(), path.clone(), self.connection.take()));
        let (mut ping, mut looks, mut pings, mut probes_again) = (None, 0_u32, false, false);
        let (mut waited, mut last, mut asked) = (Duration::ZERO, Instant::now(), Instant::now());
        let answered = loop {
            tokio::select! {
                answered = &mut question => break answered,
                in_time = pinged(&mut ping), if ping.is_some() => {
                    ping = None;
                    if let Some(in_time) = in_time {
                        self.pod.vitals.record_life();
                        pings = in_time;
                    }
                }
                () = self.pod.suspicions.await_next() => {
                    // Only a fresh connection tells whether anybody listens there.
                    if self.pod.suspicions.has_refusal() && !std::mem::replace(&mut probes_again, true) {
                        question = Box::pin(probe_once(pod.clone(), path.clone(), None));
                    }
                }
                () = time::sleep(LOOK) => {
                    let since_last = last.elapsed();
                    last = Instant::now();
                    looks += 1;
                    waited += silence::counted(since_last);
                    let heard = self.pod.vitals.was_heard_since(Moment::before_now(since_last));
                    if self.is_over(waited, since_last, heard, pings) {
                        return Some((Outcome::Silent, waited));
                    }
                    if pings && asked.elapsed() > LOST {
                        (question, asked) = (Box::pin(probe_once(pod.clone(), path.clone(), None)), Instant::now());
                    }
                    let is_late = waited > self.config.timeout;
                    if is_late && looks.is_multiple_of(LOOKS_TO_PING) {
                        self.pod.load.call_sockets();
                    }
                    if is_late && looks.is_multiple_of(LOOKS_TO_PING) && ping.is_none() {
                        let question = probe_once(pod.clone(), ping_path.clone(), None);
                        ping = Some((Box::pin(question), Instant::now() + self.config.timeout));
                    }
                }
            }
        };
        if probes_again {
            // What was suspected meanwhile is looked at once more.
            self.pod.suspicions.probe_now();
        }
        self.line_ended |= answered.line_ended;
        let outcome = match answered.result {
            Err(ProbeFailure::Unasked) => return None,
            Err(ProbeFailure::Unreachable) if !self.is_alone_unreachable(waited) => return None,
            Err(ProbeFailure::Refused | ProbeFailure::Unreachable) => Outcome::Refused,
            Err(ProbeFailure::Broken) => Outcome::Broken,
            Err(ProbeFailure::Untrusted) => Outcome::Untrusted,
            Ok((connection, status, is_page, body)) => {
                self.connection = Some(connection);
                match (status, body.trim_ascii()) {
                    (StatusCode::OK, b"Healthy") => Outcome::Healthy,
                    (StatusCode::OK, b"Degraded") => Outcome::Starting,
                    (StatusCode::SERVICE_UNAVAILABLE, _) if is_page => Outcome::Starting,
                    (StatusCode::LOOP_DETECTED, _) => Outcome::Loop,
                    _ => Outcome::Unhealthy,
                }
            }
        };
        Some((outcome, waited + silence::counted(last.elapsed())))
    }

    /// Looks at a probe that waits. Returns whether the pod has been silent for too long, while
    /// others are not.
    fn is_over(&mut self, waited: Duration, since_last: Duration, heard: bool, pings: bool) -> bool {
        self.silence.look(since_last, heard);
        self.looks = self.looks.wrapping_add(1);
        if self.looks.is_multiple_of(LOOKS_TO_ADAPT) && pressure(waited, &self.config) == Pressure::TooMuch {
            self.pod.concurrency.adapt(Pressure::TooMuch);
        }
        if waited <= self.config.timeout {
            return false;
        }
        self.end_first_round();
        self.timely = 0;
        // Requests may wait for a pod that does not serve, and its connection may be a dead process's.
        if !self.pod.status().is_alive() {
            let is_waking = self.pod.sleep.rest() == Rest::Waking;
            let doublings = if is_waking { 0 } else { self.given_up.min(4) };
            let patience = self.config.timeout * 2 * 2_u32.pow(doublings);
            let is_over = waited >= patience.min(self.config.longest_silence);
            self.given_up += u32::from(is_over);
            return is_over;
        }
        self.pod.vitals.set_check_time(waited);
        self.pod.vitals.set_halvings(self.halvings());
        self.set_condition(condition_meanwhile(waited, self.silence.lasts(), pings, &self.config));
        // If no other pod serves, nobody could take its clients: it has the longest time.
        if is_last(&self.pod, &self.pool) {
            return self.silence.lasts() >= self.config.longest_silence.max(self.config.silence);
        }
        if !self.silence.is_over(&self.config) {
            return false;
        }
        // If all fall silent at once, the cause is not this pod's: it is their database, the network,
        // or the proxy's own machine.
        let began = Moment::before_now(self.silence.lasts());
        let is_over = self.others_were_well_since(began);
        if !is_over && self.looks.is_multiple_of(LOOKS_TO_PING) {
            self.pool.pods().iter().filter(|pod| pod.id != self.pod.id).for_each(|pod| pod.suspicions.probe_now());
        }
        is_over
    }
}

/// Whether no other pod of the pool is alive.
fn is_last(pod: &Pod, pool: &Pool) -> bool {
    !pool.pods().iter().any(|other| other.id != pod.id && other.status().is_alive())
}

/// The interval ±10 %, so that many pods and proxies do not probe in step.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(0.9 + 0.2 * jitter::fraction())
}
