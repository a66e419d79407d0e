//! What several replicas know of one session. They notify each other, and read changes from Redis.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{
    StreamExt,
    stream::{self, FuturesUnordered},
};

use super::{Sessions, await_sockets::SocketQuery, random::random, record::StoredSession};
use crate::{
    sessions::{
        Session, Token,
        session_store::{EndScope, StoredEntry},
    },
    store::redis_store::notices::ChannelEvent,
};

/// How long jellypin trusts a session without comparing it with what other replicas keep. They
/// announce changes; this bounds the harm of a lost message.
const COMPARE_AGAIN: Duration = Duration::from_secs(60);

/// How long the doings of other replicas stay unknown after Redis was away, or lost a session's
/// entry; in seconds. They reconnect within some ten seconds (`store::redis_store`), and compare
/// what they know then.
const SETTLED: u32 = 15;

/// Failures in a row after which Redis counts as gone (`store::redis_store`).
const ATTEMPTS: u32 = 3;

/// Sessions used within these seconds are compared as soon as Redis is back. The others wait for
/// their next request.
const RECENT: u32 = 60;

/// How many of these are compared at once. All of a large server's must be done before [`SETTLED`]
/// ends, and a Redis may be some milliseconds away.
const COMPARED_AT_ONCE: usize = 16;

/// How old an entry becomes before it is written again, in ms. In Redis it lasts only some days.
const WRITE_AGAIN: u64 = 86_400_000;

impl Sessions {
    /// Merges a stored entry into a known session. Says whether there was something new.
    pub(super) fn merge_stored(&self, known: &Arc<Session>, kept: &StoredSession) -> bool {
        let adopted = known.merge(&kept.session);
        if let Some(home) = kept.home.filter(|home| kept.moved > known.moved_at() && known.home() != Some(*home)) {
            known.restore_home(home, kept.moved);
        }
        if adopted.is_changed {
            self.index(known);
        }
        // An older copy that was on its way may have overwritten the one with the latest move.
        let is_behind = kept.moved < known.moved_at() && kept.home.is_some_and(|home| known.home() != Some(home));
        if adopted.lacks_token || is_behind || self.common.clock.now().saturating_sub(known.revision()) > WRITE_AGAIN {
            self.persist(known);
        }
        adopted.is_changed
    }

