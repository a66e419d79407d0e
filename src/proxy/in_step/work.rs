//! One change on its way to the other pods, in a task of its own.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use http::StatusCode;
use serde_json::Value;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time,
};

use super::{
    carrier::Carrier,
    libraries::ChangedLibraries,
    outcome::{Label, Outcome, PodOutcome, Skip},
    peers::Peers,
    pictures::Shown,
    settings::NewSettings,
};
use crate::{
    jellyfin::{
        client::{ApiCall, items},
        endpoint::DocumentKeys,
        images::Pictures,
        libraries::{Library, Touched},
        settings::{Changes, DocumentName},
    },
    pod::{Epoch, Pod},
    proxy::{
        in_step_state::{Missed, MissedCall, PodMemory},
        pod_client::Caller,
    },
};

/// Longest time for a repeated request: a pod may look something up on the Internet.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Pauses before further attempts at a pod that failed.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(25)];

/// What the other pods are to do.
pub(super) enum Work {
    /// These calls. If `is_gone`, a 404 means that there is nothing left to do. `in_files`: a pod
    /// that starts afterwards does not find all of it in the database.
    Calls {
        calls: Vec<ApiCall<StatusCode>>,
        is_gone: bool,
        in_files: bool,
    },
    /// The deletion of these items, which the caller's pod does not have any more.
    Items(Vec<String>),
    /// The call, unless the item is a library.
    Refresh {
        item: String,
        call: ApiCall<StatusCode>,
    },
    /// The call, unless the pods share what it writes.
    Sidecar {
        item: String,
        option: &'static str,
        call: ApiCall<StatusCode>,
    },
    Pictures(Pictures),
    Settings {
        document: DocumentName,
        keys: DocumentKeys,
        before: Option<Value>,
    },
    /// The caller's pod had these libraries.
    Libraries(Vec<Library>),
}

/// The same, after a look at the caller's pod.
enum Prepared {
    Calls {
        calls: Vec<ApiCall<StatusCode>>,
        is_gone: bool,
        in_files: bool,
    },
    Pictures(Pictures, Shown),
    Settings(NewSettings),
    Libraries(ChangedLibraries),
    /// Nothing is left to do, for this reason.
    Nothing(Outcome),
}

pub(super) struct Job {
    pub(super) peers: Arc<Peers>,
    pub(super) caller: Caller,
    pub(super) pool_index: usize,
    /// The caller's pod, which has done it.
    pub(super) from: Arc<Pod>,
    /// The caller, who sees what the act changed.
    pub(super) viewer: Option<String>,
    pub(super) act: Label,
    pub(super) work: Work,
    pub(super) turn: Option<OwnedSemaphorePermit>,
    /// Whether the caller's pod scans its libraries now.
    pub(super) scans: bool,
}

impl Job {
    /// Tells all pods, and says so of each one.
    pub(super) async fn run(self, others: Vec<Arc<Pod>>, told: mpsc::Sender<PodOutcome>) {
        let Job { peers, caller, pool_index, from, viewer, act, work, turn, scans } = self;
        let permit = peers.shared.in_step.jobs.clone().try_acquire_owned().ok();
        let Some(carrier) = peers.carrier(&caller) else { return };
        let _turn = match (turn, work.needs_turn()) {
            (None, true) => peers.wait_turn(pool_index).await,
            (turn, _) => turn,
        };
        let prepared = match &permit {
            Some(_) => work.prepare(&carrier, &from, viewer).await,
            None => Prepared::Nothing(Outcome::Skipped(Skip::Busy)),
        };
        let with_own = match &prepared {
            Prepared::Settings(new) if new.has_own() => Some(new),
            _ => None,
        };
        let at_pod = |pod: Arc<Pod>| async {
            let memory = peers.memory(pool_index).of(&pod);
            let outcome = follow(&peers, &carrier, &prepared, (&from, &pod), pool_index, &memory).await;
            if outcome == Outcome::Away || outcome.is_transient() {
                prepared.remember(pod.status().epoch, &mut memory.missed.lock());
            }
            let one = PodOutcome { pod, outcome };
            peers.report(act, &one);
            // Nobody hears it if the client's answer has gone.
            let _ = told.send(one).await;
        };
        join_all(others.iter().cloned().map(at_pod)).await;
        if let Some(new) = with_own {
            carrier.save_again(&from, new).await;
        }
        if scans {
            let scan = peers.clone().scan_later(pool_index, from, others);
            tokio::spawn(peers.shutdown.track(scan));
        }
    }
}

/// Tells one pod, and again for a while if it fails.
async fn follow(
    peers: &Peers,
    carrier: &Carrier<'_>,
    prepared: &Prepared,
    (from, pod): (&Arc<Pod>, &Arc<Pod>),
    pool_index: usize,
    memory: &PodMemory,
) -> Outcome {
    let mut pauses = PAUSES.iter();
    loop {
        if !pod.status().is_alive() {
            return Outcome::Away;
        }
        let outcome = {
            // The semaphore is never closed.
            let _few = memory.calls.acquire().await;
            prepared.carry_out(peers, carrier, (from, pod), pool_index, memory).await
        };
        let (true, Some(pause)) = (outcome.is_transient(), pauses.next()) else { return outcome };
        tokio::select! {
            () = time::sleep(*pause) => {}
            () = peers.shutdown.stopping() => return outcome,
        }
    }
}

