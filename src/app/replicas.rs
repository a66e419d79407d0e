//! Announces this replica's configuration to the other replicas, again and again.

use std::time::Duration;

use tokio::time;

use super::{Config, now::Current, server_id_file};
use crate::{
    affinity::Secret,
    discovery::PoolConfig,
    observe::metrics::Metrics,
    proxy::SharedState,
    sessions::{
        fingerprint::{API_KEY, Fingerprint},
        registry::replicas,
        session_store::SessionStore,
    },
    shutdown::Shutdown,
    store::redis_store::{self, presence},
};

/// Time between two clean-ups of expired entries, for a proxy without Redis.
const TIDY: Duration = Duration::from_secs(3600);

/// What all replicas must have in common. An unknown part is empty.
/// `shown` holds the server ids that clients see, if they are known.
fn parts(config: &Config, pools: &[PoolConfig], shown: &str) -> Vec<(&'static str, String)> {
    let pool = |pool: &PoolConfig| {
        let mut names: Vec<&str> = pool.pods.iter().map(|pod| &*pod.name).collect();
        names.sort_unstable();
        let dns = pool.dns.as_ref().map_or("", |dns| &*dns.name);
        format!("{} {} {} {dns}", pool.name, pool.base_path, names.join(","))
    };
    let mut pools: Vec<String> = pools.iter().map(pool).collect();
    pools.sort_unstable();
    let api_key = config.migration.api_key.as_ref().map_or("", |key| key.as_str());
    vec![
        (API_KEY, api_key.to_owned()),
        ("cookie", config.affinity.cookie.name.clone()),
        ("pods", pools.join("\n")),
        ("server_id", shown.to_owned()),
        ("leader", format!("{:?} {}", config.leader.mode, config.leader_runs_tasks)),
        ("tombstone_keep", format!("{:?}", config.migration.bounds.tombstone_keep)),
    ]
}

/// The server ids that clients see; empty until all are known.
fn shown(shared: &SharedState) -> String {
    let configured = shared.pools.iter().filter(|pool| pool.is_configured);
    let ids: Option<Vec<_>> = configured.map(|pool| pool.shown_server.id()).collect();
    let ids: Vec<_> = ids.unwrap_or_default().iter().map(|id| id.as_str().to_owned()).collect();
    ids.join(",")
}

/// Announces this replica until the shutdown, as it is configured at each moment. Without Redis,
/// only cleans up expired entries.
pub(super) async fn announce(current: &Current, metrics: &Metrics, shutdown: &Shutdown) {
    let now = current.load_full();
    let sessions = now.shared.sessions.clone();
    let shutdown = shutdown.clone();
    if now.config.redis.is_none() {
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = time::sleep(TIDY) => {
                        sessions.upkeep.mend(false).await;
                    }
                    () = shutdown.stopping() => return,
                }
            }
        });
        return;
    }
    let parts = |current: &Current| {
        let now = current.load();
        parts(&now.config, &now.config.pools, &shown(&now.shared))
    };
    let presence = sessions.announcer.appear(&parts(current), metrics).await;
    let (pins, current, metrics) = (now.shared.pins.clone(), current.clone(), metrics.clone());
    tokio::spawn(async move {
        let parts = || parts(&current);
        tokio::select! {
            () = sessions.announcer.stay(presence, parts, |nth| pins.persistence.write_under(nth), &metrics) => {}
            () = server_id_file::renew(&current) => {}
            () = shutdown.stopping() => {}
        }
    });
}

/// How the running replicas disagree with this configuration, one sentence each.
pub(super) async fn disagreements(config: &Config, keys: &[Secret], redis: &redis_store::Config) -> Vec<String> {
    // `check_redis` has already reported a Redis that does not answer.
    let others = presence::read(redis).await.unwrap_or_default();
    let shown = config.shown_server.server_id.map_or_else(String::new, |id| id.as_str().to_owned());
    let session_store =
        SessionStore::new(keys.iter().map(Secret::bytes), config.migration.api_key.as_ref(), config.migration.bounds);
    let ours = session_store.fingerprint(&parts(config, &config.pools, &shown));
    let mut said: Vec<String> = Vec::new();
    for (name, words) in others {
        let theirs = Fingerprint::read(&words);
        for what in ours.disagreements(&theirs) {
            // Replicas write under a key that all of them have, so one common key is enough.
            said.push(format!("{} (replica {name})", replicas::sentence(&what, ours.reads(&theirs))));
        }
    }
    said
}
