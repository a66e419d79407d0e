//! Short documents that all replicas share, which no request waits for long.

use std::{sync::Arc, time::Duration};

use redis::{Cmd, FromRedisValue};

use super::link::Link;

/// The longest time for one document.
const PATIENCE: Duration = Duration::from_secs(1);

/// Documents by their keys.
pub struct Documents {
    pub(super) link: Arc<Link>,
}

impl Documents {
    /// The document. `None` if Redis does not answer.
    pub async fn get(&self, key: &str) -> Option<Option<Vec<u8>>> {
        let mut command = redis::cmd("GET");
        command.arg(key);
        self.query(&command).await
    }

    /// Keeps a document for so long. Returns whether Redis has it.
    pub async fn set(&self, key: &str, document: &[u8], lasts: Duration) -> bool {
        let mut command = redis::cmd("SET");
        command.arg(key).arg(document).arg("PX").arg(lasts.as_millis() as u64);
        self.query::<String>(&command).await.is_some()
    }

    /// Removes a document. Returns whether Redis says that it is gone.
    pub async fn remove(&self, key: &str) -> bool {
        let mut command = redis::cmd("DEL");
        command.arg(key);
        self.query::<u64>(&command).await.is_some()
    }

    pub(super) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Option<T> {
        let mut connection = self.link.connection()?;
        self.link.answer(PATIENCE, command.query_async(&mut connection)).await
    }
}
