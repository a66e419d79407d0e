//! The request path, from top to bottom.
//!
//! [`Proxy::handle`] is the function to read first: route, identify, decide, rewrite, forward,
//! judge, learn, bind, observe. Only this module combines what the modules below it know of pods,
//! clients and Jellyfin.

mod dispatch;
mod failover;
mod learn;
mod log_in;
mod metric_handles;
pub mod migrate;
mod pod_client;
mod pod_lifecycle;
mod request;
mod response;
mod revoke;
mod shared_state;
mod unread;
mod visit;

use std::{
    borrow::Cow,
    net::IpAddr,
    sync::{Arc, atomic::AtomicBool},
};

use http::{HeaderMap, Method, Request, Response, header};
use hyper::body::Incoming;
use tokio::sync::Semaphore;

pub use failover::live::streams::Streams;
pub use failover::socket::ConnectionPermit;
pub use pod_lifecycle::{ALL_ARE_LOCAL, MissingRequirement};
pub use request::refusal::Aborted;
pub use response::body::Body;
pub use shared_state::{HELD, HELD_KIB, PoolState, SharedState};
pub use unread::Unread;

use crate::{
    affinity::cookie,
    forward::{
        Forward,
        head::{self, Client},
        outbound::{ReplayBody, UpstreamBody},
    },
    health,
    jellyfin::{
        self, canonical,
        endpoint::{Endpoint, Revocation},
        translation,
    },
    limits::{Exceeded, Kind, Permit},
    observe::{access, metrics::Metrics},
    pod::Pod,
    sessions::Token,
    shutdown::Shutdown,
    websocket::handshake::{self, UpgradeKind},
};
use dispatch::{Attempt, is_refused, replay::ReplayableRequest};
use failover::resume::ResumableFile;
use metric_handles::MetricHandles;
use pod_client::PodClient;
use request::{
    context::{ClientSession, RequestContext, Target},
    normalize::normalize,
    record::{Outcome, RequestRecord},
    refusal::Refusal,
    select::{Decision, Keys},
};

/// One worker's request path.
pub struct Proxy {
    shared: Arc<SharedState>,
    forward: Arc<Forward>,
    pods: PodClient,
    access: access::Worker,
    metrics: Metrics,
    metric_handles: MetricHandles,
    /// Limits concurrent WebSocket re-attachments.
    reattach_permits: Semaphore,
    shutdown: Shutdown,
}

impl Proxy {
    pub fn new(shared: Arc<SharedState>, access: access::Worker, metrics: Metrics, shutdown: Shutdown) -> Arc<Proxy> {
        let forward = Arc::new(Forward::new(shared.forward.clone()));
        let pods = PodClient::new(forward.clone());
        let metric_handles = MetricHandles::new(metrics.clone());
        let reattach_permits = Semaphore::new(failover::socket::AT_ONCE);
        Arc::new(Proxy { shared, forward, pods, access, metrics, metric_handles, reattach_permits, shutdown })
    }

    /// The pools that this proxy serves.
    pub fn pools(&self) -> &[PoolState] {
        &self.shared.pools
    }

    /// Hands the pending access lines to the log's writer.
    pub fn flush_log(&self) {
        self.access.flush();
    }

    /// Counts a request against the limits, and also its socket if it asks for one. The request's
    /// permit lasts until the answer's last byte, the socket's as long as the socket.
    pub fn admit<B>(&self, request: &Request<B>, client: &Client) -> Result<(Permit, Option<Permit>), Exceeded> {
        let origin = head::origin(request.headers(), client);
        let in_use = self.shared.in_use_by(client, origin);
        let limits = &self.shared.limits;
        let is_upgrade = request.headers().contains_key(header::UPGRADE);
        let of_request = limits.take(Kind::Requests, in_use.as_ref())?;
        let of_socket = if is_upgrade { Some(limits.take(Kind::Sockets, in_use.as_ref())?) } else { None };
        Ok((of_request, of_socket))
    }

    /// Counts that a client's connection exceeded its own limit.
    pub fn exceeded(&self, kind: Kind, client: &Client) {
        self.shared.limits.exceeded(kind, crate::limits::Scope::Connection, Some(client.address));
    }

