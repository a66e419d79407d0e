//! What replicas agree on through Redis: a key that somebody else writes, and leases that they hold among themselves.
//!
//! A ledger has a connection and a breaker of its own: what requests find too slow must not unsettle it. Nobody who serves a
//! client may wait for it.

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

/// The longest time for an answer. A Redis that takes longer, three times in a row, counts as gone.
const PATIENCE: Duration = Duration::from_millis(300);

const CLAIM: &str = include_str!("ledger/claim.lua");
const RELEASE: &str = include_str!("ledger/release.lua");

/// Redis, for what has to be agreed on. Cheap to clone; its tasks run where it was started.
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
    /// Redis was not asked, or has not answered in time.
    #[error("Redis does not answer")]
    Away,
    /// Redis has read the question and said no.
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

/// The keys of one lease, and the channel on which its changes are told.
#[derive(Clone, Debug)]
pub struct Lease {
    key: String,
    record: String,
    channel: String,
    life: Duration,
}

/// What one replica has to say about a lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// The name of the one who claims; no other bears it.
    pub claimant: String,
    /// The latest term that it knows, with its value; 0 and nothing at first.
    pub known: (u64, String),
    /// The value that it would name.
    pub wanted: Option<String>,
    /// The values that may stay.
    pub fit: Vec<String>,
    /// The values that may be replaced whoever holds the lease. What is neither is left to its holder.
    pub unfit: Vec<String>,
    /// A lease of its own begins anew.
    pub renews: bool,
}

/// Who holds a lease, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Grows with each change of the value. The same term has the same value for ever.
    pub term: u64,
    pub value: String,
    pub holder: String,
    /// Its life began anew with this answer.
    pub is_renewed: bool,
}

impl Lease {
    /// A lease under this key; it ends this long after its last renewal.
    pub fn new(key: &str, life: Duration) -> Lease {
        Lease { key: key.to_owned(), record: format!("{key}:term"), channel: format!("{key}:changes"), life }
    }
}

impl Ledger {
    /// Begins to connect, and goes on trying until the shutdown. Does not wait for Redis.
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
    /// When it cannot be told.
    pub async fn read(&self, key: &str) -> Result<Value, Unanswered> {
        match self.ask::<Option<Vec<u8>>>(redis::cmd("GET").arg(key)).await {
            Ok(Some(bytes)) => Ok(Value::Bytes(bytes)),
            Ok(None) => Ok(Value::Nothing),
            Err(Unanswered::Refused(error)) if error.code() == Some("WRONGTYPE") => Ok(Value::Other),
            Err(unanswered) => Err(self.judge(unanswered)),
        }
    }

    /// Looks at a lease, and takes, takes over or renews it as the claim has it. `None`: nobody holds it, and the claim wants
    /// nothing.
    ///
    /// # Cancel safety
    /// A claim that is dropped, or gets no answer, may have been carried out, or be carried out later. Then it ends no term
    /// that its claimant had not known.
    pub async fn claim(&self, lease: &Lease, claim: &Claim) -> Result<Option<Held>, Unanswered> {
        let (term, value) = &claim.known;
        let mut command = redis::cmd("EVAL");
        command.arg(CLAIM).arg(2).arg(&lease.key).arg(&lease.record);
        command.arg(&claim.claimant).arg(lease.life.as_millis() as u64).arg(term).arg(value);
        command.arg(claim.wanted.as_deref().unwrap_or_default()).arg(u8::from(claim.renews)).arg(&lease.channel);
        command.arg(claim.fit.len()).arg(&claim.fit).arg(&claim.unfit);
        let answer = self.ask::<Vec<String>>(&command).await;
        Ok(held(answer.map_err(|unanswered| self.judge(unanswered))?))
    }

    /// Gives a lease back, if this claimant holds it. Tries once.
    pub async fn release(&self, lease: &Lease, claimant: &str) {
        let mut command = redis::cmd("EVAL");
        command.arg(RELEASE).arg(1).arg(&lease.key).arg(claimant).arg(&lease.channel);
        // A lease that could not be given back runs out.
        let _ = self.ask::<()>(&command).await;
    }

    /// Hears of a lease's changes.
    pub fn notices_of(&self, lease: &Lease) -> Notices {
        self.notices(lease.channel.clone())
    }

    /// Hears of a key's changes, where Redis is configured to tell of them (`notify-keyspace-events`).
    pub fn notices_of_key(&self, key: &str) -> Notices {
        self.notices(format!("__keyspace@{}__:{key}", self.database))
    }

    /// Whether Redis answers, as far as is known; hears of every change of that.
    pub fn answers(&self) -> Answers {
        Answers { states: self.link.states() }
    }

    fn notices(&self, channel: String) -> Notices {
        notices::start(self.server.clone(), self.link.clone(), channel, self.shutdown.clone())
    }

    /// Read-only, loading, out of memory, not permitted: a server that refuses is of no use, and the next one at its address may
    /// be.
    fn judge(&self, unanswered: Unanswered) -> Unanswered {
        if let Unanswered::Refused(error) = &unanswered {
            self.link.failed(error);
        }
        unanswered
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Unanswered> {
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

    /// Ends at the next change since [`Answers::now`]. Cancel safe.
    pub async fn changed(&mut self) {
        if self.states.changed().await.is_err() {
            // Nobody is left to change it.
            std::future::pending().await
        }
    }
}

fn held(answer: Vec<String>) -> Option<Held> {
    let mut fields = answer.into_iter();
    let (term, value, holder) = (fields.next()?, fields.next()?, fields.next()?);
    Some(Held { term: term.parse().ok()?, value, holder, is_renewed: fields.next()? == "renewed" })
}
