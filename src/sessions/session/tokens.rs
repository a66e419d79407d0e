//! The tokens that stand for a session: the client's own, and those that were minted for it.

use super::Session;
use crate::sessions::{Token, UnixMillis};

/// Tokens of one session kept at most: the client's own, and the latest minted ones. Older ones
/// stand only in playlists of films that ended long ago.
const MOST_TOKENS: usize = 6;

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

impl Session {
    /// Whether this token stands for the session.
    pub fn has_token(&self, token: &str) -> bool {
        self.state.lock().tokens.iter().any(|minted| minted.token.as_str() == token)
    }

    /// All tokens, the latest first.
    pub fn tokens(&self) -> Vec<SessionToken> {
        self.state.lock().tokens.iter().rev().cloned().collect()
    }

    /// The client's own token.
    pub fn client_token(&self) -> Option<Token> {
        self.state.lock().tokens.first().map(|minted| minted.token.clone())
    }

    /// Adds a token that was minted for the session.
    pub fn add_minted(&self, token: Token) {
        let mut state = self.state.lock();
        if state.tokens.iter().any(|minted| minted.token == token) {
            return;
        }
        state.tokens.push(SessionToken { token, at: self.common.clock.now() });
        if state.tokens.len() > MOST_TOKENS {
            // The first is the client's own.
            state.tokens.remove(1);
        }
    }

    /// Merges another replica's copy: the later state wins, and the tokens of both stay.
    pub(in crate::sessions) fn merge(&self, theirs: &Session) -> MergeResult {
        let theirs = theirs.state.lock();
        let mut state = self.state.lock();
        let has = |tokens: &[SessionToken], one: &SessionToken| tokens.iter().any(|minted| minted.token == one.token);
        let is_later = theirs.revision > state.revision;
        let news: Vec<SessionToken> = theirs.tokens.iter().filter(|one| !has(&state.tokens, one)).cloned().collect();
        let adopted = MergeResult {
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
            state.capabilities.clone_from(&theirs.capabilities);
            self.count_notes(&mut state);
        }
        state.born = state.born.max(theirs.born);
        adopted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sessions::session::tests::session;

    #[test]
    fn the_clients_own_token_is_never_lost_for_minted_ones() {
        let session = session("own");
        for number in 0..50 {
            session.add_minted(Token::new(format!("minted {number}")));
        }
        let tokens: Vec<_> = session.tokens().into_iter().map(|minted| minted.token).collect();
        assert_eq!((tokens.len(), tokens.first()), (MOST_TOKENS, Some(&Token::new("minted 49"))));
        assert!(session.has_token("own") && !session.has_token("minted 3"));
    }

    #[test]
    fn of_two_replicas_copies_the_later_stands_with_the_tokens_of_both() {
        let (here, there) = (session("own"), session("own"));
        here.bump_revision();
        here.add_minted(Token::new("minted here"));
        there.add_minted(Token::new("minted there"));
        there.bump_revision();
        there.bump_revision();
        assert_eq!(here.merge(&there), MergeResult { is_changed: true, lacks_token: true });
        assert!(here.has_token("own") && here.has_token("minted here") && here.has_token("minted there"));
        assert_eq!(
            here.merge(&there),
            MergeResult { is_changed: false, lacks_token: true },
            "the same tells nothing new"
        );
        assert_eq!(there.merge(&here), MergeResult { is_changed: true, lacks_token: false });
        for number in 0..2 * MOST_TOKENS {
            there.add_minted(Token::new(format!("later {number}")));
        }
        here.merge(&there);
        assert_eq!((here.tokens().len(), here.client_token()), (MOST_TOKENS, Some(Token::new("own"))));
    }
}
