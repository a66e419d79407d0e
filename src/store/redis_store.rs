//! What replicas share through Redis.
//!
//! A read waits at most some tens of milliseconds, and not at all while Redis is known to be down.
//! One task writes behind the requests, out of a bounded queue. When Redis is so slow that the
//! queue is full, further changes are dropped and counted.

mod breaker;
mod census;
mod documents;
mod facts;
pub mod ledger;
mod link;
mod locks;
pub mod notices;
pub mod presence;
mod queue;
mod server;
mod trial;
mod url;
mod walks;
mod writer;

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use redis::{Cmd, FromRedisValue, RedisError};
use tokio::{sync::mpsc, time};

use crate::{
    observe::metrics::{Metrics, StoreOutcome},
    shutdown::Shutdown,
    store::{clock::Clock, outcome::LookupOutcome},
};
pub use census::Bounds;
use census::Census;
pub use documents::Documents;
pub use facts::Facts;
use link::{Link, Serves};
use notices::Messages;
pub use queue::WriteQueue;
use server::Server;
pub use trial::{CheckError, Trial, self_test};
pub use url::Url;
pub use walks::Walks;

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

/// The entries in Redis. All workers share it; its tasks run where it was started.
pub struct RedisStore {
    /// Writes behind the requests.
    pub queue: WriteQueue,
    /// Reads that no request waits for.
    pub walks: Walks,
    /// Short documents that all replicas share.
    pub documents: Documents,
    link: Arc<Link>,
    times: Arc<ArcSwap<Times>>,
    prefix: String,
    metrics: Metrics,
    server: Arc<Server>,
    shutdown: Shutdown,
}

#[derive(Clone, Copy, Debug)]
struct Times {
    deadline: Duration,
    ttl: Duration,
}

impl Times {
    fn of(config: &Config) -> Times {
        Times { deadline: config.deadline, ttl: config.ttl }
    }
}

impl RedisStore {
    /// Starts to connect, and keeps trying until the shutdown. Does not wait for Redis.
    ///
    /// # Errors
    /// When the configuration cannot be used, whether Redis answers or not.
    pub fn start(config: &Config, metrics: Metrics, shutdown: &Shutdown) -> Result<RedisStore, Error> {
        let server = Arc::new(Server::new(config)?);
        let link = Arc::new(Link::new(Serves::Requests, metrics.clone()));
        let (changes, queued) = mpsc::channel(queue::MOST);
        let census = Arc::new(Census::new(config.bounds, &config.prefix));
        tokio::spawn(link::keep(link.clone(), server.clone(), shutdown.clone()));
        tokio::spawn(writer::write(link.clone(), queued, census.clone(), shutdown.clone()));
        tokio::spawn(census::keep(census, link.clone(), shutdown.clone()));
        let times = Arc::new(ArcSwap::from_pointee(Times::of(config)));
        let queue = WriteQueue { link: link.clone(), changes, times: times.clone(), metrics: metrics.clone() };
        let documents = Documents { link: link.clone() };
        let (walks, prefix) = (Walks { link: link.clone() }, config.prefix.clone());
        Ok(RedisStore { queue, walks, documents, link, times, prefix, metrics, server, shutdown: shutdown.clone() })
    }

    /// Takes another server, deadline and life of entries. Prefix and bounds stay as they are.
    /// Entries in memory are written to the new server as after a loss of Redis's data.
    ///
    /// # Errors
    /// When the configuration cannot be used; everything stays then.
    pub fn renew(&self, before: &Config, config: &Config) -> Result<(), Error> {
        let is_same = (&before.url, &before.sentinels, &before.ca) == (&config.url, &config.sentinels, &config.ca);
        if !is_same {
            self.server.replace(config)?;
        }
        self.times.store(Arc::new(Times::of(config)));
        Ok(())
    }

    /// The clock of all replicas.
    pub fn clock(&self) -> &Clock {
        &self.link.clock
    }

    /// The key of this house for something.
    pub fn key(&self, what: &str) -> String {
        format!("{}:{what}", self.prefix)
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

    /// The answer of Redis within the deadline, or why there is none.
    async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, LookupOutcome> {
        let Some(mut connection) = self.link.connection() else { return Err(LookupOutcome::Skipped) };
        let deadline = self.times.load().deadline;
        match time::timeout(deadline, command.query_async(&mut connection)).await {
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

    /// Publishes on a channel, after all changes queued so far are written. Returns how many
    /// subscribers there are. `None` if Redis does not say so in time.
    ///
    /// # Cancel safety
    /// If it is dropped, the message may have been published.
    pub async fn publish_and_count(&self, channel: &str, message: &str) -> Option<usize> {
        let deadline = self.times.load().deadline;
        if !self.queue.flush(deadline).await {
            return None;
        }
        let mut command = redis::cmd("PUBLISH");
        command.arg(channel).arg(message);
        self.query(&command).await.ok()
    }

    /// Receives the messages of a channel.
    pub fn subscribe(&self, channel: String) -> Messages {
        notices::messages(self.server.clone(), self.link.clone(), channel, self.shutdown.clone())
    }

    /// Waits until the first attempt to connect has ended, whatever its result.
    pub async fn await_first_attempt(&self) {
        self.link.settled().await;
    }

    fn count_lookup(&self, outcome: LookupOutcome) {
        self.metrics.shared_lookups.get_or_create(&StoreOutcome { outcome: outcome.as_str() }).inc();
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("times", &self.times.load()).finish_non_exhaustive()
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
