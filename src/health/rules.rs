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
}

impl Outcome {
    /// Whether the pod answered at all.
    pub fn is_answer(self) -> bool {
        !matches!(self, Outcome::Refused | Outcome::Silent | Outcome::Broken)
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
    /// The status after a probe. `doubt` is what live traffic met since the last probe. `others_are_well`
    /// says whether another pod that serves was found well after this one was found ill. If none was,
    /// the cause may be all pods' own, such as their database, and moving clients helps nobody.
    pub fn judge(
        &mut self,
        before: Status,
        outcome: Outcome,
        doubt: Option<Suspicion>,
        others_are_well: bool,
        config: &Config,
    ) -> Status {
        if let Some(doubt) = doubt {
            self.good = 0;
            self.process_gone |= doubt == Suspicion::Refused;
            if doubt == Suspicion::Farewell {
                self.farewell.get_or_insert(0);
            }
        }
        if matches!(outcome, Outcome::Refused | Outcome::Starting) || doubt == Some(Suspicion::Refused) {
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
            Outcome::Refused => Status { state: State::Down, accepts: false, ..before },
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
pub(super) mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    pub(in crate::health) fn config() -> Config {
        Config {
            interval: Duration::from_secs(1),
            fast_interval: Duration::from_millis(250),
            timeout: Duration::from_millis(800),
            rise: 2,
            fall: 2,
            passive_failures: 3,
            passive_window: Duration::from_secs(10),
            silence: Duration::from_secs(5),
            longest_silence: Duration::from_secs(30),
            slow_start: Duration::from_secs(30),
        }
    }

    const UNKNOWN: Status = Status { state: State::Starting, accepts: true, epoch: Epoch(0) };

    fn after(outcomes: &[Outcome]) -> Status {
        let mut streak = Streak::default();
        outcomes.iter().fold(UNKNOWN, |status, outcome| streak.judge(status, *outcome, None, true, &config()))
    }

    #[test]
    fn the_first_good_probe_makes_a_pod_ready() {
        assert_eq!(after(&[Outcome::Healthy]), Status { state: State::Ready, accepts: true, epoch: Epoch(1) });
    }

    #[test]
    fn a_life_that_was_seen_to_begin_is_never_the_first() {
        use Outcome::*;
        for before in [Refused, Starting] {
            assert_eq!(after(&[before, Healthy]).epoch, Epoch(2));
        }
        assert_eq!(after(&[Unhealthy, Broken, Healthy]).epoch, Epoch(1), "it may have lived all the time");
    }

    #[test]
    fn a_pod_has_some_time_to_say_who_it_is_before_it_is_ready() {
        use Outcome::*;
        assert_eq!(after(&[Nameless]), UNKNOWN);
        assert_eq!(after(&[Nameless, Healthy]).state, State::Ready);
        assert_eq!(after(&[Nameless; 3]).state, State::Starting);
        assert_eq!(after(&[Nameless; 4]).state, State::Ready, "one that never does serves all the same");
        assert_eq!(after(&[Healthy, Nameless, Nameless]).state, State::Ready, "nobody is taken out for that");
        let again = [Healthy, Refused, Nameless, Nameless, Nameless, Healthy];
        assert_eq!(after(&again), Status { state: State::Down, accepts: true, epoch: Epoch(1) });
        assert_eq!(after(&[&again[..], &[Healthy]].concat()).epoch, Epoch(2), "a new life may be another version");
    }

    #[test]
    fn a_check_that_breaks_off_takes_nobody_out_and_two_do_and_a_long_silence_does() {
        use Outcome::*;
        assert_eq!(after(&[Healthy, Broken]).state, State::Ready);
        assert_eq!(after(&[Healthy, Broken, Broken]).state, State::Down);
        assert_eq!(after(&[Healthy, Broken, Healthy, Broken]).state, State::Ready);
        assert_eq!(after(&[Healthy, Silent]), Status { state: State::Down, accepts: true, epoch: Epoch(1) });
        assert_eq!(after(&[Healthy, Silent, Healthy, Healthy]).epoch, Epoch(1), "it was hung");
    }

    #[test]
    fn a_pod_without_its_database_stays_while_no_other_pod_is_well() {
        let mut streak = Streak::default();
        let ready = streak.judge(UNKNOWN, Outcome::Healthy, None, true, &config());
        for _ in 0..100 {
            assert_eq!(streak.judge(ready, Outcome::Unhealthy, None, false, &config()), ready);
        }
        assert_eq!(streak.judge(ready, Outcome::Unhealthy, None, true, &config()).state, State::Down);
        assert_eq!(streak.judge(UNKNOWN, Outcome::Unhealthy, None, false, &config()).state, State::Down);
    }

    #[test]
    fn what_a_check_says_of_a_pod_that_serves() {
        use Condition::*;
        let milliseconds = Duration::from_millis;
        for (outcome, waited, condition) in [
            (Outcome::Healthy, 5, Well),
            (Outcome::Healthy, 801, Late),
            (Outcome::Unhealthy, 5, NoDatabase),
            (Outcome::Broken, 5, Well),
        ] {
            assert_eq!(condition_after(Some(outcome), milliseconds(waited), &config()), condition, "{outcome:?}");
        }
        for (waited, silence, pings, condition) in [
            (500, 500, false, Well),
            (900, 900, false, Late),
            (1700, 1700, false, Silent),
            (9000, 100, false, Late),
            (2000, 100, true, Late),
            (3100, 100, true, NoDatabase),
        ] {
            let found = condition_meanwhile(milliseconds(waited), milliseconds(silence), pings, &config());
            assert_eq!(found, condition, "{waited} ms, silent for {silence} ms");
        }
    }

    #[test]
    fn a_refused_probe_takes_a_pod_out_at_once_and_its_return_is_a_new_epoch() {
        use Outcome::*;
        assert_eq!(after(&[Healthy, Refused]), Status { state: State::Down, accepts: false, epoch: Epoch(1) });
        assert_eq!(
            after(&[Healthy, Refused, Healthy]).state,
            State::Down,
            "one good probe is below the rise threshold"
        );
        assert_eq!(
            after(&[Healthy, Refused, Healthy, Healthy]),
            Status { state: State::Ready, accepts: true, epoch: Epoch(2) }
        );
    }

    #[test]
    fn a_starting_pod_is_not_ready_though_it_answers_200() {
        use Outcome::*;
        let status = after(&[Healthy, Starting]);
        assert_eq!((status.state, status.accepts), (State::Starting, true));
        assert_eq!(after(&[Healthy, Starting, Healthy, Healthy]).epoch, Epoch(2));
    }

    #[test]
    fn a_pod_without_its_database_is_down_but_accepts_and_comes_back_in_the_same_epoch() {
        use Outcome::*;
        assert_eq!(
            after(&[Healthy, Unhealthy, Unhealthy]),
            Status { state: State::Down, accepts: true, epoch: Epoch(1) }
        );
        assert_eq!(after(&[Healthy, Unhealthy, Unhealthy, Healthy, Healthy]).epoch, Epoch(1));
    }

    #[test]
    fn after_a_farewell_no_good_probe_counts_until_the_process_has_ended() {
        let farewell = |streak: &mut Streak| {
            let healthy = streak.judge(UNKNOWN, Outcome::Healthy, None, true, &config());
            let down = Status { state: State::Down, ..healthy };
            let after = streak.judge(down, Outcome::Healthy, Some(Suspicion::Farewell), true, &config());
            assert!(after == down && streak.is_leaving());
            after
        };
        let again = |streak: &mut Streak, mut status: Status, times: u32| {
            for _ in 0..times {
                status = streak.judge(status, Outcome::Healthy, None, true, &config());
            }
            (status.state, status.epoch)
        };
        // The process ends when it no longer listens, or when the kept connection ends.
        let mut streak = Streak::default();
        let status = farewell(&mut streak);
        assert_eq!(again(&mut streak, status, 5).0, State::Down);
        let status = streak.judge(status, Outcome::Refused, None, true, &config());
        assert!(!streak.is_leaving());
        assert_eq!(again(&mut streak, status, 2), (State::Ready, Epoch(2)));
        let mut streak = Streak::default();
        let status = farewell(&mut streak);
        streak.line_ended();
        assert_eq!(again(&mut streak, status, 2), (State::Ready, Epoch(2)), "it came back before it was asked again");
        // A farewell after which the process does not end.
        let mut streak = Streak::default();
        let status = farewell(&mut streak);
        assert_eq!(again(&mut streak, status, LONG_FAREWELL - 2).0, State::Down);
        let mut streak = Streak::default();
        let status = farewell(&mut streak);
        assert_eq!(again(&mut streak, status, LONG_FAREWELL + 2), (State::Ready, Epoch(2)));
    }

    #[test]
    fn a_doubt_of_live_traffic_begins_the_streak_anew() {
        let mut streak = Streak::default();
        let mut status = UNKNOWN;
        for _ in 0..5 {
            status = streak.judge(status, Outcome::Healthy, None, true, &config());
        }
        status.state = State::Down;
        status = streak.judge(status, Outcome::Healthy, Some(Suspicion::Broken), true, &config());
        assert_eq!(status.state, State::Down);
        status = streak.judge(status, Outcome::Healthy, None, true, &config());
        assert_eq!(
            (status.state, status.epoch),
            (State::Ready, Epoch(1)),
            "a broken connection alone is no new process"
        );
    }

    fn any_outcome() -> impl Strategy<Value = Outcome> {
        use Outcome::*;
        prop_oneof![
            Just(Healthy),
            Just(Nameless),
            Just(Starting),
            Just(Unhealthy),
            Just(Refused),
            Just(Silent),
            Just(Broken)
        ]
    }

    proptest! {
        #[test]
        fn epochs_never_shrink_and_only_grow_when_a_pod_becomes_ready(outcomes in prop::collection::vec(any_outcome(), 0..60)) {
            let mut streak = Streak::default();
            let mut before = UNKNOWN;
            for outcome in outcomes {
                let after = streak.judge(before, outcome, None, true, &config());
                prop_assert!(after.epoch >= before.epoch);
                if after.epoch > before.epoch {
                    prop_assert!(after.state == State::Ready && before.state != State::Ready);
                }
                if outcome == Outcome::Refused {
                    prop_assert!(!after.accepts && after.state == State::Down);
                }
                before = after;
            }
        }
    }
}
