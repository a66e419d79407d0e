//! Sessions that begin: by a log-in, or when a pod accepts an unknown token.

use std::sync::Arc;

use super::{
    capabilities::Capabilities,
    ends::Ends,
    keeper::Keeper,
    known::{KnownSessions, SessionLookup},
    lookup::Lookup,
    pending_logouts::PendingLogouts,
};
use crate::{
    pod::{Pod, PodInstance},
    sessions::{
        Session, Token, plain_id,
        session::{Common, Device, MoveReason},
        session_store::StoredSessions,
    },
};

/// Begins sessions.
pub struct LogIns {
    pub(super) known: Arc<KnownSessions>,
    pub(super) keeper: Arc<Keeper>,
    pub(super) entries: Arc<StoredSessions>,
    pub(super) lookup: Arc<Lookup>,
    pub(super) ends: Arc<Ends>,
    pub(super) pending_logouts: Arc<PendingLogouts>,
    pub(super) capabilities: Arc<Capabilities>,
    pub(super) common: Common,
}

impl LogIns {
    /// Records that a log-in made this token. Ends the user's earlier session on the device, as the
    /// pod has done. Gives the tokens that jellypin dropped because the user has too many.
    pub fn record(&self, pod: &Pod, user: &str, device: Device, token: &str) -> Vec<Token> {
        match self.known.find(token) {
            SessionLookup::Active(known) => {
                known.residence.record_home(PodInstance::of(pod), token, || MoveReason::First);
            }
            SessionLookup::Ended => {}
            SessionLookup::Unknown | SessionLookup::Unresolved => {
                let session = self.new_session(pod, user, device, token);
                let before = self.known.of_device(&session.pool, &session.user, &session.device.id);
                if let Some(before) = before {
                    let known_there = before.token_at(PodInstance::of(pod));
                    self.ends.end_session(&before);
                    known_there.iter().for_each(|token| self.pending_logouts.confirm(token.as_str()));
                }
                let gone = self.keeper.take_in(&session);
                self.keeper.persist(&session);
                return gone;
            }
        }
        Vec::new()
    }

    /// Records that a pod accepted an unknown token. An entry in the store takes precedence.
    pub async fn record_seen(&self, pod: &Pod, user: &str, device: Device, token: &str) {
        let kept = self.entries.find(token).await;
        if !matches!(self.known.find(token), SessionLookup::Unknown) {
            return;
        }
        if let Ok(Some(kept)) = kept {
            drop(self.lookup.resolve(token, kept).await);
            return;
        }
        let session = self.new_session(pod, user, device, token);
        self.keeper.take_in(&session);
        self.capabilities.adopt(&session, token);
        match kept {
            Ok(_) => self.keeper.persist(&session),
            // Compared with the store before it is trusted again, and kept only then.
            Err(_) => session.compared_at.set(0),
        }
    }

    /// A session that begins on this pod, by a request of its client.
    fn new_session(&self, pod: &Pod, user: &str, device: Device, token: &str) -> Arc<Session> {
        let common = self.common.clone();
        let session = Session::begun(common, pod.pool.clone(), plain_id(user), device, Token::new(token));
        session.residence.record_home(PodInstance::of(pod), token, || MoveReason::First);
        session.usage.record_heard();
        Arc::new(session)
    }
}
