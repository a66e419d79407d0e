//! What replicas share through Redis.
//!
//! A read waits at most some tens of milliseconds, and not at all while Redis is known to be down.
//! One task writes behind the requests, out of a bounded queue. When Redis is so slow that the
//! queue is full, further changes are dropped and counted.

mod breaker;
mod census;
mod facts;
pub mod ledger;
mod link;
mod locks;
pub mod notices;
pub mod presence;
mod server;
mod trial;
mod url;
mod writer;

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

use redis::{Cmd, FromRedisValue, RedisError};
use tokio::{
    sync::{mpsc, oneshot},
    time,
};

use crate::{
    observe::metrics::{Metrics, StoreOutcome},
    shutdown::Shutdown,
    store::{
        clock::Clock,
        outcome::{LookupOutcome, WriteOutcome},
    },
};
pub use census::Bounds;
use census::Census;
pub use facts::Facts;
use link::{Link, Serves};
use notices::Messages;
use server::Server;
pub use trial::{CheckError, Trial, self_test};
pub use url::Url;
use writer::Change;

/// The Redis that all replicas use.
#[derive(Clone, Debug)]
pub struct Config {
    pub url: Url,
    /// The sentinels that know where Redis is; the URL's host then names its service. Default none.
    pub sentinels: Vec<Url>,
    /// PEM file of the authorities that sign Redis's certificate. Default: the system's.
    pub ca: Option<PathBuf>,
    /// The longest time that a request waits for Redis. Default 30 ms.
    pub deadline: Duration,
    /// What the keys begin with. Default `jellypin`.
    pub prefix: String,
    /// How long an entry is kept after it was last written. Default 30 days.
    pub ttl: Duration,
    /// How much may be stored there.
    pub bounds: Bounds,
}

/// Why Redis cannot be used at all. A Redis that does not answer is no such reason.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {}: {source}", path.display())]
    Authorities { path: PathBuf, source: io::Error },
    #[error("cannot use Redis as configured: {0}")]
    Client(#[from] RedisError),
}

/// What Redis says of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The value of the nth requested key, the first that has one.
    Value {
        nth: usize,
        bytes: Vec<u8>,
    },
    Nothing,
    /// Redis was not asked, or did not answer in time.
    Unknown,
}

/// Changes that may wait for Redis. Further ones are dropped.
const QUEUE: usize = 8192;

/// Keys in one step of a walk.
const AT_ONCE: usize = 500;

/// How long a value that all replicas agree on outlasts the last replica's request for it.
pub const AGREED: Duration = Duration::from_secs(400 * 86_400);

/// The longest time that [`RedisStore::finish`] or [`RedisStore::scan_values`] takes.
const FINISH: Duration = Duration::from_secs(1);

/// The entries in Redis. All workers share it; its tasks run where it was started.
pub struct RedisStore {
    link: Arc<Link>,
    changes: mpsc::Sender<Change>,
    deadline: Duration,
    ttl: Duration,
    prefix: String,
    metrics: Metrics,
    server: Arc<Server>,
    shutdown: Shutdown,
}

impl RedisStore {
    /// Starts to connect, and keeps trying until the shutdown. Does not wait for Redis.
    ///
    /// # Errors
    /// When the configuration cannot be used, whether Redis answers or not.
    pub fn start(config: &Config, metrics: Metrics, shutdown: &Shutdown) -> Result<RedisStore, Error> {
        let server = Arc::new(Server::new(config)?);
        let link = Arc::new(Link::new(Serves::Requests, metrics.clone()));
        let (changes, queue) = mpsc::channel(QUEUE);
        let census = Arc::new(Census::new(config.bounds, &config.prefix));
        tokio::spawn(link::keep(link.clone(), server.clone(), shutdown.clone()));
        tokio::spawn(writer::write(link.clone(), queue, census.clone(), shutdown.clone()));
        tokio::spawn(census::keep(census, link.clone(), shutdown.clone()));
        let (deadline, ttl, prefix) = (config.deadline, config.ttl, config.prefix.clone());
        Ok(RedisStore { link, changes, deadline, ttl, prefix, metrics, server, shutdown: shutdown.clone() })
    }

    /// The clock of all replicas.
    pub fn clock(&self) -> &Clock {
        self.link.clock()
    }

