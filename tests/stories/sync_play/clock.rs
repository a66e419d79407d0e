//! Pods whose clocks differ: members see the one that stamps their commands.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::*;
use crate::stories::world::{World, story};

/// How far the clock of each pod goes before the true time, in milliseconds.
const AHEAD: [(&str, i64); 3] = [("a", 1_500), ("b", 4_500), ("c", -2_000)];

/// Samples of one measurement, as jellyfin-web takes them.
const SAMPLES: usize = 8;

/// How far a command may lie ahead of its making, in milliseconds: twice the ping of a member that has not said its own.
const COMMAND_AHEAD: f64 = 1000.0;

/// A clock as a client sees it, in milliseconds: how far it goes before the client's own, and how wrong that may be.
#[derive(Clone, Copy, Debug)]
struct Offset {
    ms: f64,
    at_most_wrong: f64,
}

async fn world_of(plan: crate::stories::world::Plan) -> World {
    let world = plan.start().await;
    for (pod, ahead) in AHEAD {
        world.pod(pod).set_clock_ahead(ahead);
    }
    world
}

fn ahead(pod: &str) -> f64 {
    AHEAD.iter().find(|(name, _)| *name == pod).expect("a pod").1 as f64
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64() * 1000.0
}

/// A moment as the server writes it.
fn moment(json: &Value) -> f64 {
    let time = humantime::parse_rfc3339(json.as_str().expect("a time")).expect("a time");
    time.duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64() * 1000.0
}

/// Measures as jellyfin-web does: of eight samples the one with the least delay counts.
async fn measure(client: &mut Client) -> Offset {
    let mut best = Offset { ms: 0.0, at_most_wrong: f64::MAX };
    for _ in 0..SAMPLES {
        let sent = now();
        let answer = client.get("/GetUTCTime").await;
        let received = now();
        let time = answer.json();
        let (reception, transmission) =
            (moment(&time["RequestReceptionTime"]), moment(&time["ResponseTransmissionTime"]));
        let delay = (received - sent) - (transmission - reception);
        let ms = ((reception - sent) + (transmission - received)) / 2.0;
        if delay / 2.0 < best.at_most_wrong {
            best = Offset { ms, at_most_wrong: delay / 2.0 };
        }
    }
    // The clocks' own grain.
    best.at_most_wrong += 0.1;
    best
}

/// Asserts that this is the pod's clock; gives how wrong it was seen.
#[track_caller]
fn assert_is_of(offset: Offset, pod: &str, when: &str) -> f64 {
    let wrong = (offset.ms - ahead(pod)).abs();
    assert!(wrong <= offset.at_most_wrong, "{when}: {offset:?} is not the clock of {pod}");
    wrong
}

/// The worst of all.
fn worst(figures: impl IntoIterator<Item = f64>) -> f64 {
    figures.into_iter().fold(0.0, f64::max)
}

#[tokio::test(flavor = "multi_thread")]
async fn members_see_the_clock_of_their_commands() {
    story(world_of(plan(3)).await, async |world| {
        let leader = world.leader().await;
        let (mut members, mut number): (Vec<Member>, _) = (Vec::new(), 0);
        // Two of each pod.
        while members.len() < 6 {
            let member = Member::new(world, number).await;
            number += 1;
            if members.iter().filter(|other| other.home == member.home).count() < 2 {
                members.push(member);
            }
        }
        let (mut before, mut during, mut after) = (Vec::new(), Vec::new(), Vec::new());
        for member in &mut members {
            before.push(assert_is_of(measure(&mut member.client).await, &leader, "before"));
        }
        group(&mut members).await;
        let queue = json!({"PlayingQueue": [jellyfin_sim::FILM], "PlayingItemPosition": 0, "StartPositionTicks": 0});
        assert_eq!(members[0].does("SetNewQueue", queue).await.status, 204);
        let mut offsets = Vec::new();
        for member in &mut members {
            let offset = measure(&mut member.client).await;
            during.push(assert_is_of(offset, &leader, "during"));
            offsets.push(offset);
        }
        let mut spread = Vec::new();
        for what in ["Unpause", "Pause"] {
            let sent = now();
            assert_eq!(members[5].does(what, json!({})).await.status, 204);
            let mut moments = Vec::new();
            for (member, offset) in members.iter_mut().zip(&offsets) {
                let when = moment(&member.is_told(what).await["When"]) - offset.ms;
                let (from, to) = (sent - offset.at_most_wrong, now() + COMMAND_AHEAD + offset.at_most_wrong);
                assert!((from..=to).contains(&when), "{what}: {from} to {to}, and not {when}");
                moments.push(when);
            }
            let first = moments.iter().copied().fold(f64::MAX, f64::min);
            spread.push(worst(moments) - first);
        }
        for member in &mut members {
            assert_eq!(member.does("Leave", json!({})).await.status, 204);
            member.hears("GroupLeft").await;
            after.push(assert_is_of(measure(&mut member.client).await, &leader, "after"));
        }
        println!(
            "6 members of 3 pods whose clocks differ by up to 6.5 s see that of {leader}, wrong by at most: {:.2} ms before, {:.2} ms \
             during, {:.2} ms after; they carry a command out within {:.2} ms of each other",
            worst(before),
            worst(during),
            worst(after),
            worst(spread)
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_off_the_leader_keeps_its_own_clock() {
    story(world_of(World::plan(3)).await, async |world| {
        let leader = world.leader().await;
        for number in 0.. {
            let mut member = Member::new(world, number).await;
            if member.home == leader {
                continue;
            }
            assert_is_of(measure(&mut member.client).await, &leader, "before");
            assert_eq!(member.does("New", json!({"GroupName": "alone"})).await.status, 200);
            member.hears("GroupJoined").await;
            let home = member.home.clone();
            assert_is_of(measure(&mut member.client).await, &home, "during");
            break;
        }
    })
    .await;
}

#[test]
fn times_are_read_to_the_microsecond() {
    let at = |text: &str| Duration::from_secs_f64(moment(&json!(text)) / 1000.0);
    assert_eq!(at("1970-01-01T00:01:00.1234567Z").as_micros(), 60_123_456);
}
