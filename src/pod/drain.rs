//! What is ordered of a pod that is to lose its clients.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tokio::sync::watch;

use super::{Epoch, Status};

/// The latest order to drain a pod, and what goes with it.
pub struct DrainOrder {
    round: AtomicU32,
    /// The epoch of the process that is to drain; 0 for none.
    ordered: AtomicU32,
    gives_up_lead: AtomicBool,
    is_removed: AtomicBool,
    /// Reports that it gives up the lead to those who follow the pod's status.
    reporter: watch::Sender<Status>,
}

impl DrainOrder {
    pub(super) fn new(reporter: watch::Sender<Status>) -> DrainOrder {
        DrainOrder {
            round: AtomicU32::new(0),
            ordered: AtomicU32::new(0),
            gives_up_lead: AtomicBool::new(false),
            is_removed: AtomicBool::new(false),
            reporter,
        }
    }

    /// The number of the operator's last order to drain it.
    pub fn round(&self) -> u32 {
        self.round.load(Ordering::Relaxed)
    }

    /// Begins the operator's new order to drain it, which replaces earlier ones.
    pub fn begin_round(&self) -> u32 {
        self.round.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The process of this epoch is to drain, also if it is down for a moment.
    pub fn order(&self, epoch: Epoch) {
        self.ordered.store(epoch.0, Ordering::Release);
    }

    /// Takes that back. Returns whether it stood for this epoch.
    pub fn take_back(&self, epoch: Epoch) -> bool {
        epoch != Epoch(0) && self.ordered.swap(0, Ordering::AcqRel) == epoch.0
    }

    /// Whether the process of this epoch is to drain.
    pub fn is_ordered(&self, epoch: Epoch) -> bool {
        epoch != Epoch(0) && self.ordered.load(Ordering::Acquire) == epoch.0
    }

    /// Whether it gives up the lead of its pool while it drains.
    pub fn gives_up_lead(&self) -> bool {
        self.gives_up_lead.load(Ordering::Relaxed)
    }

    /// Sets or clears that. Receivers of status changes are notified of this too.
    pub fn set_gives_up_lead(&self, yields: bool) {
        if self.gives_up_lead.swap(yields, Ordering::Relaxed) != yields {
            self.reporter.send_modify(|_| {});
        }
    }

    /// Whether the pod's source no longer names it. It serves its clients until they have moved away.
    pub fn is_removed(&self) -> bool {
        self.is_removed.load(Ordering::Relaxed)
    }

    /// Sets or clears that. Returns what it was.
    pub(super) fn set_removed(&self, is_removed: bool) -> bool {
        self.is_removed.swap(is_removed, Ordering::Relaxed)
    }
}
