//! Limits how many sessions are minted on one pod at once. Waiting requests come before idle
//! sockets.
//!
//! A pod of two cores mints 43 sessions a second one after the other, and 59 with sixteen at once.
//! More at once only make each wait longer, and take the processor from the films that the pod
//! plays.

use std::sync::Arc;

use dashmap::DashMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::pod::PodId;

/// Mints under way on one pod.
const AT_ONCE: usize = 4;

/// Of these, those that no request waits for.
const IDLE_AT_ONCE: usize = 2;

/// The permits of all pods, and the queues for them. Shared by all workers.
#[derive(Debug, Default)]
pub struct MintLimiter {
    pods: DashMap<PodId, Lanes, ahash::RandomState>,
}

#[derive(Clone, Debug)]
struct Lanes {
    all: Arc<Semaphore>,
    idle: Arc<Semaphore>,
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
    _all: OwnedSemaphorePermit,
    _idle: Option<OwnedSemaphorePermit>,
}

impl MintLimiter {
    /// Waits for a permit.
    ///
    /// # Cancel safety
    /// May be dropped at any time; the caller then loses its place in the queue.
    pub async fn acquire(&self, pod: PodId, priority: Priority) -> Option<MintPermit> {
        let lanes = self.pods.entry(pod).or_insert_with(Lanes::new).clone();
        // Nobody closes the semaphores.
        let idle = match priority {
            Priority::Waiting => None,
            Priority::Idle => Some(lanes.idle.acquire_owned().await.ok()?),
        };
        Some(MintPermit { _all: lanes.all.acquire_owned().await.ok()?, _idle: idle })
    }
}

impl Lanes {
    fn new() -> Lanes {
        Lanes { all: Arc::new(Semaphore::new(AT_ONCE)), idle: Arc::new(Semaphore::new(IDLE_AT_ONCE)) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pod::{Pod, PodConfig};

    #[tokio::test(start_paused = true)]
    async fn idle_sockets_leave_room_for_requests() {
        let (mints, pod) = (
            MintLimiter::default(),
            Pod::new(&"pool".into(), &PodConfig { name: "a".into(), authority: "h:1".into() }).id,
        );
        let soon = Duration::from_millis(1);
        let mut turns = Vec::new();
        for _ in 0..IDLE_AT_ONCE {
            turns.push(mints.acquire(pod, Priority::Idle).await);
        }
        assert!(tokio::time::timeout(soon, mints.acquire(pod, Priority::Idle)).await.is_err());
        for _ in IDLE_AT_ONCE..AT_ONCE {
            turns.push(mints.acquire(pod, Priority::Waiting).await);
        }
        assert!(tokio::time::timeout(soon, mints.acquire(pod, Priority::Waiting)).await.is_err());
        turns.clear();
        assert!(mints.acquire(pod, Priority::Waiting).await.is_some());
    }
}
