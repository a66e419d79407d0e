//! Makes SyncPlay groups again when their pod is gone or sends its clients away.
//!
//! The new leader gets the group with all its members, its queue and its place. Their players go on
//! meanwhile, and the new pod's first command brings them together. Everything is done in the
//! members' own names, so the pod judges by their rights.

mod remake;

use std::{sync::Arc, time::Duration};

use tokio::time::{self, Instant};

use super::{
    groups::group::Group, migrate::Migrator, pod_client::PodClient, pool_state::PoolState, shared_state::SharedState,
};
use crate::{
    observe::metrics::{self, Metrics},
    pod::{Pod, PodInstance, Pool, State},
    shutdown::Shutdown,
};

/// Pause between two looks at the groups, while there are any.
const LOOK: Duration = Duration::from_millis(50);

/// Pause between two looks whether there is a leader.
const LOOK_FOR_LEADER: Duration = Duration::from_millis(10);

/// Makes groups again.
pub(super) struct Regrouper {
    shared: Arc<SharedState>,
    pods: Arc<PodClient>,
    migrator: Arc<Migrator>,
    metrics: Metrics,
    shutdown: Shutdown,
}

/// A move of a group that has begun. Dropping it ends the move, whatever became of it: the members'
/// requests wait for that.
struct Move<'a>(&'a Group);

impl Drop for Move<'_> {
    fn drop(&mut self) {
        self.0.moving.end();
    }
}

impl Regrouper {
    pub(super) fn new(
        shared: Arc<SharedState>,
        (pods, migrator): (Arc<PodClient>, Arc<Migrator>),
        (metrics, shutdown): (Metrics, Shutdown),
    ) -> Regrouper {
        Regrouper { shared, pods, migrator, metrics, shutdown }
    }

    /// Looks after the groups of a pool until the shutdown.
    pub(super) async fn watch(self: Arc<Self>, pool: Arc<Pool>) {
        if self.shared.api_key().is_none() {
            return;
        }
        let Some(index) = self.shared.pools.iter().position(|of| Arc::ptr_eq(&of.pool, &pool)) else { return };
        let looks = async {
            loop {
                self.shared.groups.await_any().await;
                self.look(index);
                time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            () = looks => {}
            () = self.shutdown.stopping() => {}
        }
    }

    fn look(self: &Arc<Self>, index: usize) {
        let of = &self.shared.pools[index];
        let leader = of.leader.current();
        for group in self.shared.groups.of_pool(&of.pool.name) {
            let is_to_move = self.shared.groups.are_to_move(&of.pool, group.location.place(), leader.as_deref());
            if is_to_move && group.moving.start_gathering() {
                let regrouper = self.clone();
                tokio::spawn(self.shutdown.track(async move { regrouper.regroup(index, &group).await }));
            }
        }
    }

    /// Makes a group again, or ends it.
    async fn regroup(&self, index: usize, group: &Arc<Group>) {
        let _move = Move(group);
        let (began, of) = (Instant::now(), &self.shared.pools[index]);
        let before = group.roster.members().len();
        let remade = async {
            let leader = self.await_leader(of, group).await;
            let members = self.remake(of, group, &leader).await?;
            Some((leader, members))
        };
        let remade = tokio::select! {
            remade = time::timeout(self.shared.forward.hold, remade) => remade.ok().flatten(),
            () = self.shutdown.stopping() => None,
        };
        let outcome = if remade.is_some() { "moved" } else { "ended" };
        let labels = metrics::GroupMove { pool: of.pool.name.clone(), outcome };
        self.metrics.group_moves.get_or_create(&labels).inc();
        let duration_ms = began.elapsed().as_millis() as u64;
        let pool = &*of.pool.name;
        if let Some((leader, members)) = remade {
            let to = &*leader.name;
            tracing::info!(pool, to, members, before, duration_ms, "a SyncPlay group goes on at another pod");
        } else {
            group.roster.members().iter().for_each(|member| group.dismiss(member));
            self.shared.groups.forget(group);
            tracing::warn!(pool, before, duration_ms, "a SyncPlay group has ended with its pod");
        }
    }

    /// The pod on which the group goes on.
    async fn await_leader(&self, of: &PoolState, group: &Group) -> Arc<Pod> {
        loop {
            let leader = of.leader.current().filter(|leader| leader.status().state == State::Ready);
            if let Some(leader) = leader.filter(|leader| PodInstance::of(leader) != group.location.place()) {
                return leader;
            }
            time::sleep(LOOK_FOR_LEADER).await;
        }
    }
}
