//! Pending log-outs: ended tokens whose rows may still exist, since no pod has confirmed otherwise.
//!
//! A pod that is away does not hear of an end. The row of a token that only it knew stays in the
//! database, and the next pod to start reads it. So jellypin logs the token out on each pod that
//! begins an epoch, until one ends it or has no such row.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time;

use super::Sessions;
use crate::sessions::{Owner, Token, session_store::MOST_PENDING as MOST};

/// Time from one renewal to the next. In Redis an entry may last only two hours.
const RENEW: Duration = Duration::from_secs(3600);

/// Each with the pool whose pods may know the token, the oldest first.
#[derive(Debug, Default)]
pub(super) struct PendingLogouts(Mutex<VecDeque<(Arc<str>, Token)>>);

impl Sessions {
    /// The tokens of this pool that are still to be logged out.
    pub async fn pending_logouts(&self, pool: &str) -> Vec<Token> {
        for (pool, token) in self.store.pending_logouts().await {
            if let Some(pool) = self.pool(&pool) {
                self.add_pending_logout(&pool.name, token.as_str());
            }
        }
        self.pending_logouts.all().into_iter().filter(|(of, _)| **of == *pool).map(|(_, token)| token).collect()
    }

    /// Keeps them, and their tombstones, from expiring. Goes on for ever.
    pub async fn renew_pending_logouts(&self) {
        loop {
            time::sleep(RENEW).await;
            for (pool, token) in self.pending_logouts.all() {
                self.store.write_tombstone(token.as_str(), Owner::Unknown, self.common.clock.now());
                self.store.add_pending_logout(&pool, token.as_str());
            }
        }
    }

    /// Records that no row of this token is left.
    pub fn confirm_logout(&self, token: &str) {
        if self.pending_logouts.take_out(token) {
            self.store.remove_pending_logout(token);
        }
    }

    /// Records that a token was ended, and no pod has confirmed it.
    pub(super) fn add_pending_logout(&self, pool: &Arc<str>, token: &str) {
        if !self.pending_logouts.add(pool, token) {
            return;
        }
        self.store.add_pending_logout(pool, token);
        while let Some(oldest) = self.pending_logouts.take_oldest_surplus() {
            self.store.remove_pending_logout(oldest.as_str());
        }
    }
}

impl PendingLogouts {
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
    fn what_is_owed_is_owed_once_and_the_oldest_go() {
        let (pending_logouts, pool) = (PendingLogouts::default(), Arc::from("main"));
        assert!(pending_logouts.add(&pool, "0") && !pending_logouts.add(&pool, "0"));
        for number in 1..=MOST {
            assert!(pending_logouts.add(&pool, &number.to_string()));
        }
        assert_eq!(pending_logouts.take_oldest_surplus(), Some(Token::new("0")));
        assert_eq!((pending_logouts.take_oldest_surplus(), pending_logouts.all().len()), (None, MOST));
        assert!(pending_logouts.take_out("1") && !pending_logouts.take_out("1"));
    }
}
