//! The pods that a session has left while they still listed it.
//!
//! A pod keeps the session of a client that has no socket for long. It does not hear that the client
//! lives elsewhere, so jellypin has to end the session there (`proxy/pod_lifecycle/ghosts`).

use parking_lot::Mutex;

use crate::pod::PodInstance;

/// Pods that are remembered, at most.
const MOST: usize = 8;

/// The pod instances that may still list a session that has moved; the latest last.
#[derive(Debug, Default)]
pub struct LeftPods(Mutex<Vec<PodInstance>>);

impl LeftPods {
    pub fn places(&self) -> Vec<PodInstance> {
        self.0.lock().clone()
    }

    pub fn is_any(&self) -> bool {
        !self.0.lock().is_empty()
    }

    /// The pod does not list the session any more, or never will end it.
    pub fn forget(&self, place: PodInstance) {
        self.0.lock().retain(|left| *left != place);
    }

    /// Records a move. What lives on a pod again is no leftover there.
    pub(super) fn record_move(&self, from: Option<PodInstance>, to: PodInstance) {
        let mut left = self.0.lock();
        left.retain(|place| place.pod != to.pod && from.is_none_or(|from| from.pod != place.pod));
        left.extend(from.filter(|from| from.pod != to.pod));
        if left.len() > MOST {
            left.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{pod::Epoch, sessions::session::tests::place};

    #[test]
    fn a_pod_is_left_until_the_session_is_back_or_is_ended_there() {
        let (left, a, b) = (LeftPods::default(), place("a"), place("b"));
        left.record_move(None, a);
        assert!(!left.is_any());
        left.record_move(Some(a), b);
        assert_eq!(left.places(), [a]);
        left.record_move(Some(b), a);
        assert_eq!(left.places(), [b], "it lives on the first again");
        let reborn = PodInstance { epoch: Epoch(9), ..a };
        left.record_move(Some(a), reborn);
        assert_eq!(left.places(), [b], "a pod that begins anew lists nobody");
        left.forget(b);
        assert!(!left.is_any());
    }
}
