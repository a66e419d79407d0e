//! Pending log-outs, kept so that a restart of the proxy forgets none of them.
//!
//! They are sealed under the pods' API key. No client presents their tokens any more, so those
//! could not open them. A holder of the API key needs no token anyway.

use super::{backend::Backend, on_disk::PENDING_LOGOUT};
use crate::sessions::Token;

/// Log-outs that may be pending at once. Beyond that the oldest go; their tombstones still hold.
pub(in crate::sessions) const MOST: usize = 1000;

/// The kind of their entries in Redis, and the purpose of their names.
const KIND: &str = "pending_logout";

/// The pending log-outs, wherever entries stand.
pub(in crate::sessions) struct StoredPendingLogouts {
    backend: Backend,
    /// It opens them. Without one jellypin keeps none.
    api_key: Option<Token>,
}

impl StoredPendingLogouts {
    pub(super) fn new(backend: Backend, api_key: Option<Token>) -> StoredPendingLogouts {
        StoredPendingLogouts { backend, api_key }
    }

    /// Queues it to be kept.
    pub(in crate::sessions) fn add(&self, pool: &str, token: &str) {
        let Some(api_key) = &self.api_key else { return };
        let ring = &self.backend.ring;
        let plain = format!("{pool}\0{token}");
        let Some(sealed) = ring.seal(api_key.as_str(), plain.as_bytes()) else { return };
        let Some(name) = ring.name(KIND, token) else { return };
        if let Some(kept) = &self.backend.disk {
            kept.disk.put([PENDING_LOGOUT, &name].concat(), sealed.clone());
        }
        if let Some(redis) = &self.backend.redis {
            redis.store.queue.put(redis.key(KIND, name), sealed);
        }
    }

    /// Removes it: it is no longer pending.
    pub(in crate::sessions) fn remove(&self, token: &str) {
        for name in self.backend.ring.names(KIND, token) {
            if let Some(kept) = &self.backend.disk {
                kept.disk.remove([PENDING_LOGOUT, &name].concat());
            }
            if let Some(redis) = &self.backend.redis {
                redis.store.queue.remove(redis.key(KIND, name));
            }
        }
    }

    /// The pools and tokens of the log-outs that others left pending. The disk gives those of an
    /// earlier process, once. Redis gives those of any replica.
    pub(in crate::sessions) async fn of_others(&self) -> Vec<(String, Token)> {
        let Some(api_key) = &self.api_key else { return Vec::new() };
        let on_disk = self.backend.disk.as_ref();
        let mut sealed = on_disk.map_or_else(Vec::new, |kept| std::mem::take(&mut *kept.pending_logouts.lock()));
        if let Some(redis) = &self.backend.redis {
            sealed.extend(redis.store.walks.values(&redis.plain_key(KIND, "")).await);
        }
        let open = |sealed: &Vec<u8>| {
            let plain = String::from_utf8(self.backend.ring.open(api_key.as_str(), sealed)?).ok()?;
            let (pool, token) = plain.split_once('\0')?;
            Some((pool.to_owned(), Token::new(token)))
        };
        sealed.iter().filter_map(open).collect()
    }
}
