//! Asks the other replicas about a token. Before jellypin refuses one as unknown, it asks them: one
//! of them may know what Redis has lost.

use std::{sync::Arc, time::Duration};

use tokio::time;

use super::{
    channel::{Query, ReplicaChannel},
    keyed_hash::KeyedHash,
    known::SessionLookup,
    lookup::Lookup,
    replicas::Replicas,
    strangers::Strangers,
};
use crate::sessions::session_store::{Backend, StoredSessions};

/// The longest wait for the others' answers, and so for a replica that died without telling Redis.
const THERE: Duration = Duration::from_secs(1);

/// How long jellypin does not ask the others again about a token that none of them knew.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(10);

/// Finds what only another replica knows.
pub struct OtherReplicas {
    pub(super) lookup: Arc<Lookup>,
    pub(super) entries: Arc<StoredSessions>,
    pub(super) channel: Arc<ReplicaChannel>,
    pub(super) replicas: Arc<Replicas>,
    pub(super) hash: KeyedHash,
    pub(super) backend: Backend,
    /// Tokens that no replica knew.
    pub(super) unknown: Strangers,
}

impl OtherReplicas {
    /// Whether there are other replicas that jellypin has not just asked about this token.
    pub fn may_be_asked_about(&self, token: &str) -> bool {
        self.backend.is_shared() && self.replicas.has_others() && self.unknown.may_ask_about(token)
    }

    /// Asks the other replicas about a token that neither this one nor Redis knows. A replica that
    /// knows it writes it into Redis again.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn ask_about(&self, token: &str) -> SessionLookup {
        if !self.may_be_asked_about(token) {
            return SessionLookup::Unknown;
        }
        let parts = [token];
        let stored = self.entries.names(token).into_iter().map(u128::from_be_bytes);
        // The others find a token by their newest key, which may be one of the older keys here.
        let names = stored.chain(self.hash.under_all(&parts));
        // A replica of an earlier version listens, but neither announces itself nor answers.
        let answering = |listeners: usize| listeners.min(self.replicas.count() + 1);
        match time::timeout(THERE, self.channel.ask_replicas(Query::Whose, names, answering)).await {
            Ok(Some(1)) => self.unknown.record_asked(token),
            // A replica that has not answered may know it.
            Ok(None) | Err(_) => return SessionLookup::Unresolved,
            Ok(Some(_)) => {
                let found = self.lookup.look_up_again(token).await;
                if !matches!(found, SessionLookup::Unknown) {
                    return found;
                }
                self.unknown.record_asked(token);
            }
        }
        SessionLookup::Unknown
    }
}
