//! What replicas say to each other through Redis: who is there, locks, marks, messages.

use std::time::Duration;

use super::{SessionStore, latest, named};
use crate::store::redis_store::{RedisStore, notices::Messages, presence::Present};

/// How long one replica's lock keeps others from migrating a session, unless it renews the lock.
const LOCK: Duration = Duration::from_secs(3);

impl SessionStore {
    /// Announces this replica. `None` without Redis, or if Redis does not answer.
    pub(in crate::sessions) async fn announce(&self, name: &str, words: &str) -> Option<Present> {
        let (shared, _) = self.redis.as_ref()?;
        shared.announce(name, words).await
    }

    /// Announces that this replica is gone.
    pub async fn depart(&self, name: &str) {
        if let Some((shared, _)) = &self.redis {
            shared.depart(name).await;
        }
    }

    /// Notifies the other replicas, after all that was written so far.
    pub(in crate::sessions) fn publish(&self, words: String) {
        if let Some((shared, prefix)) = &self.redis {
            shared.publish(channel(prefix), words);
        }
    }

    /// The same, and gives how many replicas listen, this one among them. `None` without Redis, or
    /// if Redis does not answer.
    pub(in crate::sessions) async fn publish_and_count(&self, words: &str) -> Option<usize> {
        let (shared, prefix) = self.redis.as_ref()?;
        shared.publish_and_count(&channel(prefix), words).await
    }

    /// Receives the messages of all replicas, this one's among them. `None` without Redis.
    pub(in crate::sessions) fn subscribe(&self) -> Option<Messages> {
        let (shared, prefix) = self.redis.as_ref()?;
        Some(shared.subscribe(channel(prefix)))
    }

    /// Keeps other replicas from migrating the session of this token. `false` while another one
    /// does. `true` without Redis, or if Redis does not answer.
    pub(in crate::sessions) async fn lock(&self, token: &str) -> bool {
        let Some((shared, key)) = self.lock_of(token) else { return true };
        shared.acquire_lock(&key, LOCK).await.unwrap_or(true)
    }

    /// Extends the lock to its full time from now on.
    pub(in crate::sessions) async fn renew_lock(&self, token: &str) {
        if let Some((shared, key)) = self.lock_of(token) {
            shared.extend_lock(&key, LOCK).await;
        }
    }

    pub(in crate::sessions) fn unlock(&self, token: &str) {
        if let Some((shared, key)) = self.lock_of(token) {
            shared.remove(key);
        }
    }

    /// The Redis key of the lock on this token's session. `None` without Redis.
    fn lock_of(&self, token: &str) -> Option<(&RedisStore, String)> {
        let (shared, prefix) = self.redis.as_ref()?;
        let name = self.ring.name("carry", token)?;
        Some((shared, named(prefix, "carry", name)))
    }

    /// Marks something with this moment, for all replicas. Does nothing without Redis.
    pub(in crate::sessions) fn mark(&self, what: &str, of: &str) {
        if let Some((shared, prefix)) = &self.redis {
            shared.put(format!("{prefix}:{what}:{of}"), self.clock.now().to_string().into_bytes());
        }
    }

    /// Whether a replica has marked it within this time.
    pub(in crate::sessions) async fn is_marked(&self, what: &str, of: &str, within: Duration) -> bool {
        let Some((shared, prefix)) = &self.redis else { return false };
        let found = shared.find_all(&[format!("{prefix}:{what}:{of}")]).await.unwrap_or_default();
        u128::from(self.clock.now().saturating_sub(latest(&found))) < within.as_millis()
    }
}

/// The channel on which replicas notify each other of changes.
fn channel(prefix: &str) -> String {
    format!("{prefix}:told")
}
