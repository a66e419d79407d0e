//! Whether a pod's machine sleeps, who waits for it to wake, and when it was last used.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use tokio::sync::watch;

use super::{Moment, Pod};

/// How a pod's machine rests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rest {
    /// It does not, as far as is known.
    #[default]
    Awake,
    /// It sleeps. Nobody asks it for its health, which might wake it.
    Asleep,
    /// It was told to wake.
    Waking,
}

/// The sleep of one pod. A pod that jellypin cannot wake stays [`Rest::Awake`].
#[derive(Debug)]
pub struct Sleep {
    rest: watch::Sender<Rest>,
    /// Whether jellypin can wake it.
    is_wakeable: AtomicBool,
    /// Requests that wait for it.
    waiting: AtomicUsize,
    used: AtomicU64,
}

/// A request that waits for a pod to wake.
pub struct WakeCall {
    pod: std::sync::Arc<Pod>,
}

impl Sleep {
    pub(super) fn new() -> Sleep {
        Sleep {
            rest: watch::Sender::default(),
            is_wakeable: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            used: AtomicU64::new(0),
        }
    }

    pub fn rest(&self) -> Rest {
        *self.rest.borrow()
    }

    pub fn set_rest(&self, rest: Rest) {
        self.rest.send_if_modified(|now| std::mem::replace(now, rest) != rest);
    }

    /// Ends when it sleeps, or when it does not. Cancel safe.
    pub async fn await_asleep(&self, asleep: bool) {
        // The sender is this object's own.
        let _ = self.rest.subscribe().wait_for(|rest| (*rest == Rest::Asleep) == asleep).await;
    }

    /// Whether jellypin can wake it.
    pub fn is_wakeable(&self) -> bool {
        self.is_wakeable.load(Ordering::Relaxed)
    }

    pub fn set_wakeable(&self, is_wakeable: bool) {
        if self.is_wakeable.swap(is_wakeable, Ordering::Relaxed) != is_wakeable {
            self.used.store(Moment::now().millis(), Ordering::Relaxed);
        }
        if !is_wakeable {
            self.set_rest(Rest::Awake);
        }
    }

    /// A client uses it now. Costs a pod that never sleeps one load.
    pub fn record_use(&self) {
        if self.is_wakeable() {
            self.used.store(Moment::now().millis(), Ordering::Relaxed);
        }
    }

    /// Since when no client has used it.
    pub fn unused_for(&self) -> Duration {
        let used = self.used.load(Ordering::Relaxed);
        Duration::from_millis(Moment::now().millis().saturating_sub(used))
    }

    /// Requests that wait for it.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

impl WakeCall {
    /// This pod is to wake, as long as this is held.
    pub fn new(pod: &std::sync::Arc<Pod>) -> WakeCall {
        pod.sleep.waiting.fetch_add(1, Ordering::Relaxed);
        WakeCall { pod: pod.clone() }
    }
}

impl Drop for WakeCall {
    fn drop(&mut self) {
        self.pod.sleep.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
