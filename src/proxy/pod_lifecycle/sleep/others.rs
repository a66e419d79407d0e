//! What replicas tell each other, by Redis, of a pod that may sleep.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{pod::Pod, proxy::shared_state::SharedState, store::redis_store::RedisStore, wake::Act as Hook};

/// Longest time between two notes that a pod is in use.
const NOTE: Duration = Duration::from_secs(5);

/// The other replicas, which use a pod and call its hook too.
pub(super) struct Others<'a> {
    pub(super) shared: &'a SharedState,
    pub(super) pod: &'a Pod,
}

impl Others<'_> {
    fn redis(&self) -> Option<&Arc<RedisStore>> {
        self.shared.pins.persistence.redis()
    }

    fn key(&self, redis: &RedisStore, what: &str) -> String {
        redis.key(&format!("sleep:{}:{}:{what}", self.pod.pool, self.pod.name))
    }

    /// Tells the others that the pod is in use here.
    pub(super) async fn note_use(&self, noted: &mut Option<Instant>, unused: Duration, after: Duration) {
        let Some(redis) = self.redis() else { return };
        let often = NOTE.min(after / 2);
        if unused < often && noted.is_none_or(|at| at.elapsed() >= often) {
            *noted = Some(Instant::now());
            // Without it another replica may let the pod sleep; the next request wakes it.
            redis.documents.set(&self.key(redis, "used"), b"1", after + often).await;
        }
    }

    /// Whether another replica uses the pod, or may.
    pub(super) async fn use_it(&self) -> bool {
        let Some(redis) = self.redis() else { return false };
        !matches!(redis.documents.get(&self.key(redis, "used")).await, Some(None))
    }

    /// Whether this replica is the one that calls the hook.
    pub(super) async fn take_turn(&self, act: Hook, lasts: Duration) -> bool {
        let Some(redis) = self.redis() else { return true };
        // A second call does less harm than none.
        redis.acquire_lock(&self.key(redis, act.as_str()), lasts / 2).await.unwrap_or(true)
    }
}
