//! What all workers share about changes that other pods follow: limits, the order of changes, and
//! what each pod missed or has of its own.
//!
//! A pod reads the database when it starts, so it misses only what stands in files.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use http::StatusCode;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::{
    jellyfin::{
        client::ApiCall,
        images::Pictures,
        libraries::Touched,
        settings::{Changes, DocumentName, KeyPath},
    },
    pod::{Epoch, Pod},
};

/// Changes that a pod may get at once.
const AT_ONCE: usize = 4;

/// Things that a pod may have missed. Of more, only the number is known.
const MOST_MISSED: usize = 512;

/// Calls that a pod may have missed, and their bodies in bytes.
const MOST_CALLS: usize = 128;
const MOST_BODIES: usize = 4 << 20;

/// Pods that are remembered. The pool may have lost some of them.
const MOST_PODS: usize = 256;

/// Changes under way at once.
const ALL_JOBS: usize = 64;

/// Bodies that are kept to be repeated, all of them at once, in KiB.
pub(super) const ALL_BODIES_KIB: usize = 16 << 10;

/// Whether pods are kept in step, and how much may be under way for that.
pub struct InStepState {
    /// Whether they are at all (`[jellyfin] in_step`).
    pub(super) is_on: bool,
    pub(super) jobs: Arc<Semaphore>,
    /// In KiB.
    pub(super) bodies: Arc<Semaphore>,
    /// In the order of the pools.
    pub(super) pools: Box<[Arc<PoolMemory>]>,
}

impl InStepState {
    pub fn new(is_on: bool, pools: usize) -> InStepState {
        InStepState {
            is_on,
            jobs: Arc::new(Semaphore::new(ALL_JOBS)),
            bodies: Arc::new(Semaphore::new(ALL_BODIES_KIB)),
            pools: (0..pools).map(|_| Arc::default()).collect(),
        }
    }

    /// The same memory after a reload, for so many pools.
    #[must_use]
    pub fn renewed(&self, is_on: bool, pools: usize) -> InStepState {
        let known = self.pools.iter().cloned();
        InStepState {
            is_on,
            jobs: self.jobs.clone(),
            bodies: self.bodies.clone(),
            pools: known.chain(std::iter::repeat_with(Arc::default)).take(pools.max(self.pools.len())).collect(),
        }
    }
}

/// What all workers share of one pool.
pub(super) struct PoolMemory {
    /// Changes that read before they write go one after the other.
    pub(super) turn: Arc<Semaphore>,
    /// Pictures are large, so only one is in memory.
    pub(super) picture: Semaphore,
    /// Whether a scan of the other pods is due already.
    scan_is_due: AtomicBool,
    pods: Mutex<HashMap<Arc<str>, Arc<PodMemory>>>,
}

pub(super) struct PodMemory {
    pub(super) calls: Semaphore,
    pub(super) missed: Mutex<Missed>,
    /// The places in documents that differed from the leader's when the pod was first seen. `None`
    /// before that.
    own: Mutex<Option<BTreeMap<DocumentName, BTreeSet<KeyPath>>>>,
}

/// What a pod is told when it comes back.
#[derive(Debug, Default)]
pub(super) struct Missed {
    pub(super) libraries: Touched,
    pub(super) settings: BTreeMap<DocumentName, BTreeSet<KeyPath>>,
    pub(super) pictures: Vec<Pictures>,
    pub(super) calls: Vec<MissedCall>,
    /// What cannot be told afterwards, or found no room.
    pub(super) lost: usize,
}

/// A call that a pod was to get while it was away.
#[derive(Clone, Debug)]
pub(super) struct MissedCall {
    /// The pod's life. The next one reads the database, and has nothing old in memory.
    pub(super) epoch: Epoch,
    pub(super) call: ApiCall<StatusCode>,
    /// A 404 means that there is nothing left to do.
    pub(super) is_gone: bool,
    /// The next life needs it too, since it writes files.
    pub(super) in_files: bool,
}

impl Default for PoolMemory {
    fn default() -> PoolMemory {
        PoolMemory {
            turn: Arc::new(Semaphore::new(1)),
            picture: Semaphore::new(1),
            scan_is_due: AtomicBool::new(false),
            pods: Mutex::default(),
        }
    }
}

impl PoolMemory {
    /// What is remembered of a pod, by its name.
    pub(super) fn of(&self, pod: &Pod) -> Arc<PodMemory> {
        let mut pods = self.pods.lock();
        if pods.len() >= MOST_PODS && !pods.contains_key(&pod.name) {
            pods.clear();
        }
        pods.entry(pod.name.clone()).or_default().clone()
    }

