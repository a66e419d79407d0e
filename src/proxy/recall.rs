//! 2. Identify: a client that is not known here may be known to another replica, or of an earlier run.

use std::{sync::Arc, time::Duration};

use tokio::time::{self, Instant};

use super::{Asking, ClientSession, Proxy, exchange::Exchange, offer::Offered, reply::Refusal};
use crate::{affinity::pins::Kind, carryover::Found, forward::outbound::Source, pod::PodId};

/// Between two questions to a Redis that does not answer.
const ASK_AGAIN: Duration = Duration::from_millis(100);

impl Proxy {
    /// Finds the session of the client's token, and its pin. Asks Redis only where this process knows nothing, with the store's
    /// deadline, and not at all where nothing is shared. The most telling key is asked for: the token, or the device of a
    /// client that has none yet.
    pub(super) async fn recall(&self, asking: &mut Asking<'_>) {
        let identity = &asking.keys.identity;
        let token = identity.token.as_deref().or(identity.hint.as_deref());
        if let Some(token) = token.filter(|_| self.carries_over()) {
            let found = match self.site.sessions.find(token) {
                Found::Unknown => Box::pin(self.site.sessions.recall(token)).await,
                // Another replica may have ended it, or moved it.
                Found::Living(session) if self.site.sessions.is_due(&session) => {
                    Box::pin(self.site.sessions.refresh(&session)).await;
                    if session.is_dead() { Found::Dead } else { Found::Living(session) }
                }
                found => found,
            };
            asking.client_session = asking.session_of(found);
            if let ClientSession::Known(session) = &asking.client_session {
                self.site.sessions.is_heard(session);
            }
            if matches!(asking.client_session, ClientSession::Known(_) | ClientSession::Ended) {
                return;
            }
        }
        let device = || identity.device.as_deref().map(|device| (Kind::Device, device));
        let Some((kind, key)) = token.map(|token| (Kind::Token, token)).or_else(device) else { return };
        let is_alive = |id: PodId| asking.pool.pool.pods().iter().any(|pod| pod.id == id && pod.status().is_alive());
        self.site.pins.recall(kind, key, |home| is_alive(home.pod)).await;
    }

    /// Whether another replica may know the session of this token, which no pod and not this proxy knows.
    pub(super) fn may_be_known_elsewhere(&self, asking: &Asking<'_>) -> bool {
        match asking.client_session {
            ClientSession::Untold => true,
            ClientSession::Unknown => {
                let token = asking.keys.identity.token.as_deref();
                self.carries_over() && token.is_some_and(|token| self.site.sessions.may_ask_others(token))
            }
            ClientSession::Known(_) | ClientSession::Ended => false,
        }
    }

    /// No pod knows this token, and Redis has not said whether another replica knows its session: before the client hears that he
    /// is to log in again, it is asked for as long as a request is held.
    pub(super) async fn offer_once_told(
        self: &Arc<Self>,
        asking: &mut Asking<'_>,
        source: &Source,
        exchange: &mut Exchange,
        refused: Result<Offered, Refusal>,
    ) -> Result<Offered, Refusal> {
        let Some(token) = asking.keys.identity.token.clone() else { return refused };
        let Some(_permit) = self.site.hold_permit(source).filter(|_| source.can_replay()) else { return refused };
        if !self.site.budget.spend(asking.origin, Instant::now()) {
            return refused;
        }
        let end = Instant::now() + self.site.forward.hold;
        // Redis may have lost what another replica still knows.
        if matches!(asking.client_session, ClientSession::Unknown) {
            match self.site.sessions.ask_others(&token).await {
                Found::Unknown => return refused,
                found => asking.client_session = asking.session_of(found),
            }
        }
        let found = loop {
            let found = match self.site.sessions.ask_for(&token).await {
                Found::Unknown => self.site.sessions.ask_others(&token).await,
                found => found,
            };
            match found {
                Found::Untold if Instant::now() < end && !self.shutdown.is_stopping() => time::sleep(ASK_AGAIN).await,
                found => break found,
            }
        };
        asking.client_session = asking.session_of(found);
        match &asking.client_session {
            ClientSession::Untold => Err(asking.undecided()),
            ClientSession::Unknown if !self.home_is_away(asking) => refused,
            _ => self.offer_its_way(asking, source, exchange).await,
        }
    }

    /// Whether sessions are carried over at all.
    pub(super) fn carries_over(&self) -> bool {
        self.site.carryover.api_key.is_some()
    }
}

impl Asking<'_> {
    fn session_of(&self, found: Found) -> ClientSession {
        match found {
            // Another pool's pods know nothing of it.
            Found::Living(session) if session.pool == self.pool.pool.name => ClientSession::Known(session),
            Found::Dead => ClientSession::Ended,
            Found::Living(_) | Found::Unknown => ClientSession::Unknown,
            Found::Untold => ClientSession::Untold,
        }
    }
}
