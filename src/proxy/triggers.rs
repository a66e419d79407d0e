//! Lets the leader of a pool alone run tasks by itself (`[leader] tasks`): the other pods' triggers are
//! kept and emptied, and given back when that ends.
//!
//! `leader/triggers` decides each step, and says why no crash loses one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    slice,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::future::join_all;
use tokio::time;

use super::{
    pod_client::{Caller, PodClient},
    pool_state::PoolState,
    shared_state::SharedState,
};
use crate::{
    forward::Forward,
    jellyfin::client::tasks,
    leader::{
        pool_view,
        task_edits::Edits,
        triggers::{self, Kept, Latest, Step, Triggers, View},
        writer::Kind,
    },
    observe::metrics::{Metrics, TriggersSet},
    pod::{Epoch, Pod, PodId},
    sessions::Token,
    shutdown::Shutdown,
    store::kept_document::{Copies, KeptDocument},
};

/// Time between two looks at what the pods have.
const SOMETIMES: Duration = Duration::from_secs(30);

/// Time to the next attempt after one that failed.
const SOON: Duration = Duration::from_secs(2);

/// Keeps the triggers of all pools where they belong.
pub struct TaskTriggers {
    shared: Arc<SharedState>,
    pods: Arc<PodClient>,
    /// Whether the leader alone runs tasks. Otherwise all that was taken is given back.
    is_on: bool,
    metrics: Metrics,
    shutdown: Shutdown,
}

/// How a look ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looked {
    /// All is as it is to be, as far as pods answer.
    Done,
    /// Nothing was taken, and nothing is to be.
    Idle,
    /// A pod or the store did not answer, or another replica is at work.
    Failed,
}

/// The pods that were looked at, each in the life that it had.
type Known = HashMap<PodId, Epoch>;

impl TaskTriggers {
    pub fn new(shared: Arc<SharedState>, is_on: bool, metrics: Metrics, shutdown: Shutdown) -> TaskTriggers {
        let pods = Arc::new(PodClient::new(Arc::new(Forward::new(shared.forward.clone())), shared.own_databases()));
        TaskTriggers { shared, pods, is_on, metrics, shutdown }
    }

    /// Keeps the triggers of a pool where they belong, until the shutdown. `document` says what was
    /// taken from which pod.
    pub async fn watch(self: Arc<Self>, pool_index: usize, document: KeptDocument) {
        let shared = &self.shared.pools[pool_index];
        for act in ["emptied", "given", "failed"] {
            self.count(shared, act, 0);
        }
        let Some(key) = self.shared.api_key().filter(|_| document.is_kept()) else { return };
        shared.leader.task_edits.want(self.is_on);
        let (mut known, mut leads, mut writer) = (Known::new(), shared.leader.changes(), shared.writer.changes());
        loop {
            let (_, mut change) = pool_view::look(&shared.pool);
            leads.mark_unchanged();
            writer.mark_unchanged();
            let looked = tokio::select! {
                looked = self.look(shared, key, &document, &mut known) => looked,
                // Whatever was begun goes on at the next start.
                () = self.shutdown.stopping() => return document.end_turn().await,
            };
            let pause = match looked {
                Looked::Failed => SOON,
                Looked::Done | Looked::Idle => SOMETIMES,
            };
            tokio::select! {
                () = time::sleep(pause) => {}
                () = change.happens() => {}
                _ = leads.changed() => {}
                _ = writer.changed() => {}
                () = shared.leader.task_edits.news() => {}
                () = self.shutdown.stopping() => return,
            }
        }
    }

    async fn look(&self, shared: &PoolState, key: &Token, document: &KeptDocument, known: &mut Known) -> Looked {
        let empties = match shared.writer.kind() {
            Kind::EveryPod => self.is_on,
            // There the followers' tasks do nothing anyway.
            Kind::OnePod => false,
            Kind::Unknown if self.is_on => return Looked::Idle,
            Kind::Unknown => false,
        };
        // Even if nothing more comes of this look.
        let leader = shared.leader.current().filter(|_| empties);
        shared.leader.task_edits.at_leader(leader.map(|leader| leader.id));
        if !empties && document.read().await == Ok(Copies::default()) {
            return Looked::Idle;
        }
        if !document.take_turn().await {
            return Looked::Failed;
        }
        let looked = self.look_in_turn(shared, key, (document, empties), known).await;
        document.end_turn().await;
        looked
    }

