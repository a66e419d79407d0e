//! Unknown tokens that jellypin has just asked about.

use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::time::Instant;

use super::{keyed_hash::KeyedHash, tables};

/// Tokens that are remembered. One that is forgotten costs one more question.
const MOST: u64 = 50_000;

/// Unknown tokens, and until when jellypin does not ask again.
pub struct Strangers {
    tokens: Cache<u128, Instant>,
    hash: KeyedHash,
    again: Duration,
}

impl Strangers {
    /// None yet. jellypin asks about the same one again after this time.
    pub(super) fn new(hash: KeyedHash, again: Duration) -> Strangers {
        Strangers { tokens: tables::bounded(MOST), hash, again }
    }

    /// Whether jellypin may ask about this token: once in a while.
    pub fn may_ask_about(&self, token: &str) -> bool {
        self.tokens.get(&self.hash.of(&[token])).is_none_or(|until| until <= Instant::now())
    }

    /// Records that jellypin asks about this token.
    pub fn record_asked(&self, token: &str) {
        self.tokens.insert(self.hash.of(&[token]), Instant::now() + self.again);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stranger_is_asked_about_once_in_a_while() {
        let again = Duration::from_secs(60);
        let strangers = Strangers::new(KeyedHash::new(&[]), again);
        assert!(strangers.may_ask_about("t"));
        strangers.record_asked("t");
        assert!(!strangers.may_ask_about("t") && strangers.may_ask_about("other"));
        tokio::time::advance(again).await;
        assert!(strangers.may_ask_about("t"));
    }
}
