//! Replicas with different settings are reported and end no session; a wrong clock ends no login.

use std::time::Duration;

use jellypin::{pod::State, sessions::SessionLookup};
use serde_json::{Value, json};

use super::{RedisServer, known_replica, plan, until_at_least, until_up};
use crate::stories::{
    migration::{minted, revocation::at_home, start_again},
    world::{Program, Proxy, secs, story, until},
};

const OTHER_KEYS: &[&str] = &["another key of more than sixteen bytes"];
const BOTH_KEYS: &[&str] = &["another key of more than sixteen bytes", "a key of more than sixteen bytes"];

async fn disagreement(proxy: &Proxy, what: &str) -> f64 {
    proxy.metric("jellypin_replicas_disagree", &[("what", what)]).await
}

async fn until_disagreeing(proxy: &Proxy, what: &str) {
    until_at_least(&format!("a disagreement in {what}"), 1.0, async || disagreement(proxy, what).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_with_different_keys_are_reported() {
    let redis = RedisServer::start();
    story(plan(2, &redis).with_api_key().hold(secs(1)), async |world| {
        until_up(&world.proxy).await;
        let other = known_replica(world, |settings| settings.keys(OTHER_KEYS)).await;
        for proxy in [&world.proxy, &other] {
            until_disagreeing(proxy, "key_ring").await;
            let page: Value = serde_json::from_str(proxy.ask_admin("/replicas").await.text()).expect("JSON");
            let disagrees = page.as_array().expect("a list").iter().any(|it| it["disagrees"] == json!(["key_ring"]));
            assert!(disagrees, "{page}");
        }
        let (code, said) = Program::check(world.settings(), world.folder());
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("another replica has none of this one's [affinity] keys"), "{said}");

        // A client that one replica migrated would be logged out by the other: no client is.
        let mut client = at_home(world, "alice", "a").await;
        world.pods.iter().for_each(|pod| pod.clear_seen());
        world.pod("a").kill().await;
        for proxy in [&world.proxy, &other] {
            proxy.until_state("a", State::Down).await;
            assert_eq!(client.moved_to(proxy).get("/Users/Me").await.status, 503, "put off, and not logged out");
        }
        assert_eq!(minted(world), 0, "a mint would end the token of the other replica");
        start_again(world, "a").await;
        other.until_state("a", State::Ready).await;
        assert_eq!(client.moved_to(&other).get("/Users/Me").await.status, 200);

        // One that is gone disagrees no more, and all is as before.
        other.stop().await;
        until("the other one is forgotten", || world.proxy.sessions().replicas.others().is_empty()).await;
        assert_eq!(disagreement(&world.proxy, "key_ring").await, 0.0);
        world.pod("a").kill().await;
        assert_eq!(client.get("/Users/Me").await.status, 200);
        assert_eq!(minted(world), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn different_api_keys_and_pods_are_reported() {
    let redis = RedisServer::start();
    story(plan(2, &redis).with_api_key(), async |world| {
        until_up(&world.proxy).await;
        let _other = known_replica(world, |settings| {
            settings.api_key("fedcba9876543210fedcba9876543210");
            settings.cookie_name("biscuit");
            settings.remove_pod("b");
        })
        .await;
        for what in ["api_key", "cookie", "pods"] {
            until_disagreeing(&world.proxy, what).await;
        }
        assert_eq!(disagreement(&world.proxy, "key_ring").await, 0.0);
        let (code, said) = Program::check(world.settings(), world.folder());
        assert_eq!(code, Some(2), "{said}");
        for sentence in ["another [jellyfin] api_key", "another [affinity.cookie] name", "pods of other names"] {
            assert!(said.contains(sentence), "{sentence}: {said}");
        }
        let secrets = ["fedcba9876543210fedcba9876543210", &world.cluster.api_key(), "sixteen bytes"];
        let announced = format!("{:?}", redis.fields("jellypin:replicas"));
        assert!(
            announced.contains("writes=") && secrets.iter().all(|secret| !announced.contains(secret)),
            "{announced}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_replaced_one_replica_at_a_time() {
    let redis = RedisServer::start();
    story(plan(2, &redis).with_api_key(), async |world| {
        until_up(&world.proxy).await;
        // The newer replica writes what the older can read.
        let other = known_replica(world, |settings| settings.keys(BOTH_KEYS)).await;
        let mut client = other.client().without_cookies().device("sofa");
        client.log_in("alice").await;
        let home =
            world.pods.iter().find(|pod| pod.knows_token(client.token.as_deref().expect("a token"))).expect("a home");
        home.kill().await;
        for proxy in [&world.proxy, &other] {
            proxy.until_state(home.name(), State::Down).await;
            assert_eq!(client.moved_to(proxy).get("/Users/Me").await.status, 200);
            assert_eq!(client.moved_to(proxy).get("/Items").await.status, 200);
            assert_eq!(disagreement(proxy, "key_ring").await, 0.0);
        }
        assert_eq!(minted(world), 1, "one of them has minted, and the other has found it");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_an_hour_ahead_ends_no_new_login() {
    let redis = RedisServer::start();
    story(plan(2, &redis).with_api_key(), async |world| {
        until_up(&world.proxy).await;
        let other = known_replica(world, |_| {}).await;
        let clock = &other.sessions().backend.clock;
        clock.be_ahead(Duration::from_secs(3600));
        until("the clock is found to be wrong", || clock.error() > 3_500_000).await;

        // All of alice's sessions but one are ended by the replica whose clock is wrong.
        let mut spared = other.client().without_cookies().device("desk");
        spared.log_in("alice").await;
        let user = world.cluster.user_id("alice").expect("alice");
        let token = spared.token.clone().expect("a token");
        let SessionLookup::Active(session) = other.sessions().known.find(&token) else {
            panic!("the session is known")
        };
        other.sessions().ends.end_user("main", &user, Some(&session));
        assert!(other.sessions().keeper.flush().await);

        // Then she signs in again through the other, whose clock is right.
        let mut fresh = world.client().without_cookies().device("sofa");
        fresh.log_in("alice").await;
        let token = fresh.token.clone().expect("a token");
        let home = world.pods.iter().find(|pod| pod.knows_token(&token)).expect("a home");
        for proxy in [&world.proxy, &other] {
            assert_eq!(fresh.moved_to(proxy).get("/Users/Me").await.status, 200);
        }
        home.kill().await;
        for proxy in [&other, &world.proxy] {
            proxy.until_state(home.name(), State::Down).await;
            assert_eq!(fresh.moved_to(proxy).get("/Users/Me").await.status, 200, "the new log-in lives");
        }
    })
    .await;
}
