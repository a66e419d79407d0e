//! Where a session goes once its client is idle: it signed in on the one pod that could answer.

use parking_lot::Mutex;

use crate::pod::PodInstance;

/// A session's way from one pod to another. It is void once the session lives elsewhere.
#[derive(Debug, Default)]
pub struct Destination(Mutex<Option<(PodInstance, PodInstance)>>);

impl Destination {
    /// From this pod it goes to that one.
    pub fn set(&self, from: PodInstance, to: PodInstance) {
        *self.0.lock() = Some((from, to));
    }

    /// Where a session that lives here is to go.
    pub fn of(&self, home: PodInstance) -> Option<PodInstance> {
        self.0.lock().filter(|(from, _)| *from == home).map(|(_, to)| to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sessions::session::tests::place;

    #[test]
    fn a_session_that_has_moved_goes_nowhere() {
        let (destination, a, b) = (Destination::default(), place("a"), place("b"));
        assert_eq!(destination.of(a), None);
        destination.set(a, b);
        assert_eq!((destination.of(a), destination.of(b)), (Some(b), None));
    }
}
