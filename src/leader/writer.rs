//! Which pod of a pool writes the catalogue, where one alone does.
//!
//! Two kinds of cluster share a database: in one every pod writes, in the other one pod does and
//! the others refuse or do nothing. No pod says so by itself. `proxy/writer` asks the pods; what
//! they say together is decided here.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};

use crate::pod::{Pod, PodInstance, Pool};

/// How jellypin finds a pool's writer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WriterConfig {
    /// Asks the pods.
    #[default]
    Auto,
    /// Every pod writes.
    Off,
    /// The pod of this name writes.
    Pod(String),
}

/// What kind of cluster a pool is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Fewer than two pods have said that they write, and none that it does not.
    #[default]
    Unknown,
    /// Every pod writes.
    EveryPod,
    /// One pod writes.
    OnePod,
}

/// What a pod says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriterAnswer {
    /// It writes.
    Writes,
    /// Another pod writes.
    Follows,
    /// It did not answer in time. It may be busy, and the lock stays with a pod that hangs.
    Silent,
    /// It is not there, or failed.
    Nothing,
}

/// What is known of a pool's writer.
#[derive(Clone, Debug, Default)]
pub struct Known {
    pub kind: Kind,
    /// The pod that writes, if [`Kind::OnePod`] and somebody does.
    pub pod: Option<Arc<Pod>>,
    /// The life in which that pod writes: after it, the lock is free.
    life: Option<PodInstance>,
}

/// The writer of one pool, as the request path reads it.
#[derive(Debug)]
pub struct Writer {
    pub config: WriterConfig,
    now: ArcSwap<Known>,
    changes: watch::Sender<Known>,
    wanted: Notify,
}

impl Writer {
    pub fn new(config: WriterConfig) -> Arc<Writer> {
        let kind = match config {
            WriterConfig::Auto => Kind::Unknown,
            WriterConfig::Off => Kind::EveryPod,
            WriterConfig::Pod(_) => Kind::OnePod,
        };
        let known = Known { kind, ..Known::default() };
        Arc::new(Writer {
            config,
            now: ArcSwap::from_pointee(known.clone()),
            changes: watch::Sender::new(known),
            wanted: Notify::new(),
        })
    }

    pub fn kind(&self) -> Kind {
        self.now.load().kind
    }

    /// Whether one pod of the pool writes for all.
    pub fn is_one(&self) -> bool {
        self.kind() == Kind::OnePod
    }

    /// The pod that writes, if it is alive.
    pub fn current(&self, pool: &Pool) -> Option<Arc<Pod>> {
        match &self.config {
            WriterConfig::Pod(name) => pool.pods().iter().find(|pod| *pod.name == **name).cloned(),
            WriterConfig::Auto | WriterConfig::Off => {
                let now = self.now.load();
                now.pod.clone().filter(|pod| now.life == Some(PodInstance::of(pod)))
            }
        }
        .filter(|pod| pod.status().is_alive())
    }

    /// Reports every change.
    pub fn changes(&self) -> watch::Receiver<Known> {
        self.changes.subscribe()
    }

    /// Records what pods of the pool have said of themselves just now.
    pub fn record(&self, said: &[(Arc<Pod>, WriterAnswer)]) {
        if self.config != WriterConfig::Auto {
            return;
        }
        self.changes.send_if_modified(|known| {
            let before = (known.kind, known.life);
            let answers: Vec<(PodInstance, WriterAnswer)> =
                said.iter().map(|(pod, said)| (PodInstance::of(pod), *said)).collect();
            let (kind, life) = conclude(before, &answers);
            if before == (kind, life) {
                return false;
            }
            let pod_of = |life: PodInstance| {
                said.iter().map(|(pod, _)| pod).chain(&known.pod).find(|pod| pod.id == life.pod).cloned()
            };
            let now = Known { kind, pod: life.and_then(pod_of), life };
            log(known, &now, said);
            self.now.store(Arc::new(now.clone()));
            *known = now;
            true
        });
    }

    /// Asks for a new look at who writes.
    pub fn want(&self) {
        self.wanted.notify_one();
    }

    /// Ends when somebody wants a new look. Cancel safe.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }
}

