//! The request path, from top to bottom.
//!
//! [`Proxy::handle`] is the one function to read: route, identify, decide, rewrite, forward, judge, learn, bind, observe. This room
//! alone puts together what those below it know of pods, clients and Jellyfin.

mod again;
mod aside;
mod asking;
mod body;
mod call;
mod carry;
mod decide;
mod doubt;
pub mod drain;
mod exchange;
mod face;
mod hold;
mod introduce;
mod lead;
mod learning;
mod live;
mod log_out;
mod normalize;
mod offer;
mod recall;
mod reply;
mod resume;
mod revoke;
mod site;
mod socket;
mod steward;
mod tally;
mod unread;
mod visit;

use std::{
    borrow::Cow,
    net::IpAddr,
    sync::{Arc, atomic::AtomicBool},
};

use http::{HeaderMap, Method, Request, Response, header, request};
use hyper::body::Incoming;
use tokio::sync::Semaphore;

pub use body::Body;
pub use live::streams::Streams;
pub use reply::Aborted;
pub use site::{HELD, HELD_KIB, PoolSite, Site};
pub use socket::Seat;
pub use steward::{ALL_ARE_LOCAL, Lack, Said};
pub use unread::Unread;

use crate::{
    affinity::cookie,
    carryover::Token,
    forward::{
        Forward, head,
        head::Client,
        outbound::{Outbound, Source},
    },
    health,
    identity::{
        self, canonical,
        endpoint::{Endpoint, Ends},
        translation,
    },
    observe::{access, metrics::Metrics},
    pod::Pod,
    shutdown::Shutdown,
    websocket::handshake::{self, Asked},
};
use again::Again;
use asking::{Asking, ClientSession, Target};
use decide::{Decision, Keys};
use exchange::{Exchange, Outcome};
use normalize::normalize;
use offer::{Offered, is_refused};
use reply::Refusal;
use resume::Resuming;
use tally::Tally;

/// One worker's request path.
pub struct Proxy {
    site: Arc<Site>,
    forward: Forward,
    access: access::Worker,
    metrics: Metrics,
    tally: Tally,
    /// Room for sockets that are being attached anew.
    attaching: Semaphore,
    shutdown: Shutdown,
}

impl Proxy {
    pub fn new(site: Arc<Site>, access: access::Worker, metrics: Metrics, shutdown: Shutdown) -> Arc<Proxy> {
        let forward = Forward::new(site.forward.clone());
        let tally = Tally::new(metrics.clone());
        let attaching = Semaphore::new(socket::AT_ONCE);
        Arc::new(Proxy { site, forward, access, metrics, tally, attaching, shutdown })
    }

    /// The pools that it serves.
    pub fn pools(&self) -> &[PoolSite] {
        &self.site.pools
    }

    /// Hands the access lines that are there to the log's writer.
    pub fn flush_log(&self) {
        self.access.flush();
    }

    /// Answers a request in a task of its own, and so also when its client goes away: for what [`Proxy::may_end_sessions`].
    ///
    /// # Errors
    /// As [`Proxy::handle`].
    pub async fn handle_to_its_end(
        self: Arc<Self>,
        request: Request<Incoming>,
        client: Arc<Client>,
    ) -> Result<Response<Body>, Aborted> {
        let shutdown = self.shutdown.clone();
        let handled = shutdown.track(async move { self.handle(request, &client).await });
        tokio::spawn(handled).await.unwrap_or(Err(Aborted))
    }

