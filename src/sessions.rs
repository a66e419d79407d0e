//! Sessions that outlive their pod: which tokens stand for one client, where it lives, and what was ended for ever.
//!
//! A client keeps the token of its log-in. When its pod is gone, `proxy` makes the client known to another pod, which may give
//! it another token; from then on every token of the session is an alias of the others. That map must not be lost, or a restart
//! of the proxy would log users out: it is kept on disk or in Redis, sealed so that nobody can read an entry who does not hold
//! the token already (`seal`). What was ended, by a log-out or by an administrator, leaves a tombstone and is never revived.

pub mod fingerprint;
pub mod mint_codes;
pub mod mint_limiter;
pub mod registry;
mod seal;
pub mod session;
pub mod session_store;

use std::{fmt, time::Duration};

pub use registry::{SessionLookup, Sessions};
pub use session::{Device, Session};

/// How sessions are carried over.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// An API key of the pods. Without one nothing is minted, and no session is kept. Default none.
    pub api_key: Option<Token>,
    /// How much of it is kept.
    pub bounds: Bounds,
}

/// How much is kept of sessions.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Sessions of one user. Default 256.
    pub of_one_user: usize,
    /// Bytes of what clients say of themselves. Default 32 MiB.
    pub notes: usize,
    /// What was ended. Default 100,000.
    pub tombstones: usize,
    /// How long that is kept after its token was last presented. Default a year.
    pub tombstone_keep: Duration,
}

impl Default for Bounds {
    fn default() -> Bounds {
        let tombstone_keep = Duration::from_secs(365 * 86_400);
        Bounds { of_one_user: 256, notes: 32 << 20, tombstones: 100_000, tombstone_keep }
    }
}

/// An access token or API key. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Box<str>);

impl Token {
    pub fn new(text: impl Into<Box<str>>) -> Token {
        Token(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Milliseconds of Unix, by the clock that replicas have in common.
pub type UnixMillis = u64;

/// A user's id as Jellyfin's JSON has it, in which it is kept and compared: a GUID without dashes, in lower case.
pub fn plain_id(id: &str) -> String {
    id.chars().filter(|char| *char != '-').map(|char| char.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_id_is_the_same_with_and_without_dashes_in_any_case() {
        assert_eq!(plain_id("822FE8D1-8540-41a9-bbb5-4c051f96824d"), "822fe8d1854041a9bbb54c051f96824d");
    }
}
