//! Where pods come from: a fixed list, or a DNS name that is resolved again and again. Both change
//! with the configuration.
//!
//! All addresses found here are pods; `health` says whether they live. The pool
//! ([`Pool::set_pods`]) and `proxy` handle pods that are found no more: Kubernetes takes a pod out
//! of DNS while it still serves.

use std::{future::pending, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use tokio::{net::lookup_host, sync::watch, time};

use crate::{
    pod::{Check, Pod, PodConfig, Pool, TransportConfig, Trust},
    shutdown::Shutdown,
    wake,
};

/// One pool: the pods that serve a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolConfig {
    pub name: String,
    /// The pods' own BaseUrl: empty, or like `/jellyfin` (no slash at the end).
    pub base_path: String,
    /// How it is found out whether the pods serve.
    pub check: Check,
    /// The fixed pods.
    pub pods: Vec<PodConfig>,
    /// The names of those that get clients only while no other pod is ready.
    pub standby: Vec<String>,
    /// How those are woken that may sleep, by name.
    pub wake: Vec<(String, Arc<wake::Config>)>,
    /// A name whose every address is a pod.
    pub dns: Option<DnsConfig>,
}

impl PoolConfig {
    /// The files of the authorities that pods' certificates are checked against.
    pub fn authorities(&self) -> Vec<PathBuf> {
        let transports = self.pods.iter().map(|pod| &pod.transport).chain(self.dns.iter().map(|dns| &dns.transport));
        let file = |transport: &TransportConfig| match &transport.tls.as_ref()?.config().trust {
            Trust::Authorities { path, .. } => Some(path.clone()),
            Trust::System | Trust::Pins(_) => None,
        };
        transports.filter_map(file).collect()
    }
}

/// A DNS name that stands for a changing set of pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsConfig {
    pub name: String,
    pub port: u16,
    pub transport: TransportConfig,
    /// Time between two look-ups. Default 5 s.
    pub every: Duration,
}

/// Longest time for one look-up.
const LOOKUP: Duration = Duration::from_secs(2);

/// Makes a pool with its fixed pods, and those that its DNS name has now.
pub async fn pool(config: &PoolConfig) -> Arc<Pool> {
    let pool = Pool::new(&config.name, &config.base_path);
    pool.set_check(&config.check);
    pool.set_standby(&config.standby);
    pool.set_wake(&config.wake);
    name(&pool, config.pods.clone());
    refresh(&pool, config).await;
    pool
}

/// Resolves the DNS name again and again, and on each change of configuration, until the shutdown.
pub async fn watch(pool: Arc<Pool>, mut config: watch::Receiver<PoolConfig>, shutdown: Shutdown) {
    loop {
        let every = config.borrow_and_update().dns.as_ref().map(|dns| dns.every);
        let look_again = async {
            match every {
                Some(every) => time::sleep(every).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = look_again => {}
            changed = config.changed() => if changed.is_err() { return },
            () = shutdown.stopping() => return,
        }
        let now = config.borrow().clone();
        pool.set_check(&now.check);
        pool.set_standby(&now.standby);
        pool.set_wake(&now.wake);
        refresh(&pool, &now).await;
    }
}

/// Resolves once. On failure the previous pods stay: a failed name server must take no pod down.
async fn refresh(pool: &Pool, config: &PoolConfig) {
    let found = match &config.dns {
        Some(dns) => match look_up(dns).await {
            Ok(found) => found,
            Err(why) => {
                return tracing::warn!(pool = &*pool.name, dns.name, why, "pods cannot be looked up; those known stay");
            }
        },
        None => Vec::new(),
    };
    name(pool, wanted(config, found));
}

async fn look_up(dns: &DnsConfig) -> Result<Vec<SocketAddr>, String> {
    match time::timeout(LOOKUP, lookup_host((dns.name.as_str(), dns.port))).await {
        Ok(Ok(found)) => Ok(found.collect()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no name server answered in time".to_owned()),
    }
}

/// Sets the pool's pods. A pod that is in it already stays the same pod.
fn name(pool: &Pool, wanted: Vec<PodConfig>) {
    let now = pool.pods().to_vec();
    let known = |config: &PodConfig| now.iter().find(|pod| pod.matches(config));
    for config in &wanted {
        if let Some(pod) = known(config) {
            pod.change_transport(&config.transport);
        }
    }
    let is_as_before = now.iter().filter(|pod| !pod.drain.is_removed()).count() == wanted.len()
        && wanted.iter().all(|config| known(config).is_some_and(|pod| !pod.drain.is_removed()));
    if is_as_before {
        return;
    }
    let pods = wanted.iter().map(|config| known(config).cloned().unwrap_or_else(|| Pod::new(&pool.name, config)));
    let pods: Vec<_> = pods.collect();
    if !now.is_empty() {
        let names: Vec<_> = pods.iter().map(|pod| &*pod.name).collect();
        tracing::info!(pool = &*pool.name, pods = ?names, "the set of pods changed");
    }
    pool.set_pods(pods);
}

/// The fixed pods and one for each address, named after it.
fn wanted(config: &PoolConfig, mut found: Vec<SocketAddr>) -> Vec<PodConfig> {
    found.sort();
    found.dedup();
    let transport = || config.dns.as_ref().map(|dns| dns.transport.clone()).unwrap_or_default();
    let found = found.into_iter().map(|address| PodConfig {
        name: address.ip().to_string(),
        authority: address.to_string(),
        transport: transport(),
    });
    let mut pods = config.pods.clone();
    for pod in found {
        if !pods.iter().any(|known| known.authority == pod.authority) {
            pods.push(pod);
        }
    }
    pods
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(fixed: &[&str]) -> PoolConfig {
        let pod = |authority: &&str| PodConfig {
            name: format!("fixed-{authority}"),
            authority: (*authority).into(),
            ..Default::default()
        };
        PoolConfig { name: "pool".into(), pods: fixed.iter().map(pod).collect(), ..PoolConfig::default() }
    }

    #[test]
    fn every_address_is_a_pod_once() {
        let found = ["10.0.0.2:8096", "10.0.0.1:8096", "10.0.0.2:8096", "[::1]:8096"]
            .map(|text| text.parse().expect("an address"));
        let names: Vec<_> =
            wanted(&config(&["10.0.0.1:8096"]), found.to_vec()).into_iter().map(|pod| pod.name).collect();
        assert_eq!(names, ["fixed-10.0.0.1:8096", "10.0.0.2", "::1"]);
    }

    #[tokio::test]
    async fn a_name_that_cannot_be_resolved_leaves_the_pods_as_they_are() {
        let mut config = config(&["127.0.0.1:1"]);
        config.dns = Some(DnsConfig {
            name: "nobody.invalid".into(),
            port: 1,
            transport: TransportConfig::default(),
            every: Duration::from_secs(1),
        });
        let pool = pool(&config).await;
        assert_eq!(pool.pods().len(), 1);
    }

    #[tokio::test]
    async fn pods_that_stay_keep_their_state() {
        let mut config = config(&[]);
        config.dns = Some(DnsConfig {
            name: "localhost".into(),
            port: 1,
            transport: TransportConfig::default(),
            every: Duration::from_secs(1),
        });
        let pool = pool(&config).await;
        let before = pool.pods().iter().map(|pod| pod.id).collect::<Vec<_>>();
        assert!(!before.is_empty());
        refresh(&pool, &config).await;
        assert_eq!(pool.pods().iter().map(|pod| pod.id).collect::<Vec<_>>(), before);
    }
}
