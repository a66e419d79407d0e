//! Keys that Redis was just asked for in vain. It is not asked for made-up keys again and again.

use std::time::Duration;

use quick_cache::{UnitWeighter, sync::Cache};
use tokio::time::Instant;

/// How long a key counts as unknown.
const REMEMBERED: Duration = Duration::from_secs(5);

/// Keys kept at once. A forgotten key costs one more question, and no client notices.
const MOST: u64 = 50_000;

/// The capacity at first.
const AT_FIRST: usize = 64;

#[derive(Debug)]
pub(super) struct RecentMisses {
    until: Cache<u128, Instant>,
}

impl Default for RecentMisses {
    fn default() -> RecentMisses {
        RecentMisses { until: Cache::with_weighter(AT_FIRST, MOST, UnitWeighter) }
    }
}

impl RecentMisses {
    pub(super) fn insert(&self, hash: u128) {
        self.until.insert(hash, Instant::now() + REMEMBERED);
    }

    pub(super) fn contains(&self, hash: u128) -> bool {
        self.until.get(&hash).is_some_and(|until| until > Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_is_unknown_for_some_seconds() {
        let unknown = RecentMisses::default();
        unknown.insert(1);
        assert!(unknown.contains(1) && !unknown.contains(2));
        tokio::time::advance(REMEMBERED).await;
        assert!(!unknown.contains(1));
        (0..=2 * u128::from(MOST)).for_each(|hash| unknown.insert(hash));
        assert!(unknown.until.len() as u64 <= MOST && !unknown.until.is_empty());
    }
}
