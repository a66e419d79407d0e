//! Bounded tables by keyed hashes, which grow as they fill.

use quick_cache::{UnitWeighter, Weighter, sync::Cache};

/// How many entries a table has room for at first.
const AT_FIRST: usize = 64;

/// A table of at most `most` entries.
pub(super) fn bounded<V: Clone>(most: u64) -> Cache<u128, V> {
    weighted(most, UnitWeighter)
}

/// A table whose entries weigh at most `most` together.
pub(super) fn weighted<V: Clone, W: Weighter<u128, V> + Clone>(most: u64, weighter: W) -> Cache<u128, V, W> {
    Cache::with_weighter(AT_FIRST, most, weighter)
}
