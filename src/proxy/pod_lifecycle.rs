//! What the proxy does for a pod besides requests: log-outs, checks and warm-up when an epoch
//! begins, and a drain when the pod leaves the pool.

mod checks;
mod drain;
mod ghosts;
mod operations;
mod roll;
mod sleep;
mod standby;
mod twins;
mod users;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time;
use tokio_util::sync::CancellationToken;

use super::{
    drain_policy::When, in_step::Returns, migrate::Migrator, pod_client::PodClient, regroup::Regrouper,
    revoke::Broadcast, shared_state::SharedState, user_data::UserData, visit::Visits,
};
use crate::{
    forward::Forward,
    observe::metrics::{self, Metrics},
    pod::{Epoch, Pod, PodId, Pool},
    shutdown::Shutdown,
};
pub use checks::{ALL_ARE_LOCAL, MissingRequirement, PodChecks};
use drain::Drainer;
pub use drain::Undrained;
use ghosts::GhostEnder;
pub use operations::{Administrator, Moved};
use roll::Rolls;
pub use roll::{NotRolled, Roll, Roller, Step};
use sleep::SleepKeeper;
use standby::StandbyKeeper;
use users::UserGatherer;

/// Pause between two looks at the pods.
const LOOK: Duration = Duration::from_millis(250);

/// What was last seen of each pod, by name.
type SeenPods = Arc<Mutex<HashMap<Arc<str>, Seen>>>;

/// What has been seen of a pool's pods. It outlives reloads: a pod that stays is no new one.
#[derive(Default)]
struct Seen {
    epochs: HashMap<PodId, Epoch>,
    away: HashSet<PodId>,
    leaving: HashSet<PodId>,
}

/// Watches pods come and go. A reload makes a new one, which goes on where the old one stops.
pub struct PodLifecycle {
    shared: Arc<SharedState>,
    checks: PodChecks,
    broadcast: Broadcast,
    drainer: Arc<Drainer>,
    /// Restarts all pods of a pool.
    pub roller: Arc<Roller>,
    returns: Returns,
    pods: Arc<PodClient>,
    migrator: Arc<Migrator>,
    visits: Arc<Visits>,
    /// By the names of the pools.
    seen: SeenPods,
    metrics: Metrics,
    /// Another lifecycle has taken this one's place.
    is_replaced: CancellationToken,
    shutdown: Shutdown,
}

impl PodLifecycle {
    pub fn new(shared: Arc<SharedState>, metrics: Metrics, shutdown: Shutdown) -> Arc<PodLifecycle> {
        wire(shared, (Arc::default(), Rolls::default()), metrics, shutdown)
    }

    /// Takes this one's place after a reload. What this one has begun goes on by itself.
    #[must_use]
    pub fn renewed(&self, shared: Arc<SharedState>) -> Arc<PodLifecycle> {
        self.is_replaced.cancel();
        wire(shared, (self.seen.clone(), self.roller.rolls.clone()), self.metrics.clone(), self.shutdown.clone())
    }

    /// Ends: another process serves the pods from now on.
    pub fn retire(&self) {
        self.is_replaced.cancel();
    }

    /// Begins to drain a pod that serves, or changes when its clients leave. Returns whether the
    /// pod can drain.
    pub fn drain(&self, pool: &Arc<Pool>, pod: &Arc<Pod>, when: When) -> bool {
        self.drainer.drain(pool, pod, when)
    }

    /// Lets a draining pod serve every client again, unless its source no longer lists it.
    pub fn undrain(&self, pod: &Pod) -> Undrained {
        Drainer::undrain(pod)
    }

    /// What jellypin asks of pods.
    pub fn checks(&self) -> &PodChecks {
        &self.checks
    }

    /// Serves each pod of a pool when an epoch begins and when the pod leaves, until the shutdown or
    /// a reload.
    pub async fn watch_pool(self: Arc<Self>, pool: Arc<Pool>) {
        let mut members = pool.members();
        loop {
            look_at(&self, &pool);
            tokio::select! {
                () = time::sleep(LOOK) => {}
                // This never fails: the pool holds the sender.
                _ = members.changed() => {}
                () = self.is_replaced.cancelled() => return,
                () = self.shutdown.stopping() => return,
            }
        }
    }

    /// Does what a pool needs all the time, until the shutdown or a reload: brings each user's
    /// sessions together, ends what clients leave behind, lets pods stand by and sleep, and makes
    /// SyncPlay groups again whose pod is gone.
    pub async fn keep_serving(self: Arc<Self>, pool: Arc<Pool>) {
        let objects = (self.pods.clone(), self.migrator.clone(), self.visits.clone());
        let gatherer = UserGatherer::new(self.shared.clone(), objects, self.shutdown.clone());
        let ender = GhostEnder::new(self.shared.clone(), self.visits.clone(), self.shutdown.clone());
        let keeper = StandbyKeeper::new(self.shared.clone(), self.drainer.clone(), self.shutdown.clone());
        let observers = (self.metrics.clone(), self.shutdown.clone());
        let sleep_keeper = SleepKeeper::new(self.shared.clone(), self.roller.rolls.clone(), observers);
        let objects = (self.pods.clone(), self.migrator.clone());
        let regrouper = Regrouper::new(self.shared.clone(), objects, (self.metrics.clone(), self.shutdown.clone()));
        let all = async {
            tokio::join!(
                gatherer.run(pool.clone()),
                ender.run(pool.clone()),
                keeper.run(pool.clone()),
                sleep_keeper.run(pool.clone()),
                Arc::new(regrouper).watch(pool)
            )
        };
        tokio::select! {
            _ = all => {}
            () = self.is_replaced.cancelled() => {}
        }
    }

