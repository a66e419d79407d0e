//! What replicas agree on through Redis: a key that another program writes, and leases that they
//! hold among themselves.
//!
//! A ledger has its own connection and breaker: Redis may be too slow for requests, but not for it.
//! No code that serves a client may wait for a ledger.

use std::{fmt, sync::Arc, time::Duration};

use redis::{Cmd, FromRedisValue, RedisError};
use tokio::{sync::watch, time};

pub use super::notices::Notices;
use super::{
    Config, Error,
    link::{self, Link, Serves, State},
    notices,
    server::Server,
};
use crate::{observe::metrics::Metrics, shutdown::Shutdown};

/// The longest wait for an answer. If Redis takes longer three times in a row, it counts as gone.
const PATIENCE: Duration = Duration::from_millis(300);

const CLAIM: &str = include_str!("ledger/claim.lua");
const RELEASE: &str = include_str!("ledger/release.lua");

/// Redis, for what replicas agree on. Cheap to clone; its tasks run where it was started.
#[derive(Clone)]
pub struct Ledger {
    link: Arc<Link>,
    server: Arc<Server>,
    database: i64,
    shutdown: Shutdown,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// Redis was not asked, or did not answer in time.
    #[error("Redis does not answer")]
    Away,
    /// Redis has read the command and refused it.
    #[error("Redis refuses: {0}")]
    Refused(RedisError),
}

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Bytes(Vec<u8>),
    Nothing,
    /// A list, a hash or the like.
    Other,
}

/// The keys of one lease, and the channel that announces its changes.
#[derive(Clone, Debug)]
pub struct Lease {
    key: String,
    record: String,
    channel: String,
    life: Duration,
}

/// What one replica claims of a lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// The claiming replica's name, which no other has.
    pub claimant: String,
    /// The latest term that it knows, with its value. At first, 0 and an empty value.
    pub known: (u64, String),
    /// The value that it would set.
    pub wanted: Option<String>,
    /// The values that may stay.
    pub fit: Vec<String>,
    /// The values that any replica may replace. If a value is in neither list, only the lease's
    /// holder may replace it.
    pub unfit: Vec<String>,
    /// A lease that the claimant holds starts its full life again.
    pub renews: bool,
}

/// Who holds a lease, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Grows with each change of the value. A term never gets another value.
    pub term: u64,
    pub value: String,
    pub holder: String,
    /// With this answer the lease starts its full life again.
    pub is_renewed: bool,
}

impl Lease {
    /// A lease under this key, which expires this long after its last renewal.
    pub fn new(key: &str, life: Duration) -> Lease {
        Lease { key: key.to_owned(), record: format!("{key}:term"), channel: format!("{key}:changes"), life }
    }
}

impl Ledger {
    /// Starts to connect, and keeps trying until the shutdown. Does not wait for Redis.
    ///
    /// # Errors
    /// When the configuration cannot be used, whether Redis answers or not.
    pub fn start(config: &Config, metrics: Metrics, shutdown: &Shutdown) -> Result<Ledger, Error> {
        let server = Arc::new(Server::new(config)?);
        let link = Arc::new(Link::new(Serves::Ledger, metrics));
        tokio::spawn(link::keep(link.clone(), server.clone(), shutdown.clone()));
        Ok(Ledger { link, server, database: config.url.database(), shutdown: shutdown.clone() })
    }

    /// The value of a key.
    ///
    /// # Errors
    /// When Redis does not answer, or refuses.
    pub async fn read(&self, key: &str) -> Result<Value, Unanswered> {
        match self.query::<Option<Vec<u8>>>(redis::cmd("GET").arg(key)).await {
            Ok(Some(bytes)) => Ok(Value::Bytes(bytes)),
            Ok(None) => Ok(Value::Nothing),
            Err(Unanswered::Refused(error)) if error.code() == Some("WRONGTYPE") => Ok(Value::Other),
            Err(unanswered) => Err(self.judge(unanswered)),
        }
    }

