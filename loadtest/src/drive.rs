//! A closed loop: each client sends its next request when the answer to the last has come.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::connection::Failure;

/// Clients at work. Stop them with [`Load::stop`]; dropped, they are cut off in the middle of their requests.
pub(crate) struct Load {
    tally: Rc<RefCell<Tally>>,
    stopping: Rc<Cell<bool>>,
    clients: JoinSet<()>,
}

/// What the clients saw in a span of time.
#[derive(Clone)]
pub(crate) struct Tally {
    pub(crate) served: u64,
    pub(crate) failures: Failures,
    /// Nanoseconds from the first byte of a request to the last of its answer.
    pub(crate) latency: Histogram<u64>,
}

impl Tally {
    fn new() -> Result<Tally> {
        // Three digits, from a microsecond to a minute.
        let latency = Histogram::new_with_bounds(1_000, 60_000_000_000, 3)?;
        Ok(Tally { served: 0, failures: Failures::default(), latency })
    }

    fn record(&mut self, latency: Duration) {
        self.served += 1;
        self.latency.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    fn take(&mut self) -> Tally {
        let taken = self.clone();
        self.served = 0;
        self.failures = Failures::default();
        self.latency.reset();
        taken
    }
}

/// How often each kind of failure was seen.
#[derive(Default, Clone, Debug)]
pub(crate) struct Failures(BTreeMap<String, u64>);

impl Failures {
    pub(crate) fn add(&mut self, failure: &Failure) {
        *self.0.entry(failure.to_string()).or_default() += 1;
    }

    pub(crate) fn merge(&mut self, other: Failures) {
        for (kind, count) in other.0 {
            *self.0.entry(kind).or_default() += count;
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.values().sum()
    }

    pub(crate) fn kinds(&self) -> &BTreeMap<String, u64> {
        &self.0
    }
}

/// A client that failed waits this long, so that a proxy that refuses everything does not fill the count by itself.
pub(crate) const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(20);

impl Load {
    pub(crate) fn start(address: SocketAddr, connections: u64, paths: &[String]) -> Result<Load> {
        Load::start_resting(address, connections, paths, Duration::ZERO)
    }

    /// The same, with a rest between an answer and the client's next request.
    pub(crate) fn start_resting(
        address: SocketAddr,
        connections: u64,
        paths: &[String],
        rest: Duration,
    ) -> Result<Load> {
        let tally = Rc::new(RefCell::new(Tally::new()?));
        let stopping = Rc::new(Cell::new(false));
        let mut clients = JoinSet::new();
        for number in 0..connections {
            let client = Client::new(address, number, paths);
            clients.spawn_local(keep_asking(client, rest, tally.clone(), stopping.clone()));
        }
        Ok(Load { tally, stopping, clients })
    }

    /// What was seen since the last call.
    pub(crate) fn take(&self) -> Tally {
        self.tally.borrow_mut().take()
    }

    /// Lets every client end its request, and says what was seen since the last [`Load::take`].
    pub(crate) async fn stop(mut self) -> Result<Tally> {
        self.stopping.set(true);
        let all = async { while self.clients.join_next().await.is_some() {} };
        tokio::time::timeout(Duration::from_secs(15), all).await.context("a request has had no answer for 15 s")?;
        Ok(self.take())
    }
}

async fn keep_asking(mut client: Client, rest: Duration, tally: Rc<RefCell<Tally>>, stopping: Rc<Cell<bool>>) {
    while !stopping.get() {
        let begun = Instant::now();
        match client.exchange().await {
            Ok(_) => {
                tally.borrow_mut().record(begun.elapsed());
                if !rest.is_zero() {
                    tokio::time::sleep(rest).await;
                }
            }
            Err(failure) => {
                tally.borrow_mut().failures.add(&failure);
                tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
    }
}
