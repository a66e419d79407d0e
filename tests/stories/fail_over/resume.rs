//! Direct play and downloads go on after their pod, within the same answer.

use std::time::Duration;

use bytes::BytesMut;
use http::Method;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use jellyfin_sim::{BULK, FILM, bulk_bytes};
use jellypin::pod::State;

use super::browser_at;
use crate::stories::world::{Client, Failed, World, body_of, elapse, secs, story};

const SIZE: usize = 24 << 20;

fn film() -> String {
    format!("/Videos/{BULK}/stream?static=true")
}

async fn open_file(client: &mut Client, path: &str, range: Option<&str>) -> http::Response<Incoming> {
    let mut request = client.request(Method::GET, path);
    if let Some(range) = range {
        request = request.header("range", range);
    }
    client.open(request, body_of("")).await.expect("an answer")
}

/// Takes more of a body until there are so many bytes, or its end.
async fn read_until(body: &mut Incoming, read: &mut BytesMut, bytes: usize) {
    while read.len() < bytes {
        let Some(frame) = body.frame().await else { return };
        let frame = frame.unwrap_or_else(|error| panic!("broken off after {}: {error}", read.len()));
        read.extend_from_slice(&frame.into_data().unwrap_or_default());
    }
}

#[tokio::test]
async fn a_film_goes_on_after_the_death_of_each_pod() {
    story(World::plan(3).build(|pod| pod.bulk_size(SIZE as u64)), async |world| {
        let mut client = browser_at(world, "a").await;
        let mut answer = open_file(&mut client, &film(), Some("bytes=1000-")).await;
        assert_eq!(answer.status(), 206);
        let mut read = BytesMut::new();
        let mut deaths = 0;
        for share in [1, 2] {
            read_until(answer.body_mut(), &mut read, share * (SIZE / 4)).await;
            let serves = |pod: &&jellyfin_sim::Pod| {
                pod.is_running() && pod.seen().iter().any(|seen| seen.path().starts_with("/Videos/"))
            };
            crate::stories::world::until("a living pod serves the film", || world.pods.iter().any(|pod| serves(&pod)))
                .await;
            world.pods.iter().find(serves).expect("a pod serves the film").kill().await;
            deaths += 1;
        }
        read_until(answer.body_mut(), &mut read, SIZE).await;
        assert!(read == bulk_bytes(1000, SIZE - 1000), "not a byte is missing or wrong");
        drop(answer);
        let lines = world.proxy.lines_of(film().split('?').next().expect("a path"), 1).await;
        assert_eq!(lines.len(), 1, "one request, one line");
        assert_eq!((&lines[0]["resumed"], &lines[0]["outcome"]), (&deaths.into(), &"complete".into()));
        assert_eq!(lines[0]["bytes.out"], SIZE - 1000);
        let resumed = world.proxy.metric("jellypin_resumed_total", &[("outcome", "resumed")]).await;
        assert_eq!(resumed, f64::from(deaths));
    })
    .await;
}

