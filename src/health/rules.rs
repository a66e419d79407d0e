//! What follows from a probe: pure rules, without a clock and without I/O.

use std::time::Duration;

use super::Config;
use crate::pod::{Condition, Epoch, Pressure, State, Status, Suspicion};

/// What one probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 200 with the body `Healthy`.
    Healthy,
    /// The same, but the pod has not reported its identity since it was last not healthy.
    Nameless,
    /// The pod reports that it starts: 200 `Degraded` (its set-up server), or 503 with a page (its
    /// core is not complete).
    Starting,
    /// Any other answer; 503 `Unhealthy` when the database is out of reach.
    Unhealthy,
    /// No connection: no process listens.
    Refused,
    /// Nothing at all was answered for longer than the pod may be silent.
    Silent,
    /// The connection broke in the middle.
    Broken,
    /// The question came back to this process.
    Loop,
    /// It does not speak TLS, or not as the pod that is meant.
    Untrusted,
}

impl Outcome {
    /// Whether the pod answered at all.
    pub fn is_answer(self) -> bool {
        !matches!(self, Outcome::Refused | Outcome::Silent | Outcome::Broken | Outcome::Untrusted)
    }

    /// The reason of a change as the log shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Healthy => "its health check says Healthy",
            Outcome::Nameless => "its health check says Healthy, and it does not say who it is",
            Outcome::Starting => "its health check says that it is starting",
            Outcome::Unhealthy => "its health check says that it is not healthy",
            Outcome::Refused => "its health check was refused",
            Outcome::Silent => "it answers nothing at all",
            Outcome::Broken => "its health check broke off",
            Outcome::Loop => "its address leads back to this jellypin",
            Outcome::Untrusted => "it is not trusted over TLS",
        }
    }
}

/// The streak of one pod's probes.
#[derive(Clone, Debug, Default)]
pub struct Streak {
    good: u32,
    bad: u32,
    /// The known process is gone: when the pod is ready again, a new epoch begins.
    process_gone: bool,
    /// Good probes that did not count, because the pod had not reported its identity.
    nameless: u32,
    /// Set while a process that announced its end still listens. It counts the good probes since,
    /// which say nothing about the next process.
    farewell: Option<u32>,
}

/// Good probes within which a pod should report its identity before it is ready. One that never
/// does serves all the same.
const NAMELESS: u32 = 3;

/// Good probes after a farewell, after which the rules assume that a new process began unseen. A
/// real pod stops listening after 0.1 s.
const LONG_FAREWELL: u32 = 20;

/// Bad probes after which a pod counts as settled: what it suffers from lasts.
const SETTLED: u32 = 40;

impl Streak {
    /// The pod slept, and nobody knows how: it may be another process that wakes.
    pub fn slept(&mut self) {
        *self = Streak { process_gone: true, ..Streak::default() };
    }

    /// The status after a probe. `suspicion` is what live traffic met since the last probe. `others_are_well`
    /// says whether another pod that serves was found well after this one was found ill. If none was,
    /// the cause may be all pods' own, such as their database, and moving clients helps nobody.
    pub fn judge(
        &mut self,
        before: Status,
        outcome: Outcome,
        suspicion: Option<Suspicion>,
        others_are_well: bool,
        config: &Config,
    ) -> Status {
        if let Some(suspicion) = suspicion {
            self.good = 0;
            self.process_gone |= suspicion == Suspicion::Refused;
            if suspicion == Suspicion::Farewell {
                self.farewell.get_or_insert(0);
            }
        }
        if matches!(outcome, Outcome::Refused | Outcome::Starting) || suspicion == Some(Suspicion::Refused) {
            self.farewell = None;
        }
        if let (Some(good), Outcome::Healthy | Outcome::Nameless) = (&mut self.farewell, outcome) {
            *good += 1;
            if *good < LONG_FAREWELL {
                return before;
            }
            self.line_ended();
        }
        match outcome {
            Outcome::Nameless if !before.is_alive() && self.nameless < NAMELESS => {
                (self.nameless, self.bad) = (self.nameless + 1, 0);
            }
            Outcome::Healthy | Outcome::Nameless => (self.good, self.bad) = (self.good.saturating_add(1), 0),
            _ => (self.good, self.bad, self.nameless) = (0, self.bad.saturating_add(1), 0),
        }
        self.process_gone |= matches!(outcome, Outcome::Refused | Outcome::Starting);
        match outcome {
            Outcome::Healthy | Outcome::Nameless => self.rise(before, config),
            Outcome::Starting => Status { state: State::Starting, accepts: true, ..before },
            // This is certain: no process listens. A threshold would not make it more so.
            Outcome::Refused | Outcome::Loop | Outcome::Untrusted => {
                Status { state: State::Down, accepts: false, ..before }
            }
            Outcome::Unhealthy if before.is_alive() && !others_are_well => before,
            Outcome::Unhealthy => self.fall(Status { accepts: true, ..before }, config),
            // The silence has lasted for as long as a threshold of probes would take.
            Outcome::Silent => Status { state: State::Down, ..before },
            Outcome::Broken => self.fall(before, config),
        }
    }

