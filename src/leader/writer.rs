//! Which pod of a pool writes the catalogue, where one alone does.
//!
//! Two kinds of cluster share a database: in one every pod writes, in the other one pod does and
//! the others refuse or do nothing. No pod says so by itself. `proxy/writer` asks the pods; what
//! they say together is decided here.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};

use crate::pod::{Pod, PodId, Pool};

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
    /// Nothing that helps.
    Nothing,
}

/// What is known of a pool's writer.
#[derive(Clone, Debug, Default)]
pub struct Known {
    pub kind: Kind,
    /// The pod that writes, if [`Kind::OnePod`] and somebody does.
    pub pod: Option<Arc<Pod>>,
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
        let known = Known { kind, pod: None };
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
            WriterConfig::Auto | WriterConfig::Off => self.now.load().pod.clone(),
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
            let before = (known.kind, known.pod.as_ref().map(|pod| pod.id));
            let answers: Vec<(PodId, WriterAnswer)> = said.iter().map(|(pod, said)| (pod.id, *said)).collect();
            let (kind, id) = conclude(before, &answers);
            if before == (kind, id) {
                return false;
            }
            let pod_of = |id| said.iter().map(|(pod, _)| pod).chain(&known.pod).find(|pod| pod.id == id).cloned();
            let now = Known { kind, pod: id.and_then(pod_of) };
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
fn conclude((kind, writer): (Kind, Option<PodId>), said: &[(PodId, WriterAnswer)]) -> (Kind, Option<PodId>) {
    let of = |what: WriterAnswer| said.iter().filter(move |(_, said)| *said == what).map(|(pod, _)| *pod);
    let is_one = kind == Kind::OnePod || of(WriterAnswer::Follows).next().is_some();
    if !is_one {
        let all_write = kind == Kind::EveryPod || of(WriterAnswer::Writes).count() > 1;
        return (if all_write { Kind::EveryPod } else { Kind::Unknown }, None);
    }
    // While two say that they write, the later one is the right one: the earlier has lost its lock.
    let new = of(WriterAnswer::Writes).find(|pod| Some(*pod) != writer).or_else(|| of(WriterAnswer::Writes).next());
    let is_asked = writer.is_some_and(|writer| said.iter().any(|(pod, _)| *pod == writer));
    (Kind::OnePod, new.or(writer.filter(|_| !is_asked)))
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
    use crate::pod::PodConfig;

    #[test]
    fn what_pods_say_tells_the_kind_and_the_writer() {
        let pool: Arc<str> = "pool".into();
        let pod = |name: &str| {
            Pod::new(&pool, &PodConfig { name: name.into(), authority: "h:1".into(), ..Default::default() })
        };
        let pods = [pod("a"), pod("b"), pod("c")];
        let said = |letters: &str| -> Vec<(PodId, WriterAnswer)> {
            let each = pods.iter().zip(letters.chars()).filter(|(_, letter)| *letter != '.');
            each.map(|(pod, letter)| {
                let said = match letter {
                    'W' => WriterAnswer::Writes,
                    'F' => WriterAnswer::Follows,
                    _ => WriterAnswer::Nothing,
                };
                (pod.id, said)
            })
            .collect()
        };
        let id = |name: Option<usize>| name.map(|at| pods[at].id);
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
            (OnePod, Some(0), ".F", OnePod, Some(0)),
            (OnePod, None, "FF", OnePod, None),
        ] {
            assert_eq!(
                conclude((kind, id(writer)), &said(letters)),
                (after, id(then)),
                "{kind:?} {writer:?} {letters}"
            );
        }
    }
}
