//! A pod in one epoch.

use super::{Epoch, Pod, PodId};

/// No process lives so often.
const DATABASE: Epoch = Epoch(u32::MAX);

/// Where state in a pod's memory lives: the pod and its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PodInstance {
    /// The pod.
    pub pod: PodId,
    /// Its epoch: the process of another one has none of this one's memory.
    pub epoch: Epoch,
}

impl PodInstance {
    /// A pod in all its epochs: for what stands in a database of its own, and outlives its process.
    pub fn of_database(pod: &Pod) -> PodInstance {
        PodInstance { pod: pod.id, epoch: DATABASE }
    }

    /// Whether this is a database of a pod's own.
    pub fn is_database(self) -> bool {
        self.epoch == DATABASE
    }

    /// A pod in its present epoch.
    pub fn of(pod: &Pod) -> PodInstance {
        PodInstance { pod: pod.id, epoch: pod.status().epoch }
    }
}
