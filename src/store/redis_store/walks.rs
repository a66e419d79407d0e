//! What no request waits for: walks over many keys, and values on which all replicas agree.

use std::{sync::Arc, time::Duration};

use redis::RedisError;
use tokio::time;

use super::link::Link;

/// Keys in one step of a walk.
const AT_ONCE: usize = 500;

/// How long a value that all replicas agree on outlasts the last replica's request for it.
const AGREED: Duration = Duration::from_secs(400 * 86_400);

/// The longest time for one step, and for all of [`Walks::values`].
const PATIENCE: Duration = Duration::from_secs(1);

/// Reads that may take longer than a request does.
pub struct Walks {
    pub(super) link: Arc<Link>,
}

impl Walks {
    /// The values of all keys that begin so; none while Redis does not answer. It walks over every
    /// key in Redis, which takes longer than a request may.
    pub async fn values(&self, start: &str) -> Vec<Vec<u8>> {
        let Some(mut connection) = self.link.connection() else { return Vec::new() };
        let walk = async {
            let (mut keys, mut cursor) = (Vec::new(), 0_u64);
            loop {
                let mut scan = redis::cmd("SCAN");
                scan.arg(cursor).arg("MATCH").arg(format!("{start}*")).arg("COUNT").arg(1000);
                let (next, found): (u64, Vec<String>) = scan.query_async(&mut connection).await?;
                keys.extend(found);
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
            if keys.is_empty() {
                return Ok(Vec::new());
            }
            redis::cmd("MGET").arg(keys).query_async::<Vec<Option<Vec<u8>>>>(&mut connection).await
        };
        self.link.answer(PATIENCE, walk).await.into_iter().flatten().flatten().collect()
    }

    /// Which of these keys exist. `None` if Redis does not answer. Waits longer than a request may.
    pub async fn are_there(&self, keys: &[String]) -> Option<Vec<bool>> {
        let mut connection = self.link.connection()?;
        let mut pipeline = redis::pipe();
        for key in keys {
            pipeline.cmd("EXISTS").arg(key);
        }
        self.link.answer(PATIENCE, pipeline.query_async(&mut connection)).await
    }

    /// Gives all keys that begin so, with their values, some hundreds at a time. Returns whether
    /// the walk reached its end.
    pub async fn each(&self, start: &str, mut give: impl FnMut(&str, &[u8])) -> bool {
        let mut cursor = 0_u64;
        loop {
            let Some(mut connection) = self.link.connection() else { return false };
            let step = async {
                let mut scan = redis::cmd("SCAN");
                scan.arg(cursor).arg("MATCH").arg(format!("{start}*")).arg("COUNT").arg(AT_ONCE);
                let (next, keys): (u64, Vec<String>) = scan.query_async(&mut connection).await?;
                let values: Vec<Option<Vec<u8>>> = match keys.is_empty() {
                    true => Vec::new(),
                    false => redis::cmd("MGET").arg(&keys).query_async(&mut connection).await?,
                };
                Ok::<_, RedisError>((next, keys, values))
            };
            match time::timeout(PATIENCE, step).await {
                Ok(Ok((next, keys, values))) => {
                    for (key, value) in keys.iter().zip(&values) {
                        value.iter().for_each(|value| give(key, value));
                    }
                    cursor = next;
                    if cursor == 0 {
                        return true;
                    }
                }
                Ok(Err(error)) => {
                    self.link.failed(&error);
                    return false;
                }
                Err(_) => {
                    self.link.late();
                    return false;
                }
            }
        }
    }

    /// The value on which all replicas agree: the existing one, else this one, which is then
    /// stored. It lasts for [`AGREED`] after the last replica's request. `None` while Redis does
    /// not answer. Waits longer than a request may.
    pub async fn set_if_absent(&self, key: &str, value: Option<&str>) -> Option<Option<String>> {
        let mut connection = self.link.connection()?;
        let mut pipeline = redis::pipe();
        if let Some(value) = value {
            pipeline.cmd("SET").arg(key).arg(value).arg("NX").ignore();
        }
        pipeline.cmd("PEXPIRE").arg(key).arg(AGREED.as_millis() as u64).ignore();
        match pipeline.cmd("GET").arg(key).query_async::<(Option<String>,)>(&mut connection).await {
            Ok((agreed,)) => {
                self.link.answered();
                Some(agreed)
            }
            Err(error) => {
                self.link.failed(&error);
                None
            }
        }
    }
}
