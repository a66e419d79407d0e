//! One session: a user on a device, the tokens that stand for it, and the pod that it lives on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

use super::{Token, UnixMillis, now};
use crate::pod::{Epoch, Pod, PodId};

/// Tokens of one session kept at most: the client's own, and the latest that were minted for it. Older ones stand only in
/// playlists of films that ended long ago.
const MOST_TOKENS: usize = 6;

/// Pods that a session is known to be valid on, kept at most.
const MOST_PLACES: usize = 8;

/// How long a pod that would not take a session is not asked to again.
const REFUSED: Duration = Duration::from_secs(10);

/// How long after a player's last report its film counts as running.
const REPORTED: Duration = Duration::from_secs(60);

/// The longest report or list of capabilities that is remembered, in bytes.
pub const LONGEST_NOTE: usize = 32 * 1024;

/// A session, shared by all that has to do with it.
#[derive(Debug)]
pub struct Session {
    /// The pool that it belongs to: no other's pods can know it.
    pub pool: Arc<str>,
    /// The user's id.
    pub user: String,
    /// What the client says of itself.
    pub device: Device,
    /// Seconds since the start of the store that it stands in.
    pub(super) used: AtomicU32,
    /// Held for a look or a change, never across an await.
    state: Mutex<State>,
    /// Tells the sockets of the session that it lives elsewhere now.
    home: watch::Sender<Option<Place>>,
    /// Its sockets by number, and the pod that has greeted each last.
    sockets: watch::Sender<Vec<(u64, PodId)>>,
}

/// What a client says of itself: the four fields that the server demands of a log-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub client: String,
    /// The device's name.
    pub name: String,
    pub id: String,
    pub version: String,
}

#[derive(Debug, Default)]
struct State {
    /// When the session began, or was last confirmed by an act that ends all others of its user.
    born: UnixMillis,
    /// Grows with each change that is kept; of two copies the higher is right.
    revision: u64,
    /// Oldest first; the first is the client's own.
    tokens: Vec<Minted>,
    /// Where the session is known to be valid, and by which token; the latest last.
    places: Vec<(Place, Token)>,
    refused: Option<(Place, Instant)>,
    carry: Option<(Place, watch::Receiver<Option<Carried>>)>,
    notes: Notes,
    /// When something was last played.
    played: Option<Instant>,
    /// What pods were told of the client last: its address, and its program.
    client: HeaderMap,
    is_dead: bool,
}

/// A pod in one of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    pub pod: PodId,
    pub epoch: Epoch,
}

impl Place {
    pub fn of(pod: &Pod) -> Place {
        Place { pod: pod.id, epoch: pod.status().epoch }
    }
}

/// A token and when it was minted, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minted {
    pub token: Token,
    pub at: UnixMillis,
}

/// What a pod knows of a client by requests that are not repeated: told again to the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// `POST /Sessions/Capabilities` or `/Full`.
    pub capabilities: Option<Note>,
    /// The last report of what is being played.
    pub playing: Option<Note>,
}

/// A request to be told again: its path and query below the BaseUrl, and its body of JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub target: String,
    pub body: Bytes,
}

/// How a carry-over came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// The session is valid there; its token stands in [`Session::token_at`].
    Settled,
    /// The pod would not take it, or may not be asked.
    Refused,
    /// The session was ended: it is not revived.
    Dead,
    /// The pod could not be reached, or broke off.
    Failed,
}

/// Who does the work of a carry-over, and who waits for it.
pub enum Part {
    Lead(watch::Sender<Option<Carried>>, watch::Receiver<Option<Carried>>),
    Follow(watch::Receiver<Option<Carried>>),
}

impl Session {
    pub fn new(pool: Arc<str>, user: String, device: Device, token: Token) -> Session {
        let at = now();
        Session::of_parts(pool, user, device, at, 0, vec![Minted { token, at }], Notes::default())
    }

    pub(super) fn of_parts(
        pool: Arc<str>,
        user: String,
        device: Device,
        born: UnixMillis,
        revision: u64,
        tokens: Vec<Minted>,
        notes: Notes,
    ) -> Session {
        let state = State { born, revision, tokens, notes, ..State::default() };
        Session {
            pool,
            user,
            device,
            used: AtomicU32::new(0),
            state: Mutex::new(state),
            home: watch::Sender::new(None),
            sockets: watch::Sender::default(),
        }
    }

    /// The sockets of the session, and where they are.
    pub fn sockets(&self) -> watch::Receiver<Vec<(u64, PodId)>> {
        self.sockets.subscribe()
    }

