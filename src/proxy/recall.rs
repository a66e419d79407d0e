//! 2. Identify: a client that is not known here may be known to another replica, or of an earlier run.

use super::{Asking, ClientSession, Proxy};
use crate::{affinity::pins::Kind, carryover::Found, pod::PodId};

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
            asking.client_session = match found {
                // Another pool's pods know nothing of it.
                Found::Living(session) if session.pool == asking.pool.pool.name => ClientSession::Known(session),
                Found::Dead => ClientSession::Ended,
                Found::Living(_) | Found::Unknown => ClientSession::Unknown,
            };
            if !matches!(asking.client_session, ClientSession::Unknown) {
                return;
            }
        }
        let device = || identity.device.as_deref().map(|device| (Kind::Device, device));
        let Some((kind, key)) = token.map(|token| (Kind::Token, token)).or_else(device) else { return };
        let is_alive = |id: PodId| asking.pool.pool.pods().iter().any(|pod| pod.id == id && pod.status().is_alive());
        self.site.pins.recall(kind, key, |home| is_alive(home.pod)).await;
    }

    /// Whether sessions are carried over at all.
    pub(super) fn carries_over(&self) -> bool {
        self.site.carryover.api_key.is_some()
    }
}
