//! 2. Identify: finds clients that only another replica or an earlier run of this one knows.

use std::{sync::Arc, time::Duration};

use tokio::time::{self, Instant};

use super::Attempt;
use crate::{
    affinity::pins::Kind,
    forward::outbound::ReplayBody,
    pod::PodId,
    proxy::{
        ClientSession, Proxy, RequestContext,
        request::{record::RequestRecord, refusal::Refusal},
    },
    sessions::SessionLookup,
};

/// The pause between two queries to a Redis that does not answer.
const ASK_AGAIN: Duration = Duration::from_millis(100);

impl Proxy {
    /// Finds the session of the client's token, and its pin. Queries Redis only if this process
    /// knows nothing, within the store's deadline, and never if nothing is shared. Looks up one key
    /// only: the token, or the device of a client without one.
    pub(in crate::proxy) async fn look_up_session(&self, ctx: &mut RequestContext<'_>) {
        let identity = &ctx.keys.identity;
        let token = identity.token.as_deref().or(identity.hint.as_deref());
        if let Some(token) = token.filter(|_| self.can_migrate()) {
            let found = match self.shared.sessions.find(token) {
                SessionLookup::Unknown => Box::pin(self.shared.sessions.look_up(token)).await,
                // Another replica may have ended the session, or moved it.
                SessionLookup::Active(session) if self.shared.sessions.needs_refresh(&session) => {
                    Box::pin(self.shared.sessions.refresh(&session)).await;
                    if session.is_ended() { SessionLookup::Ended } else { SessionLookup::Active(session) }
                }
                found => found,
            };
            ctx.client_session = ctx.session_of(found);
            if let ClientSession::Known(session) = &ctx.client_session {
                self.shared.sessions.is_heard(session);
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
                self.can_migrate() && token.is_some_and(|token| self.shared.sessions.may_ask_others(token))
            }
            ClientSession::Known(_) | ClientSession::Ended => false,
        }
    }

    /// Resolves a token that no pod knows, while another replica may know its session. Asks for up
    /// to `[timeouts] hold`, before the client learns that it must log in again.
    pub(in crate::proxy) async fn dispatch_once_resolved(
        self: &Arc<Self>,
        ctx: &mut RequestContext<'_>,
        replay_body: &ReplayBody,
        record: &mut RequestRecord,
        refused: Result<Attempt, Refusal>,
    ) -> Result<Attempt, Refusal> {
        let Some(token) = ctx.keys.identity.token.clone() else { return refused };
        let Some(_permit) = self.shared.hold_permit(ctx, replay_body).filter(|_| replay_body.can_replay()) else {
            return refused;
        };
        if !self.shared.budget.try_spend(ctx.origin, Instant::now()) {
            return refused;
        }
        let end = Instant::now() + self.shared.forward.hold;
        // Redis may have lost what another replica still knows.
        if matches!(ctx.client_session, ClientSession::Unknown) {
            match self.shared.sessions.ask_others(&token).await {
                SessionLookup::Unknown => return refused,
                found => ctx.client_session = ctx.session_of(found),
            }
        }
        let found = loop {
            let found = match self.shared.sessions.lookup_store(&token).await {
                SessionLookup::Unknown => self.shared.sessions.ask_others(&token).await,
                found => found,
            };
            match found {
                SessionLookup::Unresolved if Instant::now() < end && !self.shutdown.is_stopping() => {
                    time::sleep(ASK_AGAIN).await
                }
                found => break found,
            }
        };
        ctx.client_session = ctx.session_of(found);
        match &ctx.client_session {
            ClientSession::Unresolved => Err(ctx.store_unavailable()),
            ClientSession::Unknown if !self.home_is_away(ctx) => refused,
            _ => self.dispatch_by_kind(ctx, replay_body, record).await,
        }
    }

    /// Whether session migration is possible: it needs an API key.
    pub(in crate::proxy) fn can_migrate(&self) -> bool {
        self.shared.migration.api_key.is_some()
    }
}

impl RequestContext<'_> {
    fn session_of(&self, found: SessionLookup) -> ClientSession {
        match found {
            // Another pool's pods do not know this session.
            SessionLookup::Active(session) if session.pool == self.pool.pool.name => ClientSession::Known(session),
            SessionLookup::Ended => ClientSession::Ended,
            SessionLookup::Active(_) | SessionLookup::Unknown => ClientSession::Unknown,
            SessionLookup::Unresolved => ClientSession::Unresolved,
        }
    }
}
