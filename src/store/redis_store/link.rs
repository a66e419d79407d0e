//! The connection to Redis, and whether there is one.
//!
//! The breaker is open while there is no connection. Failures in a row open it, whichever caller
//! they hit. Only this file's own attempt over a fresh connection closes it, so that no request
//! pays for the test.

use std::{
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use redis::{AsyncConnectionConfig, RedisError, RedisResult, aio::MultiplexedConnection};
use tokio::{
    sync::watch,
    time::{self, Instant},
};

use super::{
    breaker::{self, Breaker},
    facts::Facts,
    server::Server,
};
use crate::{jitter, observe::metrics::Metrics, shutdown::Shutdown, store::clock::Clock};

/// The longest wait for a connection, and for an answer that no request waits for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Time between two checks whether Redis still answers.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The log reports clocks that differ by more milliseconds than this.
const WRONG: u64 = 5_000;

/// What a link serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Serves {
    /// Requests, which give up after tens of milliseconds. Only their link sets the gauge of Redis.
    Requests,
    /// A ledger, whose own commands come often enough to show whether Redis is usable. A `PING`
    /// would not show it: a read-only Redis answers that too.
    Ledger,
}

pub(super) struct Link {
    serves: Serves,
    connection: ArcSwapOption<MultiplexedConnection>,
    breaker: Breaker,
    state: watch::Sender<State>,
    /// The latest connection broke. That says nothing against the server that comes next.
    is_broken: AtomicBool,
    /// The log has said that Redis does not answer.
    is_told: AtomicBool,
    pub(super) metrics: Metrics,
    /// The clock of Redis.
    pub(super) clock: Clock,
    /// What kind of Redis it was when the log last said so.
    facts: Mutex<Option<Facts>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No attempt has ended yet.
    Unknown,
    Up,
    Down,
}

impl Serves {
    fn name(self) -> &'static str {
        match self {
            Serves::Requests => "requests",
            Serves::Ledger => "ledger",
        }
    }
}

impl Link {
    pub(super) fn new(serves: Serves, metrics: Metrics) -> Link {
        Link {
            serves,
            connection: ArcSwapOption::empty(),
            breaker: Breaker::default(),
            state: watch::Sender::new(State::Unknown),
            is_broken: AtomicBool::new(false),
            is_told: AtomicBool::new(false),
            metrics,
            clock: Clock::default(),
            facts: Mutex::default(),
        }
    }

    /// The connection, while Redis answers.
    pub(super) fn connection(&self) -> Option<MultiplexedConnection> {
        self.connection.load().as_deref().cloned()
    }

    /// Waits for a connection; `None` when the proxy stops before there is one.
    pub(super) async fn connected(&self, shutdown: &Shutdown) -> Option<MultiplexedConnection> {
        let mut states = self.state.subscribe();
        loop {
            if let Some(connection) = self.connection() {
                return Some(connection);
            }
            tokio::select! {
                up = states.wait_for(|state| *state == State::Up) => drop(up.ok()?),
                () = shutdown.stopping() => return None,
            }
        }
    }

    /// Waits until the first attempt to connect has ended.
    pub(super) async fn settled(&self) {
        // `self` owns the sender, so only the state can end the wait.
        let _ = self.state.subscribe().wait_for(|state| *state != State::Unknown).await;
    }

    /// Asks for the time before anything with a timestamp is written. If Redis does not say, the
    /// clock stays as it is.
    async fn set_clock(&self, connection: &mut MultiplexedConnection) {
        let asked = self.clock.machine();
        let answer = redis::cmd("TIME").query_async::<(u64, u64)>(connection).await;
        if let Ok((seconds, micros)) = answer {
            self.clock.set(seconds * 1000 + micros / 1000, asked, self.clock.machine());
        }
        let error = self.clock.error();
        if error.unsigned_abs() > WRONG {
            tracing::warn!(
                clock.ahead_ms = error,
                "this machine's clock and that of Redis differ; moments are taken from Redis"
            );
        }
    }

    /// Finds out what kind of Redis it is, and logs once what an operator should know.
    async fn look(&self, connection: &mut MultiplexedConnection) {
        let Ok(facts) = Facts::of(connection).await else { return };
        self.metrics.redis_evicts.set(i64::from(facts.evicts()));
        // What Redis does not tell is not held against it.
        self.metrics.redis_persists.set(i64::from(facts.is_kept != Some(false)));
        let is_new = self.facts.lock().replace(facts.clone()).as_ref() != Some(&facts);
        if is_new {
            facts.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
            if facts.is_cluster {
                tracing::error!("Redis is one of a cluster, which is not supported; its keys cannot be used together");
            }
        }
    }

