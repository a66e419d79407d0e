//! Builds the state that all workers share, out of each room's part.

use std::sync::{Arc, atomic::AtomicU64};

use arc_swap::ArcSwapOption;
use tokio::sync::Semaphore;

use super::{Config, Error, plain, server_id_file, state};
use crate::{
    acme::Challenges,
    affinity::{
        self, budget::Budget, cookie::CookieConfig, negative_cache::NegativeCache, pins::Pins,
        reject_pacer::RejectPacer, user_homes::UserHomes,
    },
    compression::Compression,
    discovery::{self, PoolConfig},
    leader::{
        self, Leader,
        writer::{Writer, WriterConfig},
    },
    limits::Limits,
    observe::metrics::Metrics,
    pod::{Pool, Pools},
    proxy::{HELD_KIB, InStepState, PlaySessions, PoolState, SharedState, Streams, UserDataState},
    route::{self, Router},
    server_id::{ShownServer, users::UserDirectory},
    sessions::{Sessions, mint_codes::MintCodes, mint_limiter::MintLimiter},
    shutdown::Shutdown,
    store::disk::Entry,
};

/// Builds the shared state of a configuration. Also returns the kept pins of an earlier run, and the
/// list of pools that a reload extends.
///
/// # Errors
/// A file of the state directory, or Redis as configured, cannot be used.
pub(super) async fn shared(
    config: &Config,
    keys: &[affinity::Secret],
    metrics: &Metrics,
    shutdown: &Shutdown,
) -> Result<(SharedState, Vec<Entry>, Pools), Error> {
    let mut pools = Vec::new();
    for of_pool in &config.pools {
        pools.push(pool(config, of_pool, keys, metrics).await?);
    }
    let plain = plain::pools(&[], config).await;
    let names: Vec<Arc<str>> = pools.iter().map(|shared| shared.pool.name.clone()).collect();
    let members = Pools::from(pools.iter().map(|shared| shared.pool.clone()).collect::<Vec<_>>());
    let redis = state::redis_store(config, metrics, shutdown)?;
    let (persistence, kept) = state::persistence(config, keys, redis.clone(), members.clone(), metrics);
    let seeds = state::hash_secrets(keys);
    let seed = seeds.first().copied().unwrap_or_default();
    let challenges = Challenges::new(state::sealed_documents(config, keys, redis.clone()));
    let session_store = state::session_store(config, keys, redis, metrics);
    let pins = Pins::new(config.affinity.max_pins, seed)
        .with_share_of_address(config.affinity.max_pins_of_address)
        .with_persistence(persistence, seeds.get(1..).unwrap_or_default());
    let sessions =
        Sessions::new(config.affinity.max_pins, config.migration.bounds, &seeds, members.clone(), session_store);
    let shared = SharedState {
        router: Router::new(&config.route, &names, &names_of(&plain)),
        pools,
        plain,
        passwords: Arc::default(),
        pins: Arc::new(pins),
        user_homes: Arc::new(UserHomes::new(config.affinity.spread_users.clone())),
        sessions: Arc::new(sessions),
        mint_limiter: Arc::new(MintLimiter::default()),
        mint_codes: Arc::new(MintCodes::default()),
        migration: config.migration.clone(),
        latest_api_key: Arc::new(ArcSwapOption::from_pointee(config.migration.api_key.clone())),
        log_in_paths: config.log_in_paths.clone().into(),
        operate_from: config.operate_from.clone().into(),
        streams: Arc::new(Streams::new(seed)),
        play_sessions: Arc::new(PlaySessions::default()),
        groups: Arc::default(),
        negative_cache: Arc::new(NegativeCache::new(seed)),
        budget: Arc::new(Budget::default()),
        reject_pacer: Arc::new(RejectPacer::new(seed)),
        limits: Limits::new(config.limits.clone(), metrics.clone()),
        hold_permits: Arc::new(Semaphore::new(config.limits.holds.in_all as usize)),
        hold_kib_permits: Arc::new(Semaphore::new(HELD_KIB)),
        cookie: config.affinity.cookie.clone(),
        compression: Arc::new(Compression::new(config.compression.clone())),
        challenges: Arc::new(challenges),
        shown_server: config.shown_server.clone(),
        forward: Arc::new(config.forward.clone()),
        leader_paths: config.leader.paths.clone(),
        drain: config.drain,
        health: Arc::new(config.health.clone()),
        websocket: config.websocket.clone(),
        keeps_in_step: config.keeps_in_step,
        server_timing: config.observe.server_timing,
        user_data: Arc::new(UserDataState::default()),
        in_step: Arc::new(InStepState::new(config.keeps_in_step, config.pools.len())),
        rights_changed: Arc::default(),
        placements: Arc::new(AtomicU64::default()),
    };
    Ok((shared, kept, members))
}

