//! The proxy of a story: started in process from a configuration text, looked into, stopped.

use std::future::Future;
use std::net::SocketAddr;
use std::panic::Location;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Method;
use jellypin::{
    app::{self, App},
    config::{self, ProcessEnvironment},
    pod::{self, Condition, State},
    proxy::SharedState,
    sessions::Sessions,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::timeout;

use super::client::{Answer, Client, Sent, body_of};
use super::{DEADLINE, Settings, until};

/// The longest time that a stop may take: the drain time-out of [`Settings`] and some air.
const STOP: Duration = Duration::from_secs(20);

/// A handle to a running proxy.
#[derive(Clone)]
pub(crate) struct Proxy {
    /// Its first address for clients.
    pub(crate) address: SocketAddr,
    /// All its addresses for clients.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) admin: SocketAddr,
    app: Arc<Mutex<Option<App>>>,
    shared: Arc<SharedState>,
    access_log: PathBuf,
    sent: Sent,
    has_uncounted: Arc<AtomicBool>,
    /// The files of the configuration stand here.
    _folder: Arc<TempDir>,
}

impl Proxy {
    /// Starts a proxy with an access log of its own.
    #[track_caller]
    pub(crate) fn start(settings: &Settings, folder: &Arc<TempDir>) -> impl Future<Output = Proxy> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let caller = Location::caller();
        let access_log = folder.path().join(format!("access-{}.log", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let mut settings = settings.clone();
        settings.access_log(&access_log.to_string_lossy());
        let text = settings.text();
        let folder = folder.clone();
        async move {
            let config = config::parse(&text, &folder.path().join("story.toml"), &ProcessEnvironment)
                .unwrap_or_else(|error| panic!("{caller}: the configuration is bad: {error}\n{text}"));
            let app = app::start(config).await.unwrap_or_else(|error| panic!("{caller}: no start: {error}"));
            Proxy {
                address: app.addresses[0],
                addresses: app.addresses.clone(),
                admin: app.admin.expect("an admin address"),
                shared: app.shared(),
                app: Arc::new(Mutex::new(Some(app))),
                access_log,
                sent: Sent::default(),
                has_uncounted: Arc::default(),
                _folder: folder,
            }
        }
    }

    /// A new client with a cookie jar, known by nothing yet.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.address, self.sent.clone())
    }

    /// Where it answers apps that look for a server.
    pub(crate) fn autodiscovery(&self) -> SocketAddr {
        let app = self.app.try_lock().expect("an app that nobody stops");
        app.as_ref().and_then(|app| app.autodiscovery).expect("an address")
    }

    /// What its workers share.
    pub(crate) fn shared(&self) -> &Arc<SharedState> {
        &self.shared
    }

    /// What it knows of sessions.
    pub(crate) fn sessions(&self) -> &Sessions {
        &self.shared.sessions
    }

    /// Requests come by other ways than by a [`Client`] too, so that the number of access lines is not known.
    pub(crate) fn has_uncounted_requests(&self) {
        self.has_uncounted.store(true, Ordering::Relaxed);
    }

    /// What live code holds of a pod, by the pod's name.
    #[track_caller]
    pub(crate) fn pod(&self, name: &str) -> Arc<pod::Pod> {
        let pods = self.shared.pools.iter().flat_map(|shared| shared.pool.pods().to_vec());
        pods.into_iter().find(|pod| &*pod.name == name).unwrap_or_else(|| panic!("the proxy knows no pod {name}"))
    }

    /// The names of all pods.
    pub(crate) fn pod_names(&self) -> Vec<String> {
        let pods = self.shared.pools.iter().flat_map(|shared| shared.pool.pods().to_vec());
        pods.map(|pod| pod.name.to_string()).collect()
    }

    /// Waits until the proxy holds a pod for this.
    #[track_caller]
    pub(crate) fn until_state(&self, name: &str, state: State) -> impl Future<Output = ()> {
        let caller = Location::caller();
        let pod = self.pod(name);
        async move {
            let mut changes = pod.life.changes();
            let reached = timeout(DEADLINE, changes.wait_for(|status| status.state == state)).await;
            assert!(matches!(reached, Ok(Ok(_))), "{caller}: {pod:?} never became {}", state.as_str());
        }
    }

    /// Waits until a pod that serves is in this condition.
    #[track_caller]
    pub(crate) fn until_condition(&self, name: &str, condition: Condition) -> impl Future<Output = ()> {
        let pod = self.pod(name);
        let what = format!("pod {name} is {}", condition.as_str());
        async move {
            until(&what, || pod.status().is_alive() && pod.vitals.condition() == condition).await;
        }
    }

    /// A client of the admin API, which is not counted.
    pub(crate) fn operators(&self) -> Client {
        Client::at_address(self.admin)
    }

    /// Asks the admin API.
    pub(crate) async fn ask_admin(&self, path: &str) -> Answer {
        self.operators().get(path).await
    }

    /// Posts to the admin API.
    pub(crate) async fn post_admin(&self, path: &str) -> Answer {
        let mut operator = self.operators();
        let request = operator.request(Method::POST, path);
        operator.send(request, body_of("")).await.expect("an answer")
    }

    /// The sum of a metric's samples that bear all these labels.
    pub(crate) async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let page = self.ask_admin("/metrics").await;
        let is_wanted = |sample: &&str| {
            let rest = sample.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|(key, value)| sample.contains(&format!("{key}=\"{value}\"")))
        };
        let samples = page.text().lines().filter(is_wanted);
        samples.filter_map(|sample| sample.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Every access line that is written so far.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.access_log).unwrap_or_default();
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect()
    }

    /// Waits for the access lines of a path, at least so many.
    pub(crate) async fn lines_of(&self, path: &str, at_least: usize) -> Vec<Value> {
        let wanted = || -> Vec<Value> { self.lines().into_iter().filter(|line| line["http.path"] == path).collect() };
        until(&format!("{at_least} access lines of {path}"), || wanted().len() >= at_least).await;
        wanted()
    }

    /// Stops the proxy, unless it was stopped before.
    ///
    /// # Panics
    /// When it does not stop in time, something stays under way, or a request has no access line or two.
    pub(crate) async fn stop(&self) {
        let Some(app) = self.app.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        assert!(timeout(STOP, app.stop()).await.is_ok(), "the proxy did not stop");
        for pod in self.shared.pools.iter().flat_map(|shared| shared.pool.pods().to_vec()) {
            assert_eq!(pod.load.total(), 0, "something is still under way at {pod:?}");
        }
        let lines = self.lines();
        let sent = self.sent.total();
        // Without counted requests alone, more lines than requests are right.
        let is_right = |lines: usize| lines == sent || self.has_uncounted.load(Ordering::Relaxed) && lines > sent;
        let paths = lines.iter().filter_map(|line| line["http.path"].as_str());
        assert!(
            is_right(lines.len()),
            "{sent} requests and {} access lines; more lines than requests, by path: {:?}",
            lines.len(),
            self.sent.surplus(paths),
        );
    }
}
