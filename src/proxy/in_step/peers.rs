//! The pods that follow, and what is needed to tell them.

use std::{sync::Arc, time::Duration};

use tokio::{sync::OwnedSemaphorePermit, time};

use super::{
    carrier::Carrier,
    outcome::{Label, PodOutcome},
};
use crate::{
    observe::metrics::{self, Metrics},
    proxy::{
        in_step_state::PoolMemory,
        pod_client::{Caller, PodClient},
        shared_state::SharedState,
    },
    sessions::Token,
    shutdown::Shutdown,
};

/// Longest time that a change waits for the one before.
const LONGEST_TURN: Duration = Duration::from_secs(2);

pub(super) struct Peers {
    pub(super) shared: Arc<SharedState>,
    pub(super) pods: Arc<PodClient>,
    pub(super) metrics: Metrics,
    pub(super) shutdown: Shutdown,
}

impl Peers {
    /// The API key, if pods are kept in step at all.
    pub(super) fn key(&self) -> Option<&str> {
        self.shared.api_key().filter(|_| self.shared.in_step.is_on).map(Token::as_str)
    }

    /// For calls in the name of this client. `None` if pods are not kept in step.
    pub(super) fn carrier<'a>(&'a self, caller: &'a Caller) -> Option<Carrier<'a>> {
        Some(Carrier { pods: &self.pods, caller, key: self.key()? })
    }

    pub(super) fn memory(&self, pool_index: usize) -> &PoolMemory {
        &self.shared.in_step.pools[pool_index]
    }

    /// Waits for the change before; after a while it goes on without.
    pub(super) async fn wait_turn(&self, pool_index: usize) -> Option<OwnedSemaphorePermit> {
        let turn = self.memory(pool_index).turn.clone();
        time::timeout(LONGEST_TURN, turn.acquire_owned()).await.ok()?.ok()
    }

    /// Counts what a pod did, and says in the log that it goes on with what it had.
    pub(super) fn report(&self, act: Label, told: &PodOutcome) {
        let PodOutcome { pod, outcome } = told;
        let (pool, name) = (pod.pool.clone(), pod.name.clone());
        let labels = metrics::InStep { pool, pod: name, act: act.as_str(), outcome: outcome.label() };
        self.metrics.in_step.get_or_create(&labels).inc();
        if outcome.is_behind() {
            tracing::warn!(
                pod.name = &*pod.name,
                pod.pool = &*pod.pool,
                act = act.as_str(),
                outcome = outcome.shown(),
                "a pod did not follow a change, and goes on with what it had"
            );
        }
    }
}
