//! Each pool has one leader, and all replicas name the same one.

mod election;
mod follow;
mod kills;
mod lease_script;
mod local;
mod redis_faults;
mod tasks;

use jellypin::leader::Mode;
use std::sync::Arc;
use std::time::Duration;

use jellypin::leader::{Leader, Leadership};
use tokio::time::{Instant, timeout};

use super::redis_server::RedisServer;
use super::world::{DEADLINE, Plan, Proxy, World, millis, until};

/// The leader of the first pool, as the request path sees it.
fn leader(proxy: &Proxy) -> Arc<Leader> {
    proxy.shared().pools[0].leader.clone()
}

/// Who leads for a proxy, with the term.
fn leads(proxy: &Proxy) -> (u64, Option<String>) {
    let now = leader(proxy).now();
    (now.term, now.pod.as_ref().map(|pod| pod.name.to_string()))
}

fn leads_now(proxy: &Proxy, pod: &str) -> bool {
    leads(proxy).1.as_deref() == Some(pod)
}

/// Waits until a pod leads for a proxy.
async fn until_leads(proxy: &Proxy, pod: &str) -> Arc<Leadership> {
    let mut changes = leader(proxy).changes();
    let named = |now: &Leadership| now.pod.as_ref().is_some_and(|leads| &*leads.name == pod);
    let reached = timeout(DEADLINE, changes.wait_for(named)).await;
    assert!(matches!(reached, Ok(Ok(_))), "{pod} never led: {:?}", leads(proxy));
    leader(proxy).now()
}

/// Waits until all proxies name one pod for one term, another than before; answers both.
async fn until_agreed(proxies: &[&Proxy], before: Option<&str>) -> (u64, String) {
    until("all name one leader", || {
        let first = leads(proxies[0]);
        first.1.is_some() && first.1.as_deref() != before && proxies.iter().all(|proxy| leads(proxy) == first)
    })
    .await;
    let (term, pod) = leads(proxies[0]);
    (term, pod.expect("a leader"))
}

async fn problems(proxy: &Proxy, cause: &str) -> f64 {
    proxy.metric("jellypin_leader_problems_total", &[("cause", cause)]).await
}

/// A line of times.
fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0;
    println!("{what}: {} times, p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms", times.len(), at(0.5), at(0.99), at(1.0));
}

/// Replicas that elect through this Redis. Short probes, so that a pod that comes back is known soon.
fn plan(pods: usize, redis: &RedisServer) -> Plan {
    let plan = World::plan(pods).redis(redis).fast_probe_interval(millis(50));
    plan.keys(&["a key of more than sixteen bytes"]).leader_mode(Mode::Elect)
}
