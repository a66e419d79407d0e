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
fn another_server_at_the_address_begins_a_new_life() {
    let mut streak = Streak::default();
    let mut status = UNKNOWN;
    for (has_changed, epoch) in [(false, 1), (false, 1), (true, 2), (false, 2), (true, 3)] {
        if has_changed {
            streak.server_changed();
        }
        status = streak.judge(status, Outcome::Healthy, None, true, &config());
        assert_eq!(status, Status { state: State::Ready, accepts: true, epoch: Epoch(epoch) });
    }
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
    assert_eq!(after(&[Healthy, Refused, Healthy]).state, State::Down, "one good probe is below the rise threshold");
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
    assert_eq!(after(&[Healthy, Unhealthy, Unhealthy]), Status { state: State::Down, accepts: true, epoch: Epoch(1) });
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
fn a_doubt_of_live_traffic_starts_the_streak_again() {
    let mut streak = Streak::default();
    let mut status = UNKNOWN;
    for _ in 0..5 {
        status = streak.judge(status, Outcome::Healthy, None, true, &config());
    }
    status.state = State::Down;
    status = streak.judge(status, Outcome::Healthy, Some(Suspicion::Broken), true, &config());
    assert_eq!(status.state, State::Down);
    status = streak.judge(status, Outcome::Healthy, None, true, &config());
    assert_eq!((status.state, status.epoch), (State::Ready, Epoch(1)), "a broken connection alone is no new process");
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

#[test]
fn a_drain_that_was_ordered_outlasts_what_does_not_end_the_process() {
    use Outcome::*;
    for (outcomes, ordered, state, epoch) in [
        (&[Broken, Broken, Healthy, Healthy][..], true, State::Draining, 1),
        (&[Silent, Healthy, Healthy], true, State::Draining, 1),
        (&[Unhealthy, Unhealthy, Healthy, Healthy], true, State::Draining, 1),
        (&[Broken, Broken, Healthy, Healthy], false, State::Ready, 1),
        (&[Refused, Healthy, Healthy], true, State::Ready, 2),
        (&[Starting, Healthy, Healthy], true, State::Ready, 2),
    ] {
        let mut streak = Streak::default();
        let ready = streak.judge(UNKNOWN, Healthy, None, true, &config());
        let draining = Status { state: State::Draining, ..ready };
        let after = outcomes.iter().fold(draining, |status, outcome| {
            let after = streak.judge(status, *outcome, None, true, &config());
            resumes_drain(status, after, ordered && status.epoch == Epoch(1))
        });
        assert_eq!((after.state, after.epoch), (state, Epoch(epoch)), "{outcomes:?}");
    }
    let ready = Status { state: State::Ready, accepts: true, epoch: Epoch(1) };
    assert_eq!(resumes_drain(ready, ready, true), ready, "one that serves is not made to drain");
}
