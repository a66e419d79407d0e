//! A pod begins a new life: it gets what it missed, and its settings are compared with the leader's.
//!
//! What the database has, the pod reads by itself. At first sight nothing is changed on a pod: it
//! may differ on purpose. Such differences are said in the log, and stay until somebody changes
//! that setting through jellypin.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    carrier::Carrier,
    outcome::{Label, Outcome, PodOutcome},
    peers::Peers,
    settings::differences,
};
use crate::{
    jellyfin::{
        client::settings::{self, DOCUMENTS},
        libraries::{Library, catch_up},
        settings::{DocumentName, KeyPath, shown},
    },
    observe::metrics::Metrics,
    pod::{Pod, Pool},
    proxy::{
        in_step_state::{Missed, PodMemory},
        pod_client::{Caller, PodClient},
        shared_state::SharedState,
    },
    shutdown::Shutdown,
};

/// Plug-ins whose settings are compared.
const MOST_PLUGINS: usize = 64;

/// Receives pods that begin a new life.
pub(in crate::proxy) struct Returns {
    peers: Peers,
}

impl Returns {
    pub(in crate::proxy) fn new(
        shared: Arc<SharedState>,
        pods: Arc<PodClient>,
        metrics: Metrics,
        shutdown: Shutdown,
    ) -> Returns {
        Returns { peers: Peers { shared, pods, metrics, shutdown } }
    }

    /// Brings a pod in step with the leader.
    pub(in crate::proxy) async fn pod_returned(&self, pod: &Arc<Pod>, pool: &Arc<Pool>) {
        let pools = &self.peers.shared.pools;
        let Some(pool_index) = pools.iter().position(|shared| Arc::ptr_eq(&shared.pool, pool)) else { return };
        let shared = &pools[pool_index];
        let memory = self.peers.memory(pool_index).of(pod);
        let is_other_and_alive = |leader: &Arc<Pod>| leader.id != pod.id && leader.status().is_alive();
        let Some(leader) = shared.leader.current().filter(is_other_and_alive) else { return };
        let caller = Caller::proxy(&shared.pool);
        let Some(carrier) = self.peers.carrier(&caller) else { return };
        let _turn = self.peers.turn(pool_index).await;
        let missed = std::mem::take(&mut *memory.missed.lock());
        self.compare_settings(&carrier, (&leader, pod), &missed, &memory).await;
        self.compare_libraries(&carrier, (&leader, pod), &missed).await;
        for pictures in &missed.pictures {
            let Some(shown) = carrier.shown_by(&leader, pictures).await else { continue };
            let outcome = carrier.show(&leader, pod, &shown, self.peers.memory(pool_index)).await;
            self.report_return(pod, outcome);
        }
        if missed.lost > 0 {
            tracing::warn!(
                pod.name = &*pod.name,
                pod.pool = &*pod.pool,
                count = missed.lost,
                "a pod was away for changes that cannot be told afterwards; what the database has, it reads by itself"
            );
        }
    }

    async fn compare_settings(
        &self,
        carrier: &Carrier<'_>,
        (leader, pod): (&Arc<Pod>, &Arc<Pod>),
        missed: &Missed,
        memory: &PodMemory,
    ) {
        let plugins = carrier.call(leader, settings::plugins(carrier.key)).await.unwrap_or_default();
        let plugins = plugins.into_iter().take(MOST_PLUGINS).map(DocumentName::Plugin);
        let mut own: BTreeMap<DocumentName, BTreeSet<KeyPath>> = BTreeMap::new();
        let is_first = !memory.is_known();
        for document in DOCUMENTS.into_iter().map(DocumentName::from).chain(plugins) {
            let there = carrier.settings(pod, &document).await;
            let (Some(mut there), Some(leaders)) = (there, carrier.settings(leader, &document).await) else { continue };
            let (changes, _) = differences(&document, &there, &leaders);
            let was_missed = |path: &KeyPath| {
                missed.settings.get(&document).is_some_and(|paths| paths.iter().any(|known| path.starts_with(known)))
            };
            let taken =
                changes.clone().filtered(|path| was_missed(path) || (!is_first && !memory.is_own(&document, path)));
            let left = changes.filtered(|path| is_first && !was_missed(path));
            if !left.is_empty() {
                let keys: Vec<String> = left.paths().map(shown).collect();
                tracing::warn!(
                    pod.name = &*pod.name,
                    pod.pool = &*pod.pool,
                    leader.name = &*leader.name,
                    %document,
                    keys = keys.join(","),
                    "a pod's settings differ from the leader's, and stay so until they are changed through the proxy"
                );
                own.insert(document.clone(), left.paths().cloned().collect());
            }
            if taken.is_empty() {
                continue;
            }
            let keys: Vec<String> = taken.paths().map(shown).collect();
            let outcome = carrier.write_settings(pod, &document, &mut there, &taken, memory).await;
            if let Outcome::Done(_) = outcome {
                tracing::info!(
                    pod.name = &*pod.name,
                    pod.pool = &*pod.pool,
                    %document,
                    keys = keys.join(","),
                    "a pod took over the leader's settings"
                );
            }
            self.report_return(pod, outcome);
        }
        if is_first {
            memory.set_own(own);
        }
    }

    async fn compare_libraries(&self, carrier: &Carrier<'_>, (leader, pod): (&Arc<Pod>, &Arc<Pod>), missed: &Missed) {
        let Some(leaders) = carrier.libraries(leader).await else { return };
        let Some(there) = carrier.libraries(pod).await else { return };
        let steps = catch_up(&missed.libraries, &leaders, &there);
        if !steps.is_empty() {
            let outcome = carrier.carry_out(pod, &steps).await;
            self.report_return(pod, outcome);
        }
        let there = if steps.is_empty() { there.clone() } else { carrier.libraries(pod).await.unwrap_or_default() };
        let lacking = |of: &[Library], than: &[Library]| {
            let names = of.iter().filter(|library| !than.iter().any(|other| other.name == library.name));
            names.map(|library| library.name.clone()).collect::<Vec<_>>().join(", ")
        };
        let (missing, more) = (lacking(&leaders, &there), lacking(&there, &leaders));
        if !missing.is_empty() || !more.is_empty() {
            tracing::warn!(
                pod.name = &*pod.name,
                pod.pool = &*pod.pool,
                leader.name = &*leader.name,
                missing,
                more,
                "a pod's libraries are not the leader's"
            );
        }
    }

    fn report_return(&self, pod: &Arc<Pod>, outcome: Outcome) {
        self.peers.report(Label::Return, &PodOutcome { pod: pod.clone(), outcome });
    }
}
