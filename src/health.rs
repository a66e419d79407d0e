//! Finds out which pods live: probes each of them, and hears of the failures of live traffic.
//!
//! Nothing here touches a request. [`watch()`] runs one prober for each pod of a pool; [`refused`], [`broken`] and
//! [`gateway_failure`] are what the request path calls when it meets a failure. What follows from what stands in
//! [`rules`], which is pure.

mod probe;
pub mod rules;

use std::{collections::HashMap, io, sync::Arc, time::Duration};

use tokio::{sync::watch, task::AbortHandle};

use crate::{
    pod::{Epoch, Pod, PodId, Pool, State, Status, Suspicion},
    shutdown::Shutdown,
};

/// How pods are judged.
#[derive(Clone, Debug)]
pub struct Config {
    /// Time between probes of a settled pod, ±10 % jitter. Default 1 s.
    pub interval: Duration,
    /// Time between probes while a pod is not settled. Default 250 ms.
    pub fast_interval: Duration,
    /// Longest time for one probe. Default 800 ms.
    pub timeout: Duration,
    /// Good probes in a row that make a pod ready. Default 2.
    pub rise: u32,
    /// Bad probes in a row that take a pod out. Default 2.
    pub fall: u32,
    /// Gateway-type failures of live traffic that take a pod out. Default 3.
    pub passive_failures: u32,
    /// The time within which those failures count. Default 10 s.
    pub passive_window: Duration,
}

/// Probes every pod that this pool has, and every one that it will have, until the shutdown.
///
/// The receiver counts finished rounds of the first probes: it turns `true` when every pod of the beginning was asked once.
pub fn watch(pool: Arc<Pool>, config: Arc<Config>, shutdown: Shutdown) -> watch::Receiver<bool> {
    let (asked, first_round) = watch::channel(false);
    tokio::spawn(supervise(pool, config, asked, shutdown));
    first_round
}

async fn supervise(pool: Arc<Pool>, config: Arc<Config>, asked: watch::Sender<bool>, shutdown: Shutdown) {
    let mut members = pool.members();
    let mut probers: HashMap<PodId, AbortHandle> = HashMap::new();
    let mut first_probes = Vec::new();
    loop {
        let pods = pool.pods().to_vec();
        probers.retain(|id, prober| {
            let stays = pods.iter().any(|pod| pod.id == *id);
            if !stays {
                prober.abort();
            }
            stays
        });
        for pod in &pods {
            probers.entry(pod.id).or_insert_with(|| {
                let (done, probed) = tokio::sync::oneshot::channel();
                if !*asked.borrow() {
                    first_probes.push(probed);
                }
                let prober = probe::Prober::new(pod.clone(), pool.base_path.clone(), config.clone());
                tokio::spawn(prober.run(done)).abort_handle()
            });
        }
        if !*asked.borrow() && !pods.is_empty() {
            for probed in first_probes.drain(..) {
                let _ = probed.await;
            }
            asked.send_replace(true);
        }
        tokio::select! {
            changed = members.changed() => if changed.is_err() { break },
            () = shutdown.stopping() => break,
        }
    }
    probers.values().for_each(AbortHandle::abort);
}

/// Whether a connection failed because this process, or its machine, has no file handle left (EMFILE, ENFILE): that says nothing of
/// the pod.
pub fn is_out_of_handles(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}

/// A name server that is away says nothing of the pod, one that knows no such name does: so it is with a container that was stopped.
/// The standard library gives no more of `EAI_AGAIN` than its text, by glibc or by musl.
pub fn is_for_want_of_a_name_server(error: &io::Error) -> bool {
    let text = error.to_string();
    error.raw_os_error().is_none() && ["Temporary failure", "Try again"].iter().any(|again| text.contains(again))
}

/// The pod refused a connection: it is out at once, and probed at once.
pub fn refused(pod: &Pod) {
    let (before, after) = pod.change(|status| Status { state: State::Down, accepts: false, ..status });
    pod.suspect(Suspicion::Refused);
    tell(pod, before, after, "it refused a connection");
}

/// A fresh connection to the pod broke before it answered: it is out at once, and probed at once.
pub fn broken(pod: &Pod) {
    let (before, after) = pod.change(|status| Status { state: State::Down, ..status });
    pod.suspect(Suspicion::Broken);
    tell(pod, before, after, "a connection broke before an answer");
}

/// The pod has said on a socket that it ends, or begins anew: this life takes nothing more. `of`: the life in which that socket was
/// opened, if it is known.
pub fn farewell(pod: &Pod, of: Option<Epoch>) {
    if let Some((before, after)) = pod.end_life(of) {
        tell(pod, before, after, "it takes leave");
    }
}

/// An answer of the pod broke off or did not come in time, or a connection was not to be had: no proof, but a reason to probe now.
pub fn report_suspect(pod: &Pod) {
    pod.suspect(Suspicion::Broken);
}

/// The pod, or something on the way to it, gave a failure of the gateway's kind (502, 504, no connection in time): enough of them
/// within the window take it out.
pub fn gateway_failure(pod: &Pod, config: &Config) {
    if pod.count_failure(config.passive_window) >= config.passive_failures {
        let (before, after) = pod.change(|status| Status { state: State::Down, ..status });
        pod.suspect(Suspicion::Broken);
        tell(pod, before, after, "its answers failed again and again");
    }
}

/// Says a change of state once, with its reason.
fn tell(pod: &Pod, before: Status, after: Status, why: &str) {
    if before.state == after.state && before.epoch == after.epoch {
        return;
    }
    let (name, pool) = (&*pod.name, &*pod.pool);
    let (from, to, epoch) = (before.state.as_str(), after.state.as_str(), after.epoch.0);
    match after.state {
        State::Down => tracing::warn!(pod.name = name, pod.pool = pool, pod.epoch = epoch, from, why, "pod is {to}"),
        _ => tracing::info!(pod.name = name, pod.pool = pool, pod.epoch = epoch, from, why, "pod is {to}"),
    }
}
