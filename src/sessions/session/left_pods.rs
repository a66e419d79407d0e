//! The pods that a session has left while they still listed it.
//!
//! A pod keeps the session of a client that has no socket for long. It does not hear that the client
//! lives elsewhere, so jellypin has to end the session there (`proxy/pod_lifecycle/ghosts`).

use parking_lot::Mutex;

use crate::pod::PodInstance;

/// Pods that are remembered, at most.
const MOST: usize = 8;

/// How often jellypin tries to end a session on a pod that does not let it.
const MOST_TRIES: u8 = 10;

/// The pod instances that may still list a session that has moved; the latest last.
#[derive(Debug, Default)]
pub struct LeftPods(Mutex<Vec<Left>>);

#[derive(Debug)]
struct Left {
    place: PodInstance,
    /// jellypin is about to end the session there.
    is_visited: bool,
    /// How often it could not.
    failures: u8,
}

impl LeftPods {
    /// Those where jellypin is not about to end it.
    pub fn places(&self) -> Vec<PodInstance> {
        self.0.lock().iter().filter(|left| !left.is_visited).map(|left| left.place).collect()
    }

    pub fn is_any(&self) -> bool {
        !self.0.lock().is_empty()
    }

    /// The pod does not list the session any more, or never will end it.
    pub fn forget(&self, place: PodInstance) {
        self.0.lock().retain(|left| left.place != place);
    }

    /// jellypin begins to end the session there. Says whether there is anything to end, and nobody
    /// else does.
    pub fn begin_visit(&self, place: PodInstance) -> bool {
        let mut left = self.0.lock();
        let found = left.iter_mut().find(|left| left.place == place && !left.is_visited);
        found.map(|left| left.is_visited = true).is_some()
    }

    /// It has ended the session there, or will have to try again.
    pub fn finish_visit(&self, place: PodInstance, is_ended: bool) {
        let mut left = self.0.lock();
        if let Some(left) = left.iter_mut().find(|left| left.place == place) {
            left.is_visited = false;
            left.failures += 1;
        }
        left.retain(|left| left.place != place || !(is_ended || left.failures >= MOST_TRIES));
    }

    /// Records a move. What lives on a pod again is no leftover there.
    pub(super) fn record_move(&self, from: Option<PodInstance>, to: PodInstance) {
        let mut left = self.0.lock();
        left.retain(|left| left.place.pod != to.pod && from.is_none_or(|from| from.pod != left.place.pod));
        let from = from.filter(|from| from.pod != to.pod);
        left.extend(from.map(|place| Left { place, is_visited: false, failures: 0 }));
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
        assert_eq!(left.places(), [b], "a pod that has just started lists nobody");
        left.forget(b);
        assert!(!left.is_any());
    }

    #[test]
    fn a_visit_that_fails_is_made_again_but_not_for_ever_and_never_two_at_once() {
        let (left, a, b) = (LeftPods::default(), place("a"), place("b"));
        assert!(!left.begin_visit(a), "there is nothing to end");
        left.record_move(Some(a), b);
        for _ in 0..MOST_TRIES {
            assert!(left.begin_visit(a) && !left.begin_visit(a));
            assert!(left.places().is_empty() && left.is_any(), "it is under way");
            left.finish_visit(a, false);
        }
        assert!(!left.is_any(), "the pod does not let jellypin");
        left.record_move(Some(a), b);
        assert!(left.begin_visit(a));
        left.finish_visit(a, true);
        assert!(!left.is_any());
    }
}
