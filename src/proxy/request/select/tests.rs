//! Where requests go, by what is known of their clients.

use std::borrow::Cow;

use super::*;
use crate::{
    affinity::user_homes::{self, SpreadUsers, UserHomes},
    pod::{Epoch, PodConfig, Status},
    sessions::session::MoveReason,
};

fn pods() -> Vec<Arc<Pod>> {
    let pool: Arc<str> = "pool".into();
    let pod = |name: &&str| {
        let pod = Pod::new(&pool, &PodConfig { name: (*name).into(), authority: "h:1".into(), ..Default::default() });
        pod.life.change(|_| Status { state: State::Ready, accepts: true, epoch: Epoch(1) });
        pod
    };
    ["a", "b", "c"].iter().map(pod).collect()
}

fn keys<'a>() -> Keys<'a> {
    let address = [192, 0, 2, 1].into();
    Keys { identity: Identity::default(), cookie: None, has_cookie: false, address, user: None, loads: Loads::new() }
}

fn decided(pods: &[Arc<Pod>], keys: &Keys<'_>, pins: &Pins, tried: &[PodId]) -> (String, Reason) {
    let decision = decide(pods, keys, pins, tried, 0).expect("a decision");
    (decision.pod.name.to_string(), decision.reason)
}

#[test]
fn what_is_known_counts_in_order_and_only_while_its_pod_lives() {
    let (pods, pins) = (pods(), Pins::new(100, (0, 0)));
    pins.learn(Kind::Token, "t", PodInstance::of(&pods[0]), [192, 0, 2, 1].into());
    pins.learn(Kind::PlaySession, "p", PodInstance::of(&pods[2]), [192, 0, 2, 1].into());
    pins.learn(Kind::Device, "d", PodInstance::of(&pods[1]), [192, 0, 2, 1].into());
    let mut keys = keys();
    keys.identity.token = Some(Cow::Borrowed("t"));
    keys.identity.play_session = Some(Cow::Borrowed("p"));
    keys.identity.device = Some(Cow::Borrowed("d"));
    keys.cookie = Some(CookieClaim { pod: pods[1].id, is_current: true });
    assert_eq!(decided(&pods, &keys, &pins, &[]), ("a".into(), Reason::Token));
    assert_eq!(
        decided(&pods, &keys, &pins, &[pods[0].id]),
        ("b".into(), Reason::Cookie),
        "a pod that was tried is left"
    );
    pods[0].life.change(|status| Status { state: State::Down, ..status });
    assert_eq!(decided(&pods, &keys, &pins, &[]), ("b".into(), Reason::Cookie));
    keys.cookie = None;
    assert_eq!(decided(&pods, &keys, &pins, &[]), ("c".into(), Reason::PlaySession));
    pods[2].life.change(|status| Status { epoch: Epoch(2), ..status });
    assert_eq!(
        decided(&pods, &keys, &pins, &[]),
        ("b".into(), Reason::Device),
        "a play session ends with its pod's process"
    );
    pods[1].life.change(|status| Status { epoch: Epoch(2), ..status });
    assert_eq!(decided(&pods, &keys, &pins, &[]).1, Reason::Device, "a device does not");
}

#[test]
fn a_sessions_home_decides_and_while_nobody_is_well_it_stays_the_home() {
    let (pods, pins) = (pods(), Pins::new(100, (0, 0)));
    let device =
        crate::sessions::Device { client: "c".into(), name: "n".into(), id: "device".into(), version: "1".into() };
    let token = crate::sessions::Token::new("t");
    let session = Session::new("pool".into(), "u".into(), device, token);
    session.residence.record_home(PodInstance::of(&pods[1]), "t", || MoveReason::First);
    let decided = |tried: &[PodId]| {
        let placed = || {
            let candidates = placement::candidates(&pods, |pod: &Pod| tried.contains(&pod.id));
            placement::rendezvous(user_homes::placement("pool", "u"), candidates).cloned()
        };
        let decision = of_session(&pods, false, &keys(), &session, &pins, tried, placed).expect("a pod");
        (decision.pod.name.to_string(), decision.reason)
    };
    assert_eq!(decided(&[]), ("b".into(), Reason::Token));
    pods[1].life.change(|status| Status { state: State::Down, ..status });
    let (to, reason) = decided(&[]);
    assert!(to != "b" && reason == Reason::Migrated);
    assert_eq!(decided(&[]), (to, reason), "parallel requests meet on one pod");
    for pod in &pods {
        pod.life.change(|status| Status { state: State::Down, accepts: true, ..status });
    }
    assert_eq!(decided(&[]), ("b".into(), Reason::Token));
}

