//! Builds the state that all workers share, out of each room's part.

use std::sync::{Arc, atomic::AtomicU64};

use tokio::sync::Semaphore;

use super::{Config, Error, server_id_file, state};
use crate::{
    affinity::{
        self, budget::Budget, cookie::CookieConfig, negative_cache::NegativeCache, pins::Pins,
        reject_pacer::RejectPacer, user_homes::UserHomes,
    },
    discovery,
    leader::{Leader, writer::Writer},
    limits::Limits,
    observe::metrics::Metrics,
    proxy::{HELD_KIB, InStepState, PlaySessions, PoolState, SharedState, Streams, UserDataState},
    route::{self, Router},
    server_id::ShownServer,
    sessions::{Sessions, mint_codes::MintCodes, mint_limiter::MintLimiter},
    shutdown::Shutdown,
    store::disk::Entry,
};

/// Builds the shared state of a configuration. Also returns the kept pins of an earlier run.
///
/// # Errors
/// A file of the state directory, or Redis as configured, cannot be used.
pub(super) async fn shared(
    config: &Config,
    keys: &[affinity::Secret],
    metrics: &Metrics,
    shutdown: &Shutdown,
) -> Result<(SharedState, Vec<Entry>), Error> {
    let mut pools = Vec::new();
    for pool in &config.pools {
        let cookie = cookie_of(&config.affinity.cookie, &config.route, &pool.name);
        let shown = server_id_file::known(config, &pool.name)?;
        let pool = discovery::pool(pool).await;
        let of_pool = config.leader.pools.iter().find(|of| of.pool == *pool.name);
        let writer = Writer::new(of_pool.map(|of| of.writer.clone()).unwrap_or_default());
        let leader = Leader::new(&pool, config.leader.mode, metrics.clone());
        let shown_server = ShownServer::new(pool.clone(), shown);
        pools.push(PoolState::new(pool, (leader, writer), shown_server, cookie, keys, config.legacy));
    }
    let names: Vec<Arc<str>> = pools.iter().map(|shared| shared.pool.name.clone()).collect();
    let members: Vec<_> = pools.iter().map(|shared| shared.pool.clone()).collect();
    let redis = state::redis_store(config, metrics, shutdown)?;
    let (persistence, kept) = state::persistence(config, keys, redis.clone(), members.clone(), metrics);
    let seeds = state::hash_secrets(keys);
    let seed = seeds.first().copied().unwrap_or_default();
    let session_store = state::session_store(config, keys, redis, metrics);
    let shared = SharedState {
        router: Router::new(&config.route, &names),
        pools,
        pins: Pins::new(config.affinity.max_pins, seed)
            .with_share_of_address(config.affinity.max_pins_of_address)
            .with_persistence(persistence, seeds.get(1..).unwrap_or_default()),
        user_homes: UserHomes::new(config.affinity.spread_users.clone()),
        sessions: Sessions::new(config.affinity.max_pins, config.migration.bounds, &seeds, members, session_store),
        mint_limiter: MintLimiter::default(),
        mint_codes: MintCodes::default(),
        migration: config.migration.clone(),
        log_in_paths: config.log_in_paths.clone().into(),
        streams: Streams::new(seed),
        play_sessions: PlaySessions::default(),
        groups: Arc::default(),
        negative_cache: NegativeCache::new(seed),
        budget: Budget::default(),
        reject_pacer: RejectPacer::new(seed),
        limits: Limits::new(config.limits.clone(), metrics.clone()),
        hold_permits: Semaphore::new(config.limits.holds.in_all as usize),
        hold_kib_permits: Semaphore::new(HELD_KIB),
        cookie: config.affinity.cookie.clone(),
        shown_server: config.shown_server.clone(),
        forward: Arc::new(config.forward.clone()),
        leader_paths: config.leader.paths.clone(),
        drain: config.drain,
        health: Arc::new(config.health.clone()),
        websocket: config.websocket.clone(),
        keeps_in_step: config.keeps_in_step,
        user_data: UserDataState::default(),
        in_step: InStepState::new(config.keeps_in_step, config.pools.len()),
        placements: AtomicU64::default(),
    };
    Ok((shared, kept))
}

/// The cookie of one pool. Pools that share a host by path would overwrite each other's cookie.
/// So a pool with a single path gets its cookie for that path.
/// The operator's own path wins, and a `__Host-` name allows no path but `/`.
fn cookie_of(cookie: &CookieConfig, routes: &route::Config, pool: &str) -> CookieConfig {
    let mut paths = routes.routes.iter().filter(|route| route.pool == pool).map(|route| route.path.as_str());
    let path = match (paths.next(), paths.next()) {
        (Some(path), None) if cookie.path == "/" && !cookie.name.starts_with("__Host-") => path,
        _ => &cookie.path,
    };
    CookieConfig { path: path.to_owned(), ..cookie.clone() }
}
