//! Finds out which pods are alive: probes each of them, and counts the failures of live traffic.
//!
//! Nothing here touches a request. [`watch()`] runs one prober for each pod of a pool. The request
//! path calls [`refused`], [`broken`] and [`gateway_failure`] when it meets a failure. The pure
//! modules [`rules`], [`silence`] and [`share`] decide what follows.

mod probe;
pub mod rules;
pub mod share;
pub mod silence;

use std::{collections::HashMap, io, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::{sync::watch, task::AbortHandle};

use crate::{
    pod::{Check, Condition, Epoch, Moment, Pod, PodId, Pool, Rest, State, Status, Suspicion},
    shutdown::Shutdown,
};

/// When probes and failures change a pod's state.
#[derive(Clone, Debug)]
pub struct Config {
    /// Time between probes of a settled pod, ±10 % jitter. Default 1 s.
    pub interval: Duration,
    /// Time between probes while a pod is not settled. Default 250 ms.
    pub fast_interval: Duration,
    /// A probe that is answered later than this is late. Default 800 ms.
    pub timeout: Duration,
    /// How long a pod may answer nothing at all before it is down, at least. Default 5 s.
    pub silence: Duration,
    /// The same for a pod that was slow lately, at most. Default 30 s.
    pub longest_silence: Duration,
    /// The time in which a pod that has started comes to its full share of new clients. Default 30 s.
    pub slow_start: Duration,
    /// Good probes in a row that make a pod ready. Default 2.
    pub rise: u32,
    /// Bad probes in a row that take a pod out. Default 2.
    pub fall: u32,
    /// Gateway-type failures of live traffic that take a pod out. Default 3.
    pub passive_failures: u32,
    /// The time within which those failures count. Default 10 s.
    pub passive_window: Duration,
}

/// Probes every present and future pod of this pool until the shutdown. Each probe goes by the
/// settings of its moment.
///
/// The receiver turns `true` when the prober has asked each of the initial pods once.
pub fn watch(pool: Arc<Pool>, config: Arc<ArcSwap<Config>>, shutdown: Shutdown) -> watch::Receiver<bool> {
    let (asked, first_round) = watch::channel(false);
    tokio::spawn(supervise(pool, config, asked, shutdown));
    first_round
}

async fn supervise(pool: Arc<Pool>, config: Arc<ArcSwap<Config>>, asked: watch::Sender<bool>, shutdown: Shutdown) {
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
                let (pod, config) = (pod.clone(), config.clone());
                match &*pool.check() {
                    Check::Jellyfin => tokio::spawn(probe::Prober::new(pod, pool.clone(), config).run(done)),
                    Check::Connection | Check::Path(_) => {
                        tokio::spawn(probe::plain::run(pod, pool.clone(), config, done))
                    }
                }
                .abort_handle()
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

/// What one check of a pod that is not Jellyfin's finds. `None`: no file handle was free for it.
pub async fn look(pod: &Pod, pool: &Pool, longest: Duration) -> Option<rules::Outcome> {
    probe::plain::check(pod, pool, longest).await
}

/// Whether a connection failed because this process, or its machine, has no file handle left
/// (EMFILE, ENFILE). That says nothing about the pod.
pub fn is_out_of_handles(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}

/// Whether a name server does not answer, which says nothing about the pod. An unknown name does: a
/// stopped container has none. The standard library gives only the text of `EAI_AGAIN`, by glibc or
/// by musl.
pub fn is_for_want_of_a_name_server(error: &io::Error) -> bool {
    let text = error.to_string();
    error.raw_os_error().is_none() && ["Temporary failure", "Try again"].iter().any(|again| text.contains(again))
}

/// Whether no way leads to the pod's machine. That is the pod's affair only if others are reached.
pub fn is_unreachable(error: &io::Error) -> bool {
    use io::ErrorKind::{HostUnreachable, NetworkDown, NetworkUnreachable};
    matches!(error.kind(), HostUnreachable | NetworkDown | NetworkUnreachable)
}

/// The pod refused a connection: it is down at once, and the prober probes it at once.
pub fn refused(pod: &Pod) {
    let (before, after) = pod.life.change(|status| Status { state: State::Down, accepts: false, ..status });
    pod.suspicions.report(Suspicion::Refused);
    log_change(pod, before, after, "it refused a connection");
}

/// What answers in the pod's place is not trusted: it is down at once, until a probe finds it trusted.
pub fn untrusted(pod: &Pod) {
    let (before, after) = pod.life.change(|status| Status { state: State::Down, accepts: false, ..status });
    pod.suspicions.report(Suspicion::Broken);
    log_change(pod, before, after, "it is not trusted over TLS");
}

/// A fresh connection to the pod broke before it answered: it is down at once, and the prober
/// probes it at once.
pub fn broken(pod: &Pod) {
    let (before, after) = pod.life.change(|status| Status { state: State::Down, ..status });
    pod.suspicions.report(Suspicion::Broken);
    log_change(pod, before, after, "a connection broke before an answer");
}

/// The pod announced its shutdown or restart on a socket: this epoch takes nothing more. `of` is
/// the epoch in which that socket was opened, if known.
pub fn farewell(pod: &Pod, of: Option<Epoch>) {
    if let Some((before, after)) = pod.life.record_farewell(of) {
        pod.suspicions.report(Suspicion::Farewell);
        log_change(pod, before, after, "it takes leave");
    }
}

/// Nobody needs the pod, and its machine sleeps or may sleep: it is down, and is not probed until a
/// request needs it.
pub fn falls_asleep(pod: &Pod, why: &str) {
    pod.sleep.set_rest(Rest::Asleep);
    pod.life.change(|status| Status { state: State::Down, accepts: false, ..status });
    tracing::info!(pod.name = &*pod.name, pod.pool = &*pod.pool, why, "a pod sleeps until a request needs it");
}

/// An answer of the pod broke off or came too late, or no connection was free. That proves nothing,
/// but the prober probes now.
pub fn report_suspect(pod: &Pod) {
    pod.suspicions.report(Suspicion::Broken);
}

/// The pod, or something on the way to it, failed like a gateway (502, no connection in time). Enough
/// such failures within the window take it out. A 504 says that the pod is late, which is no failure.
pub fn gateway_failure(pod: &Pod, config: &Config) {
    if pod.suspicions.count_failure(config.passive_window) >= config.passive_failures {
        let (before, after) = pod.life.change(|status| Status { state: State::Down, ..status });
        pod.suspicions.report(Suspicion::Broken);
        log_change(pod, before, after, "its answers failed again and again");
    }
}

/// No connection to the pod came about within this time. That counts as a gateway's failure if another
/// pod is well and was heard meanwhile, or if none else serves. Otherwise the cause may be the network
/// or this machine, and the health checks decide.
pub fn connect_timed_out(pod: &Pod, pool: &Pool, config: &Config, within: Duration) {
    report_suspect(pod);
    // A pod that answers others has only too many connections waiting.
    if pod.vitals.was_heard_since(Moment::before_now(within * 2)) {
        return;
    }
    let (pods, began) = (pool.pods(), Moment::before_now(within));
    let mut others = pods.iter().filter(|other| other.id != pod.id && other.status().is_alive()).peekable();
    // One that was silent just now is well again only after some checks.
    let is_heard = |other: &Pod| other.vitals.condition() == Condition::Well && other.vitals.was_heard_since(began);
    if others.peek().is_none() || others.any(|other| is_heard(other)) {
        gateway_failure(pod, config);
    }
}

/// Logs that a pod which serves is doing otherwise than before.
fn log_condition(pod: &Pod, before: Condition, after: Condition) {
    let (name, pool) = (&*pod.name, &*pod.pool);
    let (from, to) = (before.as_str(), after.as_str());
    match after {
        Condition::Well => tracing::info!(pod.name = name, pod.pool = pool, from, "pod is well again"),
        _ => tracing::warn!(pod.name = name, pod.pool = pool, from, to, "pod serves and is {to}"),
    }
}

/// Logs a change of state once, with its reason.
fn log_change(pod: &Pod, before: Status, after: Status, why: &str) {
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
