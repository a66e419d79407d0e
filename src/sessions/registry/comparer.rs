//! Compares sessions with what other replicas have kept of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream};

use super::{
    ends::Ends,
    keeper::Keeper,
    known::KnownSessions,
    record::{Records, StoredSession},
    replicas::Replicas,
};
use crate::sessions::{
    Session,
    session_store::{Backend, StoredEntry, StoredSessions},
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

/// Sessions used within this time are compared as soon as Redis is back. The others wait for
/// their next request.
const RECENT: Duration = Duration::from_secs(60);

/// How many of these are compared at once. All of a large server's must be done before [`SETTLED`]
/// ends, and a Redis may be some milliseconds away.
const COMPARED_AT_ONCE: usize = 16;

/// How old an entry becomes before it is written again, in ms. In Redis it lasts only some days.
const WRITE_AGAIN: u64 = 86_400_000;

/// Keeps what this replica knows of a session in step with what the others keep.
pub struct Comparer {
    pub(super) known: Arc<KnownSessions>,
    pub(super) keeper: Arc<Keeper>,
    pub(super) entries: Arc<StoredSessions>,
    pub(super) records: Records,
    pub(super) ends: Arc<Ends>,
    pub(super) replicas: Arc<Replicas>,
    pub(super) backend: Backend,
    /// When messages of other replicas may have been lost, as a moment of the uptime; 0: never.
    pub(super) missed: AtomicU32,
}

impl Comparer {
    /// Compares a session with what other replicas have kept. Says whether there was something new.
    /// A session that another replica has ended is dead afterwards.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn refresh(&self, session: &Arc<Session>) -> bool {
        let is_asked = self.backend.is_shared() && !session.is_ended();
        let Some(own) = session.tokens.own().filter(|_| is_asked) else { return false };
        let reviewed = self.entries.find_for_refresh(own.as_str(), session).await;
        let Ok((kept, ended)) = reviewed else {
            session.compared_at.set(0);
            return false;
        };
        session.compared_at.set(self.records.common.uptime.moment());
        let is_news = match kept {
            Some(StoredEntry::Ended) => {
                self.ends.end_session(session);
                return false;
            }
            Some(StoredEntry::Session(plain) | StoredEntry::Restored(plain)) => {
                self.records.read(&plain).is_some_and(|kept| self.merge(session, &kept))
            }
            // Redis lost it, and perhaps what another replica had kept. That one is notified of
            // this entry, and adds its own.
            None => {
                session.entry_lost_at.set(self.records.common.uptime.moment());
                self.keeper.persist(session);
                false
            }
        };
        if ended >= session.tokens.born() {
            self.ends.end_session(session);
            return false;
        }
        is_news
    }

    /// Whether the doings of other replicas with a session are unknown. Redis does not answer, or
    /// has not been back long enough for them to tell.
    pub fn is_uncertain(&self, session: &Session) -> bool {
        let uncertain_since = session.entry_lost_at.get().max(self.missed.load(Ordering::Relaxed));
        let now = self.records.common.uptime.moment();
        let is_settled = uncertain_since == 0 || now.saturating_sub(uncertain_since) >= SETTLED;
        self.backend.is_shared()
            && !session.is_ended()
            && (session.compared_at.get() == 0 || !is_settled || self.replicas.is_apart())
    }

    /// Whether to compare a known session with what other replicas keep, before jellypin trusts it.
    pub fn needs_refresh(&self, session: &Session) -> bool {
        let compared = session.compared_at.get();
        let now = self.records.common.uptime.seconds();
        self.backend.is_shared()
            && (compared == 0 || u64::from(now.saturating_sub(compared)) >= COMPARE_AGAIN.as_secs())
    }

    /// Merges a stored entry into a known session. Says whether there was something new.
    pub(super) fn merge(&self, known: &Arc<Session>, kept: &StoredSession) -> bool {
        let merged = known.merge(&kept.session);
        if let Some(home) =
            kept.home.filter(|home| kept.moved > known.residence.moved_at() && known.home() != Some(*home))
        {
            known.residence.restore_home(home, kept.moved);
        }
        if merged.is_changed {
            self.keeper.take_in(known);
        }
        // An older copy that was on its way may have overwritten the one with the latest move.
        let is_behind =
            kept.moved < known.residence.moved_at() && kept.home.is_some_and(|home| known.home() != Some(home));
        let is_old = self.backend.clock.now().saturating_sub(known.tokens.revision()) > WRITE_AGAIN;
        if merged.lacks_token || is_behind || is_old {
            self.keeper.persist(known);
        }
        merged.is_changed
    }

    /// Messages may have been lost, so each session is compared before it is trusted again.
    /// Sessions in use are compared at once: for their sockets, and for replicas that may lack what
    /// only this one knows.
    pub(super) async fn compare_all(&self) {
        let all = self.known.all_that(|_| true);
        if all.is_empty() {
            return;
        }
        let uptime = self.records.common.uptime;
        self.missed.store(uptime.moment(), Ordering::Relaxed);
        all.iter().for_each(|session| session.compared_at.set(0));
        let is_in_use = |session: &Arc<Session>| session.sockets.is_any() || session.usage.is_used_within(RECENT);
        let in_use = all.into_iter().filter(is_in_use);
        stream::iter(in_use).for_each_concurrent(COMPARED_AT_ONCE, async |session| self.compare(&session).await).await;
    }

    /// Compares a session that may have only sockets, and so no request to do it. Retries if Redis
    /// is late. After so many failures Redis counts as gone, and all are compared when it is back.
    pub(super) async fn compare(&self, session: &Arc<Session>) {
        for _ in 0..ATTEMPTS {
            self.refresh(session).await;
            if session.compared_at.get() != 0 {
                return;
            }
        }
    }
}