    /// Receives every opening and closing of the breaker.
    pub(super) fn states(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Waits so long for an answer, and records whether Redis gave one.
    pub(super) async fn answer<T>(&self, patience: Duration, asked: impl Future<Output = RedisResult<T>>) -> Option<T> {
        match time::timeout(patience, asked).await {
            Ok(Ok(answer)) => {
                self.answered();
                Some(answer)
            }
            Ok(Err(error)) => {
                self.failed(&error);
                None
            }
            Err(_) => {
                self.late();
                None
            }
        }
    }

    pub(super) fn answered(&self) {
        self.breaker.answered();
        if self.serves == Serves::Ledger && self.is_told.swap(false, Ordering::AcqRel) {
            tracing::info!(redis.link = self.serves.name(), "Redis can be used again");
        }
    }

    pub(super) fn failed(&self, error: &RedisError) {
        if error.is_connection_dropped() || (error.is_io_error() && !error.is_timeout()) {
            self.is_broken.store(true, Ordering::Relaxed);
        }
        self.count(error);
    }

    /// Counts an answer that did not come in time.
    pub(super) fn late(&self) {
        self.count(&"no answer in time");
    }

    fn count(&self, reason: &dyn Display) {
        if self.breaker.failed() {
            self.open(reason);
        }
    }

    /// Opens the breaker: no caller asks Redis from here on.
    fn open(&self, reason: &dyn Display) {
        self.connection.store(None);
        self.state.send_replace(State::Down);
        if self.serves == Serves::Requests {
            self.metrics.redis_up.set(0);
        }
        if !self.is_told.swap(true, Ordering::AcqRel) {
            let link = self.serves.name();
            tracing::warn!(redis.link = link, reason = %reason, "Redis cannot be used; the proxy goes on without it and tries again");
        }
    }

    /// Whether the pauses start again at the shortest, however briefly the connection lasted.
    fn starts_again(&self) -> bool {
        self.serves == Serves::Ledger && self.is_broken.load(Ordering::Relaxed)
    }

    fn close(&self, connection: MultiplexedConnection) {
        self.breaker.answered();
        self.is_broken.store(false, Ordering::Relaxed);
        self.connection.store(Some(Arc::new(connection)));
        if self.serves == Serves::Requests {
            self.metrics.redis_up.set(1);
        }
        self.state.send_replace(State::Up);
        if self.serves == Serves::Requests || !self.is_told.load(Ordering::Acquire) {
            self.is_told.store(false, Ordering::Release);
            tracing::info!(redis.link = self.serves.name(), "Redis answers");
        }
    }
}

/// Connects, watches the connection, and reconnects when the breaker opens, until the shutdown.
pub(super) async fn keep(link: Arc<Link>, server: Arc<Server>, shutdown: Shutdown) {
    let mut attempts = 0;
    let mut changes = server.changes();
    loop {
        changes.mark_unchanged();
        let connected = tokio::select! {
            connected = connect(&server) => connected,
            () = shutdown.stopping() => return,
        };
        match connected {
            Ok(mut connection) => {
                if link.serves == Serves::Requests {
                    link.set_clock(&mut connection).await;
                }
                let mut asked = connection.clone();
                link.close(connection);
                if link.serves == Serves::Requests {
                    // No request waits for this.
                    link.look(&mut asked).await;
                }
                drop(asked);
                let since = Instant::now();
                tokio::select! {
                    () = watch(&link) => {}
                    // It never fails: the server holds the sender. The old connection serves until
                    // the new server answers.
                    _ = changes.changed() => continue,
                    () = shutdown.stopping() => return,
                }
                // A server may answer here but be too slow for its users, or forbid them commands.
                // Do not reconnect to such a server all the time.
                if since.elapsed() >= breaker::LONGEST_PAUSE || link.starts_again() {
                    attempts = 0;
                }
            }
            Err(error) => link.open(&error),
        }
        tokio::select! {
            () = time::sleep(breaker::pause(attempts, jitter::fraction())) => attempts += 1,
            _ = changes.changed() => attempts = 0,
            () = shutdown.stopping() => return,
        }
    }
}

pub(super) async fn connect(server: &Server) -> RedisResult<MultiplexedConnection> {
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
    let mut connection = server.client().await?.get_multiplexed_async_connection_with_config(&config).await?;
    redis::cmd("PING").query_async::<()>(&mut connection).await?;
    Ok(connection)
}

/// Waits until the breaker opens. Sends `PING`s, so that it opens without traffic too.
async fn watch(link: &Link) {
    let mut states = link.state.subscribe();
    loop {
        tokio::select! {
            _ = states.wait_for(|state| *state != State::Up) => return,
            () = time::sleep(ASK_AGAIN), if link.serves == Serves::Requests => {}
        }
        while let Some(mut connection) = link.connection() {
            match redis::cmd("PING").query_async::<()>(&mut connection).await {
                Ok(()) => {
                    link.answered();
                    break;
                }
                Err(error) => link.failed(&error),
            }
        }
    }
}
