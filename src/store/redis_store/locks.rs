//! Locks by which one replica keeps the others from the same work.

use std::time::Duration;

use super::RedisStore;

impl RedisStore {
    /// Creates a key that lasts for `lasts`, unless it exists. Returns whether it was created, or
    /// `None` if Redis does not say.
    ///
    /// # Cancel safety
    /// If it is dropped, the key may have been created.
    pub async fn acquire_lock(&self, key: &str, lasts: Duration) -> Option<bool> {
        let mut command = redis::cmd("SET");
        command.arg(key).arg("1").arg("NX").arg("PX").arg(lasts.as_millis() as u64);
        let made: Option<String> = self.query(&command).await.ok()?;
        Some(made.is_some())
    }

    /// Makes an existing key last for `lasts` from now on.
    ///
    /// # Cancel safety
    /// If it is dropped, the key may last longer.
    pub async fn extend_lock(&self, key: &str, lasts: Duration) {
        let mut command = redis::cmd("PEXPIRE");
        command.arg(key).arg(lasts.as_millis() as u64);
        // A lock that expires early costs one more question.
        let _ = self.query::<bool>(&command).await;
    }
}
