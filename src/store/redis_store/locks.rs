//! Locks by which one replica keeps the others from the same work.

use std::time::Duration;

use super::{Documents, RedisStore};

/// Ends a turn, if the one who asks has it.
const END: &str = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end return redis.call('DEL', KEYS[1])";

/// Makes a turn last, if the one who asks has it.
const KEEP: &str =
    "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end return redis.call('PEXPIRE', KEYS[1], ARGV[2])";

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

/// Turns that no other replica can end. `holder` names one turn: nobody uses it again.
impl Documents {
    /// Takes the turn unless somebody has it. `None` if Redis does not answer.
    ///
    /// # Cancel safety
    /// If it is dropped, or gets no answer, the turn may have been taken.
    pub async fn take_turn(&self, key: &str, holder: &str, lasts: Duration) -> Option<bool> {
        let mut command = redis::cmd("SET");
        command.arg(key).arg(holder).arg("NX").arg("PX").arg(lasts.as_millis() as u64);
        Some(self.query::<Option<String>>(&command).await?.is_some())
    }

    /// Lets the holder's turn last for `lasts` from now on. Returns whether it does.
    pub async fn keep_turn(&self, key: &str, holder: &str, lasts: Duration) -> bool {
        let mut command = redis::cmd("EVAL");
        command.arg(KEEP).arg(1).arg(key).arg(holder).arg(lasts.as_millis() as u64);
        self.query::<bool>(&command).await == Some(true)
    }

    /// Ends the holder's turn. One that could not be ended expires.
    pub async fn end_turn(&self, key: &str, holder: &str) {
        let mut command = redis::cmd("EVAL");
        command.arg(END).arg(1).arg(key).arg(holder);
        let _ = self.query::<u64>(&command).await;
    }
}
