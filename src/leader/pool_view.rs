//! The pods of a pool at one moment, and a signal when they change.

use std::sync::Arc;

use futures_util::future::select_all;
use tokio::sync::watch;

use super::rule::{Candidate, Fitness};
use crate::pod::{Pod, Pool, State, Status};

/// The pods, in name order.
pub struct PoolView {
    pods: Vec<Arc<Pod>>,
}

/// Waits for the next change.
pub struct Change {
    members: watch::Receiver<()>,
    statuses: Vec<watch::Receiver<Status>>,
}

/// Takes a view of a pool. The [`Change`] reports whatever happens after it.
pub fn look(pool: &Pool) -> (PoolView, Change) {
    let members = pool.members();
    let pods = pool.pods().to_vec();
    let statuses = pods.iter().map(|pod| pod.life.changes()).collect();
    (PoolView { pods }, Change { members, statuses })
}

impl PoolView {
    pub fn candidates(&self) -> Vec<Candidate> {
        let fitness = |pod: &Pod| match pod.status().state {
            State::Ready => Fitness::Ready,
            State::Draining if pod.drain.gives_up_lead() => Fitness::Yielding,
            State::Draining => Fitness::Draining,
            State::Starting | State::Down => Fitness::Away,
        };
        let candidate = |pod: &Arc<Pod>| Candidate { name: pod.name.clone(), fitness: fitness(pod) };
        self.pods.iter().map(candidate).collect()
    }

    pub fn pods(&self) -> &[Arc<Pod>] {
        &self.pods
    }

    pub fn pod(&self, name: Option<&Arc<str>>) -> Option<Arc<Pod>> {
        self.pods.iter().find(|pod| Some(&pod.name) == name).cloned()
    }
}

impl Change {
    /// Ends at the first change since the look. Cancel safe.
    pub async fn happens(&mut self) {
        // If a sender is gone, so is its pod, and the members' channel reports that.
        let statuses = self.statuses.iter_mut().map(|status| Box::pin(status.changed()));
        let any_status = async {
            if statuses.len() == 0 {
                std::future::pending::<()>().await;
            }
            let _ = select_all(statuses).await;
        };
        tokio::select! {
            _ = self.members.changed() => {}
            () = any_status => {}
        }
    }
}
