//! Log-outs that are owed: of tokens that were ended, while no pod has confirmed yet that their rows are gone.
//!
//! A pod that is away does not hear of an end, and the row of a token that only it knew stays in the database: whoever starts
//! then reads it. So each pod that begins a life is told, until one has ended the token, or says that there is no such row.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time;

use super::Sessions;
use crate::carryover::Token;

/// Log-outs that may be owed at once. Of more the oldest go: tombstones hold all the same.
pub(in crate::carryover) const MOST: usize = 1000;

/// Time from one renewal to the next: in Redis an entry may last for two hours only.
const RENEW: Duration = Duration::from_secs(3600);

/// Each with the pool whose pods may know the token, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Owed(Mutex<VecDeque<(Arc<str>, Token)>>);

impl Sessions {
    /// The tokens of this pool that are still to be logged out.
    pub async fn owed(&self, pool: &str) -> Vec<Token> {
        for (pool, token) in self.vault.owed().await {
            if let Some(pool) = self.pool(&pool) {
                self.owe(&pool.name, token.as_str());
            }
        }
        self.owed.all().into_iter().filter(|(of, _)| **of == *pool).map(|(_, token)| token).collect()
    }

    /// Keeps them, and their tombstones, from running out. Goes on for ever.
    pub async fn renew_owed(&self) {
        loop {
            time::sleep(RENEW).await;
            for (pool, token) in self.owed.all() {
                self.vault.bury(token.as_str(), None, self.common.clock.now());
                self.vault.owe(&pool, token.as_str());
            }
        }
    }

    /// No row of this token is left.
    pub fn is_logged_out(&self, token: &str) {
        if self.owed.take_out(token) {
            self.vault.settle(token);
        }
    }

    /// A token was ended, and no pod has confirmed it.
    pub(super) fn owe(&self, pool: &Arc<str>, token: &str) {
        if !self.owed.add(pool, token) {
            return;
        }
        self.vault.owe(pool, token);
        while let Some(oldest) = self.owed.take_surplus() {
            self.vault.settle(oldest.as_str());
        }
    }
}

impl Owed {
    /// Says whether it is new.
    fn add(&self, pool: &Arc<str>, token: &str) -> bool {
        let mut owed = self.0.lock();
        let is_new = !owed.iter().any(|(_, other)| other.as_str() == token);
        if is_new {
            owed.push_back((pool.clone(), Token::new(token)));
        }
        is_new
    }

    /// The oldest, if they are too many.
    fn take_surplus(&self) -> Option<Token> {
        let mut owed = self.0.lock();
        if owed.len() > MOST { owed.pop_front().map(|(_, token)| token) } else { None }
    }

    fn all(&self) -> Vec<(Arc<str>, Token)> {
        self.0.lock().iter().cloned().collect()
    }

    /// Says whether it was there.
    fn take_out(&self, token: &str) -> bool {
        let mut owed = self.0.lock();
        let before = owed.len();
        owed.retain(|(_, other)| other.as_str() != token);
        owed.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_is_owed_once_and_the_oldest_go() {
        let (owed, pool) = (Owed::default(), Arc::from("main"));
        assert!(owed.add(&pool, "0") && !owed.add(&pool, "0"));
        for number in 1..=MOST {
            assert!(owed.add(&pool, &number.to_string()));
        }
        assert_eq!(owed.take_surplus(), Some(Token::new("0")));
        assert_eq!((owed.take_surplus(), owed.all().len()), (None, MOST));
        assert!(owed.take_out("1") && !owed.take_out("1"));
    }
}
