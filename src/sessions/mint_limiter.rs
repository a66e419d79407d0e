//! Limits how many sessions are minted on one pod at once. Waiting requests come before idle
//! sockets.
//!
//! A pod of two cores mints 43 sessions a second one after the other, and 59 with sixteen at once.
//! More at once only make each wait longer, and take the processor from the films that the pod
//! plays. So it is a small part of what the pod can take at present.

use std::{sync::Arc, time::Duration};

use dashmap::DashMap;

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
}

impl MintLimiter {
    /// Waits for a permit.
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
        match limit.admit(urgency, usize::MAX) {
            Admitted::Now(slot) => Some(MintPermit { _slot: slot }),
            Admitted::Full => None,
            Admitted::Later(mut waiting) => loop {
                if let Some(slot) = waiting.slot(LOOK).await {
                    return Some(MintPermit { _slot: slot });
                }
            },
        }
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
        assert!(tokio::time::timeout(soon, mints.acquire(&pod, Priority::Idle)).await.is_err());
        for _ in 2..4 {
            turns.push(mints.acquire(&pod, Priority::Waiting).await);
        }
        assert!(tokio::time::timeout(soon, mints.acquire(&pod, Priority::Waiting)).await.is_err());
        turns.clear();
        assert!(mints.acquire(&pod, Priority::Waiting).await.is_some());
    }
}
