//! What strangers and one user can fill displaces nobody; what Redis loses logs nobody out.

use std::time::Instant;

use futures_util::{StreamExt, stream};
use jellypin::{
    pod::State,
    sessions::{Device, SessionLookup},
};
use serde_json::json;

use super::{RedisServer, known_replica, plan, until_at_least, until_up};
use crate::stories::{
    migration::revocation::at_home,
    world::{Client, Proxy, World, story, until, until_within},
};

/// How much of the whole attack is made: `STORY_ATTACK=1` is all of it, 100,000 made-up tokens and so on.
fn share() -> f64 {
    std::env::var("STORY_ATTACK").ok().and_then(|share| share.parse().ok()).unwrap_or(0.005)
}

fn some(all: usize) -> usize {
    ((all as f64 * share()) as usize).max(20)
}

/// A world of two replicas, which know of each other.
async fn two_replicas(redis: &RedisServer) -> (World, Proxy) {
    let world = plan(3, redis).with_api_key().start().await;
    until_up(&world.proxy).await;
    let other = known_replica(&world, |_| {}).await;
    world.pods.iter().for_each(|pod| pod.set_recording(false));
    (world, other)
}

/// So many users who have signed in, each with a device.
async fn users(world: &World, count: usize) -> Vec<Client> {
    let one = async |number: usize| {
        let mut client = world.client().without_cookies().device(&format!("the own device {number}"));
        client.log_in(&format!("user{number}")).await;
        client
    };
    stream::iter(0..count).map(one).buffer_unordered(8).collect().await
}

/// How many of them hear something else than 200 through this replica.
async fn lost(clients: &[Client], proxy: &Proxy) -> usize {
    let ask = async |client: &Client| usize::from(client.moved_to(proxy).get("/Users/Me").await.status != 200);
    stream::iter(clients).map(ask).buffer_unordered(8).fold(0, async |all, one| all + one).await
}

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a figure");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Requests with tokens that nobody has made.
async fn made_up_tokens(proxy: &Proxy, count: usize) {
    let ask = async |lane: usize| {
        let mut client = proxy.client().without_cookies();
        for number in (lane..count).step_by(16) {
            client.token = Some(format!("{:032x}", (number as u128 + 1) << 64));
            let status = client.get("/Users/Me").await.status;
            assert_eq!(status, 401);
        }
    };
    stream::iter(0..16).for_each_concurrent(16, ask).await;
}

/// Log-ins of one user, each on another device.
async fn log_ins(proxy: &Proxy, count: usize) {
    let ask = async |lane: usize| {
        for number in (lane..count).step_by(8) {
            let mut client = proxy.client().without_cookies().device(&format!("made up {number}"));
            client.log_in("bob").await;
        }
    };
    stream::iter(0..8).for_each_concurrent(8, ask).await;
}