    /// The value of the first of these keys that has one. Waits at most the deadline.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn find(&self, keys: &[String]) -> Found {
        let Some(values) = self.find_all(keys).await else { return Found::Unknown };
        let value = values.into_iter().enumerate().find_map(|(nth, bytes)| Some((nth, bytes?)));
        value.map_or(Found::Nothing, |(nth, bytes)| Found::Value { nth, bytes })
    }

    /// The values of these keys. `None` if Redis is not asked, or misses the deadline.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn find_all(&self, keys: &[String]) -> Option<Vec<Option<Vec<u8>>>> {
        let mut command = redis::cmd("MGET");
        command.arg(keys);
        let answer = self.query::<Vec<Option<Vec<u8>>>>(&command).await;
        self.count_lookup(match &answer {
            Ok(values) if values.iter().any(Option::is_some) => LookupOutcome::Hit,
            Ok(_) => LookupOutcome::Miss,
            Err(outcome) => *outcome,
        });
        answer.ok()
    }

    /// The values of all keys that begin so; none while Redis does not answer. It walks over every
    /// key in Redis, which takes longer than a request may.
    pub async fn scan_values(&self, start: &str) -> Vec<Vec<u8>> {
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
        match time::timeout(FINISH, walk).await {
            Ok(Ok(values)) => values.into_iter().flatten().collect(),
            Ok(Err(error)) => {
                self.link.failed(&error);
                Vec::new()
            }
            Err(_) => {
                self.link.late();
                Vec::new()
            }
        }
    }

    /// The answer of Redis within the deadline, or why there is none.
    async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, LookupOutcome> {
        let Some(mut connection) = self.link.connection() else { return Err(LookupOutcome::Skipped) };
        match time::timeout(self.deadline, command.query_async(&mut connection)).await {
            Ok(Ok(answer)) => {
                self.link.answered();
                Ok(answer)
            }
            Ok(Err(error)) => {
                self.link.failed(&error);
                Err(LookupOutcome::Failed)
            }
            Err(_) => {
                self.link.late();
                Err(LookupOutcome::TimedOut)
            }
        }
    }

    /// Waits at most `at_most` until the changes so far are written. Returns whether they are.
    pub async fn flush(&self, at_most: Duration) -> bool {
        if self.link.connection().is_none() {
            return false;
        }
        let (done, is_done) = oneshot::channel();
        let written = async { self.changes.send(Change::Mark(done)).await.is_ok() && is_done.await.is_ok() };
        time::timeout(at_most, written).await.unwrap_or(false)
    }

    /// Which of these keys exist. `None` if Redis does not answer. Waits longer than a request may.
    pub async fn are_there(&self, keys: &[String]) -> Option<Vec<bool>> {
        let mut connection = self.link.connection()?;
        let mut pipeline = redis::pipe();
        for key in keys {
            pipeline.cmd("EXISTS").arg(key);
        }
        match time::timeout(FINISH, pipeline.query_async(&mut connection)).await {
            Ok(Ok(are_there)) => {
                self.link.answered();
                Some(are_there)
            }
            Ok(Err(error)) => {
                self.link.failed(&error);
                None
            }
            Err(_) => {
                self.link.late();
                None
            }
        }
    }

    /// Gives all keys that begin so, with their values, some hundreds at a time. Returns whether
    /// the walk reached its end.
    pub async fn walk(&self, start: &str, mut give: impl FnMut(&str, &[u8])) -> bool {
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
            match time::timeout(FINISH, step).await {
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

    /// Queues the write of an entry.
    pub fn put(&self, key: String, value: Vec<u8>) {
        self.put_for(key, value, self.ttl);
    }

    /// Queues the write of an entry that lasts for `lasts`.
    pub fn put_for(&self, key: String, value: Vec<u8>, lasts: Duration) {
        self.change(Change::Put { key, value, lasts });
    }

    /// Queues the removal of an entry.
    pub fn remove(&self, key: String) {
        self.change(Change::Remove { key });
    }

    /// Publishes on a channel, after all changes queued so far are written.
    pub fn publish(&self, channel: String, words: String) {
        self.change(Change::Tell { channel, words });
    }

    /// Publishes on a channel, after all changes queued so far are written. Returns how many
    /// subscribers there are. `None` if Redis does not say so in time.
    ///
    /// # Cancel safety
    /// If it is dropped, the message may have been published.
    pub async fn publish_and_count(&self, channel: &str, words: &str) -> Option<usize> {
        if !self.flush(self.deadline).await {
            return None;
        }
        let mut command = redis::cmd("PUBLISH");
        command.arg(channel).arg(words);
        self.query(&command).await.ok()
    }

    /// Receives the messages of a channel.
    pub fn subscribe(&self, channel: String) -> Messages {
        notices::words(self.server.clone(), self.link.clone(), channel, self.shutdown.clone())
    }

    /// Waits until the first attempt to connect has ended, whatever its result.
    pub async fn await_first_attempt(&self) {
        self.link.settled().await;
    }

    /// Waits a moment for the changes that are still queued.
    pub async fn finish(&self) {
        if self.link.connection().is_none() && self.changes.capacity() == QUEUE {
            return;
        }
        if !self.flush(FINISH).await {
            tracing::warn!("Redis did not accept every write in time");
        }
    }

    fn change(&self, change: Change) {
        if self.changes.try_send(change).is_err() {
            self.metrics.store_writes.get_or_create(&StoreOutcome { outcome: WriteOutcome::Dropped.as_str() }).inc();
        }
    }

    fn count_lookup(&self, outcome: LookupOutcome) {
        self.metrics.shared_lookups.get_or_create(&StoreOutcome { outcome: outcome.as_str() }).inc();
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

/// Whether Redis can be used as configured. Does not connect.
///
/// # Errors
/// As [`RedisStore::start`].
pub fn check(config: &Config) -> Result<(), Error> {
    Server::new(config).map(drop)
}

/// Redis has read the commands and refused them (out of memory, read-only, not permitted). Sending
/// them again changes nothing.
fn is_refusal(error: &RedisError) -> bool {
    !error.is_io_error() && !error.is_timeout() && !error.is_connection_dropped()
}