/// The kind of cluster, and the writer, after some pods have spoken.
///
/// A writer that is slow still has its lock. Only what it says itself, its end or another writer
/// shows that it writes no more.
fn conclude(
    (kind, writer): (Kind, Option<PodInstance>),
    said: &[(PodInstance, WriterAnswer)],
) -> (Kind, Option<PodInstance>) {
    let of = |what: WriterAnswer| said.iter().filter(move |(_, said)| *said == what).map(|(pod, _)| *pod);
    let is_one = kind == Kind::OnePod || of(WriterAnswer::Follows).next().is_some();
    if !is_one {
        let all_write = kind == Kind::EveryPod || of(WriterAnswer::Writes).count() > 1;
        return (if all_write { Kind::EveryPod } else { Kind::Unknown }, None);
    }
    // While two say that they write, the later one is the right one: the earlier has lost its lock.
    let new = of(WriterAnswer::Writes).find(|pod| Some(*pod) != writer).or_else(|| of(WriterAnswer::Writes).next());
    let shows_end = |writer: PodInstance, (pod, said): &(PodInstance, WriterAnswer)| {
        pod.pod == writer.pod && (*pod != writer || *said != WriterAnswer::Silent)
    };
    let kept = writer.filter(|writer| !said.iter().any(|said| shows_end(*writer, said)));
    (Kind::OnePod, new.or(kept))
}

fn log(before: &Known, now: &Known, said: &[(Arc<Pod>, WriterAnswer)]) {
    let Some(pool) = said.first().map(|(pod, _)| pod.pool.clone()) else { return };
    let name = |known: &Known| known.pod.as_ref().map(|pod| pod.name.clone());
    let (from, to) = (name(before), name(now));
    match (now.kind, to.as_deref()) {
        (Kind::OnePod, Some(pod)) => {
            tracing::info!(pod.pool = &*pool, pod.name = pod, from = from.as_deref(), "pod writes the catalogue");
        }
        (Kind::OnePod, None) => {
            tracing::warn!(pod.pool = &*pool, from = from.as_deref(), "no pod writes the catalogue; writes wait");
        }
        (Kind::EveryPod, _) => tracing::info!(pod.pool = &*pool, "every pod writes the catalogue"),
        (Kind::Unknown, _) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::{Epoch, PodConfig};

    #[test]
    fn what_pods_say_tells_the_kind_and_the_writer() {
        let pool: Arc<str> = "pool".into();
        let pod = |name: &str| {
            Pod::new(&pool, &PodConfig { name: name.into(), authority: "h:1".into(), ..Default::default() })
        };
        let pods = [pod("a"), pod("b"), pod("c")];
        let of = |at: usize| PodInstance::of(&pods[at]);
        let said = |letters: &str| -> Vec<(PodInstance, WriterAnswer)> {
            let each = letters.chars().enumerate().filter(|(_, letter)| *letter != '.');
            each.map(|(at, letter)| {
                let said = match letter {
                    'W' => WriterAnswer::Writes,
                    'F' => WriterAnswer::Follows,
                    's' => WriterAnswer::Silent,
                    _ => WriterAnswer::Nothing,
                };
                (of(at), said)
            })
            .collect()
        };
        use Kind::{EveryPod, OnePod, Unknown};
        for (kind, writer, letters, after, then) in [
            (Unknown, None, "W", Unknown, None),
            (Unknown, None, "W-", Unknown, None),
            (Unknown, None, "WW", EveryPod, None),
            (Unknown, None, "WF", OnePod, Some(0)),
            (Unknown, None, ".F", OnePod, None),
            (EveryPod, None, "W", EveryPod, None),
            (EveryPod, None, "--", EveryPod, None),
            (EveryPod, None, "FW", OnePod, Some(1)),
            (OnePod, Some(0), "WF", OnePod, Some(0)),
            (OnePod, Some(0), "F", OnePod, None),
            (OnePod, Some(0), "FWF", OnePod, Some(1)),
            (OnePod, Some(0), "WW", OnePod, Some(1)),
            (OnePod, Some(0), "-F", OnePod, None),
            (OnePod, Some(0), "sF", OnePod, Some(0)),
            (OnePod, Some(0), "sFs", OnePod, Some(0)),
            (OnePod, Some(0), "sWF", OnePod, Some(1)),
            (OnePod, None, "sF", OnePod, None),
            (Unknown, None, "sW", Unknown, None),
            (OnePod, Some(0), ".F", OnePod, Some(0)),
            (OnePod, None, "FF", OnePod, None),
        ] {
            assert_eq!(
                conclude((kind, writer.map(of)), &said(letters)),
                (after, then.map(of)),
                "{kind:?} {writer:?} {letters}"
            );
        }
        let ended = PodInstance { epoch: Epoch(of(0).epoch.0 + 1), ..of(0) };
        for (answer, then) in [(WriterAnswer::Silent, None), (WriterAnswer::Writes, Some(of(0)))] {
            let said = [(of(0), answer), (of(1), WriterAnswer::Follows)];
            assert_eq!(conclude((OnePod, Some(ended)), &said), (OnePod, then), "another life: {answer:?}");
        }
    }
}
