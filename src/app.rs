//! Wiring: builds the rooms, starts them in order and stops them in order.
//!
//! The caller's runtime is the control side: health, discovery and the admin API.
//! Each worker is a `current_thread` runtime on its own thread.
//! A worker has its own sockets and its own connections to the pods.
//! `reload` brings another configuration into use while all of this runs.

mod advice;
pub mod ask;
mod autodiscovery;
mod background;
mod bind;
mod certificates;
pub mod check;
mod loops;
mod now;
mod open_files;
mod plain;
mod reload;
mod replicas;
mod server_id_file;
mod shared_state;
mod state;
mod succession;
mod worker;

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener, UdpSocket as StdUdpSocket},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, UdpSocket},
    sync::{mpsc, watch},
};
use tokio_util::sync::CancellationToken;

use crate::{
    acme,
    admin::{self, Admin, OperatorRequest, View},
    affinity, compression, connection, discovery, forward, hand_over, health,
    jellyfin::Legacy,
    leader, limits, listen,
    observe::{self, access::Access, metrics::Metrics},
    pod::Pools,
    proxy::{PodLifecycle, SharedState, drain_policy},
    route, server_id, sessions,
    shutdown::Shutdown,
    store, tls, websocket,
};
use background::{
    count_films, find_writers, keep_triggers, know_users, of_leader, renew_cookies, serve_pods, watch_pods,
};
use bind::{bind_admin, bind_autodiscovery};
use now::{Current, Now};
use plain::PlainPools;
#[cfg(test)]
pub(crate) use reload::applicable;
use shared_state::shared;
use worker::Workers;

/// Everything a run needs, with one part for each room.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: listen::Config,
    pub tls: tls::Config,
    /// How a certificate is ordered. Default none.
    pub acme: Option<acme::Config>,
    pub connection: connection::Config,
    pub compression: compression::Config,
    pub limits: limits::Config,
    pub drain: drain_policy::Config,
    pub route: route::Config,
    pub pools: Vec<discovery::PoolConfig>,
    /// Those whose pods are not Jellyfin's.
    pub plain_pools: Vec<discovery::PoolConfig>,
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
    /// From where the server may be set up, restarted and shut down. Default: from everywhere.
    pub operate_from: Vec<ipnet::IpNet>,
    /// Whether the pods follow what a client changes on one of them. Default true.
    pub keeps_in_step: bool,
    /// Whether the leader alone runs tasks by itself. Default false.
    pub leader_runs_tasks: bool,
    /// Whether changed files are loaded without being asked. Default true.
    pub watches_files: bool,
    pub observe: observe::Config,
    pub admin: admin::Config,
    pub autodiscovery: crate::autodiscovery::Config,
    /// Directory for data that must survive a restart. Default none.
    pub state: Option<PathBuf>,
    /// What several replicas share. Default none.
    pub redis: Option<store::redis_store::Config>,
    /// Longest time that films and sockets go on after a hand-over. Default 1 h.
    pub hand_over: Duration,
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
    #[error(
        "[pools.{pool}.pods] {pod}: {url} is an address of this jellypin itself; give the address of what is behind it"
    )]
    Loop { pool: String, pod: String, url: String },
    #[error("cannot start a worker: {0}")]
    Worker(io::Error),
}

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
    /// What operators ask for. Taken by the part of the program that can read the configuration again.
    pub operator_requests: mpsc::Receiver<OperatorRequest>,
    current: Current,
    /// The key ring of the cookies.
    keys: Vec<affinity::Secret>,
    pools: Pools,
    /// Where each pool's pods come from, in the order of the shared state's pools.
    sources: Vec<watch::Sender<discovery::PoolConfig>>,
    plain: PlainPools,
    health: Arc<ArcSwap<health::Config>>,
    shutdown: Shutdown,
    leaders: Shutdown,
    writers_end: Shutdown,
    workers: Workers,
    listening: Vec<Listening>,
    access: Arc<Access>,
    /// Access logs of earlier configurations, to which requests of that time still write.
    former_access: Vec<Arc<Access>>,
    certificates: Arc<tls::Certificates>,
    /// Ends what orders certificates.
    orders_end: Shutdown,
    server_config: Arc<ServerConfig>,
    pages: Arc<Admin>,
    admin_socket: Option<StdListener>,
    admin_ends: CancellationToken,
    autodiscovery_socket: Option<StdUdpSocket>,
    autodiscovery_ends: Shutdown,
}

