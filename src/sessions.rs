//! Sessions that outlive their pod: the tokens that stand for one client, its home, and what was
//! ended for good.
//!
//! A client keeps the token of its log-in. When its pod is gone, `proxy` makes the client known to
//! another pod, which may give it another token. From then on every token of the session is an
//! alias of the others. Losing that map in a restart would log users out. So jellypin keeps it on
//! disk or in Redis, sealed: only a holder of the token can read an entry (`seal`). A session that
//! a log-out or an administrator ended leaves a tombstone, and jellypin never revives it.

pub mod board;
pub mod fingerprint;
pub mod mint_codes;
pub mod mint_limiter;
mod pod_session_id;
pub mod registry;
pub mod session;
pub mod session_board;
pub mod session_store;

use std::{fmt, net::IpAddr, time::Duration};

pub use pod_session_id::PodSessionId;
pub use registry::{SessionLookup, Sessions};
pub use session::{Device, Session};

/// How sessions migrate.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// An API key of the pods. Without one jellypin mints nothing and keeps no session. Default
    /// none.
    pub api_key: Option<Token>,
    /// Those of pods that have databases of their own. Default none.
    pub keys_of_pods: Vec<PodKey>,
    /// Bounds on what is kept.
    pub bounds: Bounds,
}

/// The API key of one pod, which has a database of its own.
#[derive(Clone, Debug)]
pub struct PodKey {
    pub pool: String,
    pub pod: String,
    pub key: Token,
}

/// Bounds on what is kept of sessions.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Sessions of one user. Default 256.
    pub of_one_user: usize,
    /// Bytes of replayed calls. Default 32 MiB.
    pub notes: usize,
    /// Tombstones. Default 100,000.
    pub tombstones: usize,
    /// How long a tombstone is kept after a client last presented its token. Default a year.
    pub tombstone_keep: Duration,
}

impl Default for Bounds {
    fn default() -> Bounds {
        let tombstone_keep = Duration::from_secs(365 * 86_400);
        Bounds { of_one_user: 256, notes: 32 << 20, tombstones: 100_000, tombstone_keep }
    }
}

/// An access token or API key. Its `Debug` hides the text.
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

/// Who is charged for what is kept of an ended token, and displaces only its own beyond its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner<'a> {
    /// The token's user.
    User(&'a str),
    /// The address that ended it, if the user is not known.
    Address(IpAddr),
    /// Many users, or an administrator.
    Unknown,
}

/// Unix time in milliseconds, by the clock that replicas share.
pub type UnixMillis = u64;

/// A user's id as jellypin keeps it and Jellyfin's JSON has it: a GUID without dashes, lower case.
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
