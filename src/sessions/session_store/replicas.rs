//! What replicas say to each other through Redis: who is there, messages, and marks.

use std::time::Duration;

use super::backend::{Backend, latest};
use crate::store::redis_store::{notices::Messages, presence::Present};

/// The way to the other replicas. Without Redis it leads nowhere.
#[derive(Clone)]
pub struct ReplicaBus {
    backend: Backend,
}

impl ReplicaBus {
    pub(super) fn new(backend: Backend) -> ReplicaBus {
        ReplicaBus { backend }
    }

    /// Announces this replica. `None` without Redis, or if Redis does not answer.
    pub(in crate::sessions) async fn announce(&self, name: &str, message: &str) -> Option<Present> {
        self.backend.redis.as_ref()?.store.announce(name, message).await
    }

    /// Announces that this replica is gone.
    pub async fn depart(&self, name: &str) {
        if let Some(redis) = &self.backend.redis {
            redis.store.depart(name).await;
        }
    }

    /// Notifies the other replicas, after all that was written so far. `message` is made only if
    /// there is a Redis.
    pub(in crate::sessions) fn publish(&self, message: impl FnOnce() -> String) {
        if let Some(redis) = &self.backend.redis {
            redis.store.queue.publish(redis.channel(), message());
        }
    }

    /// The same, and gives how many replicas listen, this one among them. `None` without Redis, or
    /// if Redis does not answer.
    pub(in crate::sessions) async fn publish_and_count(&self, message: &str) -> Option<usize> {
        let redis = self.backend.redis.as_ref()?;
        redis.store.publish_and_count(&redis.channel(), message).await
    }

    /// Receives the messages of all replicas, this one's among them. `None` without Redis.
    pub(in crate::sessions) fn subscribe(&self) -> Option<Messages> {
        let redis = self.backend.redis.as_ref()?;
        Some(redis.store.subscribe(redis.channel()))
    }

    /// Marks something with this moment, for all replicas.
    pub(in crate::sessions) fn mark(&self, what: &str, of: &str) {
        if let Some(redis) = &self.backend.redis {
            redis.store.queue.put(redis.plain_key(what, of), self.backend.clock.now().to_string().into_bytes());
        }
    }

    /// Whether a replica has marked it within this time.
    pub(in crate::sessions) async fn is_marked(&self, what: &str, of: &str, within: Duration) -> bool {
        let Some(redis) = &self.backend.redis else { return false };
        let found = redis.store.find_all(&[redis.plain_key(what, of)]).await.unwrap_or_default();
        u128::from(self.backend.clock.now().saturating_sub(latest(&found))) < within.as_millis()
    }

    /// Whether this replica alone is to do something. `true` without Redis, or if Redis does not
    /// answer.
    pub(in crate::sessions) async fn claim(&self, what: &str, of: &str, lasts: Duration) -> bool {
        let Some(redis) = &self.backend.redis else { return true };
        redis.store.acquire_lock(&redis.plain_key(what, of), lasts).await.unwrap_or(true)
    }

    /// Writes a notice that all replicas can read for so long.
    pub(in crate::sessions) fn put_notice(&self, what: &str, of: &str, text: &str, lasts: Duration) {
        if let Some(redis) = &self.backend.redis {
            redis.store.queue.put_for(redis.plain_key(what, of), text.as_bytes().to_vec(), lasts);
        }
    }

    /// The notice that a replica wrote.
    pub(in crate::sessions) async fn find_notice(&self, what: &str, of: &str) -> Option<String> {
        let redis = self.backend.redis.as_ref()?;
        let found = redis.store.find_all(&[redis.plain_key(what, of)]).await?;
        String::from_utf8(found.into_iter().flatten().next()?).ok()
    }
}
