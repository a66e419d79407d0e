//! How a pod is to be: everything that is fixed before it starts.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use super::Pod;
use crate::cluster::Cluster;
use crate::generation::Generation;
use crate::identifiers::guid_of;
use crate::start_up::StartUp;

/// Describes a pod; [`PodBuilder::start`] starts it.
#[derive(Clone, Debug)]
pub struct PodBuilder {
    cluster: Cluster,
    listen: Result<SocketAddr, String>,
    settings: Settings,
    server_id: Option<String>,
    legacy_authorization: Option<bool>,
}

/// What the pod's own code needs to know of its description.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) server_id: String,
    pub(crate) generation: Generation,
    pub(crate) base_url: String,
    pub(crate) start_up: StartUp,
    pub(crate) legacy_authorization: bool,
    pub(crate) quick_connect: bool,
    pub(crate) known_proxies: bool,
    pub(crate) keep_alive: Duration,
    pub(crate) stamp_after: Duration,
    pub(crate) stop_grace: Duration,
    pub(crate) bulk_size: u64,
    pub(crate) live_segment_every: Duration,
    pub(crate) job_idle: Duration,
    pub(crate) web_client: Option<bool>,
    pub(crate) single_sign_on: bool,
    pub(crate) listens_on: Duration,
    pub(crate) late_socket: Duration,
    pub(crate) session_idle: Duration,
    pub(crate) database_timeout: Duration,
    pub(crate) discovery: Option<SocketAddr>,
    pub(crate) shares_folders: bool,
    pub(crate) single_writer: bool,
    pub(crate) fail_over: Duration,
    pub(crate) hls_lease: Duration,
    pub(crate) wizard_undone: bool,
}

impl Settings {
    /// As a pod is that nothing is said of.
    pub(crate) fn new() -> Settings {
        Settings {
            name: "pod".to_owned(),
            server_id: String::new(),
            generation: Generation::default(),
            base_url: String::new(),
            start_up: StartUp::default(),
            legacy_authorization: false,
            quick_connect: true,
            known_proxies: false,
            keep_alive: Duration::from_secs(60),
            stamp_after: Duration::from_secs(180),
            stop_grace: Duration::from_millis(500),
            bulk_size: 10 << 30,
            live_segment_every: Duration::from_secs(1),
            job_idle: Duration::from_secs(60),
            web_client: None,
            single_sign_on: false,
            listens_on: Duration::from_millis(100),
            late_socket: Duration::from_secs(30),
            session_idle: Duration::from_secs(600),
            database_timeout: Duration::from_secs(15),
            discovery: None,
            shares_folders: false,
            single_writer: false,
            fail_over: Duration::from_millis(300),
            hls_lease: Duration::from_secs(30),
            wizard_undone: false,
        }
    }

    pub(crate) fn has_web_client(&self) -> bool {
        self.web_client.unwrap_or(self.generation == Generation::V12)
    }
}

impl PodBuilder {
    pub(super) fn new(cluster: &Cluster) -> PodBuilder {
        PodBuilder {
            cluster: cluster.clone(),
            listen: Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            settings: Settings::new(),
            server_id: None,
            legacy_authorization: None,
        }
    }

