//! A request that was answered already, by which the proxy can ask for it once more.
//!
//! An answer may outlive the pod that gave it: a film in the middle of its bytes, a WebSocket that is open. Then the proxy asks
//! another pod for the same thing, for the same client, by the same rules as the first time: identify, decide, forward, judge.

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

/// A request of which a copy is kept, by one worker.
pub(in crate::proxy) struct ReplayableRequest {
    proxy: Arc<Proxy>,
    saved_request: SavedRequest,
    target: Target,
}

/// What is kept of a request. It has no body: who wants to ask again for something with a body must not have sent it.
#[derive(Clone)]
pub(in crate::proxy) struct SavedRequest {
    pool: usize,
    head: request::Parts,
    client: Client,
    origin: IpAddr,
    is_upgrade: bool,
}

/// A pod's answer to a request that was made again.
pub(in crate::proxy) struct ReplayedAnswer {
    pub(in crate::proxy) attempt: Attempt,
    /// Counts at the pod for as long as it is kept, which should be as long as the answer lasts. It leaves no access line.
    pub(in crate::proxy) record: Box<RequestRecord>,
}

impl ReplayableRequest {
    /// Keeps a copy of what is needed to ask again.
    pub(in crate::proxy) fn new(proxy: &Arc<Proxy>, ctx: &RequestContext<'_>) -> ReplayableRequest {
        ReplayableRequest::from_saved(proxy, SavedRequest::new(ctx))
    }

    /// Asks in the place of the worker that was asked first.
    pub(in crate::proxy) fn from_saved(proxy: &Arc<Proxy>, saved_request: SavedRequest) -> ReplayableRequest {
        ReplayableRequest { proxy: proxy.clone(), saved_request, target: Target::Home }
    }

    /// Asks the client's home, wherever its media runs.
    pub(in crate::proxy) fn toward_new_home(self) -> ReplayableRequest {
        ReplayableRequest { target: Target::NewHome, ..self }
    }

    pub(in crate::proxy) fn proxy(&self) -> &Arc<Proxy> {
        &self.proxy
    }

    /// The session of its token, as far as this process knows it.
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

    /// What the client has said of itself with it, filled up by the session's log-in.
    pub(in crate::proxy) fn reported_by(&self, session: &Session) -> Device {
        self.saved_request.with_context(&self.proxy, |ctx| ctx.reported_by(session))
    }

    /// The fields that the next asking sends: the client's own, until they are changed.
    pub(in crate::proxy) fn headers(&mut self) -> &mut HeaderMap {
        self.saved_request.headers()
    }

    /// Offers the request to the pods, as if the client had made it just now, and learns from the answer. What such a request
    /// waits for (`[timeouts] hold`, the first byte) is waited for here too.
    ///
    /// # Errors
    /// What would have been said to the client.
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

    /// The fields that it is asked with.
    pub(in crate::proxy) fn headers(&mut self) -> &mut HeaderMap {
        &mut self.head.headers
    }

    /// Looks at it as at a request that has just come.
    pub(in crate::proxy) fn with_context<T>(&self, proxy: &Proxy, look: impl FnOnce(&RequestContext<'_>) -> T) -> T {
        let cookies = proxy.shared.pools[self.pool].cookies.load_full();
        look(&proxy.identify(self.pool, &cookies, &self.head, &self.client, self.origin, self.is_upgrade))
    }

    /// The pool's number among those of the site.
    pub(in crate::proxy) fn pool(&self) -> usize {
        self.pool
    }
}
