//! One session: a user on a device, the tokens that stand for it, and the pod that it lives on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
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
    /// When it was last compared with what other replicas keep, likewise and one more; 0: not since something may have been missed.
    compared: AtomicU32,
    /// Held for a look or a change, never across an await.
    state: Mutex<State>,
    /// Tells the sockets of the session that it lives elsewhere now.
    home: watch::Sender<Option<Place>>,
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
    /// When the session last moved, here or at another replica.
    moved: UnixMillis,
    /// Oldest first; the first is the client's own.
    tokens: Vec<Minted>,
    /// Where the session is known to be valid, and by which token; the latest last.
    places: Vec<(Place, Token)>,
    refused: Option<(Place, Instant)>,
    carry: Option<(Place, watch::Receiver<Option<Carried>>)>,
    notes: Notes,
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

/// What was found in another replica's copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Adopted {
    /// Something that was not known here.
    pub(super) is_news: bool,
    /// A token is missing in it.
    pub(super) lacks: bool,
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
            compared: AtomicU32::new(0),
            state: Mutex::new(state),
            home: watch::Sender::new(None),
        }
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
        let mut state = self.state.lock();
        // What was under way when the session ended changes nothing any more.
        if state.is_dead {
            return false;
        }
        let is_move = self.home.send_if_modified(|home| home.replace(place) != Some(place));
        if is_move {
            state.moved = now();
        }
        is_move
    }

    /// The client's own token.
    pub fn own(&self) -> Option<Token> {
        self.state.lock().tokens.first().map(|minted| minted.token.clone())
    }

    /// Whether sockets wait for its moves.
    pub(super) fn has_sockets(&self) -> bool {
        self.home.receiver_count() > 0
    }

    pub(super) fn moved(&self) -> UnixMillis {
        self.state.lock().moved
    }

    /// When it was last compared with what other replicas keep; 0: not since something may have been missed.
    pub(super) fn compared(&self) -> u32 {
        self.compared.load(Ordering::Relaxed)
    }

    pub(super) fn set_compared(&self, at: u32) {
        self.compared.store(at, Ordering::Relaxed);
    }

    /// The session is valid at this place by this token, wherever it lives.
    pub fn accept(&self, place: Place, token: &str) {
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

    /// The session lives there since this moment, as it was kept; by which token is not known yet. What is known of a later
    /// move stands.
    pub(super) fn presume(&self, place: Place, moved: UnixMillis) {
        let mut state = self.state.lock();
        if state.is_dead || (moved < state.moved && self.home().is_some()) {
            return;
        }
        state.moved = moved;
        self.home.send_if_modified(|home| home.replace(place) != Some(place));
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

    /// Takes in what another replica kept: what is later stands, and the tokens of both.
    pub(super) fn adopt(&self, theirs: &Session) -> Adopted {
        let theirs = theirs.state.lock();
        let mut state = self.state.lock();
        let has = |tokens: &[Minted], one: &Minted| tokens.iter().any(|minted| minted.token == one.token);
        let is_later = theirs.revision > state.revision;
        let news: Vec<Minted> = theirs.tokens.iter().filter(|one| !has(&state.tokens, one)).cloned().collect();
        let adopted = Adopted {
            is_news: is_later || !news.is_empty(),
            lacks: state.tokens.iter().any(|one| !has(&theirs.tokens, one)),
        };
        if !news.is_empty() {
            state.tokens.extend(news);
            // The first is the client's own whenever the others were minted.
            state.tokens[1..].sort_by_key(|minted| minted.at);
            let surplus = state.tokens.len().saturating_sub(MOST_TOKENS);
            state.tokens.drain(1..=surplus);
        }
        if is_later {
            state.revision = theirs.revision;
            state.notes.capabilities.clone_from(&theirs.notes.capabilities);
        }
        state.born = state.born.max(theirs.born);
        adopted
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

    /// One more change is to be kept. The number tells of changes at two replicas which was later.
    pub(super) fn revise(&self) {
        let mut state = self.state.lock();
        state.revision = (state.revision + 1).max(now());
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
        self.state.lock().notes.playing = note;
    }

    pub fn is_playing(&self) -> bool {
        self.state.lock().notes.playing.is_some()
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
    fn of_two_replicas_copies_the_later_stands_with_the_tokens_of_both() {
        let (here, there) = (session("own"), session("own"));
        here.revise();
        here.add(Token::new("minted here"));
        there.add(Token::new("minted there"));
        there.revise();
        there.revise();
        assert_eq!(here.adopt(&there), Adopted { is_news: true, lacks: true });
        assert!(here.has("own") && here.has("minted here") && here.has("minted there"));
        assert_eq!(here.adopt(&there), Adopted { is_news: false, lacks: true }, "the same tells nothing new");
        assert_eq!(there.adopt(&here), Adopted { is_news: true, lacks: false });
        for number in 0..2 * MOST_TOKENS {
            there.add(Token::new(format!("later {number}")));
        }
        here.adopt(&there);
        assert_eq!((here.tokens().len(), here.own()), (MOST_TOKENS, Some(Token::new("own"))));
    }

    #[test]
    fn what_comes_after_the_end_changes_nothing() {
        let (session, a) = (session("own"), place("a"));
        session.settle(a, "own");
        session.die();
        assert!(!session.settle(a, "own"));
        session.presume(a, UnixMillis::MAX);
        assert_eq!((session.home(), session.token_at(a)), (None, None));
    }

    #[test]
    fn an_older_move_of_another_replica_moves_nobody_back() {
        let (session, a, b) = (session("own"), place("a"), place("b"));
        session.settle(a, "own");
        session.presume(b, session.moved() - 1);
        assert_eq!(session.home(), Some(a));
        session.presume(b, session.moved() + 1);
        assert_eq!(session.home(), Some(b));
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
