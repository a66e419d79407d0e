//! Which pod of a pool leads. The leader serves what lives in a single pod's memory: QuickConnect
//! and SyncPlay.
//!
//! Nothing here touches a request. Each pool has a task that finds its leader and writes it into
//! [`Leader`], which the request path reads without a lock. [`Mode`] lists the ways to find
//! it. The pure modules [`rule`], [`election`] and [`naming`] make the decisions.

mod elect;
pub mod election;
mod follow;
mod local;
pub mod naming;
pub mod pool_view;
mod probe;
pub mod rule;
pub mod task_edits;
pub mod triggers;
pub mod writer;

use std::{collections::HashMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::{
    sync::{oneshot, watch},
    time,
};

use crate::{
    observe::metrics::{LeaderChange, Metrics, OfPool},
    pod::{Pod, Pool, State},
    shutdown::Shutdown,
    store::{self, redis_store::ledger::Ledger},
};
use task_edits::TaskEdits;
use writer::{Writer, WriterConfig};

/// How the proxy finds the leaders.
#[derive(Clone, Debug)]
pub struct Config {
    /// Default [`Mode::Local`].
    pub mode: Mode,
    /// How long an electing replica holds its lease without renewing it. Default 30 s.
    pub lease: Duration,
    /// Time between two reads of Redis. Default 1 s.
    pub poll: Duration,
    /// Paths below the BaseUrl that go to the leader with all paths below them, besides Jellyfin's
    /// own. Default none.
    pub paths: Vec<String>,
    pub pools: Vec<PoolConfig>,
}

/// The settings of one pool.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    pub pool: String,
    /// The key in Redis: the pods' own, or the one of the lease.
    pub key: String,
    /// The ids that the pods write into the key, by pod name, where they differ from the reported
    /// ones.
    pub instance_ids: HashMap<String, String>,
    /// How jellypin finds the pod that writes the catalogue.
    pub writer: WriterConfig,
}

/// Who decides which pod leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// This proxy decides by itself. For one proxy, without Redis.
    #[default]
    Local,
    /// The pods elect among themselves and write the leader's id into a key in Redis.
    Follow,
    /// The replicas of this proxy elect one of the pods.
    Elect,
    /// The pod that writes the catalogue leads. jellypin asks the pods which one does.
    Probe,
}

/// Why no leader can ever be found. A Redis that does not answer is no such reason.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Redis(#[from] store::redis_store::Error),
    #[error("leaders are to be found through Redis, and none is configured")]
    WithoutRedis,
}

/// The leader of one pool, as the request path reads it.
#[derive(Debug)]
pub struct Leader {
    pool: Arc<str>,
    /// Only [`Leader::await_fit`] and a reload look at it.
    mode: Mutex<Mode>,
    now: ArcSwap<Leadership>,
    /// What clients set of the tasks there.
    pub task_edits: TaskEdits,
    changes: watch::Sender<Leadership>,
    metrics: Metrics,
}

/// Who leads, and for which term.
#[derive(Clone, Debug, Default)]
pub struct Leadership {
    /// Never shrinks while the proxy runs, and grows with each change of the pod. With `elect` it
    /// may also grow without a change, after Redis has forgotten the term. With `elect`, all
    /// replicas that Redis answers share it; otherwise each replica counts alone.
    pub term: u64,
    /// `None` until a pod is alive. A leader that is down stays leader while no other pod is alive.
    pub pod: Option<Arc<Pod>>,
}

/// Why a pod became the leader, or its term changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// There was no leader before.
    First,
    /// The leader before is down; the rule chose the next.
    PodDown,
    /// The leader before drains and has given up the lead; the rule chose the next.
    PodDraining,
    /// The pods' key names it.
    Named,
    /// This replica had it elected.
    Elected,
    /// Another replica had it elected.
    Agreed,
    /// It writes the catalogue.
    Writes,
    /// The same pod for a new term: Redis had forgotten the old one, or the replicas had not agreed
    /// on it.
    Counted,
}

impl Why {
    /// A label of a closed set.
    pub fn as_str(self) -> &'static str {
        match self {
            Why::First => "first",
            Why::PodDown => "pod_down",
            Why::PodDraining => "pod_draining",
            Why::Named => "named",
            Why::Elected => "elected",
            Why::Agreed => "agreed",
            Why::Writes => "writes",
            Why::Counted => "counted",
        }
    }
}

/// The longest time that the start waits for the first leaders.
const FIRST_LEADERS: Duration = Duration::from_secs(1);

/// The longest time that [`Leader::await_fit`] waits for a draining leader to lose the lead.
const PASSED_ON: Duration = Duration::from_secs(1);