    /// Answers a request.
    ///
    /// # Errors
    /// [`Aborted`] where no answer is better than any: the connection is to be broken off.
    ///
    /// # Cancel safety
    /// Dropped when the client goes away; the request at the pod ends with it.
    pub async fn handle(
        self: Arc<Self>,
        mut request: Request<Incoming>,
        client: &Client,
    ) -> Result<Response<Body>, Aborted> {
        let origin = head::origin(request.headers(), client);
        let mut exchange = Exchange::begin(self.clone(), &request, origin);
        let asked = handshake::asked(&request);
        let opening = (asked == Asked::Socket).then(|| hyper::upgrade::on(&mut request));
        let (mut head, body) = request.into_parts();
        let seat = head.extensions.remove::<Seat>();
        let source = Source::new(body, self.site.forward.replay_bytes);
        exchange.source = source.clone();

        // 1. Route.
        if let Err(refusal) = normalize(&mut head).and_then(|()| refuse_malformed(asked)) {
            return exchange.refuse(refusal);
        }
        let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let path = canonical::decoded_path(head.uri.path()).unwrap_or(Cow::Borrowed(head.uri.path()));
        let Some(route) = self.site.router.find(host, &path) else {
            return exchange.refuse(Refusal::NoRoute);
        };
        let pool = &self.site.pools[route.pool];
        exchange.routed(&route.name, &pool.pool);
        if let Err(ambiguity) =
            canonical::canonicalize(&mut head, &pool.pool.base_path, pool.legacy(), opening.is_some())
        {
            return exchange.refuse(Refusal::Ambiguous(ambiguity));
        }

        // 2. Identify.
        let cookies = pool.cookies.load();
        let mut asking = self.identify(route.pool, &cookies, &head, client, origin, opening.is_some());
        self.recall(&mut asking).await;

        // A log-out ends the session whatever pods can be asked.
        if self.is_log_out(&asking) {
            return Ok(Box::pin(self.log_out(&asking, exchange)).await);
        }

        // 3.–5. Decide, rewrite, forward: in `offer`, for one pod after the other.
        if let Some(opening) = opening {
            // Boxed, as what follows a log-out: every request's future is moved about, and these parts of it are seldom used.
            return Box::pin(self.open_socket(asking, (opening, seat), &cookies, exchange)).await;
        }
        // 6. Judge: what says that the pod does not know the client's token is offered to the others.
        let mut offered = self.offer_its_way(&asking, &source, &mut exchange).await;
        if is_refused(&offered) && self.may_be_known_elsewhere(&asking) {
            offered = Box::pin(self.offer_once_told(&mut asking, &source, &mut exchange, offered)).await;
        }
        let offered = match offered {
            Ok(offered) => offered,
            Err(refusal) => return exchange.refuse(refusal),
        };
        let ((mut answer, body), decision) = (offered.answer.into_parts(), offered.decision);

        // 7. Learn, or forget.
        if let Some(ended) = revoke::ended_by(&asking, answer.status) {
            let answered = (answer.status, offered.token.as_ref());
            let told = Box::pin(self.end_everywhere(&asking, ended, answered, &source, &decision, &mut exchange)).await;
            if let Some(status) = told {
                // What its own pod says less than all of them together.
                answer.status = status;
                exchange.set_status(status.as_u16());
                revoke::strip(&mut answer.headers);
                return Ok(exchange.answer_with(answer, Body::empty()));
            }
        }
        self.learn(&asking, &decision, offered.verdict, offered.token.as_ref(), answer.status);
        self.note(&asking, &source, &decision.pod, answer.status);
        self.end_streams(&asking, answer.status);
        let learning = self.listen(&asking, &decision, &answer);

        // 8. Bind, and show one server.
        head::to_client(&mut answer.headers);
        let binds_nobody = matches!(
            asking.endpoint,
            Endpoint::AnonymousMedia | Endpoint::QuickConnect | Endpoint::SignOn | Endpoint::Clock
        );
        let binds_nobody = binds_nobody || (asking.endpoint != Endpoint::LogIn && self.site.is_leaders(asking.path));
        if !binds_nobody {
            bind(&mut answer.headers, &cookies, &asking, &decision);
        }

        // 9. Observe: the exchange goes with the body and is written down when that ends. A file goes on after its pod.
        if let Some(file) =
            resume::File::of(asking.endpoint, &asking.head.method, &answer).filter(|_| learning.is_none())
        {
            let resuming = Resuming::new(file, body, &decision, Again::of(&self, &asking));
            return Ok(exchange.answer_with(answer, Body::resuming(resuming)));
        }
        let shown = if asking.is_live_playlist() {
            Box::pin(self.show_playlist(&asking, &decision, &mut answer, body, learning)).await
        } else {
            self.for_client(&asking, &mut answer, body, learning).await
        };
        let Ok(body) = shown else {
            exchange.ended(Outcome::PodBroke);
            return Err(Aborted);
        };
        Ok(exchange.answer_with(answer, body))
    }

    /// Whether other sessions than its caller's may end with it, in whatever pool. Its pod may have done it when the client goes away,
    /// and the others are to hear of it.
    pub fn may_end_sessions<B>(&self, request: &Request<B>) -> bool {
        let (method, uri) = (request.method(), request.uri());
        let Ok(decoded) = canonical::decoded_path(uri.path()) else { return false };
        let ends = |site: &PoolSite| {
            let path = identity::path_of(canonical::below_base(&site.pool.base_path, &decoded), site.legacy());
            Ends::of(method, path, uri.query().unwrap_or_default()).is_some()
        };
        (*method == Method::POST || *method == Method::DELETE) && self.site.pools.iter().any(ends)
    }

    async fn offer_its_way(
        self: &Arc<Self>,
        asking: &Asking<'_>,
        source: &Source,
        exchange: &mut Exchange,
    ) -> Result<Offered, Refusal> {
        match self.stream(asking) {
            // Boxed, as what follows a log-out: every request's future is moved about, and these parts are seldom used.
            Some(stream) => Box::pin(self.offer_stream(&stream, asking, source, exchange)).await,
            None => self.offer_led(asking, source, exchange).await,
        }
    }