impl Work {
    /// Whether it reads before it writes.
    fn needs_turn(&self) -> bool {
        !matches!(self, Work::Calls { .. } | Work::Items(_) | Work::Refresh { .. } | Work::Sidecar { .. })
    }

    async fn prepare(self, carrier: &Carrier<'_>, from: &Arc<Pod>, viewer: Option<String>) -> Prepared {
        let unknown = || Prepared::Nothing(Outcome::Skipped(Skip::Unknown));
        match self {
            Work::Calls { calls, is_gone, in_files } => Prepared::Calls { calls, is_gone, in_files },
            // The key deletes whatever it is told, so the pod's answer alone is not enough.
            Work::Items(items) => match are_gone(carrier, from, &items).await {
                true => {
                    let calls = items.iter().map(|item| items::delete(item, carrier.key)).collect();
                    Prepared::Calls { calls, is_gone: true, in_files: false }
                }
                false => unknown(),
            },
            Work::Refresh { item, call } => match carrier.is_library(from, &item).await {
                Some(true) => Prepared::Nothing(Outcome::InStep),
                Some(false) => Prepared::Calls { calls: vec![call], is_gone: false, in_files: false },
                None => unknown(),
            },
            Work::Sidecar { item, option, call } => {
                match carrier.is_beside_media(from, (&item, option), viewer).await {
                    Some(true) => Prepared::Nothing(Outcome::InStep),
                    Some(false) => Prepared::Calls { calls: vec![call], is_gone: false, in_files: true },
                    None => unknown(),
                }
            }
            Work::Pictures(pictures) => match carrier.shown_by(from, &pictures, viewer).await {
                Some(shown) => Prepared::Pictures(pictures, shown),
                None => unknown(),
            },
            Work::Settings { document, keys, before } => match carrier.settings(from, &document).await {
                Some(after) => Prepared::Settings(NewSettings::new(document, keys, before.as_ref(), after)),
                None => unknown(),
            },
            Work::Libraries(before) => match carrier.libraries(from).await {
                Some(after) => Prepared::Libraries(ChangedLibraries { before, after }),
                None => unknown(),
            },
        }
    }
}

impl Prepared {
    async fn carry_out(
        &self,
        peers: &Peers,
        carrier: &Carrier<'_>,
        (from, pod): (&Arc<Pod>, &Arc<Pod>),
        pool_index: usize,
        memory: &PodMemory,
    ) -> Outcome {
        match self {
            Prepared::Calls { calls, is_gone, .. } => repeat(carrier, pod, calls, *is_gone).await,
            Prepared::Pictures(_, shown) => carrier.show(from, pod, shown, peers.memory(pool_index)).await,
            Prepared::Settings(new) => carrier.follow_settings(pod, new, memory).await,
            Prepared::Libraries(changed) => carrier.follow_libraries(pod, changed).await,
            Prepared::Nothing(outcome) => *outcome,
        }
    }

    /// What a pod that was not told gets when it is back.
    fn remember(&self, epoch: Epoch, missed: &mut Missed) {
        match self {
            Prepared::Pictures(pictures, _) => missed.add_pictures(pictures),
            Prepared::Settings(new) => {
                let all = || Changes::between(&Value::Object(serde_json::Map::new()), &new.after);
                missed.add_settings(&new.document, &new.changes.clone().unwrap_or_else(all));
            }
            Prepared::Libraries(changed) => missed.add_libraries(&Touched::between(&changed.before, &changed.after)),
            Prepared::Calls { calls, is_gone, in_files } => {
                let missing = |call: &ApiCall<StatusCode>| MissedCall {
                    epoch,
                    call: call.clone(),
                    is_gone: *is_gone,
                    in_files: *in_files,
                };
                calls.iter().map(missing).for_each(|call| missed.add_call(call));
            }
            Prepared::Nothing(_) => {}
        }
    }
}

/// Whether the pod says of each of these items that it does not have it any more.
async fn are_gone(carrier: &Carrier<'_>, pod: &Arc<Pod>, items: &[String]) -> bool {
    for item in items {
        if carrier.call(pod, items::is_there(item, carrier.key)).await.unwrap_or(true) {
            return false;
        }
    }
    true
}

/// All calls, one after the other. Gives the worst that became of them.
async fn repeat(carrier: &Carrier<'_>, pod: &Arc<Pod>, calls: &[ApiCall<StatusCode>], is_gone: bool) -> Outcome {
    let mut worst = Outcome::InStep;
    for call in calls {
        let outcome = carrier.repeat(pod, call, is_gone).await;
        if rank(outcome) > rank(worst) {
            worst = outcome;
        }
    }
    worst
}

fn rank(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::InStep => 0,
        Outcome::Done(_) => 1,
        outcome if outcome.is_transient() => 3,
        _ => 2,
    }
}