/// Starts the tasks that find these pools' leaders until the shutdown, which tracks them. Waits a
/// moment for the first leaders.
///
/// # Errors
/// When the configuration cannot be used.
pub async fn start(
    config: &Config,
    redis: Option<&store::redis_store::Config>,
    pools: Vec<(Arc<Pool>, Arc<Leader>, Arc<Writer>)>,
    shutdown: &Shutdown,
) -> Result<(), Error> {
    let Some((_, any, _)) = pools.first() else { return Ok(()) };
    let ledger = match (config.mode, redis) {
        (Mode::Local | Mode::Probe, _) => None,
        (_, Some(redis)) => Some(Ledger::start(redis, any.metrics.clone(), shutdown)?),
        (_, None) => return Err(Error::WithoutRedis),
    };
    let mut first = Vec::new();
    for (pool, leader, writer) in pools {
        let (settled, is_settled) = oneshot::channel();
        first.push(is_settled);
        let of_pool = config.pools.iter().find(|of| *of.pool == *pool.name);
        let stops = shutdown.clone();
        if config.mode == Mode::Probe {
            tokio::spawn(shutdown.track(probe::run(pool, leader, writer, settled, stops)));
            continue;
        }
        let (Some(ledger), Some(of_pool)) = (ledger.clone(), of_pool.cloned()) else {
            tokio::spawn(shutdown.track(local::run(pool, leader, settled, stops)));
            continue;
        };
        let (lease, poll) = (config.lease, config.poll);
        if config.mode == Mode::Follow {
            let follow = follow::Follower { pool, leader, config: of_pool, poll, ledger };
            tokio::spawn(shutdown.track(follow.run(settled, stops)));
        } else {
            let elector = elect::Elector { pool, leader, key: of_pool.key, lease, poll, ledger };
            tokio::spawn(shutdown.track(elector.run(settled, stops)));
        }
    }
    let all = async {
        for settled in first {
            // The start does not wait for a task that has ended.
            let _ = settled.await;
        }
    };
    if time::timeout(FIRST_LEADERS, all).await.is_err() {
        tracing::warn!("not every pool has found its leader; starting all the same");
    }
    Ok(())
}

impl Leader {
    /// Creates it without a leader.
    pub fn new(pool: &Pool, mode: Mode, metrics: Metrics) -> Arc<Leader> {
        Arc::new(Leader {
            pool: pool.name.clone(),
            mode: Mutex::new(mode),
            now: ArcSwap::default(),
            task_edits: TaskEdits::default(),
            changes: watch::Sender::new(Leadership::default()),
            metrics,
        })
    }

    /// Sets who decides from now on.
    pub fn set_mode(&self, mode: Mode) {
        *self.mode.lock() = mode;
    }

    /// The leadership from which a new task goes on: the last leader stays while it can lead.
    fn incumbency(&self) -> rule::Incumbency {
        let now = self.now.load();
        rule::Incumbency { term: now.term, pod: now.pod.as_ref().map(|pod| pod.name.clone()) }
    }

    /// The pod that leads. It may have gone down a moment ago.
    pub fn current(&self) -> Option<Arc<Pod>> {
        self.now.load().pod.clone()
    }

    /// The pod that a client should move to. A leader that gives up the lead soon loses it, if
    /// another pod can lead; then this waits, at most `PASSED_ON`. With [`Mode::Follow`] and
    /// [`Mode::Probe`] it does not: the pods themselves decide how long their leader leads.
    pub async fn await_fit(&self, pool: &Pool) -> Option<Arc<Pod>> {
        let is_passed_on = |now: &Leadership| {
            let yields =
                now.pod.as_ref().is_some_and(|pod| pod.status().state == State::Draining && pod.drain.gives_up_lead());
            yields && pool.pods().iter().any(|pod| pod.status().state == State::Ready)
        };
        let mode = *self.mode.lock();
        if !matches!(mode, Mode::Follow | Mode::Probe) {
            let mut changes = self.changes();
            let _ = time::timeout(PASSED_ON, changes.wait_for(|now| !is_passed_on(now))).await;
        }
        self.current()
    }

    /// The number of the present leader's term; 0 before the first.
    pub fn term(&self) -> u64 {
        self.now.load().term
    }

    /// The pod and the term as of one moment.
    pub fn now(&self) -> Arc<Leadership> {
        self.now.load_full()
    }

    /// Reports every change of the pod or the term.
    pub fn changes(&self) -> watch::Receiver<Leadership> {
        self.changes.subscribe()
    }

    /// Records who leads. Only the pool's own task calls it.
    fn set(&self, pod: Option<Arc<Pod>>, term: u64, why: Why) {
        let before = self.now.load_full();
        let id = |pod: &Option<Arc<Pod>>| pod.as_ref().map(|pod| pod.id);
        if id(&before.pod) == id(&pod) && before.term == term {
            return;
        }
        let now = Leadership { term, pod };
        self.now.store(Arc::new(now.clone()));
        self.metrics.leader_changes.get_or_create(&LeaderChange { pool: self.pool.clone(), why: why.as_str() }).inc();
        self.metrics.leader_term.get_or_create(&OfPool { pool: self.pool.clone() }).set(term as i64);
        let name = |leads: &Leadership| leads.pod.as_ref().map(|pod| pod.name.clone());
        let (pool, from) = (&*self.pool, name(&before));
        let (from, why) = (from.as_deref(), why.as_str());
        match name(&now).as_deref() {
            Some(name) => {
                tracing::info!(
                    leader.pool = pool,
                    leader.pod = name,
                    leader.from = from,
                    leader.why = why,
                    leader.term = term,
                    "pod leads"
                );
            }
            None => tracing::warn!(leader.pool = pool, leader.from = from, leader.term = term, "no pod leads"),
        }
        self.changes.send_replace(now);
    }
}
