//! Pending log-outs, kept so that a restart of the proxy forgets none of them.
//!
//! They are sealed under the pods' API key. No client presents their tokens any more, so those
//! could not open them. A holder of the API key needs no token anyway.

use super::{SessionStore, named};
use crate::sessions::Token;

/// Log-outs that may be pending at once. Beyond that the oldest go; their tombstones still hold.
pub(in crate::sessions) const MOST: usize = 1000;

/// What their names on disk begin with. Names of sessions have no prefix.
const ON_DISK: &[u8] = b"owed";

/// Whether an entry on disk is one of them.
pub(super) fn is_name(key: &[u8]) -> bool {
    key.starts_with(ON_DISK)
}

impl SessionStore {
    /// Queues it to be kept.
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

    /// Removes it: it is no longer pending.
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

    /// The pools and tokens of the log-outs that others left pending. The disk gives those of an
    /// earlier process, once. Redis gives those of any replica.
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