    /// The kept probe connection has ended. A process that announced its end closes it when it
    /// stops listening.
    pub fn line_ended(&mut self) {
        self.process_gone |= self.farewell.take().is_some();
    }

    /// The pod says that it is another server than before: another process listens there.
    pub fn server_changed(&mut self) {
        self.process_gone = true;
    }

    /// Whether a process that announced its end may still be there.
    pub fn is_leaving(&self) -> bool {
        self.farewell.is_some()
    }

    /// Whether the next probe may make the pod ready.
    pub fn is_rising(&self, status: Status) -> bool {
        self.good > 0 && !status.is_alive()
    }

    /// Whether the next probe may wait for the long interval.
    pub fn is_settled(&self, status: Status, config: &Config) -> bool {
        match status.state {
            State::Ready | State::Draining => self.bad == 0 || self.bad > SETTLED,
            State::Starting => false,
            State::Down => self.bad > SETTLED.max(config.fall),
        }
    }

    fn rise(&mut self, before: Status, config: &Config) -> Status {
        let first = before.epoch == Epoch(0);
        let enough = self.good >= if first { 1 } else { config.rise };
        let state = match before.state {
            State::Starting | State::Down if enough => State::Ready,
            state => state,
        };
        let after = Status { state, accepts: true, ..before };
        let has_begun = after.is_alive() && std::mem::take(&mut self.process_gone);
        let begins = after.is_alive() && (has_begun || first);
        // Epoch 1 is a process that ran before the proxy began. A process that the proxy saw begin
        // never gets it.
        let step = u32::from(begins) + u32::from(first && begins && has_begun);
        Status { epoch: Epoch(before.epoch.0 + step), ..after }
    }

    fn fall(&self, before: Status, config: &Config) -> Status {
        let state = if self.bad >= config.fall { State::Down } else { before.state };
        Status { state, ..before }
    }
}

/// The status after a probe of a pod that an operator may have ordered to drain. The order ends with
/// the process, and not when that was down for a moment.
pub fn resumes_drain(before: Status, after: Status, is_ordered: bool) -> Status {
    let is_back = after.state == State::Ready && !before.is_alive() && after.epoch == before.epoch;
    if is_back && is_ordered { Status { state: State::Draining, ..after } } else { after }
}

/// What a check that took this long, or waits for so long, shows of how much the pod has to do.
pub fn pressure(time: Duration, config: &Config) -> Pressure {
    match () {
        () if time > config.timeout => Pressure::TooMuch,
        () if time * 3 > config.timeout => Pressure::Enough,
        () => Pressure::Little,
    }
}

/// Time after which a health check that hangs, while the pod answers what needs no database, shows
/// that the database is the cause.
const HANGS: Duration = Duration::from_secs(3);

/// What an answered check, or one that still waits, says of a pod that serves.
pub fn condition_after(outcome: Option<Outcome>, waited: Duration, config: &Config) -> Condition {
    match outcome {
        Some(Outcome::Unhealthy) => Condition::NoDatabase,
        _ if waited > config.timeout => Condition::Late,
        _ => Condition::Well,
    }
}

/// What a check that still waits says. `silence` is how long nothing at all came from the pod, and
/// `pings` whether it answered, in time, a question that needs no database.
pub fn condition_meanwhile(waited: Duration, silence: Duration, pings: bool, config: &Config) -> Condition {
    match condition_after(None, waited, config) {
        Condition::Late if pings && waited > HANGS => Condition::NoDatabase,
        Condition::Late if silence > config.timeout * 2 => Condition::Silent,
        condition => condition,
    }
}

#[cfg(test)]
pub(super) mod tests;
