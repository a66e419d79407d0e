//! The writes of users' data that some pod does not have yet. Shared by all workers.

pub(super) mod ledger;
pub(super) mod round;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::{sync::Semaphore, time::Instant};

use crate::pod::PodId;
use ledger::{Ledger, UserKey};

/// What all workers share of users' data.
#[derive(Default)]
pub struct UserDataState {
    pub(super) ledgers: Arc<Ledgers>,
    /// Limits the calls under way to each pod.
    permits: DashMap<PodId, Arc<Semaphore>, ahash::RandomState>,
    /// When something was warned of last.
    pub(super) warned: Mutex<Option<Instant>>,
}

/// The ledgers of all users, so many that few requests need the same lock.
#[derive(Debug, Default)]
pub(super) struct Ledgers {
    shards: [Mutex<Ledger>; SHARDS],
    /// Users in all of them.
    users: AtomicUsize,
}

const SHARDS: usize = 16;

/// Calls under way to one pod, of all workers.
const AT_ONCE: usize = 4;

impl UserDataState {
    /// The permits for calls to a pod.
    pub(super) fn permits(&self, pod: PodId) -> Arc<Semaphore> {
        self.permits.entry(pod).or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))).clone()
    }
}

impl Ledgers {
    /// Whether all pods have all writes.
    pub(super) fn is_empty(&self) -> bool {
        self.users.load(Ordering::Relaxed) == 0
    }

    /// Looks at or changes the ledger of a user. Also returns how many more pairs there are then.
    pub(super) fn with<T>(&self, user: UserKey, change: impl FnOnce(&mut Ledger) -> T) -> (T, i64) {
        let mut ledger = self.shards[user.id.shard(SHARDS)].lock();
        let (users, pairs) = ledger.counts();
        let changed = change(&mut ledger);
        // Wraps where users have gone.
        let (users_now, pairs_now) = ledger.counts();
        self.users.fetch_add(users_now.wrapping_sub(users), Ordering::Relaxed);
        (changed, pairs_now as i64 - pairs as i64)
    }

    /// Pairs on which some pod is behind, or whose item plays.
    #[cfg(test)]
    pub(super) fn pairs(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().counts().1).sum()
    }
}
