//! Locks that keep two replicas from migrating one session.

use std::time::Duration;

use super::backend::Backend;
use crate::{sessions::Token, store::redis_store::RedisStore};

/// How long one replica's lock keeps others from migrating a session, unless it renews the lock.
const LOCK: Duration = Duration::from_secs(3);

/// The kind of their keys in Redis, and the purpose of their names.
const KIND: &str = "migration_lock";

/// The locks of all replicas. Without Redis there is nobody to lock out.
pub struct MigrationLocks {
    backend: Backend,
}

impl MigrationLocks {
    pub(super) fn new(backend: Backend) -> MigrationLocks {
        MigrationLocks { backend }
    }

    /// Keeps other replicas from migrating the session of this token. `false` while another one
    /// does. `true` without Redis, or if Redis does not answer.
    pub async fn acquire(&self, token: &Token) -> bool {
        let Some((store, key)) = self.of(token) else { return true };
        store.acquire_lock(&key, LOCK).await.unwrap_or(true)
    }

    /// Extends the lock to its full time from now on.
    pub async fn renew(&self, token: &Token) {
        if let Some((store, key)) = self.of(token) {
            store.extend_lock(&key, LOCK).await;
        }
    }

    pub fn release(&self, token: &Token) {
        if let Some((store, key)) = self.of(token) {
            store.queue.remove(key);
        }
    }

    /// The Redis key of the lock on this token's session. `None` without Redis.
    fn of(&self, token: &Token) -> Option<(&RedisStore, String)> {
        let redis = self.backend.redis.as_ref()?;
        let name = self.backend.ring.name(KIND, token.as_str())?;
        Some((&redis.store, redis.key(KIND, name)))
    }
}
