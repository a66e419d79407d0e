//! Keeps an answered request so that the proxy can send it again.
//!
//! An answer may outlive its pod: a film half-way through, or an open WebSocket. The proxy then
//! asks another pod for the same thing, for the same client. The rules are those of the first time:
//! identify, decide, forward, judge.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, Request, request};

use super::Attempt;
use crate::{
    forward::{head::Client, outbound::ReplayBody},
    proxy::{
        Proxy, RequestContext, Target,
        request::{record::RequestRecord, refusal::Refusal},
    },
    sessions::{Device, Session, SessionLookup},
};

/// A copy of a request, owned by one worker.
pub(in crate::proxy) struct ReplayableRequest {
    proxy: Arc<Proxy>,
    saved_request: SavedRequest,
    target: Target,
}

/// The kept parts of a request. They include no body: a request with a body cannot be sent again
/// this way.
#[derive(Clone)]
pub(in crate::proxy) struct SavedRequest {
    pool: usize,
    head: request::Parts,
    client: Client,
    origin: IpAddr,
    is_upgrade: bool,
}

/// A pod's answer to a replayed request.
pub(in crate::proxy) struct ReplayedAnswer {
    pub(in crate::proxy) attempt: Attempt,
    /// Counts as load at the pod while it exists; keep it as long as the answer lasts. It writes no
    /// access line.
    pub(in crate::proxy) record: Box<RequestRecord>,
}

impl ReplayableRequest {
    /// Copies what is needed to send the request again.
    pub(in crate::proxy) fn new(proxy: &Arc<Proxy>, ctx: &RequestContext<'_>) -> ReplayableRequest {
        ReplayableRequest::from_saved(proxy, SavedRequest::new(ctx))
    }

    /// Lets this worker replay a request that another worker received.
    pub(in crate::proxy) fn from_saved(proxy: &Arc<Proxy>, saved_request: SavedRequest) -> ReplayableRequest {
        ReplayableRequest { proxy: proxy.clone(), saved_request, target: Target::Home }
    }

    /// Sends the request to the client's home, wherever its media runs.
    pub(in crate::proxy) fn toward_new_home(self) -> ReplayableRequest {
        ReplayableRequest { target: Target::NewHome, ..self }
    }

    pub(in crate::proxy) fn proxy(&self) -> &Arc<Proxy> {
        &self.proxy
    }

    /// The session of the request's token, as far as this process knows it.
    pub(in crate::proxy) fn session(&self) -> Option<Arc<Session>> {
        let known = self.saved_request.with_context(&self.proxy, |ctx| {
            let token = ctx.keys.identity.token.as_deref()?;
            match self.proxy.shared.sessions.find(token) {
                SessionLookup::Active(session) if session.pool == ctx.pool.pool.name => Some(session),
                SessionLookup::Active(_)
                | SessionLookup::Ended
                | SessionLookup::Unknown
                | SessionLookup::Unresolved => None,
            }
        });
        known.filter(|session| !session.is_ended())
    }

    /// What the client says about itself in the request; the session's log-in supplies the rest.
    pub(in crate::proxy) fn reported_by(&self, session: &Session) -> Device {
        self.saved_request.with_context(&self.proxy, |ctx| ctx.reported_by(session))
    }

    /// The header fields for the next replay: the client's own, until the caller changes them.
    pub(in crate::proxy) fn headers(&mut self) -> &mut HeaderMap {
        self.saved_request.headers()
    }

    /// Dispatches the request as if the client had just sent it, and learns from the answer. The
    /// same waits apply: `[timeouts] hold` and the first byte.
    ///
    /// # Errors
    /// The refusal that the client would have got.
    ///
    /// # Cancel safety
    /// Dropping the future ends the request at the pod.
    pub(in crate::proxy) async fn send(&self) -> Result<ReplayedAnswer, Refusal> {
        let SavedRequest { pool, head, client, origin, is_upgrade } = &self.saved_request;
        let mut record = RequestRecord::unlogged(self.proxy.clone(), *origin);
        let cookies = self.proxy.shared.pools[*pool].cookies.load_full();
        let mut ctx = self.proxy.identify(*pool, &cookies, head, client, *origin, *is_upgrade);
        ctx.target = self.target.clone();
        self.proxy.look_up_session(&mut ctx).await;
        let attempt = self.proxy.dispatch(&ctx, &ReplayBody::empty(), &mut record).await?;
        self.proxy.learn_from_head(
            &ctx,
            &attempt.decision,
            attempt.verdict,
            attempt.token.as_ref(),
            attempt.answer.status(),
        );
        Ok(ReplayedAnswer { attempt, record })
    }
}

impl SavedRequest {
    /// The client's address.
    pub(in crate::proxy) fn origin(&self) -> IpAddr {
        self.origin
    }

    pub(in crate::proxy) fn new(ctx: &RequestContext<'_>) -> SavedRequest {
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = ctx.head.method.clone();
        head.uri = ctx.head.uri.clone();
        head.version = ctx.head.version;
        head.headers = ctx.head.headers.clone();
        SavedRequest {
            pool: ctx.pool_index,
            head,
            client: ctx.client.clone(),
            origin: ctx.origin,
            is_upgrade: ctx.is_upgrade,
        }
    }

    /// The header fields for the next replay.
    pub(in crate::proxy) fn headers(&mut self) -> &mut HeaderMap {
        &mut self.head.headers
    }

    /// Calls `look` with the context that the request would have if it came now.
    pub(in crate::proxy) fn with_context<T>(&self, proxy: &Proxy, look: impl FnOnce(&RequestContext<'_>) -> T) -> T {
        let cookies = proxy.shared.pools[self.pool].cookies.load_full();
        look(&proxy.identify(self.pool, &cookies, &self.head, &self.client, self.origin, self.is_upgrade))
    }

    /// The pool's index in the shared state.
    pub(in crate::proxy) fn pool(&self) -> usize {
        self.pool
    }
}
