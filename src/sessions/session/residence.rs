//! Where a session lives, and by which token it is valid at which pod.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{
    left_pods::LeftPods,
    moves::{Move, MoveReason},
};
use crate::{
    pod::PodInstance,
    sessions::{Token, UnixMillis},
    store::clock::Clock,
};

/// Pod instances that a session remembers as valid, at most.
const MOST_PLACES: usize = 8;

/// A session's home, until the session ends.
#[derive(Debug)]
pub struct Residence {
    clock: Clock,
    state: Mutex<State>,
    /// Notifies the sockets of the session when its home changes.
    home: watch::Sender<Option<PodInstance>>,
    /// Where it may still be listed, although it lives elsewhere.
    pub left: LeftPods,
}

#[derive(Debug, Default)]
struct State {
    /// How the session came to its home, here or at another replica.
    moved: Move,
    /// Where the session is known to be valid, and by which token; the latest last.
    places: Vec<(PodInstance, Token)>,
    is_ended: bool,
}

impl Residence {
    pub(super) fn new(clock: Clock) -> Residence {
        Residence { clock, state: Mutex::default(), home: watch::Sender::new(None), left: LeftPods::default() }
    }

    /// The pod that the session lives on, if known.
    pub fn home(&self) -> Option<PodInstance> {
        *self.home.borrow()
    }

    /// Gives the present home at once, and then each move.
    pub fn home_changes(&self) -> watch::Receiver<Option<PodInstance>> {
        let mut moves = self.home.subscribe();
        moves.mark_changed();
        moves
    }

    /// The token by which the session is valid at this pod instance.
    pub fn token_at(&self, place: PodInstance) -> Option<Token> {
        let state = self.state.lock();
        state.places.iter().rev().find(|(at, _)| *at == place).map(|(_, token)| token.clone())
    }

    /// Records that this instance accepted the token: the session lives there now. Says whether
    /// that is a move.
    pub fn record_home(&self, place: PodInstance, token: &str, why: impl FnOnce() -> MoveReason) -> bool {
        // The usual case costs only one look.
        if self.home() == Some(place) && self.token_at(place).is_some() {
            return false;
        }
        let why = why();
        self.record_valid(place, token);
        let mut state = self.state.lock();
        // Work that was under way when the session ended must not change it.
        if state.is_ended {
            return false;
        }
        let from = self.home();
        let is_move = self.home.send_if_modified(|home| home.replace(place) != Some(place));
        if is_move {
            state.moved = Move { at: self.clock.now(), from, why };
            self.left.record_move(from, place);
        }
        is_move
    }

    /// How the session came to its home.
    pub fn last_move(&self) -> Move {
        self.state.lock().moved
    }

    /// How long ago it came to its home.
    pub fn moved_for(&self) -> Duration {
        Duration::from_millis(self.clock.now().saturating_sub(self.moved_at()))
    }

    pub(in crate::sessions) fn moved_at(&self) -> UnixMillis {
        self.last_move().at
    }

    /// Records that the session is valid there by this token, wherever it lives.
    pub fn record_valid(&self, place: PodInstance, token: &str) {
        let mut state = self.state.lock();
        if state.is_ended {
            return;
        }
        state.places.retain(|(at, _)| *at != place);
        state.places.push((place, Token::new(token)));
        if state.places.len() > MOST_PLACES {
            state.places.remove(0);
        }
    }

    /// Takes the home from a stored entry; which token is valid there is not known yet. A later
    /// move that is known already stays.
    pub(in crate::sessions) fn restore_home(&self, place: PodInstance, moved: UnixMillis) {
        let mut state = self.state.lock();
        if state.is_ended || (moved < state.moved.at && self.home().is_some()) {
            return;
        }
        let from = self.home();
        let is_move = self.home.send_if_modified(|home| home.replace(place) != Some(place));
        if is_move {
            state.moved = Move { at: moved, from, why: MoveReason::StoredEntry };
        }
        state.moved.at = moved;
    }

    /// Forgets the token there: it is not valid after all.
    pub fn forget_token_at(&self, place: PodInstance) {
        self.state.lock().places.retain(|(at, _)| *at != place);
    }

    /// Forgets where the session is valid, except at this instance.
    pub fn reset_instances(&self, but: Option<PodInstance>) {
        self.state.lock().places.retain(|(at, _)| Some(*at) == but);
        self.home.send_if_modified(|home| std::mem::replace(home, but) != but);
    }

    pub(super) fn is_ended(&self) -> bool {
        self.state.lock().is_ended
    }

    /// It lives nowhere any more.
    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        state.is_ended = true;
        state.places.clear();
        drop(state);
        self.home.send_replace(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{pod::Epoch, sessions::session::tests::place};

    fn residence() -> Residence {
        Residence::new(Clock::default())
    }

    #[test]
    fn a_session_moves_and_remembers_by_which_token_it_is_known_where() {
        let (residence, a, b) = (residence(), place("a"), place("b"));
        let moves = residence.home_changes();
        let first = || MoveReason::First;
        assert!(residence.record_home(a, "own", first) && !residence.record_home(a, "own", first));
        assert!(residence.record_home(b, "minted", || MoveReason::HomeGone));
        let Move { from, why, .. } = residence.last_move();
        assert_eq!((from, why), (Some(a), MoveReason::HomeGone));
        assert_eq!((residence.home(), *moves.borrow()), (Some(b), Some(b)));
        assert_eq!(residence.token_at(a), Some(Token::new("own")));
        assert_eq!(residence.token_at(b), Some(Token::new("minted")));
        assert_eq!(residence.token_at(PodInstance { epoch: Epoch(9), ..b }), None, "another life knows nothing of it");
        residence.forget_token_at(a);
        assert_eq!(residence.token_at(a), None);
    }

    #[test]
    fn what_comes_after_the_end_changes_nothing() {
        let (residence, a) = (residence(), place("a"));
        residence.record_home(a, "own", || MoveReason::First);
        residence.end();
        assert!(!residence.record_home(a, "own", || MoveReason::First));
        residence.restore_home(a, UnixMillis::MAX);
        assert_eq!((residence.home(), residence.token_at(a)), (None, None));
    }

    #[test]
    fn an_older_move_of_another_replica_moves_nobody_back() {
        let (residence, a, b) = (residence(), place("a"), place("b"));
        residence.record_home(a, "own", || MoveReason::First);
        residence.restore_home(b, residence.moved_at() - 1);
        assert_eq!(residence.home(), Some(a));
        residence.restore_home(b, residence.moved_at() + 1);
        assert_eq!(residence.home(), Some(b));
    }
}
