//! A pod leaves DNS or the configuration while it still serves: its clients move, and notice nothing.

use std::time::Duration;

use jellypin::pod::{Pool, State};

use super::fleet::{Fleet, Pace, Work};
use super::{Outside, quick_starters, started};
use crate::stories::world::{Plan, World, millis, secs, story, until, until_within};

const CLIENTS: usize = 24;

fn plan(removed: &str, within: Duration) -> Plan {
    let plan = quick_starters(World::plan(3)).with_api_key();
    plan.drain_removed(removed).drain_within(within)
}

async fn fleet(world: &World) -> Fleet {
    Fleet::start(CLIENTS, Work::Everything, Pace::BRISK, &[world.client()]).await
}

fn pool(world: &World) -> std::sync::Arc<Pool> {
    world.proxy.shared().pools[0].pool.clone()
}

/// What a look-up does that finds only these pods.
fn name(world: &World, names: &[&str]) {
    pool(world).set_pods(names.iter().map(|name| world.proxy.pod(name)).collect());
}

fn lives_on_a(world: &World) -> usize {
    let shared = world.proxy.shared();
    shared.pools[0]
        .pool
        .pods()
        .iter()
        .filter(|pod| &*pod.name == "a")
        .map(|pod| shared.sessions.known.of_pod(pod).len())
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_left_dns_keeps_players_until_the_limit() {
    story(started(plan("idle", secs(3))).await, async |world| {
        let fleet = fleet(world).await;
        let a = world.proxy.pod("a");
        name(world, &["b", "c"]);
        assert_eq!(a.status().state, State::Draining);
        for number in 0..9 {
            let mut client = world.client().without_cookies().device(&format!("new {number}"));
            let log_in = client.log_in("alice").await;
            assert_ne!(world.home(&log_in), "a");
        }
        assert!(lives_on_a(world) > 0, "who plays stays");
        until("it has left", || world.proxy.pod_names() == ["b", "c"]).await;
        assert_eq!(a.status().state, State::Down);
        fleet.until_all_went_on().await;
        // Files that it sends go on until it ends, and then elsewhere.
        world.pod("a").stop().await;
        fleet.until_all_went_on().await;
        fleet.until_all_went_on().await;
        let saw = fleet.stop().await;
        println!("a pod left DNS under {CLIENTS} clients that play: {saw}");
        saw.must_be_nothing();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_is_named_again_stays() {
    story(started(plan("now", secs(60))).await, async |world| {
        let fleet = fleet(world).await;
        name(world, &["b", "c"]);
        until_within(Duration::from_secs(30), "everybody leaves it", || lives_on_a(world) == 0).await;
        fleet.until_all_went_on().await;
        name(world, &["a", "b", "c"]);
        assert_eq!(world.proxy.pod("a").status().state, State::Ready);
        assert!(!world.proxy.pod("a").drain.is_removed());
        name(world, &["a", "c"]);
        fleet.until_all_went_on().await;
        world.pod("b").kill().await;
        until("it has left", || world.proxy.pod_names() == ["a", "c"]).await;
        fleet.until_all_went_on().await;
        let saw = fleet.stop().await;
        println!("a pod left DNS and came back, another left and was killed, under {CLIENTS} clients: {saw}");
        saw.must_be_nothing();
    })
    .await;
}

#[tokio::test]
async fn a_silent_pod_is_removed_but_not_the_last() {
    story(started(plan("now", millis(100))).await, async |world| {
        world.pod("a").kill().await;
        world.until_state("a", State::Down).await;
        name(world, &["b", "c"]);
        assert_eq!(world.proxy.pod_names(), ["b", "c"]);
        let (b, c) = (world.proxy.pod("b"), world.proxy.pod("c"));
        pool(world).set_pods(Vec::new());
        tokio::time::timeout(Duration::from_secs(1), b.life.await_down()).await.expect_err("nobody else is left");
        let mut client = world.client();
        client.log_in("alice").await;
        pool(world).set_pods(vec![c.clone()]);
        until("it has left", || world.proxy.pod_names() == ["c"]).await;
        assert_eq!(client.get("/Users/Me").await.status, 200);
        world.pod("a").start_again().await.expect("it starts");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hangup_removes_and_adds_pods() {
    story(started(plan("now", secs(2)).state_path("state")).await, async |world| {
        let settings = world.settings().clone();
        world.proxy.stop().await;
        let mut proxy = Outside::start(world, &settings).await;
        let fleet = Fleet::start(CLIENTS, Work::Everything, Pace::BRISK, &[proxy.client()]).await;
        let all = proxy.settings.clone();
        proxy.settings.remove_pod("a");
        proxy.reload().await;
        proxy.until_pods(&["b", "c"]).await;
        fleet.until_all_went_on().await;
        world.pod("a").stop().await;
        fleet.until_all_went_on().await;
        // What is wrong changes nothing.
        proxy.settings.set("health.intervall", "\"1s\"");
        proxy.reload().await;
        proxy.until_pods(&["b", "c"]).await;
        world.pod("a").start_again().await.expect("it starts");
        world.pod("a").until(|pod| pod.is_ready()).await;
        proxy.settings = all;
        proxy.reload().await;
        proxy.until_state("a", State::Ready).await;
        world.pod("b").kill().await;
        fleet.until_all_went_on().await;
        let saw = fleet.stop().await;
        println!("a pod left the configuration and came back under {CLIENTS} clients that play: {saw}");
        saw.must_be_nothing();
        drop(proxy);
    })
    .await;
}