/// A listener for clients.
#[derive(Clone)]
struct Listening {
    /// As configured; the port may be 0.
    configured: SocketAddr,
    address: SocketAddr,
    over_tls: bool,
    /// Copies of the workers' sockets, to hand over.
    sockets: Arc<[StdListener]>,
}

/// Wishes that may wait.
const OPERATOR_REQUESTS: usize = 8;

/// Starts everything, or nothing.
///
/// # Errors
/// An address, a certificate or a file cannot be used. Nothing is left running then.
pub async fn start(config: Config) -> Result<App, Error> {
    start_with(config, hand_over::Sockets::default()).await
}

/// As [`start`], in the place of a process that hands its sockets over.
///
/// # Errors
/// As [`start`].
pub async fn start_with(config: Config, mut handed: hand_over::Sockets) -> Result<App, Error> {
    open_files::raise();
    for advice in advice::of(&config) {
        tracing::warn!("{advice}");
    }
    // First the steps that can fail, while nothing runs yet.
    loops::refuse(&config)?;
    let certificates = tls::Certificates::read(&config.tls)?;
    let server_config = certificates.server_config()?;
    let keys = match handed.key.take().filter(|_| state::makes_own_key(&config)) {
        Some(key) => vec![affinity::Secret::new(key)],
        None => state::cookie_keys(&config)?,
    };
    config.redis.as_ref().map(store::redis_store::check).transpose()?;
    let bound = listen::bind(&config.listen, &mut handed)?;
    let admin_listener = match config.admin.listen {
        Some(address) => Some(bind_admin(address, handed.admin.take())?),
        None => None,
    };
    let autodiscovery = match config.autodiscovery.listen {
        Some(address) => Some(bind_autodiscovery(address, handed.autodiscovery.take())?),
        None => None,
    };
    let metrics = Metrics::new();
    let access = Access::start(&config.observe.access, config.observe.format, metrics.access_lost.clone())
        .map_err(Error::AccessLog)?;

    // Then the pods, so that their health is known before the first client comes.
    let shutdown = Shutdown::new();
    let (shared, kept, pools) = shared(&config, &keys, &metrics, &shutdown).await?;
    let shared = Arc::new(shared);
    let health = Arc::new(ArcSwap::from_pointee(config.health.clone()));
    let pods = shared.pools.iter().zip(&config.pools).map(|(shared, config)| (shared.pool.clone(), config.clone()));
    let orders_end = shutdown.part();
    certificates::keep(&config, (&shared, &keys), &certificates, &metrics, &orders_end);
    tokio::spawn(certificates::watch(certificates.clone(), metrics.clone(), shutdown.clone()));
    let sources = watch_pods(pods, &health, &shutdown).await;
    let mut plain = PlainPools::default();
    plain.look_after(&config, &shared.plain, (&health, &shutdown)).await;
    renew_cookies(&shared, &keys, &shutdown);

    // Then who writes, and the leader of each pool. That task outlives the last request.
    // So it has its own shutdown.
    let leaders = Shutdown::new();
    let writers_end = shutdown.part();
    find_writers(&shared, &writers_end);
    let of_pools = shared.pools.iter().map(of_leader).collect();
    leader::start(&config.leader, config.redis.as_ref(), of_pools, &leaders).await?;
    keep_triggers(&config, (&shared, &keys), &metrics, &writers_end);
    know_users(&config, (&shared, &keys), &writers_end).await;

    // Then the pins: each belongs to its pod's present epoch, which is known only now.
    shared.pins.restore(&shared.pins.persistence.of_entries(&kept));
    shared.pins.persistence.await_first_attempt().await;
    server_id_file::keep(&shared, &config, &shutdown).await;
    let listeners = bound.iter();
    let listeners = listeners.map(|bound| autodiscovery::Listener { address: bound.address, over_tls: bound.over_tls });
    let now = Now { listeners: listeners.collect(), shared: shared.clone(), config: config.clone() };
    let current = Arc::new(ArcSwap::from_pointee(now));
    replicas::announce(&current, &metrics, &shutdown).await;

    // Then the background tasks for the pods.
    let lifecycle = PodLifecycle::new(shared.clone(), metrics.clone(), shutdown.clone());
    serve_pods(&lifecycle, &shared);
    tokio::spawn(lifecycle.clone().follow_replicas());
    tokio::spawn(count_films(current.clone(), shutdown.clone()));

    // Then the listeners.
    let autodiscovery_ends = shutdown.part();
    let asked_at = autodiscovery.as_ref().and_then(|socket| socket.local_addr().ok());
    if let Some(socket) = &autodiscovery {
        answer_apps(socket, &current, &metrics, &autodiscovery_ends);
    }
    let (operator_request, operator_requests) = mpsc::channel(OPERATOR_REQUESTS);
    let view = View {
        config: config.admin.clone(),
        shared: shared.clone(),
        certificates: certificates.clone(),
        lifecycle: Arc::downgrade(&lifecycle),
    };
    let pages = Admin::new(view, metrics.clone(), shutdown.clone(), operator_request);
    let admin_ends = CancellationToken::new();
    let admin = admin_listener.as_ref().and_then(|admin_listener| admin_listener.local_addr().ok());
    if let Some(admin_listener) = &admin_listener {
        serve_admin(admin_listener, &pages, &admin_ends);
    }
    let mut listening = Vec::new();
    for ((configured, over_tls), bound) in config.listen.all().zip(&bound) {
        listening.push(Listening { configured, address: bound.address, over_tls, sockets: bound.copies()?.into() });
    }
    let plan = worker::Plan::new(&config, shared, (metrics.clone(), access.clone()), server_config.clone(), &shutdown);
    let workers = worker::start(plan, bound, config.listen.workers).map_err(Error::Worker)?;
    Ok(App {
        addresses: listening.iter().map(|listening| listening.address).collect(),
        admin,
        autodiscovery: asked_at,
        metrics,
        operator_requests,
        current,
        keys,
        pools,
        sources,
        plain,
        health,
        shutdown,
        leaders,
        writers_end,
        workers,
        listening,
        access,
        former_access: Vec::new(),
        certificates,
        orders_end,
        server_config,
        pages,
        admin_socket: admin_listener,
        admin_ends,
        autodiscovery_socket: autodiscovery,
        autodiscovery_ends,
    })
}

