//! The proxy is killed right after it has migrated a client.

use super::{minted, plan};
use crate::stories::{
    redis_server::RedisServer,
    replicas,
    world::{Client, Plan, Program, World, story},
};

/// A client whose home is this pod, at a running program.
async fn at_home(program: &Program, world: &World, pod: &str) -> Client {
    for number in 0..64 {
        let mut client = program.client().without_cookies().device(&format!("device {number}"));
        let log_in = client.log_in("alice").await;
        if world.home(&log_in) == pod {
            return client;
        }
    }
    panic!("no device is at home on {pod}");
}

/// The same client, of another program.
fn moved_to(client: &Client, program: &Program) -> Client {
    let mut there = program.client().without_cookies();
    (there.token, there.device) = (client.token.clone(), client.device.clone());
    there
}

async fn kill_after_migration(plan: Plan, is_shared: bool) {
    story(plan, async |world| {
        let mut settings = world.settings().clone();
        if !is_shared {
            settings.state_path("state");
        }
        for _ in 0..5 {
            let mut first = Program::start(&settings, world.folder()).await;
            let mut client = at_home(&first, world, "a").await;
            world.pods.iter().for_each(|pod| pod.clear_seen());
            world.pod("a").kill().await;
            assert_eq!(client.get("/Users/Me").await.status, 200);
            first.signal("KILL");
            first.ended().await;
            let mut second = Program::start(&settings, world.folder()).await;
            let mut again = moved_to(&client, &second);
            for path in ["/Users/Me", "/Items", "/System/Info"] {
                assert_eq!(again.get(path).await.status, 200, "{path}");
            }
            assert_eq!(minted(world), 1, "nothing is minted again");
            second.signal("TERM");
            second.ended().await;
            super::start_again(world, "a").await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_proxy_keeps_a_client_that_it_just_migrated() {
    kill_after_migration(plan(2), false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_proxy_with_redis_keeps_a_client_that_it_just_migrated() {
    let redis = RedisServer::start();
    kill_after_migration(replicas::plan(2, &redis).with_api_key(), true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_serves_the_clients_of_a_killed_one() {
    let redis = RedisServer::start();
    story(replicas::plan(2, &redis).with_api_key(), async |world| {
        for dies_first in [false, true] {
            let mut first = Program::start(world.settings(), world.folder()).await;
            let mut second = Program::start(world.settings(), world.folder()).await;
            let mut client = at_home(&first, world, "a").await;
            world.pods.iter().for_each(|pod| pod.clear_seen());
            replicas::until_at_least("the session is kept", 1.0, async || {
                redis.bytes().iter().filter(|(key, _)| key.contains(":session:")).count() as f64
            })
            .await;
            world.pod("a").kill().await;
            if !dies_first {
                assert_eq!(client.get("/Users/Me").await.status, 200);
            }
            first.signal("KILL");
            first.ended().await;
            let mut there = moved_to(&client, &second);
            for path in ["/Users/Me", "/Items"] {
                assert_eq!(there.get(path).await.status, 200, "{path}");
            }
            assert_eq!(minted(world), 1);
            second.signal("TERM");
            second.ended().await;
            super::start_again(world, "a").await;
            redis.flush();
        }
    })
    .await;
}
