//! SyncPlay groups, as the sockets of their members learn of them; shared by all workers.
//!
//! A group lives in one pod's memory. The messages to its members say its name, its queue, its place
//! and whether it plays. From these jellypin makes the group again when its pod is gone. Messages of
//! clients change nothing here.

pub(super) mod group;
mod line;
pub(super) mod membership;
pub(super) mod playback;
pub(super) mod roster;

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    jellyfin::sync_play,
    pod::{Pod, PodId, PodInstance, Pool, State},
    sessions::Session,
};
use group::Group;

/// Groups that are remembered. Further ones end with their pod.
const MOST_GROUPS: usize = 1024;

/// The groups of all pools.
#[derive(Default)]
pub struct Groups {
    all: Mutex<Vec<Arc<Group>>>,
    /// How many there are: without any, a request costs one load.
    count: AtomicUsize,
    /// A group was made again since the start, so ids may have to be replaced.
    any_moved: AtomicBool,
    begun: Notify,
    /// Pods that send their clients away at once while they drain.
    leaving: Mutex<HashSet<PodId>>,
}

impl Groups {
    /// There is no group now.
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// A group may bear another id than the one that clients know.
    pub(super) fn any_moved(&self) -> bool {
        self.any_moved.load(Ordering::Acquire) && !self.is_empty()
    }

    /// Ends when there is a group. Cancel safe.
    pub(super) async fn await_any(&self) {
        loop {
            let begun = self.begun.notified();
            if !self.is_empty() {
                return;
            }
            begun.await;
        }
    }

    /// The group of one of this session's sockets.
    pub(super) fn of(&self, session: &Arc<Session>) -> Option<Arc<Group>> {
        if self.is_empty() {
            return None;
        }
        self.all.lock().iter().find(|group| group.roster.has(session)).cloned()
    }

    /// The group that clients or its pod know by this id.
    pub(super) fn by_id(&self, pool: &str, id: &str) -> Option<Arc<Group>> {
        if self.is_empty() {
            return None;
        }
        self.all.lock().iter().find(|group| *group.pool == *pool && group.is_known_as(id)).cloned()
    }

    /// The groups of a pool.
    pub(super) fn of_pool(&self, pool: &str) -> Vec<Arc<Group>> {
        self.all.lock().iter().filter(|group| *group.pool == *pool).cloned().collect()
    }

    /// A group of which a member's socket has learned. `None` if there is
    /// no room for another.
    fn group_of_socket(&self, pool: &Arc<str>, id: &str, begin: impl FnOnce() -> Group) -> Option<Arc<Group>> {
        let mut all = self.all.lock();
        if let Some(known) = all.iter().find(|group| group.pool == *pool && group.is_known_as(id)) {
            return Some(known.clone());
        }
        if all.len() >= MOST_GROUPS {
            return None;
        }
        let group = Arc::new(begin());
        all.push(group.clone());
        self.count.store(all.len(), Ordering::Release);
        drop(all);
        self.begun.notify_waiters();
        Some(group)
    }

    /// Forgets a group without members.
    fn forget_empty(&self) {
        let mut all = self.all.lock();
        all.retain(|group| !group.roster.is_empty());
        self.count.store(all.len(), Ordering::Release);
    }

    /// Forgets a group whose members were told that it has ended.
    pub(super) fn forget(&self, group: &Arc<Group>) {
        let mut all = self.all.lock();
        all.retain(|other| !Arc::ptr_eq(other, group));
        self.count.store(all.len(), Ordering::Release);
    }

    /// A group was made again.
    pub(super) fn record_moved(&self) {
        self.any_moved.store(true, Ordering::Release);
    }

    /// The id by which clients know a group, if its pod knows it by this other one.
    pub(super) fn shown_id(&self, pool: &str, id: &str) -> Option<String> {
        let group = self.any_moved().then(|| self.by_id(pool, id))??;
        (group.shown != id).then(|| group.shown.clone())
    }

    /// The id by which its pod knows a group, if clients know it by this other one.
    pub(super) fn id_at_pod(&self, pool: &str, shown: &str) -> Option<String> {
        let id = self.any_moved().then(|| self.by_id(pool, shown))??.location.id();
        (id != shown).then_some(id)
    }

    /// A text of this pool's pods, with the ids by which clients know its groups. `None` if it
    /// contains no others.
    pub(super) fn with_shown_ids(&self, pool: &str, text: &str) -> Option<String> {
        let moved = self.of_pool(pool).into_iter().map(|group| (group.location.id(), group));
        let moved = moved.filter(|(id, group)| *id != group.shown && text.contains(id.as_str()));
        moved.fold(None, |changed: Option<String>, (id, group)| {
            Some(sync_play::with_group(changed.as_deref().unwrap_or(text), &id, &group.shown))
        })
    }

    /// A pod begins to drain: at once, or when its clients are idle.
    pub(super) fn record_drain(&self, pod: &Pod, at_once: bool) {
        let mut leaving = self.leaving.lock();
        leaving.remove(&pod.id);
        if at_once {
            leaving.insert(pod.id);
        }
    }

    /// Whether a pod's groups are to go on at the leader: the pod is gone, or sends its clients away
    /// at once while another pod leads.
    pub(super) fn are_to_move(&self, pool: &Pool, place: PodInstance, leader: Option<&Pod>) -> bool {
        if is_gone(pool, place) {
            return true;
        }
        let is_led_elsewhere =
            leader.is_some_and(|leader| leader.id != place.pod && leader.status().state == State::Ready);
        let drains = |pod: &Arc<Pod>| pod.id == place.pod && pod.status().state == State::Draining;
        is_led_elsewhere && pool.pods().iter().any(drains) && self.leaving.lock().contains(&place.pod)
    }
}

/// Whether a pod's memory is gone, and all groups in it.
pub(super) fn is_gone(pool: &Pool, place: PodInstance) -> bool {
    !pool.pods().iter().any(|pod| PodInstance::of(pod) == place && pod.status().is_alive())
}
