//! Ends sessions for good: here, in the store, and at the other replicas.

use std::sync::Arc;

use super::{channel::ReplicaChannel, keeper::Keeper, known::KnownSessions, pending_logouts::PendingLogouts};
use crate::{
    sessions::{
        Owner, Session, UnixMillis, plain_id,
        session_store::{EndScope, StoredEnds, StoredSessions},
    },
    store::clock::Clock,
};

/// Ends tokens, sessions, and all of a user or a device.
pub struct Ends {
    pub(super) known: Arc<KnownSessions>,
    pub(super) keeper: Arc<Keeper>,
    pub(super) entries: Arc<StoredSessions>,
    pub(super) stored: Arc<StoredEnds>,
    pub(super) pending_logouts: Arc<PendingLogouts>,
    pub(super) channel: Arc<ReplicaChannel>,
    pub(super) clock: Clock,
}

impl Ends {
    /// Ends a session for ever.
    pub fn end_session(&self, session: &Session) {
        session.mark_ended();
        for minted in session.tokens.all() {
            self.end_token(&session.pool, Owner::User(&session.user), minted.token.as_str());
        }
        self.known.remove(session);
    }

    /// Ends a token for ever. `owner` is charged for its tombstone.
    pub fn end_token(&self, pool: &Arc<str>, owner: Owner<'_>, token: &str) {
        self.entries.end(token, owner, self.clock.now());
        self.pending_logouts.add(pool, token);
        self.channel.token_changed(token);
        self.known.end_token(token);
    }

    /// Ends every session of a pool's user but one, here and in the store. Gives those known here.
    pub fn end_user(&self, pool: &str, user: &str, but: Option<&Arc<Session>>) -> Vec<Arc<Session>> {
        let user = plain_id(user);
        let at = self.clock.now();
        let is_his = |session: &Session| session.user == user && *session.pool == *pool;
        // Persisted before the end: a reader in between must not find the end without this session.
        if let Some(spared) = but.filter(|spared| is_his(spared)) {
            spared.tokens.set_born(at + 1);
            self.keeper.persist(spared);
        }
        let ended = self.end_all(|session| is_his(session) && !but.is_some_and(|but| Arc::ptr_eq(but, session)));
        self.end_scope(EndScope::User, pool, &user, at);
        ended
    }

    /// Ends every session on a pool's device, here and in the store. Gives those known here.
    pub fn end_device(&self, pool: &str, device: &str) -> Vec<Arc<Session>> {
        let ended = self.end_all(|session| session.device.id == device && *session.pool == *pool);
        self.end_scope(EndScope::Device, pool, device, self.clock.now());
        ended
    }

    /// When all sessions of a pool's user were last ended, here or at another replica.
    pub async fn user_ended_at(&self, pool: &str, user: &str) -> UnixMillis {
        self.stored.user_ended_at(pool, &plain_id(user)).await
    }

    /// Tombstones that this replica knows.
    pub fn count(&self) -> usize {
        self.stored.count()
    }

    fn end_scope(&self, scope: EndScope, pool: &str, id: &str, at: UnixMillis) {
        self.channel.scope_ended(scope, &self.stored.end_scope(scope, pool, id, at));
    }

    fn end_all(&self, is_meant: impl Fn(&Arc<Session>) -> bool) -> Vec<Arc<Session>> {
        let meant = self.known.all_that(is_meant);
        meant.iter().for_each(|session| self.end_session(session));
        meant
    }
}
