//! A pod answers late, or nothing at all.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use jellyfin_sim::FILM;
use jellypin::pod::State;
use serde_json::json;

use super::{PUBLIC, browser_at, browsers};
use crate::stories::carry_over::{client_of, plan};
use crate::stories::world::{DEADLINE, World};

#[tokio::test]
async fn a_hung_pod_is_found_by_its_checks_and_those_who_wait_on_it_are_served_elsewhere() {
    let world = World::of(2).await;
    let mut clients = browsers(&world, 12).await;
    let at_a = clients.iter().filter(|(_, home)| home == "a").count();
    world.pod("a").hang(true);
    let began = Instant::now();
    let asked = clients.iter_mut().map(async |(client, home)| {
        let answer = client.get("/Branding/Configuration").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.set_cookie().is_some(), home == "a");
        assert!(world.saw(&answer).contains(&"b"));
    });
    join_all(asked).await;
    let waited = began.elapsed();
    println!("a hung pod was found, and its clients were answered, after {waited:?}");
    assert!(waited <= Duration::from_secs(4), "{waited:?}");
    assert_eq!(world.proxy.pod("a").status().state, State::Down);
    let lines = world.proxy.lines_of("/Branding/Configuration", 12).await;
    let lost = lines.iter().filter(|line| line["moved.from"] == "a" && line["moved.why"] == "lost").count();
    assert_eq!(lost, at_a);

    world.pod("a").hang(false);
    world.until_state("a", State::Ready).await;
    assert_eq!(world.proxy.pod("a").status().epoch.0, 1, "it was hung, and is the same process as before");
    world.stop().await;
}

#[tokio::test]
async fn a_slow_pod_is_not_taken_out() {
    let world = World::of(2).await;
    let mut clients: Vec<_> = browsers(&world, 10).await;
    world.pod("a").slow_first_byte(Duration::from_millis(1500));
    let mut changes = world.proxy.pod("a").changes();
    changes.mark_unchanged();
    let asked = clients.iter_mut().map(async |(client, home)| {
        let answer = client.get(PUBLIC).await;
        assert_eq!((answer.status, world.home(&answer)), (200, &**home), "slow, and from its home");
    });
    join_all(asked).await;
    assert!(!changes.has_changed().expect("the pod"), "it was ready all the time");
    world.pod("a").slow_first_byte(Duration::ZERO);
    world.stop().await;
}

#[tokio::test]
async fn a_pod_that_gives_no_answer_in_time_is_left_and_stays_in_service_while_its_checks_are_well() {
    let world = World::plan(2).set("timeouts.first_byte", "\"300ms\"").start().await;
    let mut client = browser_at(&world, "a").await;
    let home = client.pin().expect("a pin").to_owned();
    world.pod("a").slow_first_byte(DEADLINE);
    let mut changes = world.proxy.pod("a").changes();
    changes.mark_unchanged();
    for _ in 0..5 {
        client.set_pin(&home);
        let answer = client.get("/Branding/Configuration").await;
        assert_eq!((answer.status, world.saw(&answer)), (200, vec!["a", "b"]));
    }
    assert_eq!(world.proxy.metric("jellypin_moves_total", &[("from", "a"), ("why", "timed_out")]).await, 5.0);
    assert!(!changes.has_changed().expect("the pod"), "what is slow is no proof against it");
    world.pod("a").slow_first_byte(Duration::ZERO);
    world.stop().await;
}

#[tokio::test]
async fn what_takes_a_pod_minutes_is_waited_for() {
    let world = plan(2).set("timeouts.first_byte", "\"200ms\"").start().await;
    let (mut client, home) = client_of(&world, "alice", "sofa").await;
    world.pod(&home).slow_first_byte(Duration::from_millis(600));
    let open = json!({"OpenToken": "none"});
    for answer in [
        client.get(&format!("/Videos/{FILM}/{FILM}/Subtitles/2/0/Stream.vtt")).await,
        client.get(&format!("/Videos/{FILM}/{FILM}/Attachments/3")).await,
        client.post(&format!("/Items/{FILM}/PlaybackInfo"), json!({})).await,
        client.post("/LiveStreams/Open", open).await,
        client.get(&format!("/Items/{FILM}/RemoteSearch/Subtitles/eng")).await,
        client.get("/Providers/Subtitles/Subtitles/1").await,
    ] {
        assert!(answer.status != 504 && world.home(&answer) == home, "{answer:?}");
    }
    assert_eq!(client.get("/Items").await.status, 504, "and nothing else is");
    world.pod(&home).slow_first_byte(Duration::ZERO);
    world.stop().await;
}

#[tokio::test]
async fn who_waits_for_minutes_does_not_wait_for_a_pod_that_hangs() {
    let world = plan(2).start().await;
    let (mut client, home) = client_of(&world, "alice", "sofa").await;
    let mut other = client.twin();
    world.pod(&home).hang(true);
    let began = Instant::now();
    let playback = format!("/Items/{FILM}/PlaybackInfo");
    let download = format!("/Items/{FILM}/RemoteSearch/Subtitles/1");
    let (info, subtitles) = tokio::join!(client.post(&playback, json!({})), other.post(&download, json!({})));
    assert_eq!((info.status, subtitles.status), (200, 502), "it goes elsewhere, or it may have been done");
    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
    world.pod(&home).hang(false);
    world.stop().await;
}
