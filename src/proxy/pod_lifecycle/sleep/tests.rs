//! When a pod's hook is called, and which one.

use super::*;
use crate::pod::{LoadGuard, PodConfig, State, Status, WakeCall};

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
        answers: is_alive,
        falls_asleep: false,
        is_wanted: waiting > 0,
        since_hook: since_hook.map(|since| (secs(since), secs(10))),
    };
    let answers = |seen: Seen| Seen { answers: true, down: Duration::ZERO, ..seen };
    let late = |seen: Seen| Seen { falls_asleep: true, is_wanted: true, ..seen };
    for (seen, expected) in [
        (seen(Awake, true, 0, false, 0, None), Act::Nothing),
        (seen(Awake, true, 0, true, 0, None), Act::Sleep),
        (seen(Awake, true, 1, false, 0, None), Act::Nothing),
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
        // It starts, and that takes long.
        (answers(seen(Awake, false, 0, false, 900, None)), Act::Nothing),
        (answers(seen(Waking, false, 0, false, 900, Some(500))), Act::Nothing),
        // It was woken before its machine slept.
        (late(seen(Awake, true, 0, false, 0, None)), Act::WakeAgain),
        (late(seen(Waking, false, 1, false, 0, Some(3))), Act::WakeAgain),
        (late(seen(Waking, true, 1, false, 0, Some(3))), Act::Rise),
        (late(seen(Asleep, false, 1, false, 0, None)), Act::Wake),
        (Seen { is_wanted: false, ..late(seen(Awake, true, 0, false, 0, None)) }, Act::Nothing),
    ] {
        assert_eq!(act(seen), expected, "{seen:?}");
    }
}
#[test]
fn a_pod_that_answered_after_its_hook_and_is_late_may_have_fallen_asleep() {
    let pod = Pod::new(&"pool".into(), &PodConfig { name: "a".into(), authority: "h:1".into(), ..Default::default() });
    pod.life.change(|status| Status { state: State::Ready, accepts: true, ..status });
    let slept = Sleeper { slept: Some(Instant::now()), woken: Some(Moment::now()), ..Sleeper::default() };
    pod.vitals.record_life();
    assert!(!slept.falls_asleep(&pod), "it is well");
    pod.vitals.set_condition(Condition::Late);
    assert!(slept.falls_asleep(&pod) && !Sleeper::default().falls_asleep(&pod));
    let again = Sleeper { woken_again: Some(Instant::now()), ..slept };
    assert!(!again.falls_asleep(&pod), "its hook was called just now");
    health::broken(&pod);
    pod.life.set_answers_probes(false);
    let again = Sleeper { woken_again: None, ..again };
    assert!(again.falls_asleep(&pod), "before it was ready");
    health::refused(&pod);
    assert!(!again.falls_asleep(&pod), "it starts");
}

#[test]
fn a_pod_that_a_client_uses_or_waits_for_is_not_idle() {
    let pod = Arc::new(Pod::new(
        &"pool".into(),
        &PodConfig { name: "a".into(), authority: "h:1".into(), ..Default::default() },
    ));
    let after = |idle_after| wake::Config { idle_after, ..wake::Config::default() };
    let at_once = after(Some(Duration::ZERO));
    assert!(is_idle(&pod, &at_once) && !is_idle(&pod, &after(None)));
    let waits = WakeCall::new(&pod);
    assert!(!is_idle(&pod, &at_once));
    drop(waits);
    let request = LoadGuard::of_request(&pod);
    assert!(!is_idle(&pod, &at_once));
    drop(request);
    pod.sleep.set_wakeable(true);
    pod.sleep.record_use();
    assert!(!is_idle(&pod, &after(Some(Duration::from_secs(60)))));
}