    /// Answers a request in its own task, so that it finishes even if the client leaves. Requests
    /// that [`Proxy::may_revoke`] matches need this.
    ///
    /// # Errors
    /// As [`Proxy::handle`].
    pub async fn handle_detached(
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
    /// [`Aborted`] if sending no answer is better than any: the caller must break off the
    /// connection.
    ///
    /// # Cancel safety
    /// The future is dropped when the client leaves; that also ends the request at the pod.
    pub async fn handle(
        self: Arc<Self>,
        mut request: Request<Incoming>,
        client: &Client,
    ) -> Result<Response<Body>, Aborted> {
        let origin = head::origin(request.headers(), client);
        let mut record = RequestRecord::new(self.clone(), &request, origin);
        let asked = handshake::asked(&request);
        let opening = (asked == UpgradeKind::Socket).then(|| hyper::upgrade::on(&mut request));
        let (mut head, body) = request.into_parts();
        let permit = head.extensions.remove::<ConnectionPermit>();
        let exceeded = head.extensions.remove::<Exceeded>();
        let replay_body = ReplayBody::new(body, self.shared.forward.replay_bytes);
        record.replay_body = replay_body.clone();
        if let Some(exceeded) = exceeded {
            return record.into_refusal(Refusal::Limited(exceeded.scope));
        }

        // 1. Route.
        if let Err(refusal) = normalize(&mut head).and_then(|()| refuse_malformed(asked)) {
            return record.into_refusal(refusal);
        }
        let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let path = canonical::decoded_path(head.uri.path()).unwrap_or(Cow::Borrowed(head.uri.path()));
        let Some(route) = self.shared.router.find(host, &path) else {
            return record.into_refusal(Refusal::NoRoute);
        };
        let pool = &self.shared.pools[route.pool];
        record.set_route(&route.name, &pool.pool);
        if let Err(ambiguity) =
            canonical::canonicalize(&mut head, &pool.pool.base_path, pool.legacy(), opening.is_some())
        {
            return record.into_refusal(Refusal::Ambiguous(ambiguity));
        }

        // 2. Identify.
        let cookies = pool.cookies.load();
        let mut ctx = self.identify(route.pool, &cookies, &head, client, origin, opening.is_some());
        self.look_up_session(&mut ctx).await;

        // The log-in brake limits failed log-ins by password.
        let log_in = match self.log_in_to_brake(&ctx) {
            Some(by) => match Box::pin(self.begin_log_in(by, &ctx, &replay_body)).await {
                Ok(log_in) => Some(log_in),
                Err(refusal) => return record.into_refusal(refusal),
            },
            None => None,
        };

        // A log-out ends the session even if no pod can be reached.
        if self.is_log_out(&ctx) {
            return Ok(Box::pin(self.log_out(&ctx, record)).await);
        }

        // 3.–5. Decide, rewrite, forward: `dispatch` does this for one pod after the other.
        if let Some(opening) = opening {
            // Boxed: this path is rare, and would make every request's future larger.
            return Box::pin(self.open_socket(ctx, (opening, permit), &cookies, record)).await;
        }
        // 6. Judge: if one pod does not know the client's token, `dispatch` tries the others.
        let mut attempt = self.dispatch_by_kind(&ctx, &replay_body, &mut record).await;
        if is_refused(&attempt) && self.may_be_known_elsewhere(&ctx) {
            attempt = Box::pin(self.dispatch_once_resolved(&mut ctx, &replay_body, &mut record, attempt)).await;
        }
        if let Some(log_in) = log_in {
            self.log_in_ended(log_in, &ctx, attempt.as_ref().ok().map(|attempt| attempt.answer.status()));
        }
        let attempt = match attempt {
            Ok(attempt) => attempt,
            Err(refusal) => return record.into_refusal(refusal),
        };
        let ((mut answer, body), decision) = (attempt.answer.into_parts(), attempt.decision);

        // 7. Learn, or forget.
        if let Some(ended) = revoke::revocation_of(&ctx, answer.status) {
            let answered = (answer.status, attempt.token.as_ref());
            let told =
                Box::pin(self.revoke_everywhere(&ctx, ended, answered, &replay_body, &decision, &mut record)).await;
            if let Some(status) = told {
                // The combined status of all pods says more than that of the client's pod.
                answer.status = status;
                record.set_status(status.as_u16());
                revoke::strip(&mut answer.headers);
                return Ok(record.into_answer_with(answer, Body::empty()));
            }
        }
        self.learn_from_head(&ctx, &decision, attempt.verdict, attempt.token.as_ref(), answer.status);
        self.record_client_state(&ctx, &replay_body, &decision.pod, answer.status);
        self.forget_ended_streams(&ctx, answer.status);
        let learning = self.scan_body(&ctx, &decision, &answer);

        // 8. Bind, and show one server.
        head::to_client(&mut answer.headers);
        let binds_nobody = matches!(
            ctx.endpoint,
            Endpoint::AnonymousMedia | Endpoint::QuickConnect | Endpoint::SignOn | Endpoint::Clock
        );
        let binds_nobody = binds_nobody || (ctx.endpoint != Endpoint::LogIn && self.shared.is_leaders(ctx.path));
        if !binds_nobody {
            bind(&mut answer.headers, &cookies, &ctx, &decision);
        }

        // 9. Observe: the record travels with the body and is written when the body ends. A file's
        // answer continues on another pod if its own fails.
        if let Some(file) =
            failover::resume::File::of(ctx.endpoint, &ctx.head.method, &answer).filter(|_| learning.is_none())
        {
            let resuming = ResumableFile::new(file, body, &decision, ReplayableRequest::new(&self, &ctx));
            return Ok(record.into_answer_with(answer, Body::resuming(resuming)));
        }
        let shown = if ctx.is_live_playlist() {
            Box::pin(self.show_playlist(&ctx, &decision, &mut answer, body, learning)).await
        } else {
            self.rewrite_for_client(&ctx, &mut answer, body, learning).await
        };
        let Ok(body) = shown else {
            record.set_outcome(Outcome::PodBroke);
            return Err(Aborted);
        };
        Ok(record.into_answer_with(answer, body))
    }

    /// Whether the request may end sessions other than its caller's, in any pool. Its pod may do so
    /// even if the client leaves, and the other pods must then be notified.
    pub fn may_revoke<B>(&self, request: &Request<B>) -> bool {
        let (method, uri) = (request.method(), request.uri());
        let Ok(decoded) = canonical::decoded_path(uri.path()) else { return false };
        let ends = |shared: &PoolState| {
            let path =
                jellyfin::controller_path(canonical::below_base(&shared.pool.base_path, &decoded), shared.legacy());
            Revocation::of(method, path, uri.query().unwrap_or_default()).is_some()
        };
        (*method == Method::POST || *method == Method::DELETE) && self.shared.pools.iter().any(ends)
    }

    async fn dispatch_by_kind(
        self: &Arc<Self>,
        ctx: &RequestContext<'_>,
        replay_body: &ReplayBody,
        record: &mut RequestRecord,
    ) -> Result<Attempt, Refusal> {
        match self.live_stream(ctx) {
            // Boxed: this path is rare, and would make every request's future larger.
            Some(stream) => Box::pin(self.dispatch_live(&stream, ctx, replay_body, record)).await,
            None => self.dispatch_via_leader(ctx, replay_body, record).await,
        }
    }

    /// 2. Collects what the request's head says about its client.
    fn identify<'a>(
        &'a self,
        pool_index: usize,
        cookies: &cookie::Cookies,
        head: &'a http::request::Parts,
        client: &'a Client,
        origin: IpAddr,
        is_upgrade: bool,
    ) -> RequestContext<'a> {
        let pool = &self.shared.pools[pool_index];
        let legacy = pool.legacy();
        let path = jellyfin::controller_path(canonical::below_base(&pool.pool.base_path, head.uri.path()), legacy);
        let identity = jellyfin::identify(&head.uri, path, &head.headers, legacy);
        let cookie = cookies.read(&head.headers);
        let has_cookie = cookie.is_some() || cookies.is_sent(&head.headers);
        let keys = Keys { identity, cookie, has_cookie, address: origin };
        let endpoint = match Endpoint::of(&head.method, path) {
            Endpoint::Open if head.method == Method::POST && self.shared.is_log_in(path) => Endpoint::LogIn,
            endpoint => endpoint,
        };
        let client_session = ClientSession::Unknown;
        RequestContext {
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
            may_be_executed: AtomicBool::new(false),
        }
    }

    /// 4. Builds the request for the pod, with the token that the pod knows.
    fn upstream_request(
        &self,
        ctx: &RequestContext<'_>,
        replay_body: &ReplayBody,
        pod: &Pod,
        token: Option<&Token>,
    ) -> Request<UpstreamBody> {
        let mut body = replay_body.new_attempt();
        let waits = ctx
            .head
            .headers
            .get(header::EXPECT)
            .is_some_and(|expect| expect.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        let ask = (waits && !http_body::Body::is_end_stream(&body)).then(|| body.wait_for_continue());
        let mut request = Request::new(body);
        *request.method_mut() = ctx.head.method.clone();
        *request.uri_mut() = ctx.current_target();
        *request.headers_mut() = ctx.head.headers.clone();
        head::to_pod(request.headers_mut(), ctx.client);
        cookie::strip(request.headers_mut(), &self.shared.cookie.name);
        translate(&mut request, ctx, token);
        ctx.rewrite_for_pod(pod, &mut request);
        if let Some(ask) = ask {
            let ask = parking_lot::Mutex::new(Some(ask));
            hyper::ext::on_informational(&mut request, move |answer| {
                if answer.status() == http::StatusCode::CONTINUE
                    && let Some(ask) = ask.lock().take()
                {
                    // If the body is gone, nobody waits for the signal.
                    let _ = ask.send(());
                }
            });
        }
        request
    }

    /// Jellyfin itself never answers 502 or 504: a gateway in front of it does.
    fn judge_health(&self, pod: &Pod, status: u16) {
        if matches!(status, 502 | 504) {
            health::gateway_failure(pod, &self.shared.health);
        }
    }
}