/// What one user leaves behind that signs in and out again and again.
async fn tombstones(proxy: &Proxy, count: usize) {
    let pod = proxy.pod("a");
    for number in 0..count {
        let token = format!("{:032x}", (number as u128 + 1) << 32);
        let device =
            Device { client: "c".into(), name: "n".into(), id: format!("ended {number}"), version: "1".into() };
        drop(proxy.sessions().log_ins.record(&pod, "mallory", device, &token));
        let SessionLookup::Active(session) = proxy.sessions().known.find(&token) else { panic!("it has just begun") };
        proxy.sessions().ends.end_session(&session);
        if number % 256 == 0 {
            // The queue to Redis is bounded, and is not what is tested.
            proxy.sessions().keeper.flush().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_of_some_displace_no_others() {
    let redis = RedisServer::start();
    let (world, other) = two_replicas(&redis).await;
    story(world, async |world| {
        let clients = users(world, some(200)).await;
        let (memory, began) = (resident_kib(), Instant::now());
        made_up_tokens(&world.proxy, some(100_000)).await;
        println!("{} made-up tokens: {:.1?}, {} MiB more", some(100_000), began.elapsed(), grown(memory));
        tombstones(&world.proxy, some(100_000)).await;
        println!("{} tombstones: {:.1?}, {} MiB more", some(100_000), began.elapsed(), grown(memory));
        log_ins(&world.proxy, some(10_000).max(400)).await;
        println!("{} log-ins of one user: {:.1?}, {} MiB more", some(10_000).max(400), began.elapsed(), grown(memory));
        let sessions = world.proxy.sessions().known.count();
        assert!(sessions <= clients.len() + 256, "{sessions} sessions in memory");
        let most = (100_000 / 50).min(some(100_000)) + some(10_000).max(400);
        assert!(world.proxy.sessions().ends.count() <= most, "{} tombstones", world.proxy.sessions().ends.count());

        // Each of the others migrates, through the replica that has never seen it.
        world.pod("a").kill().await;
        for proxy in [&world.proxy, &other] {
            proxy.until_state("a", State::Down).await;
        }
        let lost = [lost(&clients, &other).await, lost(&clients, &world.proxy).await];
        let (keys, used) = (redis.count(), redis.info("used_memory") >> 10);
        println!(
            "of {} users lost {lost:?}; Redis: {keys} keys, {used} KiB; sessions in memory {sessions}",
            clients.len()
        );
        assert_eq!(lost, [0, 0]);
    })
    .await;
}

fn grown(before: usize) -> usize {
    resident_kib().saturating_sub(before) >> 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_evicts_ends_no_session() {
    let redis = RedisServer::with(&["--maxmemory", "4mb", "--maxmemory-policy", "allkeys-lru"]);
    let (world, other) = two_replicas(&redis).await;
    story(world, async |world| {
        assert_eq!(world.proxy.metric("jellypin_redis_evicts", &[]).await, 1.0);
        let clients = users(world, some(200).max(40)).await;
        // Somebody else fills it, so that all that is old has to go.
        redis.fill(20_000, 400);
        assert!(redis.info("evicted_keys") > 1000, "all that is old has gone");
        log_ins(&world.proxy, some(10_000).max(100)).await;
        world.pod("a").kill().await;
        for proxy in [&world.proxy, &other] {
            proxy.until_state("a", State::Down).await;
        }
        assert_eq!([lost(&clients, &other).await, lost(&clients, &world.proxy).await], [0, 0]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_redis_ends_no_session() {
    let redis = RedisServer::start();
    let (world, other) = two_replicas(&redis).await;
    story(world, async |world| {
        let clients = users(world, some(200).max(30)).await;
        let mut ended = world.client().without_cookies().device("sofa");
        ended.log_in("alice").await;
        assert_eq!(ended.post("/Sessions/Logout", json!({})).await.status, 204);
        world.pod("a").kill().await;
        other.until_state("a", State::Down).await;
        redis.flush();
        // At once: neither replica can know yet that it is empty.
        assert_eq!(lost(&clients, &other).await, 0, "the replica that knows them is asked");
        assert_eq!(lost(&clients, &world.proxy).await, 0);
        let is_there = |kind: &str| redis.keys().iter().any(|key| key.contains(kind));
        until("the end is written again", || is_there(":ended:")).await;
        let sessions = || redis.keys().iter().filter(|key| key.contains(":session:")).count();
        until("all sessions are written again", || sessions() >= clients.len()).await;
        assert_eq!(ended.moved_to(&other).get("/Users/Me").await.status, 401);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_lost_by_redis_are_on_disk() {
    let redis = RedisServer::start();
    story(plan(2, &redis).with_api_key().state_path("state"), async |world| {
        until_up(&world.proxy).await;
        let mut client = at_home(world, "alice", "a").await;
        let mut ended = at_home(world, "bob", "a").await;
        assert_eq!(ended.post("/Sessions/Logout", json!({})).await.status, 204);
        // From here on only the proxy knows by which token pod b knows her.
        world.pod("a").kill().await;
        world.until_state("a", State::Down).await;
        assert_eq!(client.get("/Users/Me").await.status, 200);
        world.proxy.stop().await;
        redis.flush();
        world.restart(|_| {}).await;
        until_up(&world.proxy).await;
        assert_eq!(client.moved_to(&world.proxy).get("/Users/Me").await.status, 200);
        assert!(world.proxy.sessions().ends.count() >= 1, "what was ended is known");
        let is_there = |kind: &str| redis.keys().iter().any(|key| key.contains(kind));
        until("the session is in Redis again", || is_there(":session:")).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tombstones_are_written_again_after_a_restart() {
    let redis = RedisServer::start();
    story(plan(2, &redis).with_api_key(), async |world| {
        until_up(&world.proxy).await;
        let mut ended = at_home(world, "bob", "a").await;
        assert_eq!(ended.post("/Sessions/Logout", json!({})).await.status, 204);
        let ends = || redis.keys().iter().filter(|key| key.contains(":ended:")).count();
        until("the end is kept", || ends() > 0).await;
        let year = 365 * 86_400_000;
        let key = redis.keys().into_iter().find(|key| key.contains(":ended:")).expect("an end");
        assert!((year - 60_000..=year).contains(&redis.life(&key)), "{}", redis.life(&key));
        world.restart(|_| {}).await;
        until("it has read what stands there", || world.proxy.sessions().ends.count() > 0).await;
        redis.flush();
        until("the end is written again", || ends() > 0).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_in_redis_are_bounded_and_expire() {
    let redis = RedisServer::start();
    story(plan(1, &redis).with_api_key().redis_max_keys(1000), async |world| {
        until_up(&world.proxy).await;
        let pod = world.proxy.pod("a");
        for number in 0..600 {
            let device = Device { client: "c".into(), name: "n".into(), id: "d".into(), version: "1".into() };
            drop(world.proxy.sessions().log_ins.record(
                &pod,
                &format!("user {number}"),
                device,
                &format!("{number:032x}"),
            ));
        }
        tombstones(&world.proxy, 100).await;
        let count = |kind: &str| redis.keys().iter().filter(|key| key.contains(kind)).count();
        until("everything is written", || count(":ended:") >= 100).await;
        until_within(3 * crate::stories::world::DEADLINE, "what is too much is gone", || count(":session:") <= 300)
            .await;
        assert!(
            count(":session:") > 200 && count(":ended:") == 100,
            "no more than has to, and nothing of another kind"
        );
        until_at_least("what has gone", 300.0, async || {
            world.proxy.metric("jellypin_redis_let_go_total", &[("kind", "session")]).await
        })
        .await;
        for key in redis.keys() {
            assert!(redis.life(&key) != -1, "{key} has no end");
        }
    })
    .await;
}
