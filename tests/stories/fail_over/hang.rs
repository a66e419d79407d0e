//! A pod answers late, or nothing at all.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use jellyfin_sim::{FILM, Pod};
use jellypin::pod::State;
use serde_json::json;

use super::{PUBLIC, browser_at, browsers};
use crate::stories::migration::{client_of, plan};
use crate::stories::world::{DEADLINE, World, millis, secs, story};

#[tokio::test]
async fn requests_on_a_hung_pod_go_to_another() {
    story(World::plan(2), async |world| {
        let mut clients = browsers(world, 12).await;
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
        assert!(waited <= Duration::from_secs(10), "{waited:?}");
        assert_eq!(world.proxy.pod("a").status().state, State::Down);
        let lines = world.proxy.lines_of("/Branding/Configuration", 12).await;
        let lost = lines.iter().filter(|line| line["moved.from"] == "a" && line["moved.why"] == "lost").count();
        assert_eq!(lost, at_a);

        world.pod("a").hang(false);
        world.until_state("a", State::Ready).await;
        assert_eq!(world.proxy.pod("a").status().epoch.0, 1, "it was hung, and is the same process as before");
    })
    .await;
}

#[tokio::test]
async fn a_slow_pod_is_not_taken_out() {
    story(World::plan(2), async |world| {
        let mut clients: Vec<_> = browsers(world, 10).await;
        world.pod("a").slow_first_byte(Duration::from_millis(1500));
        let mut changes = world.proxy.pod("a").life.changes();
        changes.mark_unchanged();
        let asked = clients.iter_mut().map(async |(client, home)| {
            let answer = client.get(PUBLIC).await;
            assert_eq!((answer.status, world.home(&answer)), (200, &**home), "slow, and from its home");
        });
        join_all(asked).await;
        assert!(!changes.has_changed().expect("the pod"), "it was ready all the time");
        world.pod("a").slow_first_byte(Duration::ZERO);
    })
    .await;
}

/// How often pods were asked for this path.
fn times(world: &World, path: &str) -> Vec<usize> {
    let of = |pod: &Pod| pod.seen().iter().filter(|seen| seen.path() == path).count();
    world.pods.iter().map(of).collect()
}

#[tokio::test]
async fn a_late_answer_is_asked_of_no_other_pod() {
    story(World::plan(2).first_byte(millis(300)), async |world| {
        let mut client = browser_at(world, "a").await;
        let home = client.pin().expect("a pin").to_owned();
        world.pod("a").slow_first_byte(DEADLINE);
        let mut changes = world.proxy.pod("a").life.changes();
        changes.mark_unchanged();
        for _ in 0..5 {
            client.set_pin(&home);
            let answer = client.get("/Branding/Configuration").await;
            assert_eq!(answer.status, 504);
        }
        assert_eq!(times(world, "/Branding/Configuration"), [5, 0], "each was asked once, of its own pod");
        assert!(!changes.has_changed().expect("the pod"), "what is slow is no proof against it");
        world.pod("a").slow_first_byte(Duration::ZERO);
    })
    .await;
}

#[tokio::test]
async fn each_path_has_its_own_timeout() {
    let film = format!("/Items/{FILM}");
    let by_path = [(&*film, secs(10)), ("/Items", millis(200))];
    story(plan(2).first_byte_by_path(&by_path), async |world| {
        let (mut client, home) = client_of(world, "alice", "sofa").await;
        let mut other = client.twin();
        world.pod(&home).slow_first_byte(DEADLINE);
        let released = async {
            assert_eq!(client.get("/Items").await.status, 504);
            world.pod(&home).slow_first_byte(Duration::ZERO);
        };
        let playback = format!("/items/{FILM}/PlaybackInfo");
        let (info, ()) = tokio::join!(other.post(&playback, json!({})), released);
        assert_eq!((info.status, world.home(&info)), (200, &*home));
    })
    .await;
}

#[tokio::test]
async fn a_pod_without_its_database_keeps_its_requests() {
    story(World::plan(2), async |world| {
        let mut client = browser_at(world, "a").await;
        let pod = world.pod("a");
        pod.slow_first_byte(DEADLINE);
        let goes_on = async {
            pod.until(|pod| pod.seen().iter().any(|seen| seen.path() == "/Branding/Configuration")).await;
            pod.database_down(true);
            world.until_state("a", State::Down).await;
            // Those that are answered later are asked of the other pod, as it is down: this one is past that.
            let mut other = world.client();
            assert_eq!(world.home(&other.get(PUBLIC).await), "b");
            pod.slow_first_byte(Duration::ZERO);
        };
        let (answer, ()) = tokio::join!(client.get("/Branding/Configuration"), goes_on);
        assert_eq!((answer.status, world.saw(&answer)), (200, vec!["a"]));
        pod.database_down(false);
    })
    .await;
}

#[tokio::test]
async fn a_long_timeout_ends_when_the_pod_hangs() {
    story(plan(2), async |world| {
        let (mut client, home) = client_of(world, "alice", "sofa").await;
        let mut other = client.twin();
        world.pod(&home).hang(true);
        let began = Instant::now();
        let playback = format!("/Items/{FILM}/PlaybackInfo");
        let download = format!("/Items/{FILM}/RemoteSearch/Subtitles/1");
        let (info, subtitles) = tokio::join!(client.post(&playback, json!({})), other.post(&download, json!({})));
        assert_eq!((info.status, subtitles.status), (200, 502), "it goes elsewhere, or it may have been done");
        assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
        world.pod(&home).hang(false);
    })
    .await;
}
