//! Step 2, identify: what a request's head says of its client, and whose session its token is.
//!
//! Another replica, or an earlier run of this one, may know a client that this process does not.

use std::{
    borrow::Cow,
    net::IpAddr,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use http::{Method, request};
use tokio::time::{self, Instant};

use super::{
    request::{
        context::{ClientSession, RequestContext, Routed, Target},
        refusal::Refusal,
        saved::SavedRequest,
        select::Keys,
    },
    selector::Selector,
    shared_state::{HoldPermit, SharedState},
    user_homes,
};
use crate::{
    affinity::{
        cookie::{Cookies, SentCookie},
        pins::Kind,
        placement::Loads,
    },
    forward::{head::Client, outbound::ReplayBody},
    jellyfin::{
        self, canonical,
        endpoint::{Endpoint, Scope},
    },
    pod::PodId,
    sessions::SessionLookup,
    shutdown::Shutdown,
};

/// The pause between two queries to a Redis that does not answer.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Finds out whose request it is.
pub(in crate::proxy) struct Identifier {
    shared: Arc<SharedState>,
    selector: Arc<Selector>,
    shutdown: Shutdown,
}

/// What follows when another replica may know a refused token.
pub(in crate::proxy) enum Resolved<'a> {
    /// The refusal stands.
    Refused,
    /// Nobody can say whether the token is dead.
    StoreUnavailable(Refusal),
    /// The request's session is known now, or may be: its pods decide. Keep the permit meanwhile.
    Dispatch(HoldPermit<'a>),
}

impl Identifier {
    pub(in crate::proxy) fn new(shared: Arc<SharedState>, selector: Arc<Selector>, shutdown: Shutdown) -> Identifier {
        Identifier { shared, selector, shutdown }
    }

    /// Collects what the request's head says about its client.
    pub(in crate::proxy) fn identify<'a>(
        &'a self,
        routed: Routed,
        cookies: &Cookies,
        head: &'a request::Parts,
        (client, origin): (&'a Client, IpAddr),
        is_upgrade: bool,
    ) -> RequestContext<'a> {
        let Routed { pool: pool_index, prefixes, legacy, endpoint } = routed;
        let pool = &self.shared.pools[pool_index];
        let path = jellyfin::controller_path(canonical::below_base(&pool.pool.base_path, head.uri.path()), prefixes);
        let identity = jellyfin::identify(&head.uri, path, &head.headers, legacy);
        let SentCookie { claim: cookie, is_sent: has_cookie } = cookies.read(&head.headers);
        let keys = Keys { identity, cookie, has_cookie, address: origin, user: None, loads: Loads::new() };
        let endpoint = match endpoint {
            Endpoint::Open if head.method == Method::POST && self.shared.is_log_in(path) => Endpoint::LogIn,
            endpoint => endpoint,
        };
        let (scope, duty) = Scope::with_duty(&head.method, path);
        RequestContext {
            pool,
            pool_index,
            head,
            path,
            client,
            origin,
            endpoint,
            act: scope.and_then(Scope::act),
            duty,
            is_upgrade,
            keys,
            client_session: ClientSession::Unknown,
            target: Target::Home,
            is_by_key: false,
            may_be_executed: AtomicBool::new(false),
        }
    }

    /// The context that a kept request has if it comes now.
    pub(in crate::proxy) fn identify_saved<'a>(
        &'a self,
        saved: &'a SavedRequest,
        cookies: &Cookies,
    ) -> RequestContext<'a> {
        let SavedRequest { pool, head, client, origin, is_upgrade } = saved;
        let state = &self.shared.pools[*pool];
        let (prefixes, legacy) = state.prefixes_and_legacy();
        let path = canonical::decoded_path(head.uri.path()).unwrap_or(Cow::Borrowed(head.uri.path()));
        let path = jellyfin::controller_path(canonical::below_base(&state.pool.base_path, &path), prefixes);
        let routed = Routed { pool: *pool, prefixes, legacy, endpoint: Endpoint::of(&head.method, path) };
        self.identify(routed, cookies, head, (client, *origin), *is_upgrade)
    }

    /// Calls `look` with the context that a kept request would have if it came now.
    pub(in crate::proxy) fn with_context<T>(
        &self,
        saved: &SavedRequest,
        look: impl FnOnce(&RequestContext<'_>) -> T,
    ) -> T {
        let cookies = self.shared.pools[saved.pool].cookies.load_full();
        look(&self.identify_saved(saved, &cookies))
    }

    /// Finds the session of the client's token, and its pin. Queries Redis only if this process
    /// knows nothing, within the store's deadline, and never if nothing is shared. Looks up one key
    /// only: the token, or the device of a client without one.
    pub(in crate::proxy) async fn look_up_session(&self, ctx: &mut RequestContext<'_>) {
        let identity = &ctx.keys.identity;
        let token = identity.token.as_deref().or(identity.hint.as_deref());
        if let Some(token) = token.filter(|_| self.shared.api_key().is_some()) {
            let found = match self.shared.sessions.known.find(token) {
                SessionLookup::Unknown => Box::pin(self.shared.sessions.lookup.look_up(token)).await,
                // Another replica may have ended the session, or moved it.
                SessionLookup::Active(session) if self.shared.sessions.comparer.needs_refresh(&session) => {
                    Box::pin(self.shared.sessions.comparer.refresh(&session)).await;
                    if session.is_ended() { SessionLookup::Ended } else { SessionLookup::Active(session) }
                }
                found => found,
            };
            ctx.client_session = session_of(ctx, found);
            if let ClientSession::Known(session) = &ctx.client_session {
                session.usage.record_heard();
                if user_homes::is_homeless(&ctx.pool.pool, session) {
                    Box::pin(user_homes::look_up(&self.shared, &ctx.pool.pool, &session.user)).await;
                }
            }
            if matches!(ctx.client_session, ClientSession::Known(_) | ClientSession::Ended) {
                return;
            }
        }
        let device = || identity.device.as_deref().map(|device| (Kind::Device, device));
        let Some((kind, key)) = token.map(|token| (Kind::Token, token)).or_else(device) else { return };
        let is_alive = |id: PodId| ctx.pool.pool.pods().iter().any(|pod| pod.id == id && pod.status().is_alive());
        self.shared.pins.look_up_stored(kind, key, |home| is_alive(home.pod)).await;
    }

    /// Whether another replica may know the session of this token, which neither this proxy nor any
    /// pod knows.
    pub(in crate::proxy) fn may_be_known_elsewhere(&self, ctx: &RequestContext<'_>) -> bool {
        match ctx.client_session {
            ClientSession::Unresolved => true,
            ClientSession::Unknown => {
                let token = ctx.keys.identity.token.as_deref();
                self.shared.api_key().is_some()
                    && token.is_some_and(|token| self.shared.sessions.other_replicas.may_be_asked_about(token))
            }
            ClientSession::Known(_) | ClientSession::Ended => false,
        }
    }

    /// Resolves a token that no pod knows, while another replica may know its session. Asks for up
    /// to `[timeouts] hold`, before the client learns that it must log in again.
    pub(in crate::proxy) async fn resolve(&self, ctx: &mut RequestContext<'_>, body: &ReplayBody) -> Resolved<'_> {
        let Some(token) = ctx.keys.identity.token.clone() else { return Resolved::Refused };
        let Some(permit) = self.shared.hold_permit(ctx, body).filter(|_| body.can_replay()) else {
            return Resolved::Refused;
        };
        if !self.shared.budget.try_spend(ctx.origin, Instant::now()) {
            return Resolved::Refused;
        }
        let end = Instant::now() + self.shared.forward.hold;
        // Redis may have lost what another replica still knows.
        if matches!(ctx.client_session, ClientSession::Unknown) {
            match self.shared.sessions.other_replicas.ask_about(&token).await {
                SessionLookup::Unknown => return Resolved::Refused,
                found => ctx.client_session = session_of(ctx, found),
            }
        }
        let found = loop {
            let found = match self.shared.sessions.lookup.look_up_again(&token).await {
                SessionLookup::Unknown => self.shared.sessions.other_replicas.ask_about(&token).await,
                found => found,
            };
            match found {
                SessionLookup::Unresolved if Instant::now() < end && !self.shutdown.is_stopping() => {
                    time::sleep(ASK_AGAIN).await
                }
                found => break found,
            }
        };
        ctx.client_session = session_of(ctx, found);
        match &ctx.client_session {
            ClientSession::Unresolved => Resolved::StoreUnavailable(Refusal::of_unknown_token(ctx.endpoint)),
            ClientSession::Unknown if !self.selector.home_is_away(ctx) => Resolved::Refused,
            _ => Resolved::Dispatch(permit),
        }
    }
}

/// The session that a look-up found, if it is of the request's pool.
fn session_of(ctx: &RequestContext<'_>, found: SessionLookup) -> ClientSession {
    match found {
        // Another pool's pods do not know this session.
        SessionLookup::Active(session) if session.pool == ctx.pool.pool.name => ClientSession::Known(session),
        SessionLookup::Ended => ClientSession::Ended,
        SessionLookup::Active(_) | SessionLookup::Unknown => ClientSession::Unknown,
        SessionLookup::Unresolved => ClientSession::Unresolved,
    }
}
