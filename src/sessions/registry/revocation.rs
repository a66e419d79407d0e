//! Ends sessions for good: here, in the store, and at the other replicas.

use std::{
    fmt::Write,
    sync::{Arc, atomic::Ordering},
};

use super::Sessions;
use crate::sessions::{Owner, Session, UnixMillis, plain_id, session::SessionToken, session_store::EndScope};

impl Sessions {
    /// Ends a session for ever.
    pub fn end_session(&self, session: &Session) {
        session.mark_ended();
        for minted in session.tokens() {
            self.end_token(&session.pool, Owner::User(&session.user), minted.token.as_str());
        }
        self.devices.remove_if(&self.device_hash(session), |_, listed| std::ptr::eq(&**listed, session));
    }

    /// Ends a token for ever. `owner` is charged for its tombstone.
    pub fn end_token(&self, pool: &Arc<str>, owner: Owner<'_>, token: &str) {
        self.store.write_tombstone(token, owner, self.common.clock.now());
        self.add_pending_logout(pool, token);
        self.notify_token_changed(token);
        // First, so that no lookup finds the token neither dead nor active.
        self.insert_tombstone(token);
        if self.active.remove(&self.hash(&[token])).is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Takes out again what was written of a session that has ended meanwhile.
    pub(super) fn bury_all(&self, session: &Session, tokens: &[SessionToken]) {
        let at = self.common.clock.now();
        let owner = Owner::User(&session.user);
        tokens.iter().for_each(|minted| self.store.write_tombstone(minted.token.as_str(), owner, at));
    }

    /// Waits for a bounded time until the ends are kept. Says whether they are.
    pub async fn flush(&self) -> bool {
        self.store.flush().await
    }

    /// Ends every session of a pool's user but one, here and in the store. Gives those known here.
    pub fn end_user(&self, pool: &str, user: &str, but: Option<&Arc<Session>>) -> Vec<Arc<Session>> {
        let user = plain_id(user);
        let at = self.common.clock.now();
        let is_his = |session: &Session| session.user == user && *session.pool == *pool;
        // Persisted before the end: a reader in between must not find the end without this session.
        if let Some(spared) = but.filter(|spared| is_his(spared)) {
            spared.set_born(at + 1);
            self.persist(spared);
        }
        let ended = self.end_all(|session| is_his(session) && !but.is_some_and(|but| Arc::ptr_eq(but, session)));
        self.end_scope(EndScope::User, pool, &user, at);
        ended
    }

    /// Ends every session on a pool's device, here and in the store. Gives those known here.
    pub fn end_device(&self, pool: &str, device: &str) -> Vec<Arc<Session>> {
        let ended = self.end_all(|session| session.device.id == device && *session.pool == *pool);
        self.end_scope(EndScope::Device, pool, device, self.common.clock.now());
        ended
    }

    fn end_scope(&self, scope: EndScope, pool: &str, id: &str, at: UnixMillis) {
        let mut words = format!("{} {}", self.name, if scope == EndScope::User { "user" } else { "device" });
        for name in self.store.end_scope(scope, pool, id, at) {
            // Writing into memory cannot fail.
            let _ = write!(words, " {:032x}", u128::from_be_bytes(name));
        }
        self.store.publish(words);
    }

    fn end_all(&self, is_meant: impl Fn(&Arc<Session>) -> bool) -> Vec<Arc<Session>> {
        let meant: Vec<_> = self.devices.iter().filter(|entry| is_meant(entry)).map(|entry| entry.clone()).collect();
        meant.iter().for_each(|session| self.end_session(session));
        meant
    }

    pub(super) fn insert_tombstone(&self, token: &str) {
        self.dead.insert(self.hash(&[token]), ());
    }
}
