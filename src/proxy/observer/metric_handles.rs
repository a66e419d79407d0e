//! One worker's handles of the metrics that every request touches.
//!
//! A look-up in a metric family compares label texts, under a lock that all workers share. So a
//! worker does it once for each set of labels, and keeps the handle under a cheap key.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use prometheus_client::metrics::{counter::Counter, histogram::Histogram};

use crate::{
    observe::metrics::{Metrics, OfPod, Request, class},
    pod::{Pod, PodId},
};

pub(in crate::proxy) struct MetricHandles {
    metrics: Metrics,
    /// Never contended: only this worker locks it, for one look-up.
    requests: Mutex<HashMap<Key, Counter, ahash::RandomState>>,
    first_byte: Mutex<HashMap<PodId, Histogram, ahash::RandomState>>,
}

/// The addresses of the route's and the reason's texts, which stay while the proxy runs.
type Key = (usize, Option<PodId>, &'static str, usize);

impl MetricHandles {
    pub(super) fn new(metrics: Metrics) -> MetricHandles {
        MetricHandles { metrics, requests: Mutex::default(), first_byte: Mutex::default() }
    }

    /// Counts a request that has ended.
    pub(in crate::proxy) fn request(
        &self,
        route: Option<&Arc<str>>,
        pod: Option<&Arc<Pod>>,
        status: u16,
        reason: &'static str,
    ) {
        let code = class(status);
        let place = |text: &str| text.as_ptr().addr();
        let key = (route.map_or(0, |route| place(route)), pod.map(|pod| pod.id), code, place(reason));
        let mut requests = self.requests.lock();
        let counter = requests.entry(key).or_insert_with(|| {
            let labels = Request {
                route: route.cloned().unwrap_or_default(),
                pod: pod.map(|pod| pod.name.clone()).unwrap_or_default(),
                code,
                reason,
            };
            self.metrics.requests.get_or_create(&labels).clone()
        });
        counter.inc();
    }

    /// Records how long a pod took to send the head of an answer.
    pub(in crate::proxy) fn first_byte(&self, pod: &Arc<Pod>, time: Duration) {
        let mut histograms = self.first_byte.lock();
        let histogram = histograms.entry(pod.id).or_insert_with(|| {
            let labels = OfPod { pool: pod.pool.clone(), pod: pod.name.clone() };
            self.metrics.first_byte.get_or_create(&labels).clone()
        });
        histogram.observe(time.as_secs_f64());
    }
}
