//! A pod in one of its lives.

use super::{Epoch, Pod, PodId};

/// Where something lives that is in a pod's memory: the pod, and which of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PodInstance {
    /// The pod.
    pub pod: PodId,
    /// Its life: another one knows nothing of what was in the memory of this.
    pub epoch: Epoch,
}

impl PodInstance {
    /// A pod in its present life.
    pub fn of(pod: &Pod) -> PodInstance {
        PodInstance { pod: pod.id, epoch: pod.status().epoch }
    }
}
