//! One session: a user on a device, the tokens that stand for it, and the pod that it lives on.

mod group;
mod migration;
mod moves;
mod replayed_calls;
mod room;
mod sockets;
mod tokens;
mod uptime;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use http::HeaderMap;
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

use super::{PodSessionId, Token, UnixMillis};
use crate::{pod::PodInstance, store::clock::Clock};

pub use crate::jellyfin::authorization::Device;
pub use migration::{Lead, MigrationOutcome, MigrationRole};
pub use moves::{Move, MoveReason};
pub use replayed_calls::{LONGEST_CALL, ReplayedCall};
pub use room::Room;
use sockets::Sockets;
pub use sockets::{KnownSocket, Socket};
pub use tokens::SessionToken;
pub use uptime::Uptime;

/// Pod instances that a session remembers as valid, at most.
const MOST_PLACES: usize = 8;

/// A session's beginning further ahead than this came from a wrong clock; in milliseconds.
const AHEAD: u64 = 5_000;

/// A session, shared by all requests and sockets of its client.
#[derive(Debug)]
pub struct Session {
    /// The pool that it belongs to. Pods of other pools cannot know it.
    pub pool: Arc<str>,
    /// The user's id.
    pub user: String,
    /// What the client says of itself.
    pub device: Device,
    /// The id under which pods list it.
    list_id: PodSessionId,
    /// What all sessions have in common.
    common: Common,
    /// When it was last used, as a moment of the uptime.
    used: AtomicU32,
    /// When its client was last heard, likewise; 0: never by this process.
    heard: AtomicU32,
    /// It was used after it had become known, so a client depends on it.
    is_proven: AtomicBool,
    /// When it was last compared with what other replicas keep, likewise. 0: not since something
    /// may have been missed.
    compared_at: AtomicU32,
    /// When Redis lacked its entry, likewise; 0: never.
    entry_lost_at: AtomicU32,
    /// Locked for a look or a change, never across an await.
    state: Mutex<State>,
    /// Notifies the sockets of the session when its home changes.
    home: watch::Sender<Option<PodInstance>>,
    sockets: watch::Sender<Sockets>,
    /// Remote controls that have come over its sockets.
    remote_controls: AtomicU32,
}

/// What all sessions of a proxy have in common.
#[derive(Clone, Debug, Default)]
pub struct Common {
    /// The clock of their moments.
    pub clock: Clock,
    /// Room for their replayed calls.
    pub room: Room,
    /// The clock of what holds within this process only.
    pub uptime: Uptime,
}

#[derive(Debug, Default)]
struct State {
    /// When the session began, or was last confirmed by an act that ends all others of its user.
    born: UnixMillis,
    /// Grows with each change that is kept. Of two copies the higher one wins.
    revision: u64,
    /// How the session came to its home, here or at another replica.
    moved: Move,
    /// Oldest first; the first is the client's own.
    tokens: Vec<SessionToken>,
    /// Where the session is known to be valid, and by which token; the latest last.
    places: Vec<(PodInstance, Token)>,
    refused: Option<(PodInstance, Instant)>,
    carry: Option<migration::OngoingMigration>,
    group: group::GroupMembership,
    /// Each device's last `POST /Sessions/Capabilities` or `/Full`.
    capabilities: Vec<ReplayedCall>,
    /// Each device's last report of what it plays, and when it came.
    playing: Vec<(ReplayedCall, Instant)>,
    /// The devices of the open sockets, with the sockets' numbers.
    dialled: Vec<(u64, Device)>,
    /// Bytes of `capabilities` and `playing` that the common room counts.
    noted: usize,
    /// The client's address and program, as last sent to pods.
    client: HeaderMap,
    is_dead: bool,
}

impl Session {
    pub fn new(pool: Arc<str>, user: String, device: Device, token: Token) -> Session {
        Session::begun(Common::default(), pool, user, device, token)
    }

