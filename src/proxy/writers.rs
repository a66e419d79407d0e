//! Finds the pod that writes the catalogue, by a question that changes nothing.
//!
//! If every pod writes, each is asked once in its life. If one pod writes, it is asked again before
//! each write: a pod that has lost that duty may answer as if it still had it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::{self, Instant};

use super::{
    pod_client::{Caller, PodClient},
    pool_state::PoolState,
    shared_state::SharedState,
};
use crate::{
    forward::{Cause, Forward},
    jellyfin::client::libraries,
    leader::{
        pool_view,
        writer::{Kind, WriterAnswer, WriterConfig},
    },
    pod::{Epoch, Pod, PodId, PodInstance},
    sessions::Token,
    shutdown::Shutdown,
};

/// Time between two rounds while no pod writes.
const SOON: Duration = Duration::from_millis(250);

/// Time to the next question to a pod that gave no answer.
const LATER: Duration = Duration::from_secs(5);

/// Time between two rounds while a pod writes: a restart of the database may make another one write.
const SOMETIMES: Duration = Duration::from_secs(10);

/// When pods that all said that they write are asked once more. A pod that has just lost the lock
/// says so for up to two seconds.
const CONFIRM: Duration = Duration::from_secs(3);

/// How long the other pods may take once one has said that it writes: one that hangs holds nothing up.
const OTHERS: Duration = Duration::from_secs(2);

/// How often a request that waits for a writer looks by itself.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// Asks pods who writes.
pub struct Writers {
    shared: Arc<SharedState>,
    pods: Arc<PodClient>,
    shutdown: Shutdown,
}

/// Where a write goes.
pub(super) enum Found {
    /// To the caller's own pod, since every pod writes as far as is known.
    EveryPod,
    /// To this pod, which has just said that it writes, or is too slow to say it again.
    Pod(Arc<Pod>),
    /// No pod writes at the moment.
    Nobody,
}

impl Writers {
    pub fn new(shared: Arc<SharedState>, shutdown: Shutdown) -> Writers {
        let pods = Arc::new(PodClient::new(Arc::new(Forward::new(shared.forward.clone())), shared.own_databases()));
        Writers::with(shared, pods, shutdown)
    }

    /// For one worker, by its own connections.
    pub(super) fn with(shared: Arc<SharedState>, pods: Arc<PodClient>, shutdown: Shutdown) -> Writers {
        Writers { shared, pods, shutdown }
    }

    /// Keeps the writer of a pool known, until the shutdown.
    pub async fn watch(self: Arc<Self>, pool_index: usize) {
        let shared = &self.shared.pools[pool_index];
        if shared.writer.config != WriterConfig::Auto || self.shared.api_key().is_none() {
            return;
        }
        // The pods that have answered in their present life.
        let mut heard: HashMap<PodId, Epoch> = HashMap::new();
        let mut is_to_confirm = false;
        loop {
            let (_, mut change) = pool_view::look(&shared.pool);
            let pods = alive(shared);
            let is_new = |pod: &Arc<Pod>| heard.get(&pod.id) != Some(&pod.status().epoch);
            let has_new = pods.iter().any(is_new);
            if shared.pool.pods().len() > 1 && (has_new || is_to_confirm || shared.writer.is_one()) {
                // Only what all say at one time can be held against each other.
                let said = self.ask_pods(shared, &pods).await;
                let has_answered = |said: &WriterAnswer| matches!(said, WriterAnswer::Writes | WriterAnswer::Follows);
                heard.extend(said.iter().filter(|(_, said)| has_answered(said)).map(|(pod, _)| {
                    let PodInstance { pod, epoch } = PodInstance::of(pod);
                    (pod, epoch)
                }));
                shared.writer.record(&said);
                is_to_confirm = has_new;
            }
            heard.retain(|id, _| shared.pool.pods().iter().any(|pod| pod.id == *id));
            let is_unheard = |pod: &Arc<Pod>| !heard.contains_key(&pod.id);
            let pause = match shared.writer.kind() {
                Kind::OnePod if shared.writer.current(&shared.pool).is_none() => Some(SOON),
                Kind::OnePod => Some(SOMETIMES),
                Kind::EveryPod if is_to_confirm => Some(CONFIRM),
                Kind::Unknown | Kind::EveryPod => pods.iter().any(is_unheard).then_some(LATER),
            };
            let due = async {
                match pause {
                    Some(pause) => time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = change.happens() => {}
                () = shared.writer.wanted() => {}
                () = self.shutdown.stopping() => return,
            }
        }
    }

    /// Where a write of this pool goes now.
    pub(super) async fn find(&self, shared: &PoolState) -> Found {
        let is_auto = shared.writer.config == WriterConfig::Auto;
        if is_auto && (self.shared.api_key().is_none() || shared.pool.pods().len() < 2) {
            return Found::EveryPod;
        }
        let kind = shared.writer.kind();
        if kind == Kind::EveryPod {
            return Found::EveryPod;
        }
        let current = || shared.writer.current(&shared.pool);
        if is_auto {
            let known = current();
            if let Some(writer) = &known {
                let said = self.ask_pods(shared, std::slice::from_ref(writer)).await;
                if said.iter().any(|(_, said)| *said == WriterAnswer::Writes) {
                    return Found::Pod(writer.clone());
                }
                shared.writer.record(&said);
            }
            let others: Vec<_> =
                alive(shared).into_iter().filter(|pod| known.as_ref().is_none_or(|asked| asked.id != pod.id)).collect();
            shared.writer.record(&self.ask_pods(shared, &others).await);
        }
        match (shared.writer.kind(), current()) {
            (Kind::OnePod, Some(writer)) => Found::Pod(writer),
            (Kind::OnePod, None) => Found::Nobody,
            (Kind::Unknown | Kind::EveryPod, _) => Found::EveryPod,
        }
    }

    /// Asks all at one time. A pod that is too late is not in the answer.
    async fn ask_pods(&self, shared: &PoolState, pods: &[Arc<Pod>]) -> Vec<(Arc<Pod>, WriterAnswer)> {
        let Some(key) = self.shared.api_key().map(Token::as_str) else { return Vec::new() };
        let caller = Caller::proxy(&shared.pool);
        let ask = |pod: Arc<Pod>| async {
            let said = match self.pods.call(&pod, &caller, libraries::may_write(key)).await {
                Ok(true) => WriterAnswer::Writes,
                Ok(false) => WriterAnswer::Follows,
                Err(failure) => match failure.cause {
                    Cause::TimedOut | Cause::Overloaded | Cause::Exhausted => WriterAnswer::Silent,
                    _ => WriterAnswer::Nothing,
                },
            };
            (pod, said)
        };
        let mut asked: FuturesUnordered<_> = pods.iter().cloned().map(ask).collect();
        let mut said: Vec<(Arc<Pod>, WriterAnswer)> = Vec::with_capacity(pods.len());
        let mut end: Option<Instant> = None;
        loop {
            let next = match end {
                Some(end) => time::timeout_at(end, asked.next()).await.unwrap_or(None),
                None => asked.next().await,
            };
            let Some(one) = next else { return said };
            if one.1 == WriterAnswer::Writes && end.is_none() {
                end = Some(Instant::now() + OTHERS);
            }
            said.push(one);
        }
    }
}

fn alive(shared: &PoolState) -> Vec<Arc<Pod>> {
    shared.pool.pods().iter().filter(|pod| pod.status().is_alive()).cloned().collect()
}
