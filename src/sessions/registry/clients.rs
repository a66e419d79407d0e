//! Clients without a session: their capabilities. Leaders: whether they may have groups.

use std::time::Duration;

use quick_cache::{UnitWeighter, Weighter, sync::Cache};
use tokio::time::Instant;

use super::{AT_FIRST, SessionLookup, Sessions};
use crate::{
    pod::{Pod, PodInstance},
    sessions::{Session, session::ReplayedCall},
};

/// Bytes of the capabilities of clients without a known session. Those sent longest ago go first.
const MOST_BYTES: u64 = 8 << 20;

/// How long a leader may have groups after it last served a member's call. Members that only watch
/// call once a minute (`SyncPlay/Ping`).
const QUIET: Duration = Duration::from_secs(3600);

/// How often this replica notifies the others of that again.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// The capabilities of clients without a known session, bounded in bytes.
pub(super) type Unresolved = Cache<u128, (PodInstance, ReplayedCall), Bytes>;

/// Weighs an entry by its bytes.
#[derive(Clone, Debug)]
pub(super) struct Bytes;

impl Weighter<u128, (PodInstance, ReplayedCall)> for Bytes {
    fn weight(&self, _: &u128, (_, note): &(PodInstance, ReplayedCall)) -> u64 {
        note.size() as u64 + 128
    }
}

pub(super) fn untold() -> Unresolved {
    Cache::with_weighter(AT_FIRST, MOST_BYTES, Bytes)
}

/// A table of at most `most` entries, which grows as it fills.
pub(super) fn table<V: Clone>(most: u64) -> Cache<u128, V> {
    Cache::with_weighter(AT_FIRST, most, UnitWeighter)
}

impl Sessions {
    /// Records the capabilities that a client without a known session sent to this pod.
    pub fn record_capabilities(&self, token: &str, pod: &Pod, note: ReplayedCall) {
        self.capabilities.insert(self.hash(&[token]), (PodInstance::of(pod), note));
        // The session may have become known at this very moment.
        if let SessionLookup::Active(session) = self.find(token)
            && session.pool == pod.pool
            && self.adopt_capabilities(&session, token)
        {
            self.persist(&session);
        }
    }

    /// Gives a session what its client sent before it was known. Says whether that is news.
    pub(super) fn adopt_capabilities(&self, session: &Session, token: &str) -> bool {
        let Some((_, (_, told))) = self.capabilities.remove(&self.hash(&[token])) else { return false };
        session.record_capabilities(ReplayedCall { reported_by: told.reported_by.filled_from(&session.device), ..told })
    }

    /// What such a client sent to another pod, or to an earlier epoch of this one. From now on this
    /// one counts as notified.
    pub fn capabilities_for(&self, token: &str, pod: &Pod) -> Option<ReplayedCall> {
        let hash = self.hash(&[token]);
        let (told, note) = self.capabilities.get(&hash)?;
        let place = PodInstance::of(pod);
        if told == place {
            return None;
        }
        self.capabilities.insert(hash, (place, note.clone()));
        Some(note)
    }

    /// Records that this leader has served a call of a SyncPlay group's member.
    pub fn record_groups(&self, leader: &Pod) {
        let place = PodInstance::of(leader);
        if self.groups.get(&place).is_none_or(|at| at.elapsed() >= TELL_AGAIN) {
            self.groups.insert(place, Instant::now());
            self.store.mark("groups", &named(leader));
        }
    }

    /// Whether the leader may have groups, as far as this replica or another has seen.
    pub async fn may_have_groups(&self, leader: &Pod) -> bool {
        self.groups.get(&PodInstance::of(leader)).is_some_and(|at| at.elapsed() < QUIET)
            || self.store.is_marked("groups", &named(leader), QUIET).await
    }
}

/// A pod by the names that all replicas share.
fn named(pod: &Pod) -> String {
    format!("{}:{}", pod.pool, pod.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{pod::PodConfig, sessions::session_store::SessionStore};

    #[tokio::test(start_paused = true)]
    async fn a_leader_may_have_groups_while_members_call_it() {
        let leader = Pod::new(&"main".into(), &PodConfig { name: "a".into(), authority: "h:1".into() });
        let sessions = Sessions::new(100, (1, 2), Vec::new(), SessionStore::in_memory());
        assert!(!sessions.may_have_groups(&leader).await);
        for _ in 0..3 {
            sessions.record_groups(&leader);
            tokio::time::advance(QUIET - TELL_AGAIN).await;
            assert!(sessions.may_have_groups(&leader).await);
        }
        tokio::time::advance(QUIET).await;
        assert!(!sessions.may_have_groups(&leader).await);
    }
}