    /// Looks at a lease, and takes, takes over or renews it as the claim asks. `None`: no replica
    /// holds it, and the claim wants no value.
    ///
    /// # Cancel safety
    /// If the call is dropped or gets no answer, Redis may still carry the claim out, even later.
    /// It then ends no term that its claimant did not know.
    pub async fn claim(&self, lease: &Lease, claim: &Claim) -> Result<Option<Held>, Unanswered> {
        let (term, value) = &claim.known;
        let mut command = redis::cmd("EVAL");
        command.arg(CLAIM).arg(2).arg(&lease.key).arg(&lease.record);
        command.arg(&claim.claimant).arg(lease.life.as_millis() as u64).arg(term).arg(value);
        command.arg(claim.wanted.as_deref().unwrap_or_default()).arg(u8::from(claim.renews)).arg(&lease.channel);
        command.arg(claim.fit.len()).arg(&claim.fit).arg(&claim.unfit);
        let answer = self.query::<Vec<String>>(&command).await;
        Ok(held(answer.map_err(|unanswered| self.judge(unanswered))?))
    }

    /// Releases a lease if this claimant holds it. Tries once.
    pub async fn release(&self, lease: &Lease, claimant: &str) {
        let mut command = redis::cmd("EVAL");
        command.arg(RELEASE).arg(1).arg(&lease.key).arg(claimant).arg(&lease.channel);
        // A lease that could not be released expires.
        let _ = self.query::<()>(&command).await;
    }

    /// Receives notices of a lease's changes.
    pub fn notices_of(&self, lease: &Lease) -> Notices {
        self.notices(lease.channel.clone())
    }

    /// Receives notices of a key's changes, if Redis publishes them (`notify-keyspace-events`).
    pub fn notices_of_key(&self, key: &str) -> Notices {
        self.notices(format!("__keyspace@{}__:{key}", self.database))
    }

    /// Whether Redis answers, as far as is known. Reports every change of that.
    pub fn answers(&self) -> Answers {
        Answers { states: self.link.states() }
    }

    fn notices(&self, channel: String) -> Notices {
        notices::start(self.server.clone(), self.link.clone(), channel, self.shutdown.clone())
    }

    /// Counts a refusal as a failure (read-only, loading, out of memory, not permitted). The server
    /// is of no use then, but the next one at its address may be.
    fn judge(&self, unanswered: Unanswered) -> Unanswered {
        if let Unanswered::Refused(error) = &unanswered {
            self.link.failed(error);
        }
        unanswered
    }

    async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Unanswered> {
        let Some(mut connection) = self.link.connection() else { return Err(Unanswered::Away) };
        match time::timeout(PATIENCE, command.query_async::<T>(&mut connection)).await {
            Ok(Ok(answer)) => {
                self.link.answered();
                Ok(answer)
            }
            Ok(Err(error)) if super::is_refusal(&error) => Err(Unanswered::Refused(error)),
            Ok(Err(error)) => {
                self.link.failed(&error);
                Err(Unanswered::Away)
            }
            Err(_) => {
                self.link.late();
                Err(Unanswered::Away)
            }
        }
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("database", &self.database).finish_non_exhaustive()
    }
}

/// Whether Redis answers.
#[derive(Clone, Debug)]
pub struct Answers {
    states: watch::Receiver<State>,
}

impl Answers {
    /// `None` until the first attempt to connect has ended.
    pub fn now(&mut self) -> Option<bool> {
        match *self.states.borrow_and_update() {
            State::Unknown => None,
            State::Up => Some(true),
            State::Down => Some(false),
        }
    }

    /// Waits for the next change since [`Answers::now`]. Cancel safe.
    pub async fn changed(&mut self) {
        if self.states.changed().await.is_err() {
            // The sender is gone, so the state never changes again.
            std::future::pending().await
        }
    }
}

fn held(answer: Vec<String>) -> Option<Held> {
    let mut fields = answer.into_iter();
    let (term, value, holder) = (fields.next()?, fields.next()?, fields.next()?);
    Some(Held { term: term.parse().ok()?, value, holder, is_renewed: fields.next()? == "renewed" })
}
