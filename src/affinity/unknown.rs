//! Keys that the other replicas were just asked for in vain, so that made-up ones are not asked for again and again.

use std::time::Duration;

use dashmap::DashMap;
use tokio::time::Instant;

/// How long a key counts as unknown.
const REMEMBERED: Duration = Duration::from_secs(5);

/// Keys kept at once. When they are more, all are forgotten: that costs questions, and nobody an answer.
const MOST: usize = 50_000;

#[derive(Debug, Default)]
pub(super) struct Unknown {
    until: DashMap<u128, Instant, ahash::RandomState>,
}

impl Unknown {
    pub(super) fn remember(&self, hash: u128) {
        if self.until.len() >= MOST {
            self.until.clear();
        }
        self.until.insert(hash, Instant::now() + REMEMBERED);
    }

    pub(super) fn contains(&self, hash: u128) -> bool {
        self.until.get(&hash).is_some_and(|until| *until > Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_is_unknown_for_some_seconds() {
        let unknown = Unknown::default();
        unknown.remember(1);
        assert!(unknown.contains(1) && !unknown.contains(2));
        tokio::time::advance(REMEMBERED).await;
        assert!(!unknown.contains(1));
        (0..=MOST as u128).for_each(|hash| unknown.remember(hash));
        assert!(unknown.until.len() <= MOST && unknown.contains(MOST as u128));
    }
}
