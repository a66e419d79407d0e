//! The admin listener: the dashboard, metrics, liveness, readiness, and what operators do.
//!
//! `guard` decides who may see more than the probes' one-word answers. A reload replaces what the
//! pages show, and may move the listener.

mod acts;
mod answer;
mod certificates;
mod dashboard;
mod explain;
mod guard;
mod listed;
mod live;
mod overview;
mod pages;
mod reload;
mod rolled;
mod sign_in;
mod verdict;

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time,
};
use tokio_util::sync::CancellationToken;

use crate::{
    affinity::Secret,
    observe::{history::History, metrics::Metrics},
    proxy::{PodLifecycle, SharedState},
    shutdown::Shutdown,
    tls::Certificates,
};
use acts::Acts;
use answer::{Answer, json, protect, see_other, text};
use guard::{Operator, Refusal};
use listed::Listed;
use live::Live;
use overview::Views;
use pages::Pages;
use reload::Reloads;
pub use reload::{OperatorRequest, Wanted};
use sign_in::{SignIn, SignIns};

/// Where operators connect.
#[derive(Clone, Debug)]
pub struct Config {
    /// Default `127.0.0.1:9096`; `None` switches the listener off.
    pub listen: Option<SocketAddr>,
    /// Hosts that requests may name, besides loopback and the connection's address. Default none.
    pub hosts: Vec<String>,
    /// The token that operators must send. Default none.
    pub token: Option<Secret>,
    /// Whether Jellyfin's administrators may sign in where there is a token. Default true.
    pub administrators: bool,
}

/// Connections of operators at once. Where there is no token, anybody who reaches the listener is one.
const MOST_CONNECTIONS: usize = 256;

/// Pause after a failed accept: the machine lacks file handles and may soon have some.
const OUT_OF_HANDLES: Duration = Duration::from_millis(50);

/// What the text page says of the others.
const PAGES: &str = "\
/live            the process runs
/ready           a pod of every pool is healthy
/pods            the pods as JSON
/sessions        who lives on which pod, as JSON
/replicas        which replicas there are, and in what they disagree, as JSON
/overview        all that the dashboard shows, as JSON
/overview/stream the same as it changes, as server-sent events
/explain         why a client is where it is: ?device=, ?user= or ?session=; a token by POST
/roll            how far the last restart of all pods is, as JSON
/metrics         for Prometheus
/                the dashboard, for browsers
POST /pods/{pool}/{pod}/drain[?when=now|idle], POST /pods/{pool}/{pod}/undrain
POST /sessions/{pool}/{user}/{device}/move?to={pod}
POST /roll[?pool={pool}]: restarts all pods, one after the other
/reload          what a reload would change; POST /reload reads the configuration again
POST /upgrade    a new process takes this one's place
";

/// What the pages show. A reload replaces it.
pub struct View {
    pub config: Config,
    pub shared: Arc<SharedState>,
    /// What clients are shown over TLS.
    pub certificates: Arc<Certificates>,
    /// Drains pods. It is gone once the proxy stops; this listener runs longer.
    pub lifecycle: Weak<PodLifecycle>,
}

/// What the parts of the listener share.
struct AdminState {
    view: ArcSwap<View>,
    metrics: Metrics,
    shutdown: Shutdown,
}

/// The listener, and its parts.
pub struct Admin {
    state: Arc<AdminState>,
    pages: Arc<Pages>,
    acts: Acts,
    reloads: Reloads,
    views: Arc<Views>,
    live: Arc<Live>,
    sign_in: SignIn,
    takes_samples: AtomicBool,
    connections: Arc<Semaphore>,
}

impl AdminState {
    fn shared(&self) -> Arc<SharedState> {
        self.view.load().shared.clone()
    }

    fn certificates(&self) -> Arc<Certificates> {
        self.view.load().certificates.clone()
    }

    fn lifecycle(&self) -> Option<Arc<PodLifecycle>> {
        self.view.load().lifecycle.upgrade()
    }
}

impl Admin {
    /// `operator_requests` takes what only the process can do.
    pub fn new(
        view: View,
        metrics: Metrics,
        shutdown: Shutdown,
        operator_requests: mpsc::Sender<OperatorRequest>,
    ) -> Arc<Admin> {
        let state = Arc::new(AdminState { view: ArcSwap::from_pointee(view), metrics, shutdown });
        let pages = Arc::new(Pages { state: state.clone() });
        let (listed, history) = (Listed::default(), History::default());
        let views = Arc::new(Views { state: state.clone(), pages: pages.clone(), listed, history });
        let sign_in = SignIn { state: state.clone(), sign_ins: SignIns::default() };
        let (acts, live) = (Acts { state: state.clone() }, Live::new(views.clone()));
        let reloads = Reloads { operator_requests };
        Arc::new(Admin {
            state,
            pages,
            acts,
            reloads,
            views,
            live,
            sign_in,
            takes_samples: AtomicBool::new(false),
            connections: Arc::new(Semaphore::new(MOST_CONNECTIONS)),
        })
    }

