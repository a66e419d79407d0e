//! Restarts all pods of a pool, one after the other, and no client notices.
//!
//! Each pod is drained, restarted by the API key, and warmed by jellypin's own requests before it
//! gets clients again. The leader comes last, so that its groups move once. The first trouble ends
//! it: the other pods stay as they are.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{self, Instant};

use super::{checks::PodChecks, drain::Drainer};
use crate::{
    health,
    jellyfin::client::system,
    observe::metrics::{self, Metrics},
    pod::{Pod, Pool, State},
    proxy::{
        drain_policy::When,
        pod_client::{Caller, PodClient},
        shared_state::SharedState,
    },
    sessions::Token,
    shutdown::Shutdown,
};

/// Longest time for a pod's clients to leave it.
const EMPTY: Duration = Duration::from_secs(120);

/// Longest time for the requests under way at a pod whose clients have left. Files go on elsewhere.
const REST: Duration = Duration::from_secs(10);

/// Longest time from the request for a restart until the pod is ready again.
const RESTART: Duration = Duration::from_secs(600);

/// Longest time for all of jellypin's first requests. A pod that is slower serves all the same.
const WARM: Duration = Duration::from_secs(60);

/// Time from one renewal of the lock among replicas to the next, a third of its life.
const RENEW: Duration = Duration::from_secs(1);

/// Pause between two looks at a pod.
const LOOK: Duration = Duration::from_millis(100);

/// How far a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Waits,
    Drains,
    Restarts,
    Warms,
    Done,
}

impl Step {
    pub fn as_str(self) -> &'static str {
        match self {
            Step::Waits => "waits",
            Step::Drains => "drains",
            Step::Restarts => "restarts",
            Step::Warms => "warms",
            Step::Done => "done",
        }
    }
}

/// How far a pool is.
#[derive(Clone, Debug)]
pub struct Roll {
    /// The pods in the order in which they are restarted.
    pub pods: Vec<(Arc<str>, Step)>,
    /// The pod at which it stopped, and why.
    pub trouble: Option<(Arc<str>, String)>,
    pub is_over: bool,
}

/// Why a roll does not begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotRolled {
    NoKey,
    UnderWay,
    /// Another replica restarts the pods of the pool.
    ByOtherReplica,
    /// Nobody could serve meanwhile.
    OnlyOne,
    /// This pod is not ready.
    NotReady(Arc<str>),
}

impl NotRolled {
    /// The sentence for the operator.
    pub fn sentence(&self) -> String {
        match self {
            NotRolled::NoKey => "pods can be restarted by [jellyfin] api_key only".to_owned(),
            NotRolled::UnderWay => "the pods are being restarted already; GET /roll shows how far".to_owned(),
            NotRolled::ByOtherReplica => {
                "another replica restarts them already; its GET /roll shows how far".to_owned()
            }
            NotRolled::OnlyOne => "another pod must serve meanwhile, and there is none".to_owned(),
            NotRolled::NotReady(pod) => format!("{pod} is not ready; all pods must be"),
        }
    }
}

/// Restarts pods.
pub struct Roller {
    shared: Arc<SharedState>,
    pods: Arc<PodClient>,
    checks: PodChecks,
    drainer: Arc<Drainer>,
    metrics: Metrics,
    shutdown: Shutdown,
    pub(super) rolls: Rolls,
}

/// The last roll of each pool. They outlive a reload.
pub(super) type Rolls = Arc<Mutex<BTreeMap<Arc<str>, Roll>>>;

impl Roller {
    pub(super) fn new(
        shared: Arc<SharedState>,
        (pods, drainer): (Arc<PodClient>, Arc<Drainer>),
        (metrics, shutdown): (Metrics, Shutdown),
        rolls: Rolls,
    ) -> Arc<Roller> {
        let checks = PodChecks::new(shared.clone(), pods.clone());
        Arc::new(Roller { shared, pods, checks, drainer, metrics, shutdown, rolls })
    }