    /// The pod's name, by default `pod`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = name.into();
        self
    }

    /// Where to listen, by default a free port of 127.0.0.1.
    pub fn listen(mut self, address: impl ToSocketAddrs) -> Self {
        self.listen = match address.to_socket_addrs() {
            Ok(mut addresses) => addresses.next().ok_or_else(|| "no address to listen on".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        self
    }

    /// The server id, 32 lower-case hex; by default one made of the name, so that pods differ. Give all pods the same id
    /// to play a shared `device.txt`.
    pub fn server_id(mut self, id: Option<&str>) -> Self {
        self.server_id = id.map(str::to_owned);
        self
    }

    /// Which Jellyfin to play, by default 12.0.
    pub fn generation(mut self, generation: Generation) -> Self {
        self.settings.generation = generation;
        self
    }

    /// `BaseUrl`: a leading slash, no trailing one; by default empty.
    pub fn base_url(mut self, base_url: &str) -> Self {
        self.settings.base_url = base_url.trim_end_matches('/').to_owned();
        self
    }

    /// How the pod comes up, by default at once.
    pub fn start_up(mut self, start_up: StartUp) -> Self {
        self.settings.start_up = start_up;
        self
    }

    /// `EnableLegacyAuthorization`, by default off in 12.0 and on in 10.11.
    pub fn legacy_authorization(mut self, on: bool) -> Self {
        self.legacy_authorization = Some(on);
        self
    }

    /// `QuickConnectAvailable`, by default on.
    pub fn quick_connect_enabled(mut self, on: bool) -> Self {
        self.settings.quick_connect = on;
        self
    }

    /// Whether the peer counts as a known proxy, by default not: then `X-Forwarded-For` gives the remote address and
    /// `X-Forwarded-Proto: https` ends compression.
    pub fn known_proxies(mut self, on: bool) -> Self {
        self.settings.known_proxies = on;
        self
    }

    /// The time after which a socket without `KeepAlive` is lost, by default 60 s; the other times of a socket keep their
    /// proportion to it.
    pub fn keep_alive(mut self, lost_after: Duration) -> Self {
        self.settings.keep_alive = lost_after;
        self
    }

    /// The idle time after which the use of a token is stamped into its row, by default 3 minutes.
    pub fn stamp_after(mut self, idle: Duration) -> Self {
        self.settings.stamp_after = idle;
        self
    }

    /// How long a graceful stop waits for answers in flight, by default half a second.
    pub fn stop_grace(mut self, grace: Duration) -> Self {
        self.settings.stop_grace = grace;
        self
    }

    /// How long a graceful stop goes on to take connections after its farewell, by default a tenth of a second.
    pub fn listens_on(mut self, time: Duration) -> Self {
        self.settings.listens_on = time;
        self
    }

    /// How long a socket that is opened between the farewell and the end of listening holds the process, by default 30 s
    /// (Kestrel's `ShutdownTimeout`).
    pub fn late_socket(mut self, time: Duration) -> Self {
        self.settings.late_socket = time;
        self
    }

    /// How long a session without a socket is kept after its last request, by default 10 minutes.
    pub fn session_idle(mut self, time: Duration) -> Self {
        self.settings.session_idle = time;
        self
    }

    /// How long what needs the database waits for one that hangs, by default 15 s; then it fails.
    pub fn database_timeout(mut self, time: Duration) -> Self {
        self.settings.database_timeout = time;
        self
    }

    /// Whether the pod's data and configuration folders are those of all pods of the cluster that share theirs; by default each
    /// has its own.
    pub fn shared_folders(mut self, on: bool) -> Self {
        self.settings.shares_folders = on;
        self
    }

    /// Whether the pod is of the build with one catalogue writer: the first pod of the cluster writes, then the one that asks first
    /// after its end. Its folders are shared, and its server id is that of all.
    pub fn single_writer(mut self, on: bool) -> Self {
        self.settings.single_writer = on;
        self.settings.shares_folders = on;
        self
    }

    /// How long such a cluster is without a writer after the end of one, by default 0.3 s; 0.1 to 2 s were measured.
    pub fn fail_over(mut self, time: Duration) -> Self {
        self.settings.fail_over = time;
        self
    }

    /// How long the lease of a transcode lasts after the end of its owner, by default 30 s.
    pub fn hls_lease(mut self, time: Duration) -> Self {
        self.settings.hls_lease = time;
        self
    }

    /// Whether the pod believes that its wizard was never completed, as without the `system.xml` of the others: it then
    /// lets everybody set it up.
    pub fn wizard_undone(mut self, on: bool) -> Self {
        self.settings.wizard_undone = on;
        self
    }

    /// Answers clients that look for servers by UDP at this address (`AutoDiscovery`, port 7359); by default it does not.
    pub fn discovery(mut self, address: SocketAddr) -> Self {
        self.settings.discovery = Some(address);
        self
    }

    /// Whether the plug-in for single sign-on is installed, with one provider, `idp`; by default not.
    pub fn single_sign_on(mut self, on: bool) -> Self {
        self.settings.single_sign_on = on;
        self
    }

    /// The length of the bulk item's file, by default 10 GiB.
    pub fn bulk_size(mut self, bytes: u64) -> Self {
        self.settings.bulk_size = bytes;
        self
    }

    /// How often a live playlist grows by a segment after its first three, by default each second.
    pub fn live_segment_every(mut self, interval: Duration) -> Self {
        self.settings.live_segment_every = interval;
        self
    }

    /// How long a transcode goes on for which nobody asks, and whose player is not heard of, by default 60 s.
    pub fn job_idle(mut self, time: Duration) -> Self {
        self.settings.job_idle = time;
        self
    }

    /// Whether the web client is installed, by default in 12.0 only, as in the recordings.
    pub fn web_client(mut self, on: bool) -> Self {
        self.settings.web_client = Some(on);
        self
    }

    /// Starts the pod on the current runtime. An instant pod is ready on return, a phased one has just begun.
    ///
    /// # Errors
    /// When the address cannot be taken.
    pub async fn start(mut self) -> io::Result<Pod> {
        let address = self.listen.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let name = if self.settings.single_writer { "of all" } else { self.settings.name.as_str() };
        self.settings.server_id = self.server_id.unwrap_or_else(|| guid_of(&format!("jellyfin-sim server {name}")));
        self.settings.legacy_authorization =
            self.legacy_authorization.unwrap_or(self.settings.generation.legacy_authorization_by_default());
        Pod::start(self.cluster, self.settings, address)
    }
}
