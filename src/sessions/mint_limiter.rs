//! Limits how many sessions are minted on one pod at once. Waiting requests come before idle
//! sockets.
//!
//! A pod of two cores mints 43 sessions a second one after the other, and 59 with sixteen at once.
//! More at once only make each wait longer, and take the processor from the films that the pod
//! plays. So it is a small part of what the pod can take at present.

use std::{sync::Arc, time::Duration};

use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock},
    time,
};

use crate::pod::{Admitted, ConcurrencyLimit, Pod, PodId, Slot, Urgency};

/// Requests that a pod can take at once for each mint that it gets.
const REQUESTS_TO_MINT: usize = 32;

/// The fewest mints at once, and the most.
const FEWEST: usize = 2;
const MOST: usize = 16;

/// Time between two looks of a mint that waits.
const LOOK: Duration = Duration::from_secs(60);

/// The permits of all pods, and the queues for them. Shared by all workers.
#[derive(Debug, Default)]
pub struct MintLimiter {
    pods: DashMap<PodId, Arc<ConcurrencyLimit>, ahash::RandomState>,
    /// Held for reading by each mint.
    gate: Arc<RwLock<()>>,
    /// Held while no mint may begin.
    closed: Mutex<Option<OwnedRwLockWriteGuard<()>>>,
}

/// How urgent a migration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// A request waits for it.
    Waiting,
    /// An idle socket is to be attached.
    Idle,
}

/// A permit for one mint, given back when dropped.
#[derive(Debug)]
pub struct MintPermit {
    _slot: Slot,
    _gate: OwnedRwLockReadGuard<()>,
}

impl MintLimiter {
    /// Waits for a permit. `None` while no mint may begin.
    ///
    /// # Cancel safety
    /// May be dropped at any time; the caller then loses its place in the queue.
    pub async fn acquire(&self, pod: &Pod, priority: Priority) -> Option<MintPermit> {
        let limit = self.pods.entry(pod.id).or_default().clone();
        limit.set_limit((pod.concurrency.limit() / REQUESTS_TO_MINT).clamp(FEWEST, MOST));
        let urgency = match priority {
            Priority::Waiting => Urgency::Interactive,
            Priority::Idle => Urgency::Idle,
        };
        let slot = match limit.admit(urgency, usize::MAX) {
            Admitted::Now(slot) => slot,
            Admitted::Full => return None,
            Admitted::Later(mut waiting) => loop {
                if let Some(slot) = waiting.slot(LOOK).await {
                    break slot;
                }
            },
        };
        Some(MintPermit { _slot: slot, _gate: self.gate.clone().try_read_owned().ok()? })
    }

    /// Lets no mint begin, and waits for those under way: what they bring must be kept, since the pod
    /// has ended the device's former token. Returns whether all have ended in this time; if not, mints
    /// may begin again.
    pub async fn close(&self, at_most: Duration) -> bool {
        if self.closed.lock().is_some() {
            return true;
        }
        let closed = time::timeout(at_most, self.gate.clone().write_owned()).await.ok();
        let is_closed = closed.is_some();
        *self.closed.lock() = closed;
        is_closed
    }

    /// Lets mints begin again.
    pub fn open(&self) {
        self.closed.lock().take();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pod::PodConfig;

    #[tokio::test(start_paused = true)]
    async fn idle_sockets_leave_room_for_requests() {
        let (mints, pod) = (
            MintLimiter::default(),
            Pod::new(&"pool".into(), &PodConfig { name: "a".into(), authority: "h:1".into(), ..Default::default() }),
        );
        let soon = Duration::from_millis(1);
        let mut turns = Vec::new();
        for _ in 0..2 {
            turns.push(mints.acquire(&pod, Priority::Idle).await);
        }
        assert!(time::timeout(soon, mints.acquire(&pod, Priority::Idle)).await.is_err());
        for _ in 2..4 {
            turns.push(mints.acquire(&pod, Priority::Waiting).await);
        }
        assert!(time::timeout(soon, mints.acquire(&pod, Priority::Waiting)).await.is_err());
        turns.clear();
        assert!(mints.acquire(&pod, Priority::Waiting).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_mint_under_way_is_waited_for_and_none_begins_meanwhile() {
        let (mints, pod) = (
            MintLimiter::default(),
            Pod::new(&"pool".into(), &PodConfig { name: "a".into(), authority: "h:1".into(), ..Default::default() }),
        );
        let mint = mints.acquire(&pod, Priority::Idle).await.expect("a permit");
        assert!(!mints.close(Duration::from_secs(1)).await, "it is under way");
        drop(mints.acquire(&pod, Priority::Idle).await.expect("the first goes on, so others may"));
        let closes = async {
            tokio::join!(mints.close(Duration::from_secs(5)), async {
                time::sleep(Duration::from_secs(1)).await;
                assert!(mints.acquire(&pod, Priority::Waiting).await.is_none(), "none begins");
                drop(mint);
            })
            .0
        };
        assert!(closes.await);
        assert!(mints.acquire(&pod, Priority::Waiting).await.is_none());
        mints.open();
        assert!(mints.acquire(&pod, Priority::Waiting).await.is_some());
    }
}
