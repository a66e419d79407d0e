//! What runs beside the requests: probes and discovery, the writers, and counts.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{sync::watch, time};

use super::{Config, now::Current, state};
use crate::{
    affinity, discovery, health,
    leader::{Leader, writer::Writer},
    observe::metrics::Metrics,
    pod::Pool,
    proxy::{OwnUsers, PodLifecycle, PoolState, SharedState, TaskTriggers, Writers},
    shutdown::Shutdown,
    store::kept_document::KeptDocument,
};

/// Longest time that the start waits for the pods' first answers.
const FIRST_PROBES: Duration = Duration::from_secs(2);

/// Time between two counts of what plays.
const COUNT_FILMS: Duration = Duration::from_secs(2);

/// Keeps the writers of all pools known.
pub(super) fn find_writers(shared: &Arc<SharedState>, ends: &Shutdown) {
    let writers = Arc::new(Writers::new(shared.clone(), ends.clone()));
    for pool in 0..shared.pools.len() {
        tokio::spawn(writers.clone().watch(pool));
    }
}

/// Keeps the triggers of tasks with the leader, or gives back what an earlier configuration took.
pub(super) fn keep_triggers(
    config: &Config,
    (shared, keys): (&Arc<SharedState>, &[affinity::Secret]),
    metrics: &Metrics,
    ends: &Shutdown,
) {
    let keeper = TaskTriggers::new(shared.clone(), config.leader_runs_tasks, metrics.clone(), ends.clone());
    let keeper = Arc::new(keeper);
    for (index, pool) in shared.pools.iter().enumerate().filter(|(_, pool)| pool.is_configured) {
        let redis = shared.pins.persistence.redis().cloned();
        let sealed = state::sealed_documents(config, keys, redis);
        let document = KeptDocument::new(config.state.as_deref(), sealed, &format!("tasks-{}", pool.pool.name));
        tokio::spawn(keeper.clone().watch(index, document));
    }
}

/// Keeps known which users each pod has, where pods have databases of their own. Waits for what clients
/// were shown before.
pub(super) async fn know_users(
    config: &Config,
    (shared, keys): (&Arc<SharedState>, &[affinity::Secret]),
    ends: &Shutdown,
) {
    for (index, pool) in shared.pools.iter().enumerate().filter(|(_, pool)| pool.is_configured) {
        if pool.shown_server.users.is_none() {
            continue;
        }
        let sealed = state::sealed_documents(config, keys, shared.pins.persistence.redis().cloned());
        let document = KeptDocument::new(config.state.as_deref(), sealed, &format!("users-{}", pool.pool.name));
        let users = OwnUsers::of(shared.clone());
        if !users.remember(index, &document).await {
            tracing::warn!(pod.pool = &*pool.pool.name, "it is not known by which ids clients know the users");
        }
        users.look_first(index).await;
        tokio::spawn(users.watch(index, document, ends.clone()));
    }
}

/// What the search for a pool's leader needs.
pub(super) fn of_leader(shared: &PoolState) -> (Arc<Pool>, Arc<Leader>, Arc<Writer>) {
    (shared.pool.clone(), shared.leader.clone(), shared.writer.clone())
}

/// Starts the background tasks for the pods of all pools.
pub(super) fn serve_pods(lifecycle: &Arc<PodLifecycle>, shared: &SharedState) {
    for pool in &shared.pools {
        tokio::spawn(lifecycle.clone().watch_pool(pool.pool.clone()));
        tokio::spawn(lifecycle.clone().keep_serving(pool.pool.clone()));
    }
}

/// Starts discovery and health checks of pools, and waits a moment for the pods' first answers.
/// The returned senders change where each pool's pods come from.
pub(super) async fn watch_pods(
    pools: impl Iterator<Item = (Arc<Pool>, discovery::PoolConfig)>,
    health: &Arc<ArcSwap<health::Config>>,
    shutdown: &Shutdown,
) -> Vec<watch::Sender<discovery::PoolConfig>> {
    let (mut first_rounds, mut sources) = (Vec::new(), Vec::new());
    for (pool, config) in pools {
        let (source, changes) = watch::channel(config);
        tokio::spawn(discovery::watch(pool.clone(), changes, shutdown.clone()));
        sources.push(source);
        first_rounds.push(health::watch(pool, health.clone(), shutdown.clone()));
    }
    let asked = async {
        for round in &mut first_rounds {
            // An ended watch never reports, so nobody waits for it.
            let _ = round.wait_for(|done| *done).await;
        }
    };
    if time::timeout(FIRST_PROBES, asked).await.is_err() {
        tracing::warn!("not every pod has answered its first probe; starting all the same");
    }
    sources
}

/// Counts again and again what plays on each pod: new clients go where less does.
pub(super) async fn count_films(current: Current, shutdown: Shutdown) {
    while !shutdown.is_stopping() {
        let shared = current.load().shared.clone();
        for pod in shared.pools.iter().flat_map(|shared| shared.pool.pods().to_vec()) {
            let sessions = shared.sessions.known.of_pod(&pod);
            pod.vitals.set_playing(sessions.iter().filter(|session| session.calls.is_playing()).count());
        }
        drop(shared);
        tokio::select! {
            () = time::sleep(COUNT_FILMS) => {}
            () = shutdown.stopping() => {}
        }
    }
}

/// Renews each pool's cookies whenever its set of pods changes, as long as this state is in use.
pub(super) fn renew_cookies(shared: &Arc<SharedState>, keys: &[affinity::Secret], shutdown: &Shutdown) {
    for (index, pool) in shared.pools.iter().enumerate() {
        let (members, shared) = (pool.pool.members(), Arc::downgrade(shared));
        tokio::spawn(renew_cookies_of(shared, index, members, keys.to_vec(), shutdown.clone()));
    }
}

async fn renew_cookies_of(
    shared: Weak<SharedState>,
    index: usize,
    mut members: watch::Receiver<()>,
    keys: Vec<affinity::Secret>,
    shutdown: Shutdown,
) {
    loop {
        let Some(shared) = shared.upgrade() else { return };
        shared.pools[index].renew_cookies(&keys);
        drop(shared);
        tokio::select! {
            changed = members.changed() => if changed.is_err() { return },
            () = shutdown.stopping() => return,
        }
    }
}
