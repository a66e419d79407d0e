//! Pending log-outs: ended tokens whose rows may still exist, since no pod has confirmed otherwise.
//!
//! A pod that is away does not hear of an end. The row of a token that only it knew stays in the
//! database, and the next pod to start reads it. So jellypin logs the token out on each pod that
//! begins an epoch, until one ends it or has no such row.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time;

use super::record::Records;
use crate::sessions::{
    Owner, Token,
    session_store::{MOST_PENDING as MOST, StoredPendingLogouts, StoredSessions},
};

/// Time from one renewal to the next. In Redis an entry may last only two hours.
const RENEW: Duration = Duration::from_secs(3600);

/// The pending log-outs of all pools.
pub struct PendingLogouts {
    queue: Queue,
    stored: StoredPendingLogouts,
    entries: Arc<StoredSessions>,
    records: Records,
}

/// Each with the pool whose pods may know the token, the oldest first.
#[derive(Debug, Default)]
struct Queue(Mutex<VecDeque<(Arc<str>, Token)>>);

impl PendingLogouts {
    pub(super) fn new(stored: StoredPendingLogouts, entries: Arc<StoredSessions>, records: Records) -> PendingLogouts {
        PendingLogouts { queue: Queue::default(), stored, entries, records }
    }

    /// The tokens of this pool that are still to be logged out.
    pub async fn of_pool(&self, pool: &str) -> Vec<Token> {
        for (pool, token) in self.stored.of_others().await {
            if let Some(pool) = self.records.pool(&pool) {
                self.add(&pool.name, token.as_str());
            }
        }
        self.queue.all().into_iter().filter(|(of, _)| **of == *pool).map(|(_, token)| token).collect()
    }

    /// Keeps them, and their tombstones, from expiring. Goes on for ever.
    pub async fn renew(&self) {
        loop {
            time::sleep(RENEW).await;
            for (pool, token) in self.queue.all() {
                self.entries.end(token.as_str(), Owner::Unknown, self.records.common.clock.now());
                self.stored.add(&pool, token.as_str());
            }
        }
    }

    /// Records that no row of this token is left.
    pub fn confirm(&self, token: &str) {
        if self.queue.take_out(token) {
            self.stored.remove(token);
        }
    }

    /// Records that a token was ended, and no pod has confirmed it.
    pub(super) fn add(&self, pool: &Arc<str>, token: &str) {
        if !self.queue.add(pool, token) {
            return;
        }
        self.stored.add(pool, token);
        while let Some(oldest) = self.queue.take_oldest_surplus() {
            self.stored.remove(oldest.as_str());
        }
    }
}

impl Queue {
    /// Says whether it is new.
    fn add(&self, pool: &Arc<str>, token: &str) -> bool {
        let mut pending_logouts = self.0.lock();
        let is_new = !pending_logouts.iter().any(|(_, other)| other.as_str() == token);
        if is_new {
            pending_logouts.push_back((pool.clone(), Token::new(token)));
        }
        is_new
    }

    /// The oldest, if there are too many.
    fn take_oldest_surplus(&self) -> Option<Token> {
        let mut pending_logouts = self.0.lock();
        if pending_logouts.len() > MOST { pending_logouts.pop_front().map(|(_, token)| token) } else { None }
    }

    fn all(&self) -> Vec<(Arc<str>, Token)> {
        self.0.lock().iter().cloned().collect()
    }

    /// Says whether it was there.
    fn take_out(&self, token: &str) -> bool {
        let mut pending_logouts = self.0.lock();
        let before = pending_logouts.len();
        pending_logouts.retain(|(_, other)| other.as_str() != token);
        pending_logouts.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pending_log_out_is_kept_once_and_the_oldest_go() {
        let (pending_logouts, pool) = (Queue::default(), Arc::from("main"));
        assert!(pending_logouts.add(&pool, "0") && !pending_logouts.add(&pool, "0"));
        for number in 1..=MOST {
            assert!(pending_logouts.add(&pool, &number.to_string()));
        }
        assert_eq!(pending_logouts.take_oldest_surplus(), Some(Token::new("0")));
        assert_eq!((pending_logouts.take_oldest_surplus(), pending_logouts.all().len()), (None, MOST));
        assert!(pending_logouts.take_out("1") && !pending_logouts.take_out("1"));
    }
}
