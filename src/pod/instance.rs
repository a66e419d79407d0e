//! A pod in one epoch.

use super::{Epoch, Pod, PodId};

/// Where state in a pod's memory lives: the pod and its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PodInstance {
    /// The pod.
    pub pod: PodId,
    /// Its epoch: the process of another one has none of this one's memory.
    pub epoch: Epoch,
}

impl PodInstance {
    /// A pod in its present epoch.
    pub fn of(pod: &Pod) -> PodInstance {
        PodInstance { pod: pod.id, epoch: pod.status().epoch }
    }
}
