//! One process of the proxy takes another's place under clients at work, who notice nothing of it.

use std::time::Instant;

use futures_util::future::join_all;
use http::Method;
use http_body_util::BodyExt;
use jellyfin_sim::{BULK, CallTime, MintTimes};
use serde_json::Value;

use super::fleet::{Fleet, Pace, Work};
use super::{quick_starters, started};
use crate::stories::world::{Client, Program, World, body_of, millis, secs, story, until, until_so};

/// How often the place changes: `HAND_OVERS`, or a few times.
fn times() -> usize {
    std::env::var("HAND_OVERS").map_or(4, |text| text.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hand_overs_cost_no_client_anything() {
    story(started(quick_starters(World::plan(2).with_api_key())).await, async |world| {
        let mut settings = world.settings().clone();
        settings.state_path("state");
        settings.keys(&["the key that both processes have"]);
        let program = Program::start(&settings, world.folder()).await;
        let fleet = Fleet::start(12, Work::Everything, Pace::BRISK, &[program.client()]).await;
        let began = Instant::now();
        let mut newcomers = 0;
        for turn in 1..=times() {
            program.signal_last("USR2");
            // Newcomers all the while, each over a connection of its own.
            while program.hand_overs() < turn {
                let answers = join_all((0..4).map(async |_| program.client().get("/System/Info/Public").await.status));
                assert_eq!(answers.await, [200; 4]);
                newcomers += 4;
                assert!(!program.log().contains("this one goes on"), "{}", program.log());
            }
            fleet.until_all_went_on().await;
        }
        let saw = fleet.stop().await;
        println!("{} hand-overs in {:?} under 12 clients and {newcomers} newcomers: {saw}", times(), began.elapsed());
        saw.must_be_nothing();
        assert!(program.log().matches("the store cannot be").count() == 0, "{}", program.log());
        drop(program);
    })
    .await;
}

#[tokio::test]
async fn a_film_ends_whole_in_the_process_that_began_it() {
    const LENGTH: usize = 20_000_000;
    story(World::plan(1).build(|pod| pod.bulk_size(LENGTH as u64)), async |world| {
        let mut program = Program::start(world.settings(), world.folder()).await;
        let mut client = program.client();
        let request = client.request(Method::GET, &format!("/Videos/{BULK}/stream?static=true"));
        let mut body = client.open(request, body_of("")).await.expect("an answer").into_body();
        let mut kept = program.client();
        assert_eq!(kept.get("/System/Info/Public").await.status, 200);
        let asked = Client::at_address(program.admin()).post("/upgrade", Value::Null).await;
        assert_eq!(asked.status, 200, "{}", asked.text());
        until("the other process serves", || program.hand_overs() == 1).await;
        // A connection that is kept gets one more answer, which says that it ends.
        let last = kept.get("/System/Info/Public").await;
        assert_eq!((last.status, last.header("connection")), (200, "close"));
        assert_eq!(kept.get("/System/Info/Public").await.status, 200);
        let mut received = 0;
        while let Some(frame) = body.frame().await {
            received += frame.expect("nothing breaks").into_data().map_or(0, |data| data.len());
        }
        assert_eq!(received, LENGTH);
        drop((client, kept));
        assert_eq!(program.ended().await.code(), Some(0), "the old process ends once all is ended");
        assert_eq!(program.client().get("/System/Info/Public").await.status, 200);
        drop(program);
    })
    .await;
}

#[tokio::test]
async fn a_process_that_cannot_begin_changes_nothing() {
    story(World::plan(1).hold(secs(5)), async |world| {
        let program = Program::start(world.settings(), world.folder()).await;
        let mut bad = world.settings().clone();
        bad.set("timeouts.hold", "\"often\"");
        bad.set("reload.watch", "\"off\"");
        program.rewrite(&bad);
        let asked = Client::at_address(program.admin()).post("/upgrade", Value::Null).await;
        assert_eq!(asked.status, 422);
        assert!(asked.text().starts_with("no other process could take over"), "{}", asked.text());
        for _ in 0..4 {
            assert_eq!(program.client().get("/System/Info/Public").await.status, 200);
        }
        drop(program);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_just_being_moved_is_kept() {
    story(started(quick_starters(World::plan(2).with_api_key())).await, async |world| {
        let mut settings = world.settings().clone();
        settings.state_path("state");
        settings.keys(&["the key that both processes have"]);
        let program = Program::start(&settings, world.folder()).await;
        let mut client = program.client().without_cookies();
        for number in 0.. {
            client = client.device(&format!("device {number}"));
            if world.home(&client.log_in("alice").await) == "a" {
                break;
            }
        }
        let (a, b) = (world.pod("a"), world.pod("b"));
        let token = CallTime { usual: millis(1500), ..CallTime::default() };
        b.mint_times(MintTimes { token, ..MintTimes::default() });
        a.kill().await;
        let hands_over = async {
            b.until(|pod| pod.seen().iter().any(|seen| seen.path() == "/Users/AuthenticateWithQuickConnect")).await;
            program.signal_last("USR2");
            until("the other process serves", || program.hand_overs() == 1).await;
        };
        let (me, ()) = tokio::join!(client.get("/Users/Me"), hands_over);
        assert_eq!((me.status, world.home(&me)), (200, "b"));
        // Its former home knows the session's first token no more, and must not be asked.
        a.start_again().await.expect("a start");
        let mut operator = Client::at_address(program.admin());
        until_so("it is back", async || {
            let pods = operator.get("/pods").await.json();
            pods.as_array().is_some_and(|pods| pods.iter().all(|pod| pod["state"] == "ready"))
        })
        .await;
        let mut there = program.client().without_cookies();
        (there.token, there.device) = (client.token.clone(), client.device.clone());
        let me = there.get("/Users/Me").await;
        assert_eq!((me.status, world.home(&me)), (200, "b"));
        drop(program);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_process_hands_over_while_it_restarts_pods() {
    story(started(quick_starters(World::plan(2).with_api_key())).await, async |world| {
        let program = Program::start(world.settings(), world.folder()).await;
        let mut operator = Client::at_address(program.admin());
        until_so("a roll begins", async || operator.post("/roll", Value::Null).await.status == 202).await;
        let asked = operator.post("/upgrade", Value::Null).await;
        assert_eq!(asked.status, 422);
        assert!(asked.text().contains("restarted one after the other"), "{}", asked.text());
        until_so("the roll is over", async || operator.get("/roll").await.json()[0]["state"] == "done").await;
        drop(program);
    })
    .await;
}
