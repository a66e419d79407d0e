//! How the proxy stops: everybody is told, and everybody is waited for.

use std::{future::Future, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// One shutdown, shared by all that has to hear of it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    stopping: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    pub fn new() -> Shutdown {
        Shutdown::default()
    }

    /// Tells everybody to come to an end.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Ends when [`Shutdown::stop`] was called. Cancel safe.
    pub async fn stopping(&self) {
        self.stopping.cancelled().await;
    }

    /// A part that hears of this shutdown, can be stopped alone, and is waited for by itself.
    pub fn part(&self) -> Shutdown {
        Shutdown { stopping: self.stopping.child_token(), tasks: TaskTracker::new() }
    }

    /// Counts a task as one that the end has to wait for.
    pub fn track<F: Future>(&self, task: F) -> impl Future<Output = F::Output> + use<F> {
        self.tasks.track_future(task)
    }

    /// Number of tracked tasks that have not ended.
    pub fn remaining(&self) -> usize {
        self.tasks.len()
    }

    /// Waits for all tracked tasks, at most this long. Says whether all of them ended.
    pub async fn ended(&self, at_most: Duration) -> bool {
        self.tasks.close();
        tokio::time::timeout(at_most, self.tasks.wait()).await.is_ok()
    }
}
