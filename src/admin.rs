//! The admin listener: metrics, liveness, readiness, and the proxy's view of pods and sessions.
//!
//! `guard` decides who may see more than the probes' one-word answers. A reload replaces what the
//! pages show, and may move the listener.

mod guard;

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::{Duration, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    time,
};
use tokio_util::sync::CancellationToken;

use crate::{
    affinity::Secret,
    observe::metrics::{Metrics, OfPod, PodCondition, PodState},
    pod::{Condition, Pod, State},
    proxy::{PodLifecycle, PoolState, SharedState, Undrained, drain_policy::When},
    sessions::{Session, UnixMillis, registry::replicas},
    shutdown::Shutdown,
};

/// Where operators connect.
#[derive(Clone, Debug)]
pub struct Config {
    /// Default `127.0.0.1:9096`; `None` switches the listener off.
    pub listen: Option<SocketAddr>,
    /// Hosts that requests may name, besides loopback and the connection's address. Default none.
    pub hosts: Vec<String>,
    /// The token that operators must send. Default none.
    pub token: Option<Secret>,
}

/// Pause after a failed accept: the machine lacks file handles and may soon have some.
const OUT_OF_HANDLES: Duration = Duration::from_millis(50);

/// Answers operators.
pub struct Admin {
    pub view: ArcSwap<View>,
    pub metrics: Metrics,
    pub shutdown: Shutdown,
    /// Where wishes of operators go that only the process can fulfil.
    pub wishes: mpsc::Sender<Wish>,
}

/// What the pages show.
pub struct View {
    pub config: Config,
    pub shared: Arc<SharedState>,
    /// Drains pods. It is gone once the proxy stops; the listener runs longer.
    pub lifecycle: Weak<PodLifecycle>,
}

/// What an operator asks of the process.
#[derive(Debug)]
pub struct Wish {
    pub what: Wanted,
    /// `Err` says why not.
    pub answer: oneshot::Sender<Result<String, String>>,
}

/// What an operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// To read the configuration again.
    Reload,
    /// To say what that would change.
    Difference,
    /// To let a new process take this one's place.
    HandOver,
}