    /// 2. All that the request's head tells of its client.
    fn identify<'a>(
        &'a self,
        pool_index: usize,
        cookies: &cookie::Cookies,
        head: &'a request::Parts,
        client: &'a Client,
        origin: IpAddr,
        is_upgrade: bool,
    ) -> Asking<'a> {
        let pool = &self.site.pools[pool_index];
        let legacy = pool.legacy();
        let path = identity::path_of(canonical::below_base(&pool.pool.base_path, head.uri.path()), legacy);
        let identity = identity::identify(&head.uri, path, &head.headers, legacy);
        let cookie = cookies.read(&head.headers);
        let has_cookie = cookie.is_some() || cookies.is_sent(&head.headers);
        let keys = Keys { identity, cookie, has_cookie, address: origin };
        let endpoint = match Endpoint::of(&head.method, path) {
            Endpoint::Open if head.method == Method::POST && self.site.is_log_in(path) => Endpoint::LogIn,
            endpoint => endpoint,
        };
        let client_session = ClientSession::Unknown;
        Asking {
            pool,
            pool_index,
            head,
            path,
            client,
            origin,
            endpoint,
            is_upgrade,
            keys,
            client_session,
            target: Target::Home,
            may_be_done: AtomicBool::new(false),
        }
    }

    /// 4. The request as the pod gets it, with the token that the pod knows.
    fn outbound(&self, asking: &Asking<'_>, source: &Source, pod: &Pod, token: Option<&Token>) -> Request<Outbound> {
        let mut body = source.attempt();
        let waits = asking
            .head
            .headers
            .get(header::EXPECT)
            .is_some_and(|expect| expect.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        let ask = (waits && !http_body::Body::is_end_stream(&body)).then(|| body.wait_for_continue());
        let mut request = Request::new(body);
        *request.method_mut() = asking.head.method.clone();
        *request.uri_mut() = asking.target_now();
        *request.headers_mut() = asking.head.headers.clone();
        head::to_pod(request.headers_mut(), asking.client);
        cookie::take_out(request.headers_mut(), &self.site.cookie.name);
        translate(&mut request, asking, token);
        asking.for_pod(pod, &mut request);
        if let Some(ask) = ask {
            let ask = parking_lot::Mutex::new(Some(ask));
            hyper::ext::on_informational(&mut request, move |answer| {
                if answer.status() == http::StatusCode::CONTINUE
                    && let Some(ask) = ask.lock().take()
                {
                    // A body that is gone needs no word.
                    let _ = ask.send(());
                }
            });
        }
        request
    }

    /// 502 and 504 come from something on the way to Jellyfin, not from it.
    fn judge_health(&self, pod: &Pod, status: u16) {
        if matches!(status, 502 | 504) {
            health::gateway_failure(pod, &self.site.health);
        }
    }
}

/// Puts the token that the pod knows in the place of the client's, and none in the place of one that was ended.
fn translate<B>(request: &mut Request<B>, asking: &Asking<'_>, token: Option<&Token>) {
    let Some(own) = asking.keys.identity.token.as_deref().or(asking.keys.identity.hint.as_deref()) else { return };
    let mut uri = request.uri().clone();
    match (&asking.client_session, token) {
        (ClientSession::Ended, _) => {
            translation::translate(&mut uri, request.headers_mut(), |token| token == own, NO_TOKEN);
        }
        (ClientSession::Known(session), Some(token)) if token.as_str() != own => {
            translation::translate(&mut uri, request.headers_mut(), |other| session.has(other), token.as_str());
        }
        _ => return,
    }
    *request.uri_mut() = uri;
}

/// A token that no pod ever mints.
const NO_TOKEN: &str = "00000000000000000000000000000000";

/// 8. `Set-Cookie` when the binding changed, and never on an answer that a cache may show to others.
fn bind(headers: &mut HeaderMap, cookies: &cookie::Cookies, asking: &Asking<'_>, decision: &Decision) {
    let is_bound = asking.keys.cookie.is_some_and(|named| named.pod == decision.pod.id && named.is_current);
    if is_bound || asking.head.method == Method::OPTIONS || is_public(headers) {
        return;
    }
    if let Some(value) = cookies.bind(decision.pod.id, head::came_over_tls(&asking.head.headers, asking.client)) {
        headers.append(header::SET_COOKIE, value);
    }
}

fn is_public(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::CACHE_CONTROL).into_iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .any(|part| part.trim_ascii().eq_ignore_ascii_case(b"public"))
}

fn refuse_malformed(asked: Asked) -> Result<(), Refusal> {
    match asked {
        Asked::Malformed(why) => Err(Refusal::Malformed(why)),
        Asked::Answer | Asked::Socket => Ok(()),
    }
}