    async fn look_in_turn(
        &self,
        shared: &PoolState,
        key: &Token,
        (document, empties): (&KeptDocument, bool),
        known: &mut Known,
    ) -> Looked {
        let Some(Latest { mut kept, is_from_file }) = self.read(shared, document).await else {
            return Looked::Failed;
        };
        if is_from_file && document.is_shared() {
            // What this process knows of the pods may be later than the document.
            known.clear();
        }
        let mut seen = edits_at_leader(shared);
        let all = shared.pool.pods().to_vec();
        let in_pool: BTreeSet<String> = all.iter().map(|pod| pod.name.to_string()).collect();
        let alive: Vec<Arc<Pod>> = all.into_iter().filter(|pod| pod.status().is_alive()).collect();
        let epochs: Known = alive.iter().map(|pod| (pod.id, pod.status().epoch)).collect();
        let mut pods = self.triggers_of(shared, &alive, key).await;
        let answers = pods.len() == alive.len();
        let known_names: BTreeSet<String> = alive
            .iter()
            .filter(|pod| known.get(&pod.id) == epochs.get(&pod.id))
            .map(|pod| pod.name.to_string())
            .collect();
        let mut set: BTreeMap<(String, bool), usize> = BTreeMap::new();
        let is_done = loop {
            let leader = shared.leader.current();
            let edits = shared.leader.task_edits.at_leader(leader.as_ref().map(|leader| leader.id));
            if let Some(leader) =
                leader.as_ref().filter(|_| edits.iter().any(|(task, now)| seen.get(task) != Some(now)))
            {
                // What a client has set since then must not be taken for what the pod had before.
                let again = self.triggers_of(shared, slice::from_ref(leader), key).await;
                if again.is_empty() {
                    break false;
                }
                pods.extend(again);
                seen.clone_from(&edits);
            }
            let edited: BTreeSet<String> = edits.keys().cloned().collect();
            let step = if empties {
                let leader = leader.as_ref().map(|leader| &*leader.name);
                triggers::next(&kept, View { leader, pods: &pods, known: &known_names, edited: &edited })
            } else {
                triggers::next_to_give_back(&kept, &pods)
            };
            if !document.keep_turn().await {
                break false;
            }
            match step {
                None => {
                    if let Some(leader) = leader.filter(|leader| pods.contains_key(&*leader.name)) {
                        shared.leader.task_edits.forget(&edits, leader.id);
                    }
                    break true;
                }
                Some(Step::Forget) => break document.remove().await,
                Some(Step::Keep(next)) => {
                    let next = next.without_many_gone(&in_pool).after(&kept, now());
                    if !document.write(&next.to_bytes()).await {
                        break false;
                    }
                    kept = next;
                }
                Some(Step::Set { pod, task, triggers }) => {
                    if !self.set(shared, (&pod, &task), &triggers, key).await {
                        break false;
                    }
                    *set.entry((pod.clone(), triggers.as_array().is_some_and(Vec::is_empty))).or_default() += 1;
                    pods.entry(pod).or_default().insert(task, triggers);
                }
            }
        };
        self.report(shared, &set);
        if !is_done {
            self.count(shared, "failed", 1);
            tracing::warn!(pod.pool = &*shared.pool.name, "triggers of tasks are not where they belong yet");
        }
        if is_done && answers {
            *known = epochs;
        }
        if is_done && answers { Looked::Done } else { Looked::Failed }
    }

    /// What is kept, once each place has it. `None` if nobody knows what is kept.
    async fn read(&self, shared: &PoolState, document: &KeptDocument) -> Option<Latest> {
        let copies = document.read().await.ok()?;
        let Some(latest) = Kept::latest(copies.common.as_deref(), copies.own.as_deref()) else {
            self.count(shared, "failed", 1);
            tracing::error!(pod.pool = &*shared.pool.name, "a kept document cannot be read");
            return None;
        };
        let bytes = latest.kept.to_bytes();
        let is_safe =
            copies == Copies::default() || document.is_everywhere(&bytes, &copies) || document.write(&bytes).await;
        is_safe.then_some(latest)
    }

    /// What the pods have; without those that do not answer.
    async fn triggers_of(&self, shared: &PoolState, pods: &[Arc<Pod>], key: &Token) -> BTreeMap<String, Triggers> {
        let caller = Caller::proxy(&shared.pool);
        let ask = |pod: Arc<Pod>| {
            let caller = &caller;
            async move {
                let list = self.pods.call(&pod, caller, tasks::triggers(key.as_str())).await.ok()?;
                Some((pod.name.to_string(), list.into_iter().collect::<Triggers>()))
            }
        };
        join_all(pods.iter().cloned().map(ask)).await.into_iter().flatten().collect()
    }

    async fn set(
        &self,
        shared: &PoolState,
        (pod, task): (&str, &str),
        triggers: &serde_json::Value,
        key: &Token,
    ) -> bool {
        let pods = shared.pool.pods().to_vec();
        let Some(pod) = pods.iter().find(|known| *known.name == *pod && known.status().is_alive()) else {
            return false;
        };
        let call = tasks::set_triggers(task, triggers, key.as_str());
        self.pods.call(pod, &Caller::proxy(&shared.pool), call).await.is_ok_and(|status| status.is_success())
    }

    fn report(&self, shared: &PoolState, set: &BTreeMap<(String, bool), usize>) {
        for ((pod, is_emptied), tasks) in set {
            self.count(shared, if *is_emptied { "emptied" } else { "given" }, *tasks as u64);
            let (pod, pool) = (pod.as_str(), &*shared.pool.name);
            if *is_emptied {
                tracing::info!(pod.name = pod, pod.pool = pool, tasks, "a pod's tasks have no triggers any more");
            } else {
                tracing::info!(pod.name = pod, pod.pool = pool, tasks, "a pod's tasks have got their triggers");
            }
        }
    }

    fn count(&self, shared: &PoolState, act: &'static str, by: u64) {
        self.metrics.triggers_set.get_or_create(&TriggersSet { pool: shared.pool.name.clone(), act }).inc_by(by);
    }
}

fn edits_at_leader(shared: &PoolState) -> Edits {
    shared.leader.task_edits.at_leader(shared.leader.current().map(|leader| leader.id))
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or_default()
}