    /// Says that a scan is due. `false` if one is due already.
    pub(super) fn request_scan(&self) -> bool {
        !self.scan_is_due.swap(true, Ordering::Relaxed)
    }

    pub(super) fn begin_scan(&self) {
        self.scan_is_due.store(false, Ordering::Relaxed);
    }
}

impl Default for PodMemory {
    fn default() -> PodMemory {
        PodMemory { calls: Semaphore::new(AT_ONCE), missed: Mutex::default(), own: Mutex::default() }
    }
}

impl PodMemory {
    pub(super) fn is_known(&self) -> bool {
        self.own.lock().is_some()
    }

    /// Remembers where the pod's documents differ, at first sight.
    pub(super) fn set_own(&self, own: BTreeMap<DocumentName, BTreeSet<KeyPath>>) {
        *self.own.lock() = Some(own);
    }

    pub(super) fn is_own(&self, document: &DocumentName, path: &KeyPath) -> bool {
        self.own.lock().as_ref().and_then(|own| own.get(document)).is_some_and(|paths| paths.contains(path))
    }

    /// The pod has these values from another pod now.
    pub(super) fn took_over(&self, document: &DocumentName, changes: &Changes) {
        if let Some(paths) = self.own.lock().as_mut().and_then(|own| own.get_mut(document)) {
            paths.retain(|path| !changes.paths().any(|changed| changed == path));
        }
    }
}

impl Missed {
    pub(super) fn add_libraries(&mut self, touched: &Touched) {
        if self.has_room() { self.libraries.add(touched) } else { self.lost += touched.len() }
    }

    pub(super) fn add_settings(&mut self, document: &DocumentName, changes: &Changes) {
        if self.has_room() {
            self.settings.entry(document.clone()).or_default().extend(changes.paths().cloned());
        } else {
            self.lost += 1;
        }
    }

    pub(super) fn add_pictures(&mut self, pictures: &Pictures) {
        if self.pictures.contains(pictures) {
            return;
        }
        if self.has_room() { self.pictures.push(pictures.clone()) } else { self.lost += 1 }
    }

    pub(super) fn add_call(&mut self, call: MissedCall) {
        let bodies: usize = self.calls.iter().map(|missed| missed.call.body.len()).sum();
        if self.calls.len() < MOST_CALLS && bodies + call.call.body.len() <= MOST_BODIES {
            self.calls.push(call);
        } else {
            self.lost += 1;
        }
    }

    /// Adds what could not be told, before what was missed since.
    pub(super) fn put_back(&mut self, earlier: Missed) {
        let later = std::mem::replace(self, earlier);
        self.libraries.add(&later.libraries);
        for (document, paths) in later.settings {
            self.settings.entry(document).or_default().extend(paths);
        }
        later.pictures.iter().for_each(|pictures| self.add_pictures(pictures));
        later.calls.into_iter().for_each(|call| self.add_call(call));
        self.lost += later.lost;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count() == 0 && self.calls.is_empty()
    }

    fn count(&self) -> usize {
        self.libraries.len()
            + self.settings.values().map(BTreeSet::len).sum::<usize>()
            + self.pictures.len()
            + self.lost
    }

    fn has_room(&self) -> bool {
        self.count() - self.lost < MOST_MISSED
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_pod_missed_is_bounded_and_what_found_no_room_is_counted() {
        let mut missed = Missed::default();
        for number in 0..MOST_MISSED + 10 {
            missed.add_pictures(&Pictures::OfUser(number.to_string()));
        }
        missed.add_pictures(&Pictures::OfUser("0".to_owned()));
        assert_eq!((missed.pictures.len(), missed.lost), (MOST_MISSED, 10));
        let changes = Changes::between(&json!({}), &json!({"A": 1}));
        missed.add_settings(&DocumentName::Server, &changes);
        assert_eq!((missed.settings.len(), missed.lost), (0, 11));
    }

    #[test]
    fn what_a_pod_has_of_its_own_stays_until_it_is_changed_for_all() {
        let memory = PodMemory::default();
        let path = vec!["A".to_owned()];
        assert!(!memory.is_known());
        memory.set_own(BTreeMap::from([(DocumentName::Server, BTreeSet::from([path.clone()]))]));
        assert!(memory.is_known() && memory.is_own(&DocumentName::Server, &path));
        assert!(!memory.is_own(&DocumentName::Named("network".to_owned()), &path));
        memory.took_over(&DocumentName::Server, &Changes::between(&json!({}), &json!({"A": 1})));
        assert!(!memory.is_own(&DocumentName::Server, &path));
    }
}
