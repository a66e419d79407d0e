//! What one replica has learnt of a client, another knows through Redis; and a replica alone knows it after its restart.

mod bounds;
mod check_command;
mod disagreement;
mod disk;
mod outage;
mod server_id;
mod sharing;

use super::redis_server::RedisServer;
use super::world::{Answer, Client, Plan, Proxy, Settings, World, secs, until_so};

const KEYS: &[&str] = &["a key of more than sixteen bytes"];

/// Replicas that share this Redis, with a deadline that a busy machine does not miss.
pub(crate) fn plan(pods: usize, redis: &RedisServer) -> Plan {
    let plan = World::plan(pods).keys(KEYS).redis(redis);
    plan.redis_deadline(secs(1))
}

/// A second replica that has reached Redis.
pub(crate) async fn replica(world: &World, change: impl FnOnce(&mut Settings)) -> Proxy {
    let replica = world.replica(change).await;
    until_up(&replica).await;
    replica
}

/// A second replica: it and the world's own know of each other.
pub(crate) async fn known_replica(world: &World, change: impl FnOnce(&mut Settings)) -> Proxy {
    let other = replica(world, change).await;
    for proxy in [&world.proxy, &other] {
        until_at_least("two replicas", 2.0, async || proxy.metric("jellypin_replicas", &[]).await).await;
    }
    other
}

/// Logs a user in; gives its token and its home.
async fn log_in(world: &World, user: &str, device: &str) -> (String, String) {
    let mut client = world.client().without_cookies().device(device);
    let answer = client.log_in(user).await;
    (client.token.expect("a token"), world.home(&answer).to_owned())
}

/// A request that tells of its client nothing but the token.
async fn get_user_by_token(mut client: Client, token: &str) -> Answer {
    client.get(&format!("/Users/Me?ApiKey={token}")).await
}

/// Waits until a number is at least this.
pub(crate) async fn until_at_least(what: &str, at_least: f64, number: impl AsyncFn() -> f64) {
    until_so(&format!("{what}: at least {at_least}"), async || number().await >= at_least).await;
}

pub(crate) async fn until_up(proxy: &Proxy) {
    until_at_least("Redis is up", 1.0, async || proxy.metric("jellypin_redis_up", &[]).await).await;
}

/// Waits until the store has taken so many changes.
async fn until_written(proxy: &Proxy, changes: usize) {
    let written = async || proxy.metric("jellypin_store_writes_total", &[("outcome", "written")]).await;
    until_at_least("changes written", changes as f64, written).await;
}

async fn lookups(proxy: &Proxy, outcome: &str) -> f64 {
    proxy.metric("jellypin_shared_lookups_total", &[("outcome", outcome)]).await
}

/// Nothing of what a client sent stands in these bytes.
#[track_caller]
pub(crate) fn assert_no_secret(bytes: &[u8], secrets: &[&str]) {
    for secret in secrets {
        assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()), "{secret} stands in the store");
    }
}
