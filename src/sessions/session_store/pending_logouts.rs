//! Log-outs that are owed, so that a restart of the proxy forgets none of them.
//!
//! They are sealed under the pods' API key: nobody will bring the token that a session's entry is opened by, and whoever holds
//! that key needs no token.

use super::{SessionStore, named};
use crate::sessions::Token;

/// What their names on disk begin with: those of all other entries are shorter.
const ON_DISK: &[u8] = b"owed";

/// Whether an entry on disk is one of them.
pub(super) fn is_name(key: &[u8]) -> bool {
    key.starts_with(ON_DISK)
}

impl SessionStore {
    /// Keeps it, some time soon.
    pub(in crate::sessions) fn add_pending_logout(&self, pool: &str, token: &str) {
        let Some(api_key) = &self.api_key else { return };
        let plain = format!("{pool}\0{token}");
        let Some(sealed) = self.ring.seal(api_key.as_str(), plain.as_bytes()) else { return };
        let Some(name) = self.ring.name("owed", token) else { return };
        if let Some(kept) = &self.disk {
            kept.disk.put([ON_DISK, &name].concat(), sealed.clone());
        }
        if let Some((shared, prefix)) = &self.redis {
            shared.put(named(prefix, "owed", name), sealed);
        }
    }

    /// It is owed no more.
    pub(in crate::sessions) fn remove_pending_logout(&self, token: &str) {
        for name in self.ring.names("owed", token) {
            if let Some(kept) = &self.disk {
                kept.disk.remove([ON_DISK, &name].concat());
            }
            if let Some((shared, prefix)) = &self.redis {
                shared.remove(named(prefix, "owed", name));
            }
        }
    }

    /// The pools and tokens of those that others owe: an earlier process, of which this is asked once, or in Redis any replica.
    pub(in crate::sessions) async fn pending_logouts(&self) -> Vec<(String, Token)> {
        let Some(api_key) = &self.api_key else { return Vec::new() };
        let mut sealed =
            self.disk.as_ref().map_or_else(Vec::new, |kept| std::mem::take(&mut *kept.pending_logouts.lock()));
        if let Some((shared, prefix)) = &self.redis {
            sealed.extend(shared.scan_values(&format!("{prefix}:owed:")).await);
        }
        let open = |sealed: &Vec<u8>| {
            let plain = String::from_utf8(self.ring.open(api_key.as_str(), sealed)?).ok()?;
            let (pool, token) = plain.split_once('\0')?;
            Some((pool.to_owned(), Token::new(token)))
        };
        sealed.iter().filter_map(open).collect()
    }
}