    /// Begins to restart all pods of a pool. Returns how many those are.
    ///
    /// # Errors
    /// It cannot begin now.
    pub async fn start_roll(self: &Arc<Self>, pool: &Arc<Pool>) -> Result<usize, NotRolled> {
        let key = self.shared.api_key().cloned().ok_or(NotRolled::NoKey)?;
        let pods = self.in_order(pool);
        if let Some(pod) = pods.iter().find(|pod| !is_fit(pool, pod)) {
            return Err(NotRolled::NotReady(pod.name.clone()));
        }
        if pods.len() < 2 {
            return Err(NotRolled::OnlyOne);
        }
        let roll = Roll {
            pods: pods.iter().map(|pod| (pod.name.clone(), Step::Waits)).collect(),
            trouble: None,
            is_over: false,
        };
        let last = {
            let mut rolls = self.rolls.lock();
            if rolls.get(&pool.name).is_some_and(|roll| !roll.is_over) {
                return Err(NotRolled::UnderWay);
            }
            rolls.insert(pool.name.clone(), roll)
        };
        if !self.shared.sessions.locks.acquire(&lock_of(pool)).await {
            let mut rolls = self.rolls.lock();
            match last {
                Some(last) => drop(rolls.insert(pool.name.clone(), last)),
                None => drop(rolls.remove(&pool.name)),
            }
            return Err(NotRolled::ByOtherReplica);
        }
        let (roller, pool, count) = (self.clone(), pool.clone(), pods.len());
        let rolling = async move {
            let (locks, lock) = (&roller.shared.sessions.locks, lock_of(&pool));
            let renewing = async {
                loop {
                    time::sleep(RENEW).await;
                    locks.renew(&lock).await;
                }
            };
            tokio::select! {
                () = roller.run(&pool, pods, &key) => locks.release(&lock),
                () = renewing => {}
            }
        };
        tokio::spawn(self.shutdown.track(rolling));
        Ok(count)
    }

    /// The last roll of each pool.
    pub fn rolls(&self) -> BTreeMap<Arc<str>, Roll> {
        self.rolls.lock().clone()
    }

    /// The leader comes last.
    fn in_order(&self, pool: &Arc<Pool>) -> Vec<Arc<Pod>> {
        let shared = self.shared.pools.iter().find(|shared| Arc::ptr_eq(&shared.pool, pool));
        let leader = shared.and_then(|shared| shared.leader.current());
        let mut pods = pool.pods().to_vec();
        pods.sort_by_key(|pod| leader.as_ref().is_some_and(|leader| leader.id == pod.id));
        pods
    }

    async fn run(&self, pool: &Arc<Pool>, pods: Vec<Arc<Pod>>, key: &Token) {
        tracing::info!(
            pod.pool = &*pool.name,
            pods = pods.len(),
            "the pods of a pool are restarted one after the other"
        );
        let mut trouble = None;
        for pod in &pods {
            let began = Instant::now();
            let restarted = tokio::select! {
                restarted = self.restart(pool, pod, key) => restarted,
                () = self.shutdown.stopping() => Err("jellypin stops".to_owned()),
                // Of the clients that the other process serves this one knows nothing.
                () = self.shutdown.leaving() => Err("another process has taken over".to_owned()),
            };
            match restarted {
                Ok(()) => {
                    self.record(pod, Step::Done);
                    let duration_ms = began.elapsed().as_millis() as u64;
                    tracing::info!(pod.name = &*pod.name, pod.pool = &*pod.pool, duration_ms, "a pod was restarted");
                }
                Err(why) => {
                    tracing::error!(
                        pod.name = &*pod.name,
                        pod.pool = &*pod.pool,
                        why,
                        "the restart of the pods has stopped"
                    );
                    trouble = Some((pod.name.clone(), why));
                    break;
                }
            }
        }
        let outcome = if trouble.is_none() { "done" } else { "stopped" };
        self.metrics.rolls.get_or_create(&metrics::RolledPool { pool: pool.name.clone(), outcome }).inc();
        if trouble.is_none() {
            tracing::info!(pod.pool = &*pool.name, "all pods of a pool were restarted");
        }
        if let Some(roll) = self.rolls.lock().get_mut(&pool.name) {
            (roll.trouble, roll.is_over) = (trouble, true);
        }
    }