    /// Answers operators until the listener moves or the runtime ends. An orchestrator still probes
    /// while the proxy stops, and takes a closed port for a crash.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, ends: CancellationToken) {
        if !self.takes_samples.swap(true, Ordering::Relaxed) {
            tokio::spawn(self.views.clone().take_samples());
        }
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = ends.cancelled() => return,
            };
            match accepted {
                Ok((stream, from)) => self.clone().serve_one(stream, from),
                Err(error) => {
                    tracing::warn!(%error, "the admin API cannot accept connections");
                    time::sleep(OUT_OF_HANDLES).await;
                }
            }
        }
    }

    /// Shows this from now on. Sign-ins end if the way to sign in is another one.
    pub fn show(&self, view: View) {
        let way = |config: &Config| (config.token.as_ref().map(|token| token.bytes().to_vec()), config.administrators);
        let before = self.state.view.load_full();
        if way(&before.config) != way(&view.config) {
            self.sign_in.sign_ins.end_all();
        }
        self.state.view.store(Arc::new(view));
    }

    /// What looks after the pods now; `None` once the proxy stops.
    pub fn lifecycle(&self) -> Option<Arc<PodLifecycle>> {
        self.state.lifecycle()
    }

    fn serve_one(self: Arc<Self>, stream: TcpStream, from: SocketAddr) {
        // Dropping the stream closes it.
        let Ok(permit) = self.connections.clone().try_acquire_owned() else { return };
        // Without a known local address, only loopback and the configured hosts match.
        let called_at = stream.local_addr().ok().map(|address| address.ip().to_canonical());
        let from = from.ip().to_canonical();
        let service = service_fn(move |request: Request<Incoming>| {
            let admin = self.clone();
            async move {
                let mut answer = admin.answer(request, called_at, from).await;
                protect(answer.headers_mut());
                // The next request is for the process that has taken this one's place.
                if admin.state.shutdown.is_leaving() {
                    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(answer)
            }
        });
        tokio::spawn(async move {
            let _permit = permit;
            // How an operator's connection ends does not matter.
            let _ =
                http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }

    async fn answer(self: &Arc<Self>, request: Request<Incoming>, called_at: Option<IpAddr>, from: IpAddr) -> Answer {
        let signed_in = self.sign_in.sign_ins.name_of(request.headers());
        let view = self.state.view.load_full();
        let who = match guard::admit(&request, called_at, &view.config, signed_in) {
            Ok(who) => who,
            Err(Refusal::NoToken) if *request.method() == Method::GET && is_browser(request.headers()) => {
                return see_other("/sign-in");
            }
            Err(refusal) => return refusal.response(),
        };
        let method = request.method();
        if *method == Method::POST {
            if matches!(who, Operator::SignedIn(_))
                && let Err(refusal) = self.sign_in.may_act(&request).await
            {
                return refusal.response();
            }
            return self.post(request, &who, from).await;
        }
        if *method != Method::GET && *method != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD, and POST for what changes something.\n");
        }
        self.get(&request, &who).await
    }

    async fn get<B>(self: &Arc<Self>, request: &Request<B>, who: &Operator) -> Answer {
        match request.uri().path() {
            "/live" => text(StatusCode::OK, "live\n"),
            "/ready" => self.pages.ready(),
            "/metrics" => self.pages.metrics_page(),
            "/pods" => self.pages.pods_page(),
            "/sessions" => self.pages.sessions_page(),
            "/replicas" => self.pages.replicas_page(),
            "/roll" => self.pages.roll_page(),
            "/overview" => json(&self.views.whole().await),
            "/overview/stream" => self.live.stream(who),
            "/explain" => {
                explain::explain(&self.state, request.headers(), request.uri().query().unwrap_or_default()).await
            }
            "/reload" => self.reloads.difference().await,
            "/sign-in" => self.sign_in.page(request.uri().query()),
            "/" if is_browser(request.headers()) => dashboard::index(),
            "/" => text(StatusCode::OK, PAGES),
            path if path.starts_with("/assets/") => dashboard::asset(path),
            _ => text(StatusCode::NOT_FOUND, format!("There is no such page. There are:\n{PAGES}")),
        }
    }

    async fn post(&self, request: Request<Incoming>, who: &Operator, from: IpAddr) -> Answer {
        match request.uri().path() {
            "/sign-in" => self.sign_in.sign_in(request.into_body(), from).await,
            "/sign-out" => self.sign_in.sign_out(request.headers()),
            "/explain" => {
                let (head, body) = request.into_parts();
                explain::explain_form(&self.state, &head.headers, body).await
            }
            "/reload" => self.reloads.reload(who, from).await,
            "/upgrade" => self.reloads.hand_over(who, from).await,
            _ => self.acts.act(&request, who, from).await,
        }
    }
}

/// Whether the answer is for a person. Programs do not ask for HTML.
fn is_browser(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    accept.contains("text/html")
}