    /// A pod has greeted this socket of the session.
    pub fn greeted(&self, socket: u64, pod: PodId) {
        self.sockets.send_modify(|sockets| {
            sockets.retain(|(other, _)| *other != socket);
            sockets.push((socket, pod));
        });
    }

    /// A socket of the session has ended.
    pub fn parted(&self, socket: u64) {
        self.sockets.send_modify(|sockets| sockets.retain(|(other, _)| *other != socket));
    }

    /// Where the session lives, if that is known.
    pub fn home(&self) -> Option<Place> {
        *self.home.borrow()
    }

    /// Hears of every move.
    pub fn moves(&self) -> watch::Receiver<Option<Place>> {
        self.home.subscribe()
    }

    /// The token by which the session is valid at this place.
    pub fn token_at(&self, place: Place) -> Option<Token> {
        let state = self.state.lock();
        state.places.iter().rev().find(|(at, _)| *at == place).map(|(_, token)| token.clone())
    }

    /// Whether this token stands for the session.
    pub fn has(&self, token: &str) -> bool {
        self.state.lock().tokens.iter().any(|minted| minted.token.as_str() == token)
    }

    /// All tokens, the latest first.
    pub fn tokens(&self) -> Vec<Minted> {
        self.state.lock().tokens.iter().rev().cloned().collect()
    }

    /// The session was accepted at this place by this token: it lives there now. Says whether that is a move.
    pub fn settle(&self, place: Place, token: &str) -> bool {
        // What holds nearly always costs one look.
        if self.home() == Some(place) && self.token_at(place).is_some() {
            return false;
        }
        self.accept(place, token);
        self.home.send_if_modified(|home| home.replace(place) != Some(place))
    }

    /// The session is valid at this place by this token, wherever it lives.
    pub fn accept(&self, place: Place, token: &str) {
        let mut state = self.state.lock();
        state.places.retain(|(at, _)| *at != place);
        state.places.push((place, Token::new(token)));
        if state.places.len() > MOST_PLACES {
            state.places.remove(0);
        }
    }

    /// The session lives there, as it was kept; by which token is not known yet.
    pub(super) fn presume(&self, place: Place) {
        self.home.send_replace(Some(place));
    }

    /// The token is not valid there after all.
    pub fn leave(&self, place: Place) {
        self.state.lock().places.retain(|(at, _)| *at != place);
    }

    /// Where the session is valid is not known any more, but for this place.
    pub fn unsettle(&self, but: Option<Place>) {
        self.state.lock().places.retain(|(at, _)| Some(*at) == but);
        self.home.send_if_modified(|home| std::mem::replace(home, but) != but);
    }

    /// A token was minted for the session.
    pub fn add(&self, token: Token) {
        let mut state = self.state.lock();
        if state.tokens.iter().any(|minted| minted.token == token) {
            return;
        }
        state.tokens.push(Minted { token, at: now() });
        if state.tokens.len() > MOST_TOKENS {
            // The first is the client's own.
            state.tokens.remove(1);
        }
    }

    /// Takes in what another replica kept later. Says whether it was later.
    pub(super) fn adopt(&self, later: &Session) -> bool {
        let theirs = later.state.lock();
        let mut state = self.state.lock();
        if theirs.revision <= state.revision {
            return false;
        }
        state.revision = theirs.revision;
        state.born = theirs.born;
        state.tokens.clone_from(&theirs.tokens);
        state.notes.clone_from(&theirs.notes);
        true
    }

    pub(super) fn born(&self) -> UnixMillis {
        self.state.lock().born
    }

    /// The session was confirmed by an act that ended all others of its user.
    pub(super) fn confirm(&self, at: UnixMillis) {
        self.state.lock().born = at;
    }

    pub(super) fn revision(&self) -> u64 {
        self.state.lock().revision
    }

    /// One more change is to be kept.
    pub(super) fn revise(&self) {
        self.state.lock().revision += 1;
    }

    pub fn is_dead(&self) -> bool {
        self.state.lock().is_dead
    }

    /// The session was ended. Its sockets hear of it.
    pub(super) fn die(&self) {
        let mut state = self.state.lock();
        state.is_dead = true;
        state.places.clear();
        drop(state);
        self.home.send_replace(None);
    }

    pub fn notes(&self) -> Notes {
        self.state.lock().notes.clone()
    }

    /// Remembers what the client posted. Says whether that is new.
    pub fn note_capabilities(&self, note: Note) -> bool {
        let mut state = self.state.lock();
        let is_new = state.notes.capabilities.as_ref() != Some(&note);
        state.notes.capabilities = Some(note);
        is_new
    }