/// Replaces the client's token with the one that the pod knows, and an ended one with [`NO_TOKEN`].
fn translate<B>(request: &mut Request<B>, ctx: &RequestContext<'_>, token: Option<&Token>) {
    let Some(own) = ctx.keys.identity.token.as_deref().or(ctx.keys.identity.hint.as_deref()) else { return };
    let mut uri = request.uri().clone();
    match (&ctx.client_session, token) {
        (ClientSession::Ended, _) => {
            translation::translate(&mut uri, request.headers_mut(), |token| token == own, NO_TOKEN);
        }
        (ClientSession::Known(session), Some(token)) if token.as_str() != own => {
            translation::translate(&mut uri, request.headers_mut(), |other| session.has_token(other), token.as_str());
        }
        _ => return,
    }
    *request.uri_mut() = uri;
}

/// A token that no pod ever mints.
const NO_TOKEN: &str = "00000000000000000000000000000000";

/// 8. Adds `Set-Cookie` if the binding changed, but never to an answer that a cache may share.
fn bind(headers: &mut HeaderMap, cookies: &cookie::Cookies, ctx: &RequestContext<'_>, decision: &Decision) {
    let is_bound = ctx.keys.cookie.is_some_and(|named| named.pod == decision.pod.id && named.is_current);
    if is_bound || ctx.head.method == Method::OPTIONS || is_public(headers) {
        return;
    }
    if let Some(value) = cookies.bind(decision.pod.id, head::is_https(&ctx.head.headers, ctx.client)) {
        headers.append(header::SET_COOKIE, value);
    }
}

fn is_public(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::CACHE_CONTROL).into_iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .any(|part| part.trim_ascii().eq_ignore_ascii_case(b"public"))
}

fn refuse_malformed(asked: UpgradeKind) -> Result<(), Refusal> {
    match asked {
        UpgradeKind::Malformed(why) => Err(Refusal::Malformed(why)),
        UpgradeKind::Answer | UpgradeKind::Socket => Ok(()),
    }
}
