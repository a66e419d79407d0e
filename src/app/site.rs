//! Builds what all workers share: a site, of each room's part.

use std::sync::{Arc, atomic::AtomicU64};

use tokio::sync::Semaphore;

use super::{Config, Error, server_id, state};
use crate::{
    affinity::{self, budget::Budget, cookie::CookieConfig, pace::Pace, pins::Pins, refusals::Refusals},
    carryover::{Sessions, mint_codes::MintCodes, mints::Mints},
    discovery,
    facade::Facade,
    leader::Leader,
    observe::metrics::Metrics,
    proxy::{HELD, HELD_KIB, PoolSite, Site, Streams},
    route::{self, Router},
    shutdown::Shutdown,
    store::disk::Entry,
};

/// The site of a configuration, and what is kept of the pins of an earlier run.
///
/// # Errors
/// What cannot be had: a file of the state directory, or Redis as it is configured.
pub(super) async fn site(
    config: &Config,
    keys: &[affinity::Secret],
    metrics: &Metrics,
    shutdown: &Shutdown,
) -> Result<(Site, Vec<Entry>), Error> {
    let mut pools = Vec::new();
    for pool in &config.pools {
        let cookie = cookie_of(&config.affinity.cookie, &config.route, &pool.name);
        let shown = server_id::known(config, &pool.name)?;
        let pool = discovery::pool(pool).await;
        let leader = Leader::new(&pool, config.leader.mode, metrics.clone());
        let facade = Facade::new(pool.clone(), shown);
        pools.push(PoolSite::new(pool, leader, facade, cookie, keys, config.legacy));
    }
    let names: Vec<Arc<str>> = pools.iter().map(|site| site.pool.name.clone()).collect();
    let members: Vec<_> = pools.iter().map(|site| site.pool.clone()).collect();
    let shared = state::shared(config, metrics, shutdown)?;
    let (keeping, kept) = state::keeping(config, keys, shared.clone(), members.clone(), metrics);
    let seeds = state::hash_secrets(keys);
    let seed = seeds.first().copied().unwrap_or_default();
    let vault = state::vault(config, keys, shared, metrics);
    let site = Site {
        router: Router::new(&config.route, &names),
        pools,
        pins: Pins::new(config.affinity.max_pins, seed).kept(keeping, seeds.get(1..).unwrap_or_default()),
        sessions: Sessions::new(config.affinity.max_pins, seed, members, vault).bounded(
            config.carryover.bounds.of_one_user,
            config.carryover.bounds.notes,
            seeds.get(1..).unwrap_or_default(),
        ),
        mints: Mints::default(),
        mint_codes: MintCodes::default(),
        carryover: config.carryover.clone(),
        log_in_paths: config.log_in_paths.clone().into(),
        streams: Streams::new(seed),
        refusals: Refusals::new(seed),
        budget: Budget::default(),
        pace: Pace::new(seed),
        held: Semaphore::new(HELD),
        held_kib: Semaphore::new(HELD_KIB),
        cookie: config.affinity.cookie.clone(),
        facade: config.facade.clone(),
        forward: Arc::new(config.forward.clone()),
        leader_paths: config.leader.paths.clone(),
        drain: config.drain,
        health: Arc::new(config.health.clone()),
        websocket: config.websocket.clone(),
        turns: AtomicU64::default(),
    };
    Ok((site, kept))
}

/// The cookie of one pool. Pools that share a host by path would overwrite each other's, so that one with a path of its own
/// gets its cookie for that path; unless the path is configured, or the name demands that there is none.
fn cookie_of(cookie: &CookieConfig, routes: &route::Config, pool: &str) -> CookieConfig {
    let mut paths = routes.routes.iter().filter(|route| route.pool == pool).map(|route| route.path.as_str());
    let path = match (paths.next(), paths.next()) {
        (Some(path), None) if cookie.path == "/" && !cookie.name.starts_with("__Host-") => path,
        _ => &cookie.path,
    };
    CookieConfig { path: path.to_owned(), ..cookie.clone() }
}
