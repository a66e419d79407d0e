//! Wiring: builds the rooms, starts them in order and stops them in order.
//!
//! The caller's runtime is the control side: health, discovery and the admin API.
//! Each worker is a `current_thread` runtime on its own thread.
//! A worker has its own sockets and its own connections to the pods.

mod advice;
pub mod ask;
mod autodiscovery;
pub mod check;
mod open_files;
mod replicas;
mod server_id_file;
mod shared_state;
mod state;
mod worker;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, thread::JoinHandle, time::Duration};

use tokio::{
    net::{TcpListener, UdpSocket},
    sync::watch,
    time,
};

use crate::{
    admin::{self, Admin},
    affinity, connection, discovery, forward, health,
    jellyfin::Legacy,
    leader, limits, listen,
    observe::{self, access::Access, metrics::Metrics},
    proxy::{PodLifecycle, PoolState, SharedState, Writers, drain_policy},
    route, server_id, sessions,
    shutdown::Shutdown,
    store, tls, websocket,
};
use shared_state::shared;

/// Everything a run needs, with one part for each room.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: listen::Config,
    pub tls: tls::Config,
    pub connection: connection::Config,
    pub limits: limits::Config,
    pub drain: drain_policy::Config,
    pub route: route::Config,
    pub pools: Vec<discovery::PoolConfig>,
    pub shown_server: server_id::Config,
    pub health: health::Config,
    pub leader: leader::Config,
    pub forward: forward::Config,
    pub websocket: websocket::Config,
    pub affinity: affinity::Config,
    pub migration: sessions::Config,
    /// Whether pods accept a token in Jellyfin's legacy places. Default `None`: by their version.
    pub legacy: Option<Legacy>,
    /// Extra paths below which a POST signs a user in. Default none.
    pub log_in_paths: Vec<String>,
    /// Whether the pods follow what a client changes on one of them. Default true.
    pub keeps_in_step: bool,
    pub observe: observe::Config,
    pub admin: admin::Config,
    pub autodiscovery: crate::autodiscovery::Config,
    /// Directory for data that must survive a restart. Default none.
    pub state: Option<PathBuf>,
    /// What several replicas share. Default none.
    pub redis: Option<store::redis_store::Config>,
    /// Longest time that a stopping proxy waits for requests to end. Default 20 s.
    pub drain_timeout: Duration,
    /// The secrets that the configuration file itself contains.
    pub in_the_open: Vec<&'static str>,
}

