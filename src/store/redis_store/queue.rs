//! Writes that wait for Redis behind the requests.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::{
    sync::{mpsc, oneshot},
    time,
};

use super::{Times, link::Link, writer::Change};
use crate::{
    observe::metrics::{Metrics, StoreOutcome},
    store::outcome::WriteOutcome,
};

/// Changes that may wait for Redis. Further ones are dropped.
pub(super) const MOST: usize = 8192;

/// The longest time that [`WriteQueue::finish`] takes.
const FINISH: Duration = Duration::from_secs(1);

/// The queue of changes; one task writes them in their order.
pub struct WriteQueue {
    pub(super) link: Arc<Link>,
    pub(super) changes: mpsc::Sender<Change>,
    /// How long an entry is kept after it was last written.
    pub(super) times: Arc<ArcSwap<Times>>,
    pub(super) metrics: Metrics,
}

impl WriteQueue {
    /// Queues the write of an entry.
    pub fn put(&self, key: String, value: Vec<u8>) {
        self.put_for(key, value, self.times.load().ttl);
    }

    /// Queues the write of an entry that lasts for `lasts`.
    pub fn put_for(&self, key: String, value: Vec<u8>, lasts: Duration) {
        self.change(Change::Put { key, value, lasts });
    }

    /// Queues the removal of an entry.
    pub fn remove(&self, key: String) {
        self.change(Change::Remove { key });
    }

    /// Publishes on a channel, after all changes queued so far are written.
    pub fn publish(&self, channel: String, message: String) {
        self.change(Change::Publish { channel, message });
    }

    /// Waits at most `at_most` until the changes so far are written. Returns whether they are.
    pub async fn flush(&self, at_most: Duration) -> bool {
        if self.link.connection().is_none() {
            return false;
        }
        let (done, is_done) = oneshot::channel();
        let written = async { self.changes.send(Change::Mark(done)).await.is_ok() && is_done.await.is_ok() };
        time::timeout(at_most, written).await.unwrap_or(false)
    }

    /// Waits a moment for the changes that are still queued.
    pub async fn finish(&self) {
        if self.link.connection().is_none() && self.changes.capacity() == MOST {
            return;
        }
        if !self.flush(FINISH).await {
            tracing::warn!("Redis did not accept every write in time");
        }
    }

    fn change(&self, change: Change) {
        if self.changes.try_send(change).is_err() {
            self.metrics.store_writes.get_or_create(&StoreOutcome { outcome: WriteOutcome::Dropped.as_str() }).inc();
        }
    }
}
