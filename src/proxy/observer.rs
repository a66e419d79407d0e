//! Step 9, observe: where one worker writes its access lines and counts.

mod metric_handles;

use crate::observe::{access, metrics::Metrics};
use metric_handles::MetricHandles;

/// One worker's access lines and metrics.
pub(in crate::proxy) struct Observer {
    pub(in crate::proxy) access: access::Worker,
    pub(in crate::proxy) metrics: Metrics,
    pub(in crate::proxy) handles: MetricHandles,
}

impl Observer {
    pub(in crate::proxy) fn new(access: access::Worker, metrics: Metrics) -> Observer {
        let handles = MetricHandles::new(metrics.clone());
        Observer { access, metrics, handles }
    }
}
