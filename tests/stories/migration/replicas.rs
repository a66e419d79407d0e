//! Two replicas carry one client over as one.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::Method;
use jellyfin_sim::FILM;
use jellypin::{
    pod::{PodInstance, State},
    sessions::{SessionLookup, session::MoveReason},
};

use super::{client_of, kill, minted, revocation::at_home, start_again};
use crate::stories::{
    redis_server::RedisServer,
    replicas::{plan, replica, until_at_least, until_up},
    world::{Client, DEADLINE, Failed, Proxy, World, body_of, elapse, has_ended, millis, secs, story, until},
};

/// Requests of a client through each replica, at once.
const EACH: usize = 10;

async fn ask_through_both(client: &Client, proxies: [&Proxy; 2]) -> Vec<u16> {
    let clients = proxies.iter().flat_map(|proxy| (0..EACH).map(|_| client.moved_to(proxy)));
    join_all(clients.map(|mut client| async move { client.get("/Users/Me").await.status })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_replicas_mints_for_both() {
    let redis = RedisServer::start();
    story(plan(3, &redis).with_api_key(), async |world| {
        until_up(&world.proxy).await;
        let other = replica(world, |_| {}).await;
        let mut mints = Vec::new();
        for round in 0..20 {
            let mut client = at_home(world, &format!("user{round}"), "a").await;
            if round % 2 == 0 {
                // Every second time the other replica has never seen the client.
                assert_eq!(client.moved_to(&other).get("/Users/Me").await.status, 200);
            }
            world.pods.iter().for_each(|pod| pod.clear_seen());
            world.pod("a").kill().await;
            let statuses = ask_through_both(&client, [&world.proxy, &other]).await;
            assert!(statuses.iter().all(|status| *status == 200), "round {round}: {statuses:?}");
            mints.push(minted(world));
            start_again(world, "a").await;
            other.until_state("a", State::Ready).await;
            assert_eq!(client.get("/Items").await.status, 200, "round {round}");
            assert_eq!(client.moved_to(&other).get("/Items").await.status, 200, "round {round}");
        }
        println!("20 rounds of {} requests through two replicas: mints in each {mints:?}", 2 * EACH);
        assert!(mints.iter().all(|mints| *mints == 1), "{mints:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_migrate_while_redis_dies() {
    const ROUNDS: usize = 5;
    let (mut failed, mut mints, mut lost, mut longest) = (0, Vec::new(), 0, Duration::ZERO);
    for round in 0..ROUNDS {
        // One outage a world: a Redis that comes and goes all the time is tried again less and less often.
        let mut redis = RedisServer::start();
        story(plan(3, &redis).with_api_key(), async |world| {
            until_up(&world.proxy).await;
            let other = replica(world, |_| {}).await;
            let client = at_home(world, &format!("user{round}"), "a").await;
            assert_eq!(client.moved_to(&other).get("/Users/Me").await.status, 200);
            world.pods.iter().for_each(|pod| pod.clear_seen());
            world.pod("a").kill().await;
            let asking = ask_through_both(&client, [&world.proxy, &other]);
            let killing = async {
                elapse(millis(4 * round as u64)).await;
                redis.kill();
                elapse(millis(300)).await;
                redis.start_again();
            };
            let began = Instant::now();
            let asking = async { (asking.await, began.elapsed()) };
            let ((statuses, took), ()) = tokio::join!(asking, killing);
            longest = longest.max(took);
            failed += statuses.iter().filter(|status| **status != 200).count();
            mints.push(minted(world));
            start_again(world, "a").await;
            other.until_state("a", State::Ready).await;
            join_all([&world.proxy, &other].map(until_up)).await;
            for proxy in [&world.proxy, &other] {
                lost += usize::from(client.moved_to(proxy).get("/Users/Me").await.status != 200);
            }
        })
        .await;
    }
    println!(
        "Redis killed in the middle, {ROUNDS} rounds of {} requests: {failed} failed, the longest took {longest:.1?}, mints in each {mints:?}; {lost} of {} lost \
         their session at a replica",
        2 * EACH,
        2 * ROUNDS
    );
    assert!(mints.iter().all(|mints| (1..=2).contains(mints)), "{mints:?}");
    assert_eq!((failed, lost), (0, 0));
}

/// Two replicas that have both minted on pod b for one client while Redis was away: the second mint has ended the first.
async fn both_minted(world: &World, other: &Proxy, redis: &mut RedisServer) -> Client {
    let mut client = at_home(world, "alice", "a").await;
    assert_eq!(client.moved_to(other).get("/Users/Me").await.status, 200);
    redis.kill();
    join_all([&world.proxy, other].map(until_down)).await;
    world.pods.iter().for_each(|pod| pod.clear_seen());
    world.pod("a").kill().await;
    assert_eq!(client.get("/Users/Me").await.status, 200);
    assert_eq!(client.moved_to(other).get("/Users/Me").await.status, 200);
    assert_eq!(minted(world), 2);
    client
}

/// A world of two pods, whose proxy holds requests for a short time only.
async fn with_short_hold(redis: &RedisServer) -> World {
    let world = plan(2, redis).with_api_key().hold(secs(1)).start().await;
    until_up(&world.proxy).await;
    world
}

async fn until_down(proxy: &Proxy) {
    until_at_least("Redis is down", 0.0, async || -proxy.metric("jellypin_redis_up", &[]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_the_other_replicas_mint_ends_no_session() {
    let mut redis = RedisServer::start();
    story(with_short_hold(&redis).await, async |world| {
        let other = replica(world, |_| {}).await;
        let mut client = both_minted(world, &other, &mut redis).await;
        let put_off = client.get("/Users/Me").await;
        assert_eq!((put_off.status, put_off.header("retry-after")), (503, "1"));
        assert_eq!(client.moved_to(&other).get("/Users/Me").await.status, 200);
        redis.start_again();
        join_all([&world.proxy, &other].map(until_up)).await;
        let back = async { while client.get("/Users/Me").await.status != 200 {} };
        assert!(tokio::time::timeout(2 * DEADLINE, back).await.is_ok(), "the replicas settle on one token");
        assert_eq!(client.moved_to(&other).get("/Users/Me").await.status, 200);
        assert_eq!(minted(world), 2, "nothing was minted to make up for it");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ended_at_the_other_replica_is_not_minted_again() {
    let mut redis = RedisServer::start();
    story(with_short_hold(&redis).await, async |world| {
        let other = replica(world, |_| {}).await;
        let mut client = both_minted(world, &other, &mut redis).await;
        assert_eq!(client.moved_to(&other).post("/Sessions/Logout", serde_json::json!({})).await.status, 204);
        assert_eq!(client.moved_to(&other).get("/Users/Me").await.status, 401);
        assert_eq!(client.get("/Users/Me").await.status, 503, "this replica cannot know");
        redis.start_again();
        join_all([&world.proxy, &other].map(until_up)).await;
        let ends = async {
            loop {
                match client.get("/Users/Me").await.status {
                    503 => {}
                    status => return status,
                }
            }
        };
        assert_eq!(
            tokio::time::timeout(2 * DEADLINE, ends).await,
            Ok(401),
            "it hears of the end, and no sooner lets go"
        );
        assert_eq!(minted(world), 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_is_broken_off_where_a_page_is_put_off() {
    let mut redis = RedisServer::start();
    story(with_short_hold(&redis).await, async |world| {
        let mut client = at_home(world, "alice", "a").await;
        // From now on no session can be made on b.
        let mut key = world.client().without_cookies();
        key.token = Some(world.cluster.api_key());
        let path = format!("/Users/{}/Policy", world.cluster.user_id("alice").expect("alice"));
        let policy = serde_json::json!({"EnableAllDevices": false, "EnabledDevices": []});
        assert_eq!(key.post(&path, policy).await.status, 204);
        redis.kill();
        until_down(&world.proxy).await;
        kill(world, "a").await;
        let mut player = client.twin();
        let segment = async {
            let request = player.request(Method::GET, &format!("/Videos/{FILM}/hls1/main/1.ts?PlaySessionId=p"));
            player.send(request, body_of("")).await
        };
        let (answer, page) = tokio::join!(segment, client.get("/Users/Me"));
        assert!(matches!(answer, Err(Failed::NoAnswer)), "{answer:?}");
        assert_eq!(page.status, 503);
    })
    .await;
}

/// Moves a client from its living home, as a replica does for a feature that only another pod has.
async fn move_to(world: &World, token: &str, pod: &str) {
    let shared = world.proxy.shared();
    let SessionLookup::Active(session) = shared.sessions.known.find(token) else { panic!("the session is known") };
    assert!(
        session.residence.record_home(PodInstance::of(&world.proxy.pod(pod)), token, || MoveReason::Group),
        "a move"
    );
    shared.sessions.keeper.persist(&session);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_moves_the_sockets_at_the_other_replica() {
    let redis = RedisServer::start();
    story(plan(2, &redis).with_api_key(), async |world| {
        until_up(&world.proxy).await;
        let other = replica(world, |_| {}).await;
        let client = at_home(world, "alice", "a").await;
        let token = client.token.clone().expect("a token");
        // Pod b has read the token's row. A replica that did not know of the death yet would learn of it after the move.
        kill(world, "b").await;
        other.until_state("b", State::Down).await;
        start_again(world, "b").await;
        other.until_state("b", State::Ready).await;
        let mut there = client.moved_to(&other);
        let answer = there.get("/Users/Me").await;
        assert_eq!(world.saw(&answer), ["a"]);
        let mut socket = there.socket(&format!("/socket?ApiKey={token}")).await.expect("a socket");
        world.pod("a").until(|pod| pod.open_sockets() == 1).await;
        let began = Instant::now();
        move_to(world, &token, "b").await;
        world.pod("b").until(|pod| pod.open_sockets() == 1).await;
        println!("a socket of the other replica followed a move after {:?}", began.elapsed());
        let answer = there.get("/Users/Me").await;
        assert_eq!((answer.status, world.saw(&answer)), (200, vec!["b"]), "the old home lives, and is not asked");
        // And back, told by the other way round: it ends there, and the socket with it.
        assert_eq!(client.moved_to(&world.proxy).post("/Sessions/Logout", serde_json::json!({})).await.status, 204);
        assert!(has_ended(&mut socket).await);
        assert_eq!(there.get("/Users/Me").await.status, 401);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_was_not_published_is_found_later() {
    let mut redis = RedisServer::start();
    story(plan(2, &redis).with_api_key(), async |world| {
        until_up(&world.proxy).await;
        let other = replica(world, |_| {}).await;
        let (client, home) = client_of(world, "alice", "sofa").await;
        let mut there = client.moved_to(&other);
        assert_eq!(there.get("/Users/Me").await.status, 200);
        redis.kill();
        assert_eq!(client.moved_to(&world.proxy).post("/Sessions/Logout", serde_json::json!({})).await.status, 204);
        redis.start_again();
        join_all([&world.proxy, &other].map(until_up)).await;
        until("the end is kept", || redis.bytes().iter().any(|(key, _)| key.contains(":ended:"))).await;
        let token = client.token.clone().expect("a token");
        // The other replica looks when it may have missed something, and as soon as Redis answers it.
        let sessions = &other.shared().sessions;
        until("the other replica knows of the end", || matches!(sessions.known.find(&token), SessionLookup::Ended))
            .await;
        world.pods.iter().for_each(|pod| pod.clear_seen());
        world.pod(&home).kill().await;
        assert_eq!(there.get("/Users/Me").await.status, 401, "it does not migrate");
        assert_eq!(minted(world), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_replica_is_kept_while_redis_is_away() {
    let redis = RedisServer::start();
    story(plan(3, &redis).with_api_key(), async |world| {
        until_up(&world.proxy).await;
        let other = replica(world, |_| {}).await;
        let client = at_home(world, "alice", "a").await;
        until("the session is kept", || redis.bytes().iter().any(|(key, _)| key.contains(":session:"))).await;
        world.pod("a").kill().await;
        other.until_state("a", State::Down).await;
        world.pods.iter().for_each(|pod| pod.clear_seen());

        redis.hang(true);
        let mut elsewhere = client.moved_to(&other);
        let asked = tokio::spawn(async move { elsewhere.get("/System/Info").await.status });
        for pod in world.pods_but("a") {
            pod.until(|pod| pod.seen().iter().any(|seen| seen.path() == "/System/Info")).await;
        }
        redis.hang(false);
        assert_eq!(asked.await.expect("asked"), 200);
        assert_eq!(minted(world), 1);

        // A token that Redis does not know is refused as soon as Redis answers.
        redis.hang(true);
        let mut stranger = client.moved_to(&other);
        stranger.token = Some("0123456789abcdef0123456789abcdef".into());
        world.pods.iter().for_each(|pod| pod.clear_seen());
        let asked = tokio::spawn(async move { stranger.get("/Users/Me").await.status });
        for pod in world.pods_but("a") {
            pod.until(|pod| pod.seen().iter().any(|seen| seen.path() == "/Users/Me")).await;
        }
        assert!(!asked.is_finished());
        redis.hang(false);
        assert_eq!(asked.await.expect("asked"), 401);
    })
    .await;
}
