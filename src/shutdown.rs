//! How the proxy stops: it tells every task to end, and waits for all of them. Before that it may
//! leave: another process has taken its place, and only what is under way goes on.

use std::{future::Future, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// One shutdown, shared by all tasks that must learn of it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    stopping: CancellationToken,
    leaving: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    pub fn new() -> Shutdown {
        Shutdown::default()
    }

    /// Tells all tasks to end.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Tells all tasks that another process serves from now on.
    pub fn announce_leaving(&self) {
        self.leaving.cancel();
    }

    pub fn is_leaving(&self) -> bool {
        self.leaving.is_cancelled()
    }

    /// Waits until [`Shutdown::leave`] is called. Cancel safe.
    pub async fn leaving(&self) {
        self.leaving.cancelled().await;
    }

    /// Waits until [`Shutdown::stop`] is called. Cancel safe.
    pub async fn stopping(&self) {
        self.stopping.cancelled().await;
    }

    /// A part that follows this shutdown, and can be stopped and awaited alone.
    pub fn part(&self) -> Shutdown {
        Shutdown {
            stopping: self.stopping.child_token(),
            leaving: self.leaving.child_token(),
            tasks: TaskTracker::new(),
        }
    }

    /// Counts a task as one that the shutdown must wait for.
    pub fn track<F: Future>(&self, task: F) -> impl Future<Output = F::Output> + use<F> {
        self.tasks.track_future(task)
    }

    /// Number of tracked tasks that have not ended.
    pub fn remaining(&self) -> usize {
        self.tasks.len()
    }

    /// Waits at most `at_most` for all tracked tasks. Returns whether all of them ended.
    pub async fn ended(&self, at_most: Duration) -> bool {
        self.tasks.close();
        tokio::time::timeout(at_most, self.tasks.wait()).await.is_ok()
    }
}
