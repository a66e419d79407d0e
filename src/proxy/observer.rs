//! Step 9, observe: where one worker writes its access lines and counts.

mod metric_handles;

use std::sync::atomic::{AtomicBool, Ordering};

use crate::observe::{access, metrics::Metrics};
use metric_handles::MetricHandles;

/// One worker's access lines and metrics.
pub(in crate::proxy) struct Observer {
    pub(in crate::proxy) access: access::Worker,
    pub(in crate::proxy) metrics: Metrics,
    pub(in crate::proxy) handles: MetricHandles,
    /// Whether an answer says how long its request waited, and where it was tried.
    tells_waits: AtomicBool,
}

impl Observer {
    pub(in crate::proxy) fn new(access: access::Worker, metrics: Metrics, tells_waits: bool) -> Observer {
        let handles = MetricHandles::new(metrics.clone());
        Observer { access, metrics, handles, tells_waits: AtomicBool::new(tells_waits) }
    }

    pub(in crate::proxy) fn tells_waits(&self) -> bool {
        self.tells_waits.load(Ordering::Relaxed)
    }

    pub(in crate::proxy) fn set_tells_waits(&self, tells_waits: bool) {
        self.tells_waits.store(tells_waits, Ordering::Relaxed);
    }
}