    pub(super) fn begun(common: Common, pool: Arc<str>, user: String, device: Device, token: Token) -> Session {
        let at = common.clock.now();
        Session::from_parts(common, pool, user, device, at, 0, vec![SessionToken { token, at }], Vec::new())
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a record, which nothing else is made of")]
    pub(super) fn from_parts(
        common: Common,
        pool: Arc<str>,
        user: String,
        device: Device,
        born: UnixMillis,
        revision: u64,
        tokens: Vec<SessionToken>,
        capabilities: Vec<ReplayedCall>,
    ) -> Session {
        let state = State { born, revision, tokens, capabilities, ..State::default() };
        let session = Session {
            pool,
            user,
            list_id: PodSessionId::of(&device.client, &device.id),
            device,
            common,
            used: AtomicU32::new(0),
            heard: AtomicU32::new(0),
            is_proven: AtomicBool::new(false),
            compared_at: AtomicU32::new(0),
            entry_lost_at: AtomicU32::new(0),
            state: Mutex::new(state),
            home: watch::Sender::new(None),
            sockets: watch::Sender::default(),
            remote_controls: AtomicU32::new(0),
        };
        session.count_notes(&mut session.state.lock());
        session
    }

    /// Whether pods list the session under this id: that of its device, or of another as which its
    /// client has called.
    pub fn is_listed_as(&self, id: PodSessionId) -> bool {
        if self.list_id == id {
            return true;
        }
        let is = |device: &Device| PodSessionId::of(&device.client, &device.id) == id;
        let state = self.state.lock();
        let mut callers = state.dialled.iter().map(|(_, device)| device);
        let mut tellers = state.capabilities.iter().map(|told| &told.reported_by);
        callers.any(|device| *device != self.device && is(device))
            || tellers.any(|device| *device != self.device && is(device))
    }

    /// The pod that the session lives on, if known.
    pub fn home(&self) -> Option<PodInstance> {
        *self.home.borrow()
    }

    /// Counts a remote control that a pod has sent to the client.
    pub fn count_remote_control(&self) {
        self.remote_controls.fetch_add(1, Ordering::Relaxed);
    }

    /// How many remote controls have come over the sockets of this process.
    pub fn remote_controls(&self) -> u32 {
        self.remote_controls.load(Ordering::Relaxed)
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
        if state.is_dead {
            return false;
        }
        let from = self.home();
        let is_move = self.home.send_if_modified(|home| home.replace(place) != Some(place));
        if is_move {
            state.moved = Move { at: self.common.clock.now(), from, why };
        }
        is_move
    }

    /// How the session came to its home.
    pub fn last_move(&self) -> Move {
        self.state.lock().moved
    }

    /// How long ago it came to its home.
    pub fn moved_for(&self) -> Duration {
        Duration::from_millis(self.common.clock.now().saturating_sub(self.moved_at()))
    }

    pub(super) fn moved_at(&self) -> UnixMillis {
        self.last_move().at
    }

    /// When it was last compared with the store; 0: not since something may have been missed.
    pub(super) fn compared_at(&self) -> u32 {
        self.compared_at.load(Ordering::Relaxed)
    }

    pub(super) fn set_compared_at(&self, at: u32) {
        self.compared_at.store(at, Ordering::Relaxed);
    }

    pub(super) fn entry_lost_at(&self) -> u32 {
        self.entry_lost_at.load(Ordering::Relaxed)
    }

    pub(super) fn set_entry_lost_at(&self, at: u32) {
        self.entry_lost_at.store(at, Ordering::Relaxed);
    }

    /// Records that the session is valid there by this token, wherever it lives.
    pub fn record_valid(&self, place: PodInstance, token: &str) {
        let mut state = self.state.lock();
        if state.is_dead {
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
    pub(super) fn restore_home(&self, place: PodInstance, moved: UnixMillis) {
        let mut state = self.state.lock();
        if state.is_dead || (moved < state.moved.at && self.home().is_some()) {
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

    pub(super) fn born(&self) -> UnixMillis {
        self.state.lock().born
    }

    /// Records that an act which ended all other sessions of the user confirmed this one.
    pub(super) fn set_born(&self, at: UnixMillis) {
        self.state.lock().born = at;
    }

    pub(super) fn revision(&self) -> u64 {
        self.state.lock().revision
    }

    /// Counts one more change to keep. Of changes at two replicas the higher number is the later.
    pub(super) fn bump_revision(&self) {
        let mut state = self.state.lock();
        let now = self.common.clock.now();
        state.revision = (state.revision + 1).max(now);
        // The clock may have been ahead until Redis gave the time.
        if state.born > now + AHEAD {
            state.born = now;
        }
    }

    pub fn is_ended(&self) -> bool {
        self.state.lock().is_dead
    }

    /// Ends the session, and notifies its sockets.
    pub(super) fn mark_ended(&self) {
        let mut state = self.state.lock();
        state.is_dead = true;
        state.places.clear();
        state.capabilities.clear();
        state.playing.clear();
        self.count_notes(&mut state);
        drop(state);
        self.home.send_replace(None);
    }

    pub(super) fn heard(&self) -> u32 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Records that a request of the session's client has come.
    pub fn record_heard(&self) {
        let now = self.common.uptime.moment();
        // As in `touch`: only a new value is stored.
        if self.heard.load(Ordering::Relaxed) != now {
            self.heard.store(now, Ordering::Relaxed);
        }
    }

    /// Whether the session's client is there: it has an open socket at this replica, or was heard
    /// within this time. An app that was closed long ago is not there, even if its session
    /// migrates.
    pub fn is_there(&self, within: Duration) -> bool {
        let heard = self.heard();
        let since = self.common.uptime.moment().saturating_sub(heard);
        self.has_sockets() || (heard > 0 && u64::from(since) <= within.as_secs())
    }

    pub(super) fn used(&self) -> u32 {
        self.used.load(Ordering::Relaxed)
    }

    /// Records that the session is used now.
    pub(super) fn touch(&self) {
        let now = self.common.uptime.moment();
        // Writes to the shared cache line only when the value changes.
        let before = self.used.load(Ordering::Relaxed);
        if before != now {
            self.used.store(now, Ordering::Relaxed);
            if before != 0 {
                self.is_proven.store(true, Ordering::Relaxed);
            }
        }
    }

    /// The order in which sessions go when there are too many. First go those unused since they
    /// became known, then the longest unused.
    pub(super) fn worth(&self) -> (bool, u32) {
        (self.is_proven.load(Ordering::Relaxed), self.used.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::{Epoch, Pod, PodConfig};

    pub(super) fn session(token: &str) -> Session {
        let device = Device { client: "Story".into(), name: "Test".into(), id: "sofa".into(), version: "1".into() };
        Session::new("main".into(), "u1".into(), device, Token::new(token))
    }

    pub(super) fn place(name: &str) -> PodInstance {
        PodInstance::of(&Pod::new(&"main".into(), &PodConfig { name: name.into(), authority: "h:1".into() }))
    }

    #[test]
    fn a_session_moves_and_remembers_by_which_token_it_is_known_where() {
        let (session, a, b) = (session("own"), place("a"), place("b"));
        let moves = session.home_changes();
        let first = || MoveReason::First;
        assert!(session.record_home(a, "own", first) && !session.record_home(a, "own", first));
        session.add_minted(Token::new("minted"));
        assert!(session.record_home(b, "minted", || MoveReason::HomeGone));
        let Move { from, why, .. } = session.last_move();
        assert_eq!((from, why), (Some(a), MoveReason::HomeGone));
        assert_eq!((session.home(), *moves.borrow()), (Some(b), Some(b)));
        assert_eq!(session.token_at(a), Some(Token::new("own")));
        assert_eq!(session.token_at(b), Some(Token::new("minted")));
        assert_eq!(session.token_at(PodInstance { epoch: Epoch(9), ..b }), None, "another life knows nothing of it");
        session.forget_token_at(a);
        assert_eq!(session.token_at(a), None);
    }

    #[test]
    fn what_comes_after_the_end_changes_nothing() {
        let (session, a) = (session("own"), place("a"));
        session.record_home(a, "own", || MoveReason::First);
        session.mark_ended();
        assert!(!session.record_home(a, "own", || MoveReason::First));
        session.restore_home(a, UnixMillis::MAX);
        assert_eq!((session.home(), session.token_at(a)), (None, None));
    }

    #[test]
    fn an_older_move_of_another_replica_moves_nobody_back() {
        let (session, a, b) = (session("own"), place("a"), place("b"));
        session.record_home(a, "own", || MoveReason::First);
        session.restore_home(b, session.moved_at() - 1);
        assert_eq!(session.home(), Some(a));
        session.restore_home(b, session.moved_at() + 1);
        assert_eq!(session.home(), Some(b));
    }
}
