//! All replicas show one server id.

use super::{RedisServer, plan, replica};
use crate::stories::{
    server_id::id_at,
    world::{Settings, story, until_so},
};

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_the_shown_id() {
    let redis = RedisServer::start();
    story(plan(3, &redis), async |world| {
        let first = world.pod("a").server_id().to_owned();
        assert_eq!(id_at(&world.proxy).await, first);
        let other = replica(world, |settings| settings.remove_pod("a")).await;
        assert_eq!(id_at(&other).await, first, "which does not know the pod that gave it");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_without_redis_takes_the_shown_id_later() {
    let mut redis = RedisServer::start();
    story(plan(3, &redis).state_path("state"), async |world| {
        let first = world.pod("a").server_id().to_owned();
        let dump = redis.dump();
        redis.kill();
        let change = |settings: &mut Settings| {
            settings.remove_pod("a");
            settings.state_path("another");
        };
        let other = world.replica(change).await;
        assert_eq!(id_at(&other).await, world.pod("b").server_id(), "without Redis it goes by what it sees");
        redis.start_again();
        redis.restore(&dump);
        until_so("it follows", async || id_at(&other).await == first).await;
    })
    .await;
}