/// Answers apps that look for a server, as things stand at each moment.
fn answer_apps(socket: &StdUdpSocket, current: &Current, metrics: &Metrics, ends: &Shutdown) {
    let current = current.clone();
    let find = move |app| {
        let now = current.load_full();
        autodiscovery::server(&now.shared, &now.listeners, app)
    };
    match socket.try_clone().and_then(UdpSocket::from_std) {
        Ok(socket) => {
            tokio::spawn(crate::autodiscovery::serve(socket, find, metrics.clone(), ends.clone()));
        }
        Err(error) => tracing::error!(%error, "a listener could not be used"),
    }
}

/// Answers operators.
fn serve_admin(socket: &StdListener, pages: &Arc<Admin>, ends: &CancellationToken) {
    match socket.try_clone().and_then(TcpListener::from_std) {
        Ok(listener) => {
            tokio::spawn(pages.clone().serve(listener, ends.clone()));
        }
        Err(error) => tracing::error!(%error, "a listener could not be used"),
    }
}

impl App {
    /// The state that all workers share, for inspection.
    pub fn shared(&self) -> Arc<SharedState> {
        self.current.load().shared.clone()
    }

    /// The addresses for clients now. A reload may have changed them.
    pub fn listening(&self) -> Vec<SocketAddr> {
        self.listening.iter().map(|listening| listening.address).collect()
    }

    /// Stops: accepts no new connections and lets requests end within the drain time-out.
    /// Spreads the end of WebSockets over a stagger. Returns when everything has ended.
    pub async fn stop(self) {
        let shared = self.shared();
        drop(self.listening);
        self.shutdown.stop();
        let (workers, access, former_access) = (self.workers, self.access, self.former_access);
        let joined = tokio::task::spawn_blocking(move || {
            workers.join();
            former_access.into_iter().for_each(Access::finish);
            access.finish();
        });
        let _ = joined.await;
        // Other replicas need not wait for a released lease to expire.
        self.leaders.stop();
        self.leaders.ended(RELEASE).await;
        // What a pod is just making must be kept.
        shared.mint_limiter.close(succession::MINTING).await;
        shared.sessions.depart().await;
        shared.pins.persistence.finish().await;
        shared.sessions.backend.finish().await;
    }
}
