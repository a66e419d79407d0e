//! A copy of the store is of no use to a thief.

use serde_json::json;

use super::{kill, minted, plan, revocation::at_home, start_again};
use crate::stories::{
    redis_server::RedisServer,
    replicas::{self, assert_no_secret, until_up},
    world::{Client, World, secs, story, until},
};

/// A client that has migrated, with its tokens: its own, and the minted one.
async fn carried(world: &World) -> (Client, [String; 2]) {
    let mut client = at_home(world, "alice", "a").await;
    let before = world.cluster.tokens();
    world.pod("a").kill().await;
    assert_eq!(client.get("/Users/Me").await.status, 200);
    let own = client.token.clone().expect("a token");
    let minted = world.cluster.tokens().into_iter().find(|token| !before.contains(token)).expect("a minted token");
    (client, [own, minted])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_redis_is_of_no_use() {
    let redis = RedisServer::start();
    story(replicas::plan(2, &redis).with_api_key().hold(secs(1)), async |world| {
        until_up(&world.proxy).await;
        let (mut client, [own, alias]) = carried(world).await;
        let device = client.device.clone().expect("a device");
        let user = world.cluster.user_id("alice").expect("alice");
        until("the session is kept", || redis.bytes().iter().any(|(key, _)| key.contains(":session:"))).await;
        for (key, value) in redis.bytes() {
            let secrets = [own.as_str(), &alias, &device, &user, "alice", "Story", "Test"];
            assert_no_secret(&[key.as_bytes(), &value].concat(), &secrets);
        }
        // Another proxy before the same pods and the same store, without the keys.
        let thief = replicas::replica(world, |settings| settings.keys(&["the keys of a thief, long enough"])).await;
        world.pods.iter().for_each(|pod| pod.clear_seen());
        let answer = client.moved_to(&thief).get("/Users/Me").await;
        assert_eq!(answer.status, 503, "the session is not found, and may be one that only the other replica can read");
        assert_eq!(minted(world), 0);
        assert_eq!(client.get("/Users/Me").await.status, 200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_old_entry_revives_no_session() {
    let redis = RedisServer::start();
    story(replicas::plan(2, &redis).with_api_key(), async |world| {
        until_up(&world.proxy).await;
        let (client, tokens) = carried(world).await;
        start_again(world, "a").await;
        until("the session is kept", || redis.bytes().iter().any(|(key, _)| key.contains(":session:"))).await;
        let copy = redis.bytes();
        assert_eq!(client.moved_to(&world.proxy).post("/Sessions/Logout", json!({})).await.status, 204);
        until("the end is kept", || redis.bytes().iter().any(|(key, _)| key.contains(":ended:"))).await;
        until("the session is not kept", || !redis.bytes().iter().any(|(key, _)| key.contains(":session:"))).await;
        redis.restore_bytes(&copy);
        for restarts in [false, true] {
            if restarts {
                world.restart(|_| {}).await;
                until_up(&world.proxy).await;
            }
            for pod in ["a", "b"] {
                world.pod(pod).kill().await;
                for token in &tokens {
                    let mut client = world.client().without_cookies();
                    assert_eq!(client.get(&format!("/Users/Me?ApiKey={token}")).await.status, 401);
                }
                start_again(world, pod).await;
            }
        }
    })
    .await;
}

/// Logs a client out whose pod is away, so that the log-out is kept until somebody can be told.
async fn pending_logout(world: &World) -> String {
    let mut client = at_home(world, "alice", "a").await;
    kill(world, "a").await;
    assert_eq!(client.post("/Sessions/Logout", json!({})).await.status, 204);
    client.token.expect("a token")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_pending_logouts_is_of_no_use() {
    let redis = RedisServer::start();
    story(replicas::plan(2, &redis).with_api_key(), async |world| {
        until_up(&world.proxy).await;
        let token = pending_logout(world).await;
        until("it is kept", || redis.bytes().iter().any(|(key, _)| key.contains(":pending_logout:"))).await;
        for (key, value) in redis.bytes() {
            assert_no_secret(&[key.as_bytes(), &value].concat(), &[&token]);
        }
    })
    .await;
    story(plan(2).state_path("state"), async |world| {
        let token = pending_logout(world).await;
        world.restart(|_| {}).await;
        let bytes = std::fs::read(world.folder().join("state/sessions.redb")).expect("the file");
        assert_no_secret(&bytes, &[&token]);
        assert!(bytes.windows(14).any(|part| part == b"pending_logout"), "it stands there");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_file_is_of_no_use() {
    story(plan(2).state_path("state"), async |world| {
        let (client, [own, alias]) = carried(world).await;
        world.restart(|_| {}).await;
        let bytes = std::fs::read(world.folder().join("state/sessions.redb")).expect("the file");
        let (device, user) = (client.device.clone().expect("a device"), world.cluster.user_id("alice").expect("alice"));
        assert_no_secret(&bytes, &[&own, &alias, &device, &user, "alice", "Story", "Test"]);
        std::fs::create_dir(world.folder().join("stolen")).expect("a folder");
        std::fs::write(world.folder().join("stolen/sessions.redb"), bytes).expect("written");
        world.pods.iter().for_each(|pod| pod.clear_seen());
        // The folder of a proxy with a key of its own.
        let thief = world.replica(|settings| settings.state_path("stolen")).await;
        assert_eq!(client.moved_to(&thief).get("/Users/Me").await.status, 401);
        assert_eq!(minted(world), 0);
        assert_eq!(client.moved_to(&world.proxy).get("/Users/Me").await.status, 200);
    })
    .await;
}
