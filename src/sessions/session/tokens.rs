//! The tokens that stand for a session: the client's own, and those that were minted for it. Also
//! which of two replicas' copies of the session is the later.

use parking_lot::Mutex;

use crate::{
    sessions::{Token, UnixMillis},
    store::clock::Clock,
};

/// Tokens of one session kept at most: the client's own, and the latest minted ones. Older ones
/// stand only in playlists of films that ended long ago.
const MOST_TOKENS: usize = 6;

/// A session's beginning further ahead than this came from a wrong clock; in milliseconds.
const AHEAD: u64 = 5_000;

/// A session's tokens.
#[derive(Debug)]
pub struct Tokens {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the session began, or was last confirmed by an act that ends all others of its user.
    born: UnixMillis,
    /// Grows with each change that is kept. Of two copies the higher one wins.
    revision: u64,
    /// Oldest first; the first is the client's own.
    tokens: Vec<SessionToken>,
}

/// A token and when it was minted, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionToken {
    pub token: Token,
    pub at: UnixMillis,
}

/// What a merge found in another replica's copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sessions) struct MergeResult {
    /// The copy has something that was not known here.
    pub(in crate::sessions) is_changed: bool,
    /// The copy lacks a token.
    pub(in crate::sessions) lacks_token: bool,
}

impl Tokens {
    pub(in crate::sessions) fn new(clock: Clock, born: UnixMillis, revision: u64, tokens: Vec<SessionToken>) -> Tokens {
        Tokens { clock, state: Mutex::new(State { born, revision, tokens }) }
    }

    /// Whether this token stands for the session.
    pub fn has(&self, token: &str) -> bool {
        self.state.lock().tokens.iter().any(|minted| minted.token.as_str() == token)
    }

    /// All tokens, the latest first.
    pub fn all(&self) -> Vec<SessionToken> {
        self.state.lock().tokens.iter().rev().cloned().collect()
    }

    /// The client's own token.
    pub fn own(&self) -> Option<Token> {
        self.state.lock().tokens.first().map(|minted| minted.token.clone())
    }

    /// Adds a token that was minted for the session.
    pub fn add_minted(&self, token: Token) {
        let mut state = self.state.lock();
        if state.tokens.iter().any(|minted| minted.token == token) {
            return;
        }
        state.tokens.push(SessionToken { token, at: self.clock.now() });
        if state.tokens.len() > MOST_TOKENS {
            // The first is the client's own.
            state.tokens.remove(1);
        }
    }

    pub(in crate::sessions) fn born(&self) -> UnixMillis {
        self.state.lock().born
    }

    /// Records that an act which ended all other sessions of the user confirmed this one.
    pub(in crate::sessions) fn set_born(&self, at: UnixMillis) {
        self.state.lock().born = at;
    }

    pub(in crate::sessions) fn revision(&self) -> u64 {
        self.state.lock().revision
    }

    /// Counts one more change to keep. Of changes at two replicas the higher number is the later.
    pub(in crate::sessions) fn bump_revision(&self) {
        let mut state = self.state.lock();
        let now = self.clock.now();
        state.revision = (state.revision + 1).max(now);
        // The clock may have been ahead until Redis gave the time.
        if state.born > now + AHEAD {
            state.born = now;
        }
    }

    /// Merges another replica's copy: the later state wins, and the tokens of both stay. `adopt`
    /// takes the rest of a later copy, before another merge begins.
    pub(super) fn merge(&self, theirs: &Tokens, adopt: impl FnOnce()) -> MergeResult {
        let theirs = theirs.state.lock();
        let mut state = self.state.lock();
        let has = |tokens: &[SessionToken], one: &SessionToken| tokens.iter().any(|minted| minted.token == one.token);
        let is_later = theirs.revision > state.revision;
        let news: Vec<SessionToken> = theirs.tokens.iter().filter(|one| !has(&state.tokens, one)).cloned().collect();
        let merged = MergeResult {
            is_changed: is_later || !news.is_empty(),
            lacks_token: state.tokens.iter().any(|one| !has(&theirs.tokens, one)),
        };
        if !news.is_empty() {
            state.tokens.extend(news);
            // The first stays first: it is the client's own.
            state.tokens[1..].sort_by_key(|minted| minted.at);
            let surplus = state.tokens.len().saturating_sub(MOST_TOKENS);
            state.tokens.drain(1..=surplus);
        }
        if is_later {
            state.revision = theirs.revision;
            adopt();
        }
        state.born = state.born.max(theirs.born);
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(own: &str) -> Tokens {
        let clock = Clock::default();
        let at = clock.now();
        Tokens::new(clock, at, 0, vec![SessionToken { token: Token::new(own), at }])
    }

    #[test]
    fn the_clients_own_token_is_never_lost_for_minted_ones() {
        let tokens = tokens("own");
        for number in 0..50 {
            tokens.add_minted(Token::new(format!("minted {number}")));
        }
        let all: Vec<_> = tokens.all().into_iter().map(|minted| minted.token).collect();
        assert_eq!((all.len(), all.first()), (MOST_TOKENS, Some(&Token::new("minted 49"))));
        assert!(tokens.has("own") && !tokens.has("minted 3"));
    }

    #[test]
    fn of_two_replicas_copies_the_later_stands_with_the_tokens_of_both() {
        let (here, there) = (tokens("own"), tokens("own"));
        here.bump_revision();
        here.add_minted(Token::new("minted here"));
        there.add_minted(Token::new("minted there"));
        there.bump_revision();
        there.bump_revision();
        let mut adopted = 0;
        assert_eq!(here.merge(&there, || adopted += 1), MergeResult { is_changed: true, lacks_token: true });
        assert!(here.has("own") && here.has("minted here") && here.has("minted there"));
        let again = here.merge(&there, || adopted += 1);
        assert_eq!(again, MergeResult { is_changed: false, lacks_token: true }, "the same tells nothing new");
        assert_eq!(adopted, 1);
        assert_eq!(there.merge(&here, || {}), MergeResult { is_changed: true, lacks_token: false });
        for number in 0..2 * MOST_TOKENS {
            there.add_minted(Token::new(format!("later {number}")));
        }
        here.merge(&there, || {});
        assert_eq!((here.all().len(), here.own()), (MOST_TOKENS, Some(Token::new("own"))));
    }
}
