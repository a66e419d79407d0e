//! Finds tokens that this process does not know in the store.

use std::{sync::Arc, time::Duration};

use super::{
    comparer::Comparer,
    ends::Ends,
    keeper::Keeper,
    known::{KnownSessions, SessionLookup},
    record::{Records, StoredSession},
    replicas::Replicas,
    strangers::Strangers,
};
use crate::sessions::session_store::{Backend, StoredEnds, StoredEntry, StoredSessions};

/// How long jellypin does not ask about an unknown token again.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(60);

/// Looks tokens up in the store, and brings their sessions back into memory.
pub struct Lookup {
    pub(super) known: Arc<KnownSessions>,
    pub(super) keeper: Arc<Keeper>,
    pub(super) entries: Arc<StoredSessions>,
    pub(super) stored_ends: Arc<StoredEnds>,
    pub(super) records: Records,
    pub(super) ends: Arc<Ends>,
    pub(super) comparer: Arc<Comparer>,
    pub(super) replicas: Arc<Replicas>,
    pub(super) backend: Backend,
    /// Tokens that jellypin has just asked a pod about.
    pub strangers: Strangers,
}

impl Lookup {
    /// Looks a token up in the store, within the store's deadline.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn look_up(&self, token: &str) -> SessionLookup {
        if self.backend.is_shared() && !self.strangers.may_ask_about(token) {
            return SessionLookup::Unresolved;
        }
        self.look_up_again(token).await
    }

    /// The same, even if jellypin has just asked about this token.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn look_up_again(&self, token: &str) -> SessionLookup {
        match self.entries.find(token).await {
            Ok(Some(kept)) => self.resolve(token, kept).await,
            // Another replica may have kept it in a form that this one cannot read.
            Ok(None) if self.replicas.is_apart() => SessionLookup::Unresolved,
            Ok(None) => SessionLookup::Unknown,
            Err(_) => SessionLookup::Unresolved,
        }
    }

    /// What a token's entry says.
    pub(super) async fn resolve(&self, token: &str, kept: StoredEntry) -> SessionLookup {
        match kept {
            StoredEntry::Ended => {
                self.known.dead.remember(token);
                SessionLookup::Ended
            }
            StoredEntry::Session(plain) => match self.records.read(&plain) {
                Some(kept) => self.restore(token, kept).await,
                None => SessionLookup::Unknown,
            },
            StoredEntry::Restored(plain) => {
                let Some(kept) = self.records.read(&plain) else { return SessionLookup::Unknown };
                // Another replica may have changed it meanwhile; that is not known yet.
                kept.session.entry_lost_at.set(self.records.common.uptime.moment());
                self.restore(token, kept).await
            }
        }
    }

    /// Takes a stored session into memory, unless all of its user or device has ended since.
    async fn restore(&self, token: &str, kept: StoredSession) -> SessionLookup {
        let Ok(ended) = self.stored_ends.scope_ended_at(&kept.session).await else { return SessionLookup::Unresolved };
        if ended >= kept.session.tokens.born() {
            self.ends.end_session(&kept.session);
            return SessionLookup::Ended;
        }
        if let SessionLookup::Active(known) = self.known.find(token) {
            // Another request was quicker.
            self.comparer.merge(&known, &kept);
            return SessionLookup::Active(known);
        }
        let session = Arc::new(kept.session);
        if let Some(home) = kept.home {
            session.residence.restore_home(home, kept.moved);
        }
        self.keeper.take_in(&session);
        SessionLookup::Active(session)
    }
}