/// Why the proxy does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Bind(#[from] listen::BindError),
    #[error("[listen] certificates: {0}")]
    Certificates(#[from] tls::Error),
    #[error("cannot speak TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("[state] path: cannot use the state directory {}: {source}", path.display())]
    State { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Redis(#[from] store::redis_store::Error),
    #[error(transparent)]
    Leader(#[from] leader::Error),
    #[error("[log] access: cannot write the access log: {0}")]
    AccessLog(io::Error),
    #[error("cannot start a worker: {0}")]
    Worker(io::Error),
}

/// Longest time that the start waits for the pods' first answers.
const FIRST_PROBES: Duration = Duration::from_secs(2);

/// Time between two counts of what plays.
const COUNT_FILMS: Duration = Duration::from_secs(2);

/// Longest time that the stop waits for leases to be released.
const RELEASE: Duration = Duration::from_secs(1);

/// A running proxy.
pub struct App {
    /// The addresses for clients, cleartext first, with the system's choice for port 0.
    pub addresses: Vec<SocketAddr>,
    /// The address of the admin API.
    pub admin: Option<SocketAddr>,
    /// Where apps look for the server.
    pub autodiscovery: Option<SocketAddr>,
    /// The metrics of this run.
    pub metrics: Metrics,
    shared: Arc<SharedState>,
    shutdown: Shutdown,
    leaders: Shutdown,
    workers: Vec<JoinHandle<()>>,
    access: Arc<Access>,
    certificates: Arc<tls::Certificates>,
    tls: tls::Config,
    /// The settings that change only at the next start, see [`fixed`].
    fixed: String,
    /// Where each pool's pods come from, in the order of the shared state's pools.
    sources: Vec<watch::Sender<discovery::PoolConfig>>,
}

/// Starts everything, or nothing.
///
/// # Errors
/// An address, a certificate or a file cannot be used. Nothing is left running then.
pub async fn start(config: Config) -> Result<App, Error> {
    open_files::raise();
    for advice in advice::of(&config) {
        tracing::warn!("{advice}");
    }
    // First the steps that can fail, while nothing runs yet.
    let certificates = tls::Certificates::read(&config.tls)?;
    let server_config = (!config.listen.https.is_empty()).then(|| certificates.server_config()).transpose()?;
    let keys = state::cookie_keys(&config)?;
    config.redis.as_ref().map(store::redis_store::check).transpose()?;
    let bound = listen::bind(&config.listen)?;
    let admin_listener = match config.admin.listen {
        Some(address) => {
            Some(TcpListener::bind(address).await.map_err(|source| listen::BindError { address, source })?)
        }
        None => None,
    };
    let autodiscovery = match config.autodiscovery.listen {
        Some(address) => Some(UdpSocket::bind(address).await.map_err(|source| listen::BindError { address, source })?),
        None => None,
    };
    let metrics = Metrics::new();
    let access = Access::start(&config.observe.access, config.observe.format, metrics.access_lost.clone())
        .map_err(Error::AccessLog)?;

    // Then the pods, so that their health is known before the first client comes.
    let shutdown = Shutdown::new();
    let (shared, kept) = shared(&config, &keys, &metrics, &shutdown).await?;
    let shared = Arc::new(shared);
    let sources = watch_pods(&shared, &config, &keys, &shutdown).await;

    // Then who writes, and the leader of each pool. That task outlives the last request.
    // So it has its own shutdown.
    let leaders = Shutdown::new();
    let writers = Arc::new(Writers::new(shared.clone(), shutdown.clone()));
    for pool in 0..shared.pools.len() {
        tokio::spawn(writers.clone().watch(pool));
    }
    let of_pool = |shared: &PoolState| (shared.pool.clone(), shared.leader.clone(), shared.writer.clone());
    let of_pools = shared.pools.iter().map(of_pool).collect();
    leader::start(&config.leader, config.redis.as_ref(), of_pools, &leaders).await?;

    // Then the pins: each belongs to its pod's present epoch, which is known only now.
    shared.pins.restore(&shared.pins.persistence.of_entries(&kept));
    shared.pins.persistence.await_first_attempt().await;
    server_id_file::keep(&shared, &config, &shutdown).await;
    let configured = sources.iter().map(watch::Sender::subscribe).collect();
    replicas::announce(&shared, &config, configured, &metrics, &shutdown).await;

    // Then the background tasks for the pods.
    let lifecycle = PodLifecycle::new(shared.clone(), metrics.clone(), shutdown.clone());
    for pool in &shared.pools {
        tokio::spawn(lifecycle.clone().watch_pool(pool.pool.clone()));
        tokio::spawn(lifecycle.clone().gather_users(pool.pool.clone()));
        tokio::spawn(lifecycle.clone().keep_groups(pool.pool.clone()));
        tokio::spawn(lifecycle.clone().keep_standby(pool.pool.clone()));
    }
    tokio::spawn(lifecycle.clone().follow_replicas());
    tokio::spawn(count_films(shared.clone(), shutdown.clone()));

    // Then the listeners.
    let addresses = bound.iter().map(|bound| bound.address).collect();
    let listeners: Vec<_> = bound
        .iter()
        .map(|bound| autodiscovery::Listener { address: bound.address, over_tls: bound.over_tls })
        .collect();
    let asked_at = autodiscovery.as_ref().and_then(|socket| socket.local_addr().ok());
    if let Some(socket) = autodiscovery {
        let of = shared.clone();
        let find = move |app| autodiscovery::server(&of, &listeners, app);
        tokio::spawn(crate::autodiscovery::serve(socket, find, metrics.clone(), shutdown.clone()));
    }
    let admin = admin_listener.as_ref().and_then(|admin_listener| admin_listener.local_addr().ok());
    if let Some(admin_listener) = admin_listener {
        let (shared, metrics, shutdown) = (shared.clone(), metrics.clone(), shutdown.clone());
        let lifecycle = Arc::downgrade(&lifecycle);
        let pages = Admin::new(config.admin.clone(), shared, metrics, shutdown, lifecycle);
        tokio::spawn(pages.serve(admin_listener));
    }
    let worker = worker::Plan {
        shared: shared.clone(),
        connection: config.connection.clone(),
        tls: server_config,
        trusted: config.forward.trusted.as_slice().into(),
        metrics: metrics.clone(),
        access: access.clone(),
        shutdown: shutdown.clone(),
        drain_timeout: config.drain_timeout,
    };
    let workers = worker::start(worker, bound, config.listen.workers).map_err(Error::Worker)?;
    let fixed = fixed(&config);
    let tls = config.tls;
    Ok(App {
        addresses,
        admin,
        autodiscovery: asked_at,
        metrics,
        shared,
        shutdown,
        leaders,
        workers,
        access,
        certificates,
        tls,
        fixed,
        sources,
    })
}

/// A configuration without its pods, as a text to compare with another. Never written anywhere.
fn fixed(config: &Config) -> String {
    let leader = leader::Config { pools: Vec::new(), ..config.leader.clone() };
    format!("{:?}", Config { leader, pools: Vec::new(), ..config.clone() })
}

/// Starts discovery and health checks, and waits a moment for the pods' first answers.
/// The returned senders change where each pool's pods come from.
async fn watch_pods(
    shared: &Arc<SharedState>,
    config: &Config,
    keys: &[affinity::Secret],
    shutdown: &Shutdown,
) -> Vec<watch::Sender<discovery::PoolConfig>> {
    let (mut first_rounds, mut sources) = (Vec::new(), Vec::new());
    for (index, pool_config) in config.pools.iter().enumerate() {
        let pool = &shared.pools[index].pool;
        let (source, changes) = watch::channel(pool_config.clone());
        tokio::spawn(discovery::watch(pool.clone(), changes, shutdown.clone()));
        sources.push(source);
        tokio::spawn(renew_cookies(shared.clone(), index, keys.to_vec(), shutdown.clone()));
        first_rounds.push(health::watch(pool.clone(), shared.health.clone(), shutdown.clone()));
    }
    let asked = async {
        for round in &mut first_rounds {
            // An ended watch never reports, so the start does not wait for it.
            let _ = round.wait_for(|done| *done).await;
        }
    };
    if time::timeout(FIRST_PROBES, asked).await.is_err() {
        tracing::warn!("not every pod has answered its first probe; starting all the same");
    }
    sources
}

/// Counts again and again what plays on each pod: new clients go where less does.
async fn count_films(shared: Arc<SharedState>, shutdown: Shutdown) {
    while !shutdown.is_stopping() {
        for pod in shared.pools.iter().flat_map(|shared| shared.pool.pods().to_vec()) {
            let sessions = shared.sessions.known.of_pod(&pod);
            pod.set_playing(sessions.iter().filter(|session| session.calls.is_playing()).count());
        }
        tokio::select! {
            () = time::sleep(COUNT_FILMS) => {}
            () = shutdown.stopping() => {}
        }
    }
}

/// Renews a pool's cookies whenever its set of pods changes.
async fn renew_cookies(shared: Arc<SharedState>, index: usize, keys: Vec<affinity::Secret>, shutdown: Shutdown) {
    let pool = &shared.pools[index];
    let mut members = pool.pool.members();
    loop {
        pool.renew_cookies(&keys);
        tokio::select! {
            changed = members.changed() => if changed.is_err() { return },
            () = shutdown.stopping() => return,
        }
    }
}

impl App {
    /// Reloads the certificates and reopens the access log. If one fails, the old one stays in use.
    pub fn renew_files(&self) {
        self.access.reopen();
        match self.certificates.renew(&self.tls) {
            Ok(()) => tracing::info!("certificates reloaded"),
            Err(error) => tracing::error!(%error, "the certificates could not be reloaded; the previous ones stay"),
        }
    }

    /// Applies the pods of this configuration. All other changes wait for the next start.
    pub fn renew_pods(&self, config: &Config) {
        if fixed(config) != self.fixed {
            tracing::warn!(
                "more than the pools' pods has changed in the configuration; the rest waits for the next start"
            );
        }
        for source in &self.sources {
            let name = source.borrow().name.clone();
            let Some(new) = config.pools.iter().find(|pool| pool.name == name) else {
                tracing::warn!(pool = name, "the pool is configured no more; it stays as it is until the next start");
                continue;
            };
            source.send_if_modified(|now| {
                let new = discovery::PoolConfig { base_path: now.base_path.clone(), ..new.clone() };
                let is_new = *now != new;
                *now = new;
                is_new
            });
        }
    }

    /// The state that all workers share, for inspection.
    pub fn shared(&self) -> &Arc<SharedState> {
        &self.shared
    }

    /// Stops: accepts no new connections and lets requests end within the drain time-out.
    /// Spreads the end of WebSockets over a stagger. Returns when everything has ended.
    pub async fn stop(self) {
        self.shutdown.stop();
        let (workers, access) = (self.workers, self.access);
        let joined = tokio::task::spawn_blocking(move || {
            for worker in workers {
                // A panicked worker has printed its message. The other workers still have to end.
                let _ = worker.join();
            }
            access.finish();
        });
        let _ = joined.await;
        // Other replicas need not wait for a released lease to expire.
        self.leaders.stop();
        self.leaders.ended(RELEASE).await;
        self.shared.sessions.depart().await;
        self.shared.pins.persistence.finish().await;
        self.shared.sessions.backend.finish().await;
    }
}