impl Admin {
    /// Answers operators until the listener moves or the runtime ends. An orchestrator still probes
    /// while the proxy stops, and takes a closed port for a crash.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, ends: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = ends.cancelled() => return,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "the admin API cannot accept connections");
                    time::sleep(OUT_OF_HANDLES).await;
                    continue;
                }
            };
            let admin = self.clone();
            // Without a known local address, only loopback and the configured hosts match.
            let called_at = stream.local_addr().ok().map(|address| address.ip().to_canonical());
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                let admin = admin.clone();
                async move {
                    let view = admin.view.load_full();
                    let wanted = match (request.method(), request.uri().path()) {
                        (&Method::POST, "/upgrade") => Some(Wanted::HandOver),
                        (&Method::POST, "/reload") => Some(Wanted::Reload),
                        (&Method::GET, "/reload") => Some(Wanted::Difference),
                        _ => None,
                    };
                    let answer = match (guard::admit(&request, called_at, &view.config), wanted) {
                        (Ok(()), None) => admin.answer(&request, &view),
                        (Ok(()), Some(wanted)) => admin.ask_for(wanted).await,
                        (Err(refusal), _) => refusal.response(),
                    };
                    Ok::<_, Infallible>(answer)
                }
            });
            tokio::spawn(async move {
                // How an operator's connection ends does not matter.
                let _ = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    }

    /// `POST /reload`, `GET /reload` for what that would change, and `POST /upgrade`.
    async fn ask_for(&self, what: Wanted) -> Response<Full<Bytes>> {
        let (answer, answered) = oneshot::channel();
        let is_sent = self.wishes.send(Wish { what, answer }).await.is_ok();
        match answered.await {
            Ok(Ok(said)) if is_sent => text(StatusCode::OK, said),
            Ok(Err(why)) if is_sent => text(StatusCode::UNPROCESSABLE_ENTITY, why),
            _ => text(StatusCode::SERVICE_UNAVAILABLE, "Nothing reads the configuration at this moment.\n"),
        }
    }

    fn answer<B>(&self, request: &Request<B>, view: &View) -> Response<Full<Bytes>> {
        let (method, path) = (request.method(), request.uri().path());
        if method == Method::POST {
            return view.act(request);
        }
        if method != Method::GET && method != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD, and POST to drain a pod or to reload.\n");
        }
        match path {
            "/live" => text(StatusCode::OK, "live\n"),
            "/ready" => self.ready(view),
            "/metrics" => self.metrics_page(view),
            "/pods" => view.pods_page(),
            "/sessions" => view.sessions_page(),
            "/replicas" => view.replicas_page(),
            "/" => text(
                StatusCode::OK,
                "/live     the process runs\n/ready    a pod of every pool is healthy\n/pods     the pods as JSON\n/sessions who lives on which pod, as JSON\n/replicas which replicas there are, and in what they disagree, as JSON\n\
                 /metrics  for Prometheus\nPOST /pods/{pool}/{pod}/drain[?when=now|idle], POST /pods/{pool}/{pod}/undrain\nPOST /reload reads the configuration again; GET /reload says what that would change\nPOST /upgrade lets a new process take this one's place\n",
            ),
            _ => text(
                StatusCode::NOT_FOUND,
                "There are /live, /ready, /pods, /sessions, /replicas, /reload and /metrics.\n",
            ),
        }
    }

    fn ready(&self, view: &View) -> Response<Full<Bytes>> {
        if self.shutdown.is_stopping() {
            return text(StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
        }
        let without = configured(view).find(|shared| !shared.pool.pods().iter().any(|pod| pod.can_answer()));
        match without {
            None => text(StatusCode::OK, "ready\n"),
            Some(shared) => {
                text(StatusCode::SERVICE_UNAVAILABLE, format!("no pod of the pool {} is ready\n", shared.pool.name))
            }
        }
    }

    fn metrics_page(&self, view: &View) -> Response<Full<Bytes>> {
        self.measure(&view.shared);
        match self.metrics.page() {
            Ok(page) => {
                let mut answer = Response::new(Full::from(page));
                let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
                answer.headers_mut().insert(header::CONTENT_TYPE, kind);
                answer
            }
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "The metrics could not be written.\n"),
        }
    }

    /// Updates the gauges. Pods that are gone leave the page.
    fn measure(&self, shared: &SharedState) {
        let metrics = &self.metrics;
        metrics.pins.set(shared.pins.len() as i64);
        metrics.sessions.set(shared.sessions.known.count() as i64);
        metrics.pod_state.clear();
        metrics.pod_condition.clear();
        metrics.pod_check_seconds.clear();
        metrics.pod_share.clear();
        metrics.pod_limit.clear();
        metrics.pod_waiting.clear();
        metrics.pod_extra_calls_waited.clear();
        metrics.pod_epoch.clear();
        metrics.pod_requests.clear();
        metrics.pod_sockets.clear();
        metrics.writer.clear();
        for writes in shared.pools.iter().filter_map(|shared| shared.writer.current(&shared.pool)) {
            metrics.writer.get_or_create(&OfPod { pool: writes.pool.clone(), pod: writes.name.clone() }).set(1);
        }
        metrics.leader.clear();
        for leads in shared.pools.iter().filter_map(|shared| shared.leader.current()) {
            metrics.leader.get_or_create(&OfPod { pool: leads.pool.clone(), pod: leads.name.clone() }).set(1);
        }
        for pod in shared.pools.iter().flat_map(|shared| shared.pool.pods().to_vec()) {
            let of = OfPod { pool: pod.pool.clone(), pod: pod.name.clone() };
            let status = pod.status();
            for state in State::ALL {
                let label = PodState { pool: pod.pool.clone(), pod: pod.name.clone(), state: state.as_str() };
                metrics.pod_state.get_or_create(&label).set((status.state == state).into());
            }
            for condition in Condition::ALL {
                let label =
                    PodCondition { pool: pod.pool.clone(), pod: pod.name.clone(), condition: condition.as_str() };
                let holds = status.is_alive() && pod.condition() == condition;
                metrics.pod_condition.get_or_create(&label).set(holds.into());
            }
            metrics.pod_check_seconds.get_or_create(&of).set(pod.check_time().as_secs_f64());
            metrics.pod_share.get_or_create(&of).set(0.5_f64.powi(pod.halvings().into()));
            metrics.pod_limit.get_or_create(&of).set(pod.concurrency().limit() as i64);
            metrics.pod_waiting.get_or_create(&of).set(pod.concurrency().waiting() as i64);
            metrics.pod_extra_calls_waited.get_or_create(&of).set(pod.extra_calls().waited() as i64);
            metrics.pod_epoch.get_or_create(&of).set(status.epoch.0.into());
            metrics.pod_requests.get_or_create(&of).set(pod.load().saturating_sub(pod.open_sockets()) as i64);
            metrics.pod_sockets.get_or_create(&of).set(pod.open_sockets() as i64);
        }
    }
}