#[tokio::test]
async fn a_download_waits_for_its_only_pod_to_come_back() {
    story(World::plan(1).build(|pod| pod.bulk_size(SIZE as u64)), async |world| {
        let mut client = world.client().device("sofa");
        client.log_in("alice").await;
        let mut answer = open_file(&mut client, &format!("/Items/{BULK}/Download"), None).await;
        let mut read = BytesMut::new();
        read_until(answer.body_mut(), &mut read, 100_000).await;
        let pod = world.pod("a");
        pod.kill().await;
        let restart = async {
            world.until_state("a", State::Down).await;
            pod.start_again().await.expect("a start");
        };
        tokio::join!(restart, read_until(answer.body_mut(), &mut read, SIZE));
        assert!(read == bulk_bytes(0, SIZE));
        drop(answer);
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_cuts_connections_stays_in_service() {
    const LENGTH: usize = 1_000_000;
    story(World::plan(1).build(|pod| pod.bulk_size(LENGTH as u64)), async |world| {
        world.pod("a").cut_bodies_after(Some(300_000));
        let mut client = world.client();
        let answer = client.get(&film()).await;
        assert_eq!((answer.status, answer.body.len()), (200, LENGTH));
        assert!(answer.body == bulk_bytes(0, LENGTH));
        assert_eq!(world.proxy.pod("a").status().epoch.0, 1);
        assert_eq!(world.proxy.pod("a").status().state, State::Ready);
    })
    .await;
}

#[tokio::test]
async fn a_changed_file_is_not_resumed() {
    let plan = World::plan(2).build_one("a", |pod| pod.bulk_size(SIZE as u64));
    story(plan.build_one("b", |pod| pod.bulk_size(SIZE as u64 + 1)), async |world| {
        let mut client = browser_at(world, "a").await;
        let mut answer = open_file(&mut client, &film(), None).await;
        world.pod("a").kill().await;
        let mut failed = false;
        while let Some(frame) = answer.body_mut().frame().await {
            failed |= frame.is_err();
        }
        assert!(failed, "what cannot go on breaks off");
        assert_eq!(world.proxy.metric("jellypin_resumed_total", &[("outcome", "changed")]).await, 1.0);
        drop(answer);
    })
    .await;
}

#[tokio::test]
async fn resuming_ends_when_no_byte_comes() {
    story(World::plan(1).hold(secs(1)).build(|pod| pod.bulk_size(1_000_000)), async |world| {
        world.pod("a").cut_bodies_after(Some(0));
        let mut client = world.client();
        let request = client.request(Method::GET, &film());
        let failed = client.send(request, body_of("")).await;
        assert!(matches!(failed, Err(Failed::Cut { status: 200, received: 0 } | Failed::NoAnswer)), "{failed:?}");
        world.pod("a").cut_bodies_after(None);
    })
    .await;
}

#[tokio::test]
async fn a_download_goes_on_after_its_pod_falls_silent() {
    story(World::plan(2).silence(secs(2)).build(|pod| pod.bulk_size(2 * SIZE as u64)), async |world| {
        let mut client = browser_at(world, "a").await;
        let mut answer = open_file(&mut client, &film(), None).await;
        let mut read = BytesMut::new();
        read_until(answer.body_mut(), &mut read, 100_000).await;
        world.pod("a").hang(true);
        read_until(answer.body_mut(), &mut read, 2 * SIZE).await;
        assert!(read == bulk_bytes(0, 2 * SIZE), "not a byte is missing or wrong");
        assert_eq!(world.proxy.pod("a").status().state, State::Down);
        drop(answer);
        let lines = world.proxy.lines_of(film().split('?').next().expect("a path"), 1).await;
        assert_eq!((&lines[0]["resumed"], &lines[0]["outcome"]), (&1.into(), &"complete".into()));
    })
    .await;
}

#[tokio::test]
async fn a_down_pod_that_still_sends_is_kept() {
    story(World::plan(2).build(|pod| pod.bulk_size(SIZE as u64)), async |world| {
        let mut client = browser_at(world, "a").await;
        let mut answer = open_file(&mut client, &film(), None).await;
        let mut read = BytesMut::new();
        read_until(answer.body_mut(), &mut read, 100_000).await;
        world.pod("a").database_down(true);
        world.until_state("a", State::Down).await;
        // A client that pauses for long is no pod that is silent.
        elapse(secs(3)).await;
        read_until(answer.body_mut(), &mut read, SIZE).await;
        assert!(read == bulk_bytes(0, SIZE));
        drop(answer);
        let lines = world.proxy.lines_of(film().split('?').next().expect("a path"), 1).await;
        assert_eq!((lines[0].get("resumed"), &lines[0]["outcome"]), (None, &"complete".into()));
        world.pod("a").database_down(false);
    })
    .await;
}

#[tokio::test]
async fn a_download_waits_for_its_only_pod_to_wake_up() {
    story(
        World::plan(1).hold(secs(1)).silence(secs(2)).longest_silence(secs(2)).build(|pod| pod.bulk_size(SIZE as u64)),
        async |world| {
            let mut client = world.client();
            let mut answer = open_file(&mut client, &film(), None).await;
            let mut read = BytesMut::new();
            read_until(answer.body_mut(), &mut read, 100_000).await;
            let pod = world.pod("a");
            pod.hang(true);
            let wake = async {
                // The search for the rest has failed by then.
                let gave_up = async || world.proxy.metric("jellypin_resumed_total", &[("outcome", "gave_up")]).await;
                crate::stories::replicas::until_at_least("the search ends", 1.0, gave_up).await;
                pod.hang(false);
            };
            tokio::join!(wake, read_until(answer.body_mut(), &mut read, SIZE));
            assert!(read == bulk_bytes(0, SIZE));
            drop(answer);
        },
    )
    .await;
}

#[tokio::test]
async fn a_transcode_is_not_resumed() {
    story(World::plan(1), async |world| {
        world.pod("a").cut_bodies_after(Some(70_000));
        let mut client = world.client();
        let request = client.request(Method::GET, &format!("/Videos/{FILM}/stream"));
        let failed = client.send(request, body_of("")).await;
        assert!(matches!(failed, Err(Failed::Cut { status: 200, .. })), "{failed:?}");
    })
    .await;
}

#[tokio::test]
async fn a_client_that_disconnects_during_a_resume_leaves_nothing() {
    story(World::plan(1).build(|pod| pod.bulk_size(SIZE as u64)), async |world| {
        let mut client = world.client();
        client.is_fresh = true;
        let mut answer = open_file(&mut client, &film(), None).await;
        let mut read = BytesMut::new();
        read_until(answer.body_mut(), &mut read, 100_000).await;
        world.pod("a").kill().await;
        world.until_state("a", State::Down).await;
        // What is on its way comes still; then there is silence, and the client has enough of it.
        let silence = tokio::time::timeout(Duration::from_millis(500), read_until(answer.body_mut(), &mut read, SIZE));
        assert!(silence.await.is_err());
        drop(answer);
        drop(client);
        let lines = world.proxy.lines_of(film().split('?').next().expect("a path"), 1).await;
        assert_eq!(lines[0]["outcome"], "client_gone");
    })
    .await;
}
