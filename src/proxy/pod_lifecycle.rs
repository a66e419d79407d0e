//! What the proxy does for a pod besides requests: log-outs, checks and warm-up when an epoch
//! begins, and a drain when the pod leaves the pool.

mod checks;
mod drain;
mod operations;
mod roll;
mod standby;
mod twins;
mod users;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::{task::JoinSet, time};

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
pub use operations::{Administrator, Moved};
pub use roll::{NotRolled, Roll, Roller, Step};
use standby::StandbyKeeper;
use users::UserGatherer;

/// Pause between two looks at the pods.
const LOOK: Duration = Duration::from_millis(250);

/// Watches pods come and go.
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
    metrics: Metrics,
    shutdown: Shutdown,
}

impl PodLifecycle {
    pub fn new(shared: Arc<SharedState>, metrics: Metrics, shutdown: Shutdown) -> Arc<PodLifecycle> {
        let pods = Arc::new(PodClient::new(Arc::new(Forward::new(shared.forward.clone()))));
        let user_data = Arc::new(UserData::new(shared.clone(), pods.clone(), metrics.clone(), shutdown.clone()));
        let migrator = Arc::new(Migrator::new(shared.clone(), pods.clone(), user_data, metrics.clone()));
        let broadcast = Broadcast::new(shared.clone(), pods.clone(), shutdown.clone());
        let visits = Arc::new(Visits::new(shared.clone(), pods.clone(), shutdown.clone()));
        let drainer = Arc::new(Drainer::new(shared.clone(), (migrator.clone(), visits.clone()), shutdown.clone()));
        let returns = Returns::new(shared.clone(), pods.clone(), metrics.clone(), shutdown.clone());
        let checks = PodChecks::new(shared.clone(), pods.clone());
        let observers = (metrics.clone(), shutdown.clone());
        let roller = Roller::new(shared.clone(), pods.clone(), drainer.clone(), observers);
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
            metrics,
            shutdown,
        })
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

    /// Serves each pod of a pool when an epoch begins and when the pod leaves, until the shutdown.
    pub async fn watch_pool(self: Arc<Self>, pool: Arc<Pool>) {
        let mut seen: HashMap<PodId, Epoch> = HashMap::new();
        let mut away = HashSet::new();
        let mut leaving = HashSet::new();
        let mut work = JoinSet::new();
        let mut members = pool.members();
        loop {
            for pod in pool.pods().iter() {
                let status = pod.status();
                let was_away = if status.is_alive() { away.remove(&pod.id) } else { !away.insert(pod.id) };
                if status.is_alive() && seen.insert(pod.id, status.epoch) != Some(status.epoch) {
                    let on_new_instance = self.clone().on_new_instance(pod.clone(), pool.clone());
                    work.spawn(async {
                        on_new_instance.await;
                        None
                    });
                } else if status.is_alive() && was_away {
                    let (lifecycle, pod, pool) = (self.clone(), pod.clone(), pool.clone());
                    work.spawn(async move {
                        lifecycle.returns.pod_returned(&pod, &pool, false).await;
                        None
                    });
                }
                if pod.is_removed() && leaving.insert(pod.id) {
                    let (seen_off, id) = (self.drainer.clone().drain_removed(pool.clone(), pod.clone()), pod.id);
                    work.spawn(async move {
                        seen_off.await;
                        Some(id)
                    });
                }
            }
            away.retain(|id| pool.pods().iter().any(|pod| pod.id == *id));
            seen.retain(|id, _| pool.pods().iter().any(|pod| pod.id == *id));
            while let Some(done) = work.try_join_next() {
                if let Ok(Some(id)) = done {
                    leaving.remove(&id);
                }
            }
            tokio::select! {
                () = time::sleep(LOOK) => {}
                // This never fails: the pool holds the sender.
                _ = members.changed() => {}
                () = self.shutdown.stopping() => return,
            }
        }
    }

    /// Brings the sessions of each user of a pool together, until the shutdown.
    pub async fn gather_users(self: Arc<Self>, pool: Arc<Pool>) {
        let objects = (self.pods.clone(), self.migrator.clone(), self.visits.clone());
        UserGatherer::new(self.shared.clone(), objects, self.shutdown.clone()).run(pool).await;
    }

    /// Keeps pods standing by that are to, until the shutdown.
    pub async fn keep_standby(self: Arc<Self>, pool: Arc<Pool>) {
        StandbyKeeper::new(self.shared.clone(), self.drainer.clone(), self.shutdown.clone()).run(pool).await;
    }

    /// Makes SyncPlay groups again whose pod is gone, until the shutdown.
    pub async fn keep_groups(self: Arc<Self>, pool: Arc<Pool>) {
        let objects = (self.pods.clone(), self.migrator.clone());
        let regrouper = Regrouper::new(self.shared.clone(), objects, (self.metrics.clone(), self.shutdown.clone()));
        Arc::new(regrouper).watch(pool).await;
    }

    /// Applies other replicas' session changes and renews pending log-outs, until the shutdown.
    pub async fn follow_replicas(self: Arc<Self>) {
        tokio::select! {
            () = self.shared.sessions.follower.follow() => {}
            () = self.shared.sessions.pending_logouts.renew() => {}
            () = self.shutdown.stopping() => {}
        }
    }

    async fn on_new_instance(self: Arc<Self>, pod: Arc<Pod>, pool: Arc<Pool>) {
        self.broadcast.send_pending_logouts(&pod, &pool).await;
        let is_set_up = |pod: &Pod| pod.with_info(|info| info.is_set_up).flatten();
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
