//! API keys: a client's, and the proxy's own.

use super::{Method, RedisServer, at_home, body_of, delete, kill, plan, replicas, until};
use crate::stories::world::story;

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_api_key_is_dead_on_every_pod() {
    let redis = RedisServer::start();
    story(replicas::plan(2, &redis).with_api_key(), async |world| {
        let other = replicas::replica(world, |_| {}).await;
        let mut root = at_home(world, "root", "a").await;
        let request = root.request(Method::POST, "/Auth/Keys?app=script");
        assert_eq!(root.send(request, body_of("")).await.expect("an answer").status, 204);
        let keys = root.get("/Auth/Keys").await.json();
        let key = keys["Items"].as_array().expect("keys").iter().find(|key| key["AppName"] == "script").expect("a key");
        let key = key["AccessToken"].as_str().expect("a token").to_owned();
        for proxy in [&world.proxy, &other] {
            assert_eq!(proxy.client().without_cookies().get(&format!("/Items?ApiKey={key}")).await.status, 200);
        }
        assert_eq!(delete(&mut root, &format!("/Auth/Keys/{key}")).await, 204);
        for proxy in [&world.proxy, &other] {
            for path in ["/Items", "/Sessions", "/Auth/Keys"] {
                let answer = proxy.client().without_cookies().get(&format!("{path}?ApiKey={key}")).await;
                assert_eq!(answer.status, 401, "{path}");
            }
            let socket = proxy.client().socket(&format!("/socket?ApiKey={key}")).await;
            assert!(socket.is_err_and(|status| status == 403));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_api_key_the_proxy_warns_and_does_what_it_can() {
    story(plan(2), async |world| {
        let mut root = at_home(world, "root", "b").await;
        let mut client = at_home(world, "alice", "a").await;
        let key = world.cluster.api_key();
        assert_eq!(delete(&mut root, &format!("/Auth/Keys/{key}")).await, 204);
        kill(world, "a").await;
        // The other pod does not know the client, and cannot be told: the client is held for its home, which knows it.
        let mut waiting = client.twin();
        let waiting = tokio::spawn(async move { waiting.get("/Users/Me").await.status });
        let refused = async || world.proxy.metric("jellypin_migrations_total", &[("outcome", "refused")]).await;
        replicas::until_at_least("the refusal is told", 1.0, refused).await;
        super::start_again(world, "a").await;
        assert_eq!(waiting.await.expect("an answer"), 200);
        assert_eq!(client.get("/Items").await.status, 200);
        let lack = async || {
            world.proxy.metric("jellypin_migration_requirements_missing", &[("what", "api_key"), ("pod", "a")]).await
        };
        replicas::until_at_least("the returned pod's lack is told", 1.0, lack).await;
        until("nothing is left", || true).await;
    })
    .await;
}