impl View {
    /// `POST /pods/{pool}/{pod}/drain[?when=now|idle]` and `/undrain`.
    fn act<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let segments: Vec<&str> = request.uri().path().split('/').skip(1).collect();
        let ["pods", pool, pod, action @ ("drain" | "undrain")] = segments[..] else {
            return text(StatusCode::NOT_FOUND, "There are /pods/{pool}/{pod}/drain and /undrain.\n");
        };
        let shared = self.shared.pools.iter().find(|shared| *shared.pool.name == *pool);
        let found = shared.and_then(|shared| {
            let pods = shared.pool.pods();
            Some((shared.pool.clone(), pods.iter().find(|other| *other.name == *pod)?.clone()))
        });
        let Some((pool, pod)) = found else {
            return text(StatusCode::NOT_FOUND, format!("No pod {pool}/{pod}; /pods shows all.\n"));
        };
        let when = match request.uri().query() {
            None | Some("when=now") => When::Now,
            Some("when=idle") => When::Idle,
            Some(_) => return text(StatusCode::BAD_REQUEST, "`when` is `now` or `idle`.\n"),
        };
        let Some(lifecycle) = self.lifecycle.upgrade() else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
        };
        let (name, state) = (&*pod.name, pod.status().state.as_str());
        if action == "drain" {
            return match lifecycle.drain(&pool, &pod, when) {
                true => text(StatusCode::ACCEPTED, format!("{name} is draining\n")),
                false => {
                    text(StatusCode::CONFLICT, format!("{name} is {state}; only a pod that serves can be drained\n"))
                }
            };
        }
        match lifecycle.undrain(&pod) {
            Undrained::Ready => text(StatusCode::ACCEPTED, format!("{name} is ready\n")),
            Undrained::DrainsNot => text(StatusCode::OK, format!("{name} is {state} and does not drain\n")),
            Undrained::Leaves => text(
                StatusCode::CONFLICT,
                format!(
                    "{name} is named no more by DNS or the configuration; it serves everybody when it is named again\n"
                ),
            ),
        }
    }

    fn pods_page(&self) -> Response<Full<Bytes>> {
        let pods: Vec<PodPage> = self
            .shared
            .pools
            .iter()
            .flat_map(|shared| {
                let leads = shared.leader.current().map(|pod| pod.id);
                let sessions = |pod: &Pod| self.shared.clients_of(pod).len();
                let page = |pod: &Arc<Pod>| PodPage::of(pod, leads == Some(pod.id), sessions(pod));
                shared.pool.pods().iter().map(page).collect::<Vec<_>>()
            })
            .collect();
        json(&pods)
    }

    fn replicas_page(&self) -> Response<Full<Bytes>> {
        let sessions = &self.shared.sessions;
        let own = ReplicaPage {
            name: sessions.name().to_owned(),
            is_this_one: true,
            disagrees: Vec::new(),
            is_readable: !sessions.replicas.is_apart(),
            clock_ahead_ms: Some(sessions.backend.clock.error()),
            tombstones: Some(sessions.ends.count()),
        };
        let other = |other: replicas::Replica| ReplicaPage {
            name: other.name,
            is_this_one: false,
            disagrees: other.disagrees,
            is_readable: other.is_read,
            clock_ahead_ms: None,
            tombstones: None,
        };
        json(&std::iter::once(own).chain(sessions.replicas.others().into_iter().map(other)).collect::<Vec<_>>())
    }

    fn sessions_page(&self) -> Response<Full<Bytes>> {
        let (mut page, now) = (Vec::new(), self.shared.sessions.backend.clock.now());
        for shared in &self.shared.pools {
            let pods = shared.pool.pods();
            for pod in pods.iter() {
                let living = self.shared.sessions.known.of_pod(pod).into_iter().filter(|session| !session.is_ended());
                page.extend(living.map(|session| SessionPage::of(pod, &session, &pods, now)));
            }
        }
        json(&page)
    }
}

