//! The tasks whose triggers clients have set at a leader.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::pod::PodId;

/// Edits that nobody has looked at yet. Of more, only that there are some is known.
const MOST: usize = 1024;

/// What clients have set, until it is looked at.
#[derive(Debug, Default)]
pub struct TaskEdits {
    made: Mutex<BTreeSet<(PodId, String)>>,
    news: Notify,
}

impl TaskEdits {
    /// A pod has taken a client's triggers for a task.
    pub fn record(&self, pod: PodId, task: &str) {
        let mut made = self.made.lock();
        if made.len() < MOST {
            made.insert((pod, task.to_ascii_lowercase()));
        }
        drop(made);
        self.news.notify_one();
    }

    /// The tasks that were set at this pod.
    pub fn at(&self, pod: PodId) -> BTreeSet<String> {
        self.made.lock().iter().filter(|(at, _)| *at == pod).map(|(_, task)| task.clone()).collect()
    }

    /// They were looked at: whatever was set is known.
    pub fn forget(&self, edits: &BTreeSet<String>, pod: PodId) {
        self.made.lock().retain(|(at, task)| *at != pod || !edits.contains(task));
    }

    /// Ends when there is a new edit. Cancel safe.
    pub async fn news(&self) {
        self.news.notified().await;
    }
}