#[test]
fn a_draining_pod_keeps_its_clients_and_gets_no_new_ones() {
    let (pods, pins) = (pods(), Pins::new(100, (0, 0)));
    pods[0].life.change(|status| Status { state: State::Draining, ..status });
    let mut keys = keys();
    keys.cookie = Some(CookieClaim { pod: pods[0].id, is_current: true });
    assert_eq!(decided(&pods, &keys, &pins, &[]), ("a".into(), Reason::Cookie));
    for turn in 0..50 {
        assert_ne!(decide(&pods, &self::keys(), &pins, &[], turn).expect("a decision").pod.id, pods[0].id);
    }
}

#[test]
fn a_user_logs_in_at_home_whatever_the_browser_knows() {
    let (pods, pins) = (pods(), Pins::new(100, (0, 0)));
    let homes = UserHomes::new(SpreadUsers::Nobody);
    let mut log_in = keys();
    log_in.cookie = Some(CookieClaim { pod: pods[0].id, is_current: true });
    log_in.identity.device = Some(Cow::Borrowed("d"));
    log_in.user = homes.named("pool", "Alice");
    let placed = decided(&pods, &log_in, &pins, &[]);
    assert_eq!(placed.1, Reason::Hashed, "a new user is placed by name");
    let another = Keys { cookie: None, ..log_in.clone() };
    assert_eq!(decided(&pods, &another, &pins, &[]), placed, "on every device");
    homes.record_name("pool", "alice", "u");
    homes.record(&pins, "pool", "u", PodInstance::of(&pods[2]), |_| true);
    log_in.user = homes.named("pool", "ALICE");
    assert_eq!(decided(&pods, &log_in, &pins, &[]), ("c".into(), Reason::User));
    pods[2].life.change(|status| Status { state: State::Draining, ..status });
    let (moved, reason) = decided(&pods, &log_in, &pins, &[]);
    assert!(moved != "c" && reason == Reason::Hashed, "a draining pod gets no new clients");
}

#[test]
fn a_log_in_and_the_requests_after_it_are_placed_alike() {
    let (pods, pins) = (pods(), Pins::new(100, (0, 0)));
    for device in ["d1", "d2", "d3", "d4", "d5"] {
        let mut log_in = keys();
        log_in.identity.device = Some(Cow::Borrowed(device));
        let mut later = keys();
        later.identity.device = Some(Cow::Borrowed(device));
        later.identity.token = Some(Cow::Borrowed("token"));
        assert_eq!(decided(&pods, &log_in, &pins, &[]), decided(&pods, &later, &pins, &[]));
    }
}

#[test]
fn parallel_requests_with_the_cookie_of_a_dead_pod_end_on_one_pod() {
    let (pods, pins) = (pods(), Pins::new(100, (0, 0)));
    pods[0].life.change(|status| Status { state: State::Down, accepts: false, ..status });
    let mut keys = keys();
    keys.cookie = Some(CookieClaim { pod: pods[0].id, is_current: true });
    keys.has_cookie = true;
    let first = decide(&pods, &keys, &pins, &[], 0).expect("a decision");
    assert_eq!(first.reason, Reason::Hashed);
    assert!((1..50).all(|turn| decide(&pods, &keys, &pins, &[], turn).expect("a decision").pod.id == first.pod.id));
}

#[test]
fn when_every_pod_was_tried_there_is_no_decision() {
    let pods = pods();
    let tried: Vec<PodId> = pods.iter().map(|pod| pod.id).collect();
    assert!(decide(&pods, &keys(), &Pins::new(100, (0, 0)), &tried, 0).is_none());
}