/// The pools of the present configuration.
fn configured(view: &View) -> impl Iterator<Item = &PoolState> {
    view.shared.pools.iter().filter(|shared| shared.is_configured)
}

/// A pod as the page shows it.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
struct PodPage {
    pool: String,
    name: String,
    address: String,
    state: &'static str,
    accepts_connections: bool,
    /// How a pod that serves is doing.
    condition: &'static str,
    /// What its health checks take.
    check_ms: u64,
    /// Its share of new clients, beside 1 for a pod that is well.
    share: f64,
    /// Requests that it is given at once, before their answers begin.
    limit: usize,
    /// Requests that wait for their turn.
    waiting: usize,
    leads: bool,
    /// Sessions whose clients are known and active. Needs an API key, else 0.
    sessions: usize,
    epoch: u32,
    requests: usize,
    sockets: usize,
    server_id: Option<String>,
    version: Option<String>,
}

impl PodPage {
    fn of(pod: &Pod, leads: bool, sessions: usize) -> PodPage {
        let (status, info) = (pod.status(), pod.info());
        PodPage {
            pool: pod.pool.to_string(),
            name: pod.name.to_string(),
            address: pod.authority.to_string(),
            state: status.state.as_str(),
            accepts_connections: status.accepts,
            condition: pod.condition().as_str(),
            check_ms: pod.check_time().as_millis() as u64,
            share: 0.5_f64.powi(pod.halvings().into()),
            limit: pod.concurrency().limit(),
            waiting: pod.concurrency().waiting(),
            leads,
            sessions,
            epoch: status.epoch.0,
            requests: pod.load().saturating_sub(pod.open_sockets()),
            sockets: pod.open_sockets(),
            server_id: info.as_ref().map(|info| info.id.clone()),
            version: info.as_ref().map(|info| info.version.clone()),
        }
    }
}

/// A replica as the page shows it.
#[derive(Serialize)]
struct ReplicaPage {
    name: String,
    is_this_one: bool,
    /// The settings in which it differs from this replica.
    disagrees: Vec<String>,
    /// This replica can read what it writes. For this one: it can migrate sessions.
    is_readable: bool,
    /// How far this machine's clock is ahead of Redis's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_ahead_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tombstones: Option<usize>,
}

/// A session as the page shows it: no token, and nothing derived from one.
#[derive(Serialize)]
struct SessionPage {
    pool: String,
    pod: String,
    user_id: String,
    client: String,
    device: String,
    device_id: String,
    /// When the session came to the pod.
    since: String,
    /// Why it came, out of a closed set.
    why: &'static str,
    /// The pod that it came from, if any.
    from: Option<String>,
    /// The client has reported a playback and not yet its end.
    playing: bool,
    /// Open sockets at this replica.
    sockets: usize,
}

impl SessionPage {
    fn of(pod: &Pod, session: &Session, pods: &[Arc<Pod>], now: UnixMillis) -> SessionPage {
        let moved = session.residence.last_move();
        let from = moved.from.filter(|from| from.pod != pod.id);
        let from = from.and_then(|from| pods.iter().find(|pod| pod.id == from.pod));
        // Another replica's clock may be ahead.
        let since = UNIX_EPOCH + Duration::from_millis(moved.at.min(now));
        SessionPage {
            pool: pod.pool.to_string(),
            pod: pod.name.to_string(),
            user_id: session.user.clone(),
            client: session.device.client.clone(),
            device: session.device.name.clone(),
            device_id: session.device.id.clone(),
            since: humantime::format_rfc3339_seconds(since).to_string(),
            why: moved.why.as_str(),
            from: from.map(|pod| pod.name.to_string()),
            playing: session.calls.is_playing(),
            sockets: session.sockets.places().borrow().len(),
        }
    }
}

fn json<T: Serialize>(page: &T) -> Response<Full<Bytes>> {
    match serde_json::to_vec_pretty(page) {
        Ok(page) => {
            let mut answer = Response::new(Full::from(page));
            answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            answer
        }
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "The page could not be written.\n"),
    }
}

fn text(status: StatusCode, text: impl Into<String>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::from(text.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}