/// The state after a reload. It knows what the one before knows, and each pool keeps its place. A
/// pool that is configured no more has no route.
///
/// # Errors
/// A file of the state directory cannot be used.
pub(super) async fn renewed(
    (before, old): (&SharedState, &Config),
    config: &Config,
    keys: &[affinity::Secret],
    metrics: &Metrics,
) -> Result<SharedState, Error> {
    let is_known = |name: &str| before.pools.iter().any(|known| *known.pool.name == *name);
    let mut pools = Vec::new();
    for known in &before.pools {
        let name = &*known.pool.name;
        pools.push(match config.pools.iter().any(|pool| pool.name == name) {
            true => {
                let cookie = cookie_of(&config.affinity.cookie, &config.route, name);
                known.renewed(writer_of(&config.leader, name), cookie, keys, config.legacy)
            }
            false => known.retired(),
        });
    }
    for of_pool in config.pools.iter().filter(|pool| !is_known(&pool.name)) {
        pools.push(pool(config, of_pool, keys, metrics).await?);
    }
    let plain = plain::pools(&before.plain, config).await;
    let names: Vec<Arc<str>> = pools.iter().map(|shared| shared.pool.name.clone()).collect();
    let spread = &config.affinity.spread_users;
    let holds = |config: &Config| config.limits.holds.in_all as usize;
    let in_step = before.in_step.renewed(config.keeps_in_step, pools.len());
    Ok(SharedState {
        router: Router::new(&config.route, &names, &names_of(&plain)),
        pools,
        plain,
        user_homes: match *spread == old.affinity.spread_users {
            true => before.user_homes.clone(),
            false => Arc::new(UserHomes::new(spread.clone())),
        },
        hold_permits: match holds(config) == holds(old) {
            true => before.hold_permits.clone(),
            false => Arc::new(Semaphore::new(holds(config))),
        },
        migration: config.migration.clone(),
        log_in_paths: config.log_in_paths.clone().into(),
        operate_from: config.operate_from.clone().into(),
        limits: before.limits.renewed(config.limits.clone()),
        compression: Arc::new(Compression::new(config.compression.clone())),
        cookie: config.affinity.cookie.clone(),
        shown_server: config.shown_server.clone(),
        forward: Arc::new(config.forward.clone()),
        leader_paths: config.leader.paths.clone(),
        drain: config.drain,
        health: Arc::new(config.health.clone()),
        websocket: config.websocket.clone(),
        keeps_in_step: config.keeps_in_step,
        server_timing: config.observe.server_timing,
        in_step: Arc::new(in_step),
        ..before.clone()
    })
}

fn names_of(pools: &[Arc<Pool>]) -> Vec<Arc<str>> {
    pools.iter().map(|pool| pool.name.clone()).collect()
}

/// A pool with the pods that it has now.
async fn pool(
    config: &Config,
    of_pool: &PoolConfig,
    keys: &[affinity::Secret],
    metrics: &Metrics,
) -> Result<PoolState, Error> {
    let cookie = cookie_of(&config.affinity.cookie, &config.route, &of_pool.name);
    let shown = server_id_file::known(config, &of_pool.name)?;
    let pool = discovery::pool(of_pool).await;
    let writer = Writer::new(writer_of(&config.leader, &pool.name));
    let leader = Leader::new(&pool, config.leader.mode, metrics.clone());
    let has_own_users = config.shown_server.with_own_users.contains(&of_pool.name);
    let shown_server = ShownServer::new(pool.clone(), shown, has_own_users.then(UserDirectory::default));
    Ok(PoolState::new(pool, (leader, writer), shown_server, cookie, keys, config.legacy))
}

fn writer_of(config: &leader::Config, pool: &str) -> WriterConfig {
    let of_pool = config.pools.iter().find(|of| of.pool == pool);
    of_pool.map(|of| of.writer.clone()).unwrap_or_default()
}

/// The cookie of one pool. Pools that share a host by path would overwrite each other's cookie.
/// So a pool with a single path gets its cookie for that path.
/// The operator's own path wins, and a `__Host-` name allows no path but `/`.
fn cookie_of(cookie: &CookieConfig, routes: &route::Config, pool: &str) -> CookieConfig {
    let mut paths = routes.routes.iter().filter(|route| route.leads_to(pool)).map(|route| route.path.as_str());
    let path = match (paths.next(), paths.next()) {
        (Some(path), None) if cookie.path == "/" && !cookie.name.starts_with("__Host-") => path,
        _ => &cookie.path,
    };
    CookieConfig { path: path.to_owned(), ..cookie.clone() }
}