    /// Applies other replicas' session changes and renews pending log-outs, until the shutdown.
    pub async fn follow_replicas(self: Arc<Self>) {
        let (sessions, shutdown) = (self.shared.sessions.clone(), self.shutdown.clone());
        // A reload changes nothing of this, and may come while it waits.
        drop(self);
        tokio::select! {
            () = sessions.follower.follow() => {}
            () = sessions.pending_logouts.renew() => {}
            () = shutdown.stopping() => {}
        }
    }

    async fn on_new_instance(self: Arc<Self>, pod: Arc<Pod>, pool: Arc<Pool>) {
        self.broadcast.send_pending_logouts(&pod, &pool).await;
        let is_set_up = |pod: &Pod| pod.info.with(|info| info.is_set_up).flatten();
        if is_set_up(&pod) == Some(false) && pool.pods().iter().any(|pod| is_set_up(pod) == Some(true)) {
            tracing::warn!(
                pod.name = &*pod.name,
                pod.pool = &*pod.pool,
                "a pod was never set up, beside one that was; strangers could set it up, so it gets none of the requests for that"
            );
        }
        if self.shared.api_key().is_none() {
            return;
        }
        let missing_requirement = self.checks.missing_requirement(&pod, &pool).await;
        let gauge = |what: MissingRequirement| {
            let what = what.as_str();
            let labels = metrics::MissingRequirement { pool: pod.pool.clone(), pod: pod.name.clone(), what };
            self.metrics.missing_requirements.get_or_create(&labels).clone()
        };
        for each in [MissingRequirement::ApiKey, MissingRequirement::QuickConnect, MissingRequirement::NoAnswer] {
            gauge(each).set((missing_requirement == Some(each)).into());
        }
        match missing_requirement {
            Some(missing_requirement) => {
                tracing::error!(pod.name = &*pod.name, pod.pool = &*pod.pool, "{}", missing_requirement.remedy())
            }
            None => self.checks.warm_up_mint(&pod, &pool).await,
        }
        if missing_requirement == Some(MissingRequirement::ApiKey) {
            return;
        }
        self.returns.pod_returned(&pod, &pool, true).await;
        if self.checks.is_taken_for_local(&pod, &pool).await {
            tracing::warn!(pod.name = &*pod.name, pod.pool = &*pod.pool, "{ALL_ARE_LOCAL}");
        }
    }
}

fn wire(
    shared: Arc<SharedState>,
    (seen, rolls): (SeenPods, Rolls),
    metrics: Metrics,
    shutdown: Shutdown,
) -> Arc<PodLifecycle> {
    let pods = Arc::new(PodClient::new(Arc::new(Forward::new(shared.forward.clone())), shared.own_databases()));
    let user_data = Arc::new(UserData::new(shared.clone(), pods.clone(), metrics.clone(), shutdown.clone()));
    let observers = (metrics.clone(), shutdown.clone());
    let migrator = Arc::new(Migrator::new(shared.clone(), pods.clone(), user_data, observers.clone()));
    let broadcast = Broadcast::new(shared.clone(), pods.clone(), shutdown.clone());
    let visits = Arc::new(Visits::new(shared.clone(), pods.clone(), shutdown.clone()));
    let drainer = Arc::new(Drainer::new(shared.clone(), (migrator.clone(), visits.clone()), shutdown.clone()));
    let returns = Returns::new(shared.clone(), pods.clone(), metrics.clone(), shutdown.clone());
    let checks = PodChecks::new(shared.clone(), pods.clone());
    let roller = Roller::new(shared.clone(), (pods.clone(), drainer.clone()), observers, rolls);
    let is_replaced = CancellationToken::new();
    Arc::new(PodLifecycle {
        shared,
        checks,
        broadcast,
        drainer,
        roller,
        returns,
        pods,
        migrator,
        visits,
        seen,
        metrics,
        is_replaced,
        shutdown,
    })
}

fn look_at(lifecycle: &Arc<PodLifecycle>, pool: &Arc<Pool>) {
    let shutdown = lifecycle.shutdown.clone();
    let mut seen = lifecycle.seen.lock();
    let seen = seen.entry(pool.name.clone()).or_default();
    let pods = pool.pods().to_vec();
    for pod in &pods {
        let status = pod.status();
        let was_away = if status.is_alive() { seen.away.remove(&pod.id) } else { !seen.away.insert(pod.id) };
        let (lifecycle, pod, pool) = (lifecycle.clone(), pod.clone(), pool.clone());
        if pod.drain.is_removed() && seen.leaving.insert(pod.id) {
            let (lifecycle, pod, pool) = (lifecycle.clone(), pod.clone(), pool.clone());
            spawn_until_shutdown(&shutdown, async move {
                lifecycle.drainer.clone().drain_removed(pool.clone(), pod.clone()).await;
                if let Some(seen) = lifecycle.seen.lock().get_mut(&pool.name) {
                    seen.leaving.remove(&pod.id);
                }
            });
        }
        if status.is_alive() && seen.epochs.insert(pod.id, status.epoch) != Some(status.epoch) {
            spawn_until_shutdown(&shutdown, lifecycle.on_new_instance(pod, pool));
        } else if status.is_alive() && was_away {
            spawn_until_shutdown(&shutdown, async move { lifecycle.returns.pod_returned(&pod, &pool, false).await });
        }
    }
    let is_there = |id: &PodId| pods.iter().any(|pod| pod.id == *id);
    seen.away.retain(is_there);
    seen.epochs.retain(|id, _| is_there(id));
}

/// Does something in a task of its own, until the shutdown.
fn spawn_until_shutdown(shutdown: &Shutdown, work: impl Future<Output = ()> + Send + 'static) {
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = work => {}
            () = shutdown.stopping() => {}
        }
    });
}
