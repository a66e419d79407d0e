//! A pod begins a new life: it gets what it missed, and its settings are compared with the leader's.
//!
//! The pod itself reads what is in the database. jellypin changes no setting of a pod that it sees
//! for the first time: it may differ on purpose. It logs such a difference, which stays until
//! somebody changes that setting through jellypin.

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
        client::{
            libraries,
            settings::{self, DOCUMENTS},
        },
        libraries::{Library, Step, Touched, catch_up},
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

    /// Brings a pod in step with the leader. In a new life its memory is empty, and its settings are
    /// those of its files; else it was only away for a while.
    pub(in crate::proxy) async fn pod_returned(&self, pod: &Arc<Pod>, pool: &Arc<Pool>, is_new_life: bool) {
        let pools = &self.peers.shared.pools;
        let Some(pool_index) = pools.iter().position(|shared| Arc::ptr_eq(&shared.pool, pool)) else { return };
        let shared = &pools[pool_index];
        if shared.shown_server.users.is_some() {
            return;
        }
        let memory = self.peers.memory(pool_index).of(pod);
        let is_other_and_alive = |leader: &Arc<Pod>| leader.id != pod.id && leader.status().is_alive();
        let Some(leader) = shared.leader.current().filter(is_other_and_alive) else { return };
        let caller = Caller::proxy(&shared.pool);
        let Some(carrier) = self.peers.carrier(&caller) else { return };
        let _turn = self.peers.wait_turn(pool_index).await;
        let mut missed = std::mem::take(&mut *memory.missed.lock());
        if !is_new_life && missed.is_empty() {
            return;
        }
        let mut left = Missed { settings: missed.settings.clone(), ..Missed::default() };
        self.compare_settings(&carrier, (&leader, pod), is_new_life, &mut left, &memory).await;
        if is_new_life || !missed.libraries.is_empty() {
            left.libraries = self.compare_libraries(&carrier, (&leader, pod), missed.libraries).await;
        }
        for pictures in &missed.pictures {
            let outcome = match carrier.shown_by(&leader, pictures, None).await {
                Some(shown) => carrier.show(&leader, pod, &shown, self.peers.memory(pool_index)).await,
                None => Outcome::Failed("unknown"),
            };
            if self.is_left(pod, outcome) {
                left.add_pictures(pictures);
            }
        }
        let epoch = pod.status().epoch;
        let (same_life, earlier): (Vec<_>, Vec<_>) =
            std::mem::take(&mut missed.calls).into_iter().partition(|missed| missed.epoch == epoch);
        for call in same_life {
            if self.is_left(pod, carrier.repeat(pod, &call.call, call.is_gone).await) {
                left.add_call(call);
            }
        }
        let lost = missed.lost + earlier.iter().filter(|missed| missed.in_files).count();
        if lost > 0 {
            tracing::warn!(
                pod.name = &*pod.name,
                pod.pool = &*pod.pool,
                count = lost,
                "a pod was away for changes that cannot be told afterwards; what the database has, it reads by itself"
            );
        }
        memory.missed.lock().put_back(left);
    }

    async fn compare_settings(
        &self,
        carrier: &Carrier<'_>,
        (leader, pod): (&Arc<Pod>, &Arc<Pod>),
        is_new_life: bool,
        missed: &mut Missed,
        memory: &PodMemory,
    ) {
        let plugins = carrier.call(leader, settings::plugins(carrier.key)).await.unwrap_or_default();
        let plugins = plugins.into_iter().take(MOST_PLUGINS).map(DocumentName::Plugin);
        let mut own: BTreeMap<DocumentName, BTreeSet<KeyPath>> = BTreeMap::new();
        let is_first = !memory.is_known();
        let all = DOCUMENTS.into_iter().map(DocumentName::from).chain(plugins);
        for document in all.filter(|document| is_new_life || missed.settings.contains_key(document)).collect::<Vec<_>>()
        {
            let there = carrier.settings(pod, &document).await;
            let (Some(mut there), Some(leaders)) = (there, carrier.settings(leader, &document).await) else { continue };
            let (changes, _) = differences(&document, &there, &leaders);
            let paths = missed.settings.remove(&document).unwrap_or_default();
            let was_missed = |path: &KeyPath| paths.iter().any(|known| path.starts_with(known));
            let is_taken =
                |path: &KeyPath| was_missed(path) || (is_new_life && !is_first && !memory.is_own(&document, path));
            let taken = changes.clone().filtered(is_taken);
            let left = changes.filtered(|path| is_new_life && is_first && !was_missed(path));
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
            if self.is_left(pod, outcome) {
                missed.settings.insert(document, paths);
            }
        }
        if is_new_life && is_first {
            memory.set_own(own);
        }
    }

    /// Gives what is left to be told.
    async fn compare_libraries(
        &self,
        carrier: &Carrier<'_>,
        (leader, pod): (&Arc<Pod>, &Arc<Pod>),
        missed: Touched,
    ) -> Touched {
        let (Some(leaders), Some(mut there)) = (carrier.libraries(leader).await, carrier.libraries(pod).await) else {
            return missed;
        };
        let steps = catch_up(&missed, &leaders, &there);
        let mut is_left = false;
        if !steps.is_empty() {
            let outcome = carrier.carry_out(pod, &steps).await;
            is_left = self.is_left(pod, outcome);
            // Until it scans, a pod shows the view of a library that is gone.
            if steps.iter().any(|step| matches!(step, Step::Remove(_)))
                && let Err(failure) = carrier.call(pod, libraries::scan(carrier.key)).await
            {
                tracing::warn!(
                    pod.name = &*pod.name,
                    why = failure.cause.as_str(),
                    "a pod could not be told to scan its libraries"
                );
            }
            there = carrier.libraries(pod).await.unwrap_or_default();
        }
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
        if is_left { missed } else { Touched::default() }
    }

    /// Reports what a pod did, and whether it is to be told again.
    fn is_left(&self, pod: &Arc<Pod>, outcome: Outcome) -> bool {
        self.peers.report(Label::Return, &PodOutcome { pod: pod.clone(), outcome });
        outcome.is_transient()
    }
}