    /// Compares a session with what other replicas have kept. Says whether there was something new.
    /// A session that another replica has ended is dead afterwards.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn refresh(&self, session: &Arc<Session>) -> bool {
        let Some(own) = session.client_token().filter(|_| self.store.is_shared() && !session.is_ended()) else {
            return false;
        };
        let reviewed = self.store.find_for_refresh(own.as_str(), session).await;
        let Ok((kept, ended)) = reviewed else {
            session.set_compared_at(0);
            return false;
        };
        session.set_compared_at(self.store_second());
        let is_news = match kept {
            Some(StoredEntry::Ended) => {
                self.end_session(session);
                return false;
            }
            Some(StoredEntry::Session(plain) | StoredEntry::Restored(plain)) => {
                self.deserialize(&plain).is_some_and(|kept| self.merge_stored(session, &kept))
            }
            // Redis lost it, and perhaps what another replica had kept. That one is notified of
            // this entry, and adds its own.
            None => {
                session.set_entry_lost_at(self.store_second());
                self.persist(session);
                false
            }
        };
        if ended >= session.born() {
            self.end_session(session);
            return false;
        }
        is_news
    }

    /// Whether the doings of other replicas with a session are unknown. Redis does not answer, or
    /// has not been back long enough for them to tell.
    pub fn is_uncertain(&self, session: &Session) -> bool {
        let doubted = session.entry_lost_at().max(self.missed.load(Ordering::Relaxed));
        let is_settled = doubted == 0 || self.store_second().saturating_sub(doubted) >= SETTLED;
        self.store.is_shared() && !session.is_ended() && (session.compared_at() == 0 || !is_settled || self.is_apart())
    }

    /// Whether to compare a known session with what other replicas keep, before jellypin trusts it.
    pub fn needs_refresh(&self, session: &Session) -> bool {
        let compared = session.compared_at();
        self.store.is_shared()
            && (compared == 0 || u64::from(self.seconds().saturating_sub(compared)) >= COMPARE_AGAIN.as_secs())
    }

    /// Handles the messages of other replicas, for ever.
    pub async fn follow_replicas(&self) {
        let Some(mut words) = self.store.subscribe() else { return std::future::pending().await };
        let mut answering = FuturesUnordered::new();
        loop {
            tokio::select! {
                heard = words.next() => match heard {
                    ChannelEvent::Message(said) => answering.extend(self.handle_notice(&said).await.map(|asked| self.answer_socket_query(asked))),
                    ChannelEvent::Lost => self.compare_all().await,
                },
                Some(()) = answering.next() => {}
            }
        }
    }

    /// Looks again at what a message names, and trusts nothing else in it. Gives the question, if
    /// it is one.
    async fn handle_notice(&self, said: &str) -> Option<SocketQuery> {
        let mut words = said.split(' ');
        let (from, kind) = (words.next()?, words.next()?);
        let names: Vec<u128> = words.filter_map(|word| u128::from_str_radix(word, 16).ok()).collect();
        if from == self.name {
            // The count of listeners includes this replica, so it counts its own answer here.
            if kind == "where" || kind == "whose" {
                self.count_answer(*names.first()?);
            }
            return None;
        }
        let is_of = |scope, session: &Session| {
            self.store.scope_names_of(scope, session).iter().any(|name| names.contains(&u128::from_be_bytes(*name)))
        };
        let listed = |is_meant: &dyn Fn(&Session) -> bool| -> Vec<Arc<Session>> {
            self.devices.iter().filter(|entry| is_meant(entry)).map(|entry| entry.clone()).collect()
        };
        let meant = match kind {
            "where" => return self.socket_query(&names),
            "whose" => {
                self.say_whose(&names);
                return None;
            }
            "there" => {
                self.count_answer(*names.first()?);
                return None;
            }
            "token" => names.iter().filter_map(|name| Some(self.active.get(name)?.clone())).collect(),
            "user" => listed(&|session| is_of(EndScope::User, session)),
            "device" => listed(&|session| is_of(EndScope::Device, session)),
            _ => Vec::new(),
        };
        for session in meant {
            session.set_compared_at(0);
            self.compare(&session).await;
        }
        None
    }

    /// Messages may have been lost, so each session is compared before it is trusted again.
    /// Sessions in use are compared at once: for their sockets, and for replicas that may lack what
    /// only this one knows.
    async fn compare_all(&self) {
        if self.is_empty() {
            return;
        }
        self.missed.store(self.store_second(), Ordering::Relaxed);
        self.devices.iter().for_each(|session| session.set_compared_at(0));
        let recent = self.seconds().saturating_sub(RECENT);
        let is_in_use = |session: &Session| session.has_sockets() || session.used.load(Ordering::Relaxed) >= recent;
        let in_use: Vec<_> = self.devices.iter().filter(|entry| is_in_use(entry)).map(|entry| entry.clone()).collect();
        stream::iter(in_use).for_each_concurrent(COMPARED_AT_ONCE, async |session| self.compare(&session).await).await;
    }

    /// Compares a session that may have only sockets, and so no request to do it. Retries if Redis
    /// is late. After so many failures Redis counts as gone, and all are compared when it is back.
    async fn compare(&self, session: &Arc<Session>) {
        for _ in 0..ATTEMPTS {
            self.refresh(session).await;
            if session.compared_at() != 0 {
                return;
            }
        }
    }

    /// Keeps other replicas from migrating this token's session. `false` while another one does.
    pub async fn lock(&self, token: &Token) -> bool {
        self.store.lock(token.as_str()).await
    }

    /// Extends that lock.
    pub async fn renew_lock(&self, token: &Token) {
        self.store.renew_lock(token.as_str()).await;
    }

    pub fn unlock(&self, token: &Token) {
        self.store.unlock(token.as_str());
    }

    /// The others receive only the token's keyed hash, and look up what has changed.
    pub(super) fn notify_token_changed(&self, token: &str) {
        if self.store.is_shared() {
            self.store.publish(format!("{} token {:032x}", self.name, self.hash(&[token])));
        }
    }
}

/// A name that no other replica has.
pub(super) fn name() -> String {
    format!("{:016x}", random())
}