    /// Restarts one pod. If it cannot be restarted, it serves on.
    async fn restart(&self, pool: &Arc<Pool>, pod: &Arc<Pod>, key: &Token) -> Result<(), String> {
        if let Some(other) = pool.pods().iter().find(|other| !is_fit(pool, other)) {
            return Err(format!("{} is {}", other.name, other.status().state.as_str()));
        }
        self.record(pod, Step::Drains);
        if !self.drainer.drain(pool, pod, When::Now) {
            return Err("it cannot be drained".to_owned());
        }
        let epoch = pod.status().epoch;
        let asked = async {
            self.await_empty(pod).await?;
            self.record(pod, Step::Restarts);
            self.request_restart(pool, pod, key).await?;
            // It may be back sooner than a probe finds it gone.
            health::farewell(pod, Some(epoch));
            Ok(())
        };
        if let Err(why) = asked.await {
            Drainer::undrain(pod);
            return Err(why);
        }
        let mut changes = pod.life.changes();
        let is_back = changes.wait_for(|status| status.epoch != epoch && status.is_alive());
        if !matches!(time::timeout(RESTART, is_back).await, Ok(Ok(_))) {
            return Err("it is not ready again after its restart".to_owned());
        }
        self.record(pod, Step::Warms);
        // Clients come once its code has run.
        self.drainer.drain(pool, pod, When::Idle);
        let _ = time::timeout(WARM, self.warm(pool, pod, key)).await;
        Drainer::undrain(pod);
        let mut changes = pod.life.changes();
        let serves = changes.wait_for(|status| status.state == State::Ready || pool.is_standby(&pod.name));
        match time::timeout(RESTART, serves).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err("it was ready after its restart, and is no more".to_owned()),
        }
    }

    async fn await_empty(&self, pod: &Arc<Pod>) -> Result<(), String> {
        let began = Instant::now();
        while !self.shared.clients_of(pod).is_empty() || pod.load.sockets() > 0 {
            if pod.status().state != State::Draining {
                return Err("its drain was taken back, or it went down".to_owned());
            }
            if began.elapsed() >= EMPTY {
                return Err(format!("{} clients did not leave it", self.shared.clients_of(pod).len()));
            }
            time::sleep(LOOK).await;
        }
        let rest = async {
            while pod.load.total() > 0 {
                time::sleep(LOOK).await;
            }
        };
        // Whatever is left goes on at another pod when this one ends.
        let _ = time::timeout(REST, rest).await;
        Ok(())
    }

    async fn request_restart(&self, pool: &Pool, pod: &Arc<Pod>, key: &Token) -> Result<(), String> {
        match self.pods.call(pod, &Caller::proxy(pool), system::restart(key.as_str())).await {
            Ok(status) if status.is_success() => Ok(()),
            Ok(status) => Err(format!("it answered the request to restart with {}", status.as_u16())),
            Err(failure) => Err(format!("it did not answer the request to restart: {}", failure.cause.as_str())),
        }
    }

    /// Makes the pod run once what clients need first: cold, it takes seconds.
    async fn warm(&self, pool: &Pool, pod: &Arc<Pod>, key: &Token) {
        for call in system::first_requests(key.as_str()) {
            // Any answer will do, since the code has run.
            let _ = self.pods.call(pod, &Caller::proxy(pool), call).await;
        }
        self.checks.warm_up_mint(pod, pool).await;
    }

    fn record(&self, pod: &Pod, step: Step) {
        if let Some(roll) = self.rolls.lock().get_mut(&pod.pool)
            && let Some((_, of_pod)) = roll.pods.iter_mut().find(|(name, _)| *name == pod.name)
        {
            *of_pod = step;
        }
    }
}

/// What keeps other replicas from restarting a pool's pods meanwhile. No token looks like this.
fn lock_of(pool: &Pool) -> Token {
    Token::new(format!("roll of {}", pool.name))
}

/// Whether a pod is as it is to be between two restarts. One that stands by drains.
fn is_fit(pool: &Pool, pod: &Pod) -> bool {
    match pod.status().state {
        State::Ready => true,
        State::Draining => pool.is_standby(&pod.name),
        State::Starting | State::Down => false,
    }
}
