//! What `jellypin check` says of a Redis that is not as it should be.

use super::{RedisServer, plan};
use crate::stories::world::{Plan, Program, story};

fn plan_with_key(redis: &RedisServer) -> Plan {
    plan(1, redis).with_api_key()
}

#[tokio::test(flavor = "multi_thread")]
async fn check_warns_of_a_redis_that_evicts_or_persists_nothing() {
    let redis = RedisServer::with(&["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"]);
    story(plan_with_key(&redis), async |world| {
        let (code, said) = Program::check(world.settings(), world.folder());
        assert_eq!(code, Some(0), "{said}");
        for sentence in ["maxmemory-policy allkeys-lru", "keeps nothing over its restart", "keep it below the half"] {
            assert!(said.contains(sentence), "{sentence}: {said}");
        }
        assert_eq!(world.proxy.metric("jellypin_redis_persists", &[]).await, 0.0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_names_the_redis_command_that_is_denied() {
    let redis = RedisServer::start();
    redis.command(&["ACL", "SETUSER", "poor", "on", ">hunter2", "~*", "&*", "+@all", "-eval", "-scan"]);
    story(plan_with_key(&redis), async |world| {
        let url = redis.url().replacen("//", "//poor:hunter2@", 1);
        let settings = {
            let mut settings = world.settings().clone();
            settings.redis_url(&url);
            settings
        };
        let (code, said) = Program::check(&settings, world.folder());
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("may not run EVAL") && said.contains("may not run SCAN"), "{said}");
        assert!(!said.contains("may not run SET") && !said.contains("hunter2"), "{said}");
        // Requests get on all the same.
        world.restart(|settings| settings.redis_url(&url)).await;
        let mut client = world.client().without_cookies().device("sofa");
        client.log_in("alice").await;
        assert_eq!(client.get("/Users/Me").await.status, 200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_refuses_a_redis_cluster() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().display().to_string();
    // Its nodes' port, which would else be above the highest there is.
    let bus =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port").port().to_string();
    let redis = RedisServer::with(&["--cluster-enabled", "yes", "--cluster-port", &bus, "--dir", &path]);
    story(plan_with_key(&redis), async |world| {
        let (code, said) = Program::check(world.settings(), world.folder());
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("Redis is one of a cluster, which is not supported"), "{said}");
    })
    .await;
}
