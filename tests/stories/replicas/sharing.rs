//! Two replicas and one Redis.

use http::Method;

use super::{
    KEYS, RedisServer, assert_no_secret, get_user_by_token, log_in, lookups, plan, replica, until_up, until_written,
};
use crate::stories::world::{World, body_of, story, until};

const USERS: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_known_to_the_other_replica_at_once() {
    let redis = RedisServer::start();
    story(plan(5, &redis), async |world| {
        let other = replica(world, |_| {}).await;
        let mut secrets = vec!["Story".to_owned()];
        let mut clients = Vec::new();
        for i in 0..USERS {
            let (user, device) = (format!("user{i}"), format!("device-number-{i}"));
            clients.push(log_in(world, &user, &device).await);
            secrets.extend([user, device]);
        }
        until("every token and device is shared", || redis.pins().len() == 2 * USERS).await;
        for (token, home) in &clients {
            let first = get_user_by_token(other.client().without_cookies(), token).await;
            assert_eq!((first.status, world.saw(&first)), (200, vec![home.as_str()]), "no other pod was asked");
            let second = get_user_by_token(other.client().without_cookies(), token).await;
            assert_eq!((second.status, world.saw(&second)), (200, vec![home.as_str()]));
        }
        assert_eq!(lookups(&other, "hit").await, USERS as f64, "Redis is asked once for each token");
        assert_eq!(lookups(&world.proxy, "hit").await, 0.0);

        secrets.extend(clients.into_iter().map(|(token, _)| token));
        let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
        for (key, value, life) in redis.pins() {
            assert!(key.starts_with("jellypin:pin:") && key.len() == "jellypin:pin:".len() + 32, "{key}");
            assert!(value.starts_with("main/") && value.len() == "main/a".len(), "{value}");
            assert!(life > 29 * 86_400_000 && life <= 30 * 86_400_000, "{life}");
            assert_no_secret(format!("{key} {value}").as_bytes(), &secrets);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_a_replica_finds_the_home_by_asking() {
    story(World::plan(3).keys(KEYS), async |world| {
        let other = world.replica(|_| {}).await;
        for i in 0..USERS {
            let (token, home) = log_in(world, &format!("user{i}"), &format!("device {i}")).await;
            let first = get_user_by_token(other.client().without_cookies(), &token).await;
            assert_eq!((first.status, world.saw(&first).contains(&home.as_str())), (200, true));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_ends_the_shared_entry() {
    let redis = RedisServer::start();
    story(plan(3, &redis), async |world| {
        let mut client = world.client().without_cookies().device("sofa");
        client.log_in("alice").await;
        until("the token and the device are shared", || redis.pins().len() == 2).await;
        let log_out = client.request(Method::POST, "/Sessions/Logout");
        assert_eq!(client.send(log_out, body_of("")).await.expect("an answer").status, 204);
        until("the token is shared no more", || redis.pins().len() == 1).await;
        // Changes are written in their order: when these are, all before them are.
        log_in(world, "bob", "desk").await;
        until("bob's token and device are shared", || redis.pins().len() >= 3).await;
        until_written(&world.proxy, 5).await;
        assert_eq!(redis.pins().len(), 3, "alice's token has not come back");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn made_up_tokens_cost_redis_little() {
    let redis = RedisServer::start();
    story(plan(3, &redis), async |world| {
        for _ in 0..10 {
            assert_eq!(
                get_user_by_token(world.client().without_cookies(), "00000000000000000000000000000abc").await.status,
                401
            );
        }
        // The memory lasts for seconds: one question, or two if the machine was slow.
        assert!((1.0..=2.0).contains(&lookups(&world.proxy, "miss").await));
        assert!(redis.pins().is_empty());
        assert_eq!(world.proxy.metric("jellypin_store_writes_total", &[]).await, 0.0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_rotation_keeps_shared_entries() {
    let redis = RedisServer::start();
    story(plan(5, &redis).keys(&["the old key, long enough"]), async |world| {
        let ring = &["the new key, long enough", "the old key, long enough"];
        let both = replica(world, |settings| settings.keys(ring)).await;
        let new = replica(world, |settings| settings.keys(&["the new key, long enough"])).await;
        // All write under the first key that all have; here there is none, and each writes under its newest.
        super::until_at_least("three replicas", 3.0, async || both.metric("jellypin_replicas", &[]).await).await;
        let (token, home) = log_in(world, "alice", "sofa").await;
        until("the token and the device are shared", || redis.pins().len() == 2).await;
        let answer = get_user_by_token(both.client().without_cookies(), &token).await;
        assert_eq!((answer.status, world.saw(&answer)), (200, vec![home.as_str()]), "found under the older key");
        until("the token is written under the newer key", || redis.pins().len() == 3).await;
        let answer = get_user_by_token(new.client().without_cookies(), &token).await;
        assert_eq!((answer.status, lookups(&new, "hit").await), (200, 1.0), "found under the newer key");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_redis_gets_all_entries() {
    let mut redis = RedisServer::absent();
    story(plan(5, &redis), async |world| {
        assert_eq!(world.proxy.metric("jellypin_redis_up", &[]).await, 0.0);
        let (token, home) = log_in(world, "alice", "sofa").await;
        assert!(lookups(&world.proxy, "skipped").await >= 1.0, "nobody waits for it");
        redis.start_again();
        until_up(&world.proxy).await;
        until("the token and the device are shared", || redis.pins().len() == 2).await;
        let other = replica(world, |_| {}).await;
        let answer = get_user_by_token(other.client().without_cookies(), &token).await;
        assert_eq!((answer.status, world.saw(&answer)), (200, vec![home.as_str()]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_works_over_tls() {
    let folder = tempfile::tempdir().expect("a folder");
    let redis = RedisServer::with_tls(folder.path());
    story(plan(2, &redis), async |world| {
        until_up(&world.proxy).await;
        log_in(world, "alice", "sofa").await;
        until_written(&world.proxy, 2).await;
        let stranger = world.replica(|settings| settings.remove_redis_ca()).await;
        assert_eq!(stranger.metric("jellypin_redis_up", &[]).await, 0.0, "a certificate that nobody vouches for");
    })
    .await;
}
