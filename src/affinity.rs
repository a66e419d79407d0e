//! Which client belongs to which pod: the cookie, the pins, and the placement of other clients.

pub mod budget;
pub mod cookie;
mod kind;
pub mod negative_cache;
pub mod persistence;
pub mod pins;
pub mod placement;
pub mod recent_loads;
mod recent_misses;
pub mod reject_pacer;
pub mod user_homes;

/// How clients stay with their pods.
#[derive(Clone, Debug)]
pub struct Config {
    pub cookie: cookie::CookieConfig,
    /// The ring of cookie secrets, newest first. The newest makes cookies, and all are read. If it
    /// is empty, jellypin makes a random one, and keeps it in the state directory if there is one.
    pub keys: Vec<Secret>,
    /// Pins kept at once; the longest unused go first. Default 100,000.
    pub max_pins: usize,
    /// Users whose devices are placed one by one. Default nobody.
    pub spread_users: user_homes::SpreadUsers,
    /// The same of one address. Default 10,000.
    pub max_pins_of_address: usize,
}

/// A secret's bytes; its `Debug` shows none of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Secret {
        Secret(bytes.into())
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}