    /// Remembers what is being played; `None` when nothing is any more.
    pub fn note_playing(&self, note: Option<Note>) {
        let mut state = self.state.lock();
        state.played = note.is_some().then(Instant::now);
        state.notes.playing = note;
    }

    /// Whether a film runs: players report every ten seconds or so, and one that is gone reports nothing.
    pub fn is_playing(&self) -> bool {
        self.state.lock().played.is_some_and(|at| at.elapsed() < REPORTED)
    }

    /// What pods were told of the client last.
    pub fn client(&self) -> HeaderMap {
        self.state.lock().client.clone()
    }

    /// Whether nothing is known of that yet.
    pub fn is_faceless(&self) -> bool {
        self.state.lock().client.is_empty()
    }

    pub fn note_client(&self, client: HeaderMap) {
        self.state.lock().client = client;
    }

    /// Whether this pod has just refused to take the session.
    pub fn is_refused(&self, place: Place) -> bool {
        self.state.lock().refused.is_some_and(|(at, until)| at == place && until > Instant::now())
    }

    pub fn refuse(&self, place: Place) {
        self.state.lock().refused = Some((place, Instant::now() + REFUSED));
    }

    /// The one carry-over to this place: the first to come leads it, the others follow.
    pub fn carry(&self, place: Place) -> Part {
        let mut state = self.state.lock();
        // A sender that is gone without a word has ended with its worker.
        let is_under_way =
            |outcome: &watch::Receiver<Option<Carried>>| outcome.borrow().is_none() && outcome.has_changed().is_ok();
        if let Some((to, outcome)) = &state.carry
            && *to == place
            && is_under_way(outcome)
        {
            return Part::Follow(outcome.clone());
        }
        let (tell, outcome) = watch::channel(None);
        state.carry = Some((place, outcome.clone()));
        Part::Lead(tell, outcome)
    }

    /// The pod that the session is being carried to at this moment.
    pub fn destination(&self) -> Option<Place> {
        let state = self.state.lock();
        let (to, outcome) = state.carry.as_ref()?;
        (outcome.borrow().is_none() && outcome.has_changed().is_ok()).then_some(*to)
    }

    pub(super) fn touch(&self, at: u32) {
        // A store to a shared line only when it tells something new.
        if self.used.load(Ordering::Relaxed) != at {
            self.used.store(at, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::PodConfig;

    pub(crate) fn session(token: &str) -> Session {
        let device = Device { client: "Story".into(), name: "Test".into(), id: "sofa".into(), version: "1".into() };
        Session::new("main".into(), "u1".into(), device, Token::new(token))
    }

    fn place(name: &str) -> Place {
        Place::of(&Pod::new(&"main".into(), &PodConfig { name: name.into(), authority: "h:1".into() }))
    }

    #[test]
    fn a_session_moves_and_remembers_by_which_token_it_is_known_where() {
        let (session, a, b) = (session("own"), place("a"), place("b"));
        let moves = session.moves();
        assert!(session.settle(a, "own") && !session.settle(a, "own"));
        session.add(Token::new("minted"));
        assert!(session.settle(b, "minted"));
        assert_eq!((session.home(), *moves.borrow()), (Some(b), Some(b)));
        assert_eq!(session.token_at(a), Some(Token::new("own")));
        assert_eq!(session.token_at(b), Some(Token::new("minted")));
        assert_eq!(session.token_at(Place { epoch: Epoch(9), ..b }), None, "another life knows nothing of it");
        session.leave(a);
        assert_eq!(session.token_at(a), None);
    }

    #[test]
    fn the_clients_own_token_is_never_lost_for_minted_ones() {
        let session = session("own");
        for number in 0..50 {
            session.add(Token::new(format!("minted {number}")));
        }
        let tokens: Vec<_> = session.tokens().into_iter().map(|minted| minted.token).collect();
        assert_eq!((tokens.len(), tokens.first()), (MOST_TOKENS, Some(&Token::new("minted 49"))));
        assert!(session.has("own") && !session.has("minted 3"));
    }

    #[test]
    fn of_parallel_carry_overs_to_one_place_one_leads() {
        let (session, a) = (session("own"), place("a"));
        let Part::Lead(tell, _outcome) = session.carry(a) else { panic!("the first leads") };
        assert!(matches!(session.carry(a), Part::Follow(_)));
        assert_eq!(session.destination(), Some(a));
        tell.send_replace(Some(Carried::Refused));
        assert_eq!(session.destination(), None);
        let Part::Lead(tell, _outcome) = session.carry(a) else { panic!("what ended begins anew") };
        drop(tell);
        assert!(matches!(session.carry(a), Part::Lead(..)), "a leader that is gone leads nobody");
    }
}
