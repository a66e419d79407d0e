//! Keeps sessions in the store, and notifies the other replicas of each change.

use std::sync::Arc;

use super::{channel::ReplicaChannel, known::KnownSessions, record::Records};
use crate::sessions::{
    Owner, Session, Token,
    session_store::{Backend, StoredSessions},
};

/// Keeps what is known of a session.
pub struct Keeper {
    pub(super) known: Arc<KnownSessions>,
    pub(super) entries: Arc<StoredSessions>,
    pub(super) records: Records,
    pub(super) channel: Arc<ReplicaChannel>,
    pub(super) backend: Backend,
}

impl Keeper {
    /// Queues a session to be kept in the store, and notifies the other replicas.
    pub fn persist(&self, session: &Session) {
        if session.is_ended() {
            return;
        }
        session.tokens.bump_revision();
        let plain = self.records.write(session);
        let tokens = session.tokens.all();
        for minted in &tokens {
            self.entries.put(minted.token.as_str(), &plain);
        }
        // It ended at this very moment: take out again what was written.
        if session.is_ended() {
            let (owner, at) = (Owner::User(&session.user), self.backend.clock.now());
            tokens.iter().for_each(|minted| self.entries.end(minted.token.as_str(), owner, at));
        }
        if let Some(own) = session.tokens.own() {
            self.channel.token_changed(own.as_str());
        }
    }

    /// Keeps a session whose tokens have changed. Waits for a bounded time until that is safe, and
    /// says whether it is.
    pub async fn persist_and_flush(&self, session: &Arc<Session>) -> bool {
        self.take_in(session);
        self.persist(session);
        self.flush().await
    }

    /// Waits for a bounded time until all that was queued is kept. Says whether it is.
    pub async fn flush(&self) -> bool {
        self.backend.flush().await
    }

    /// Takes a session into memory. Gives the tokens of its user's sessions that had to make room,
    /// with their entries.
    pub(super) fn take_in(&self, session: &Arc<Session>) -> Vec<Token> {
        let gone = self.known.insert(session);
        let tokens: Vec<Token> =
            gone.iter().flat_map(|session| session.tokens.all()).map(|minted| minted.token).collect();
        tokens.iter().for_each(|token| self.entries.forget(token.as_str()));
        tokens
    }
}
