//! Looks after the pools that are not Jellyfin's: where their pods come from, and whether they serve.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use tokio::{sync::watch, time};

use super::{Config, background::watch_pods};
use crate::{
    discovery::{self, PoolConfig},
    health,
    pod::{Pod, Pool},
    shutdown::Shutdown,
};

/// Time between two looks at pods that have left while they had requests.
const LOOK: Duration = Duration::from_millis(500);

/// The pools that are looked after now.
#[derive(Default)]
pub(super) struct PlainPools(Vec<Running>);

struct Running {
    pool: Arc<Pool>,
    source: watch::Sender<PoolConfig>,
    ends: Shutdown,
}

/// The pools of a configuration. One that is there already stays the same pool.
pub(super) async fn pools(before: &[Arc<Pool>], config: &Config) -> Vec<Arc<Pool>> {
    let mut pools = Vec::new();
    for of_pool in &config.plain_pools {
        let known = before.iter().find(|pool| *pool.name == *of_pool.name);
        pools.push(match known {
            Some(known) => known.clone(),
            None => discovery::pool(of_pool).await,
        });
    }
    pools
}

impl PlainPools {
    /// Looks after these pools from now on, and no more after others. What is under way at their pods
    /// goes on. `pools` stand in the order of the configuration.
    pub(super) async fn look_after(
        &mut self,
        config: &Config,
        pools: &[Arc<Pool>],
        (health, shutdown): (&Arc<ArcSwap<health::Config>>, &Shutdown),
    ) {
        self.0.retain(|running| {
            let stays = pools.iter().any(|pool| Arc::ptr_eq(pool, &running.pool));
            if !stays {
                running.ends.stop();
            }
            stays
        });
        let mut new = Vec::new();
        for (pool, wanted) in pools.iter().zip(&config.plain_pools) {
            match self.0.iter().find(|running| Arc::ptr_eq(pool, &running.pool)) {
                Some(running) => drop(running.source.send_if_modified(|now| {
                    let is_new = now != wanted;
                    now.clone_from(wanted);
                    is_new
                })),
                None => new.push(start(pool.clone(), wanted.clone(), health, shutdown.part())),
            }
        }
        self.0.extend(join_all(new).await.into_iter().flatten());
    }
}

async fn start(
    pool: Arc<Pool>,
    config: PoolConfig,
    health: &Arc<ArcSwap<health::Config>>,
    ends: Shutdown,
) -> Option<Running> {
    tokio::spawn(let_go(pool.clone(), ends.clone()));
    let sources = watch_pods(std::iter::once((pool.clone(), config)), health, &ends).await;
    sources.into_iter().next().map(|source| Running { pool, source, ends })
}

/// Lets pods go that their source names no more, once nothing is asked of them.
async fn let_go(pool: Arc<Pool>, ends: Shutdown) {
    let mut members = pool.members();
    let is_idle = |pod: &Pod| pod.load.requests() == 0 || !pod.status().is_alive();
    loop {
        let left: Vec<_> = pool.pods().iter().filter(|pod| pod.drain.is_removed()).cloned().collect();
        let (idle, busy): (Vec<_>, Vec<_>) = left.into_iter().partition(|pod| is_idle(pod));
        for pod in &idle {
            pool.drop_removed(pod);
        }
        tokio::select! {
            changed = members.changed() => if changed.is_err() { return },
            () = time::sleep(LOOK), if !busy.is_empty() => {}
            () = ends.stopping() => return,
        }
    }
}
