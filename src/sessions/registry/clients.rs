//! What is known of clients without a session, and of leaders: their capabilities, and whether there may be groups.

use std::time::Duration;

use quick_cache::{UnitWeighter, Weighter, sync::Cache};
use tokio::time::Instant;

use super::{AT_FIRST, SessionLookup, Sessions};
use crate::{
    pod::{Pod, PodInstance},
    sessions::{Session, session::ReplayedCall},
};

/// Bytes of the capabilities of clients without a known session. Beyond them those go that were told the longest ago.
const MOST_BYTES: u64 = 8 << 20;

/// How long a leader may have groups after it has last carried out a member's call. Members that only watch call once a minute
/// (`SyncPlay/Ping`).
const QUIET: Duration = Duration::from_secs(3600);

/// How often the other replicas are told so again.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// The capabilities of clients without a session: at most so many bytes.
pub(super) type Unresolved = Cache<u128, (PodInstance, ReplayedCall), Bytes>;

/// An entry weighs what it takes.
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

/// A table of at most so many entries, which grows as it is filled.
pub(super) fn table<V: Clone>(most: u64) -> Cache<u128, V> {
    Cache::with_weighter(AT_FIRST, most, UnitWeighter)
}

impl Sessions {
    /// A client whose session is not known has told this pod what it can do.
    pub fn record_capabilities(&self, token: &str, pod: &Pod, note: ReplayedCall) {
        self.capabilities.insert(self.hash(&[token]), (PodInstance::of(pod), note));
        // It may have become known in this very moment.
        if let SessionLookup::Active(session) = self.find(token)
            && session.pool == pod.pool
            && self.adopt_capabilities(&session, token)
        {
            self.persist(&session);
        }
    }

    /// What a client has told before it was known is its session's. Says whether there was something.
    pub(super) fn adopt_capabilities(&self, session: &Session, token: &str) -> bool {
        let Some((_, (_, told))) = self.capabilities.remove(&self.hash(&[token])) else { return false };
        session.record_capabilities(ReplayedCall { reported_by: told.reported_by.filled_from(&session.device), ..told })
    }

    /// What such a client has told another pod, or an earlier life of this one; from now on this one counts as told.
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

    /// This leader has carried out a call of a member of a SyncPlay group.
    pub fn record_groups(&self, leader: &Pod) {
        let place = PodInstance::of(leader);
        if self.groups.get(&place).is_none_or(|at| at.elapsed() >= TELL_AGAIN) {
            self.groups.insert(place, Instant::now());
            self.store.mark("groups", &named(leader));
        }
    }

    /// Whether the leader may have groups, by what this proxy or another has seen.
    pub async fn may_have_groups(&self, leader: &Pod) -> bool {
        self.groups.get(&PodInstance::of(leader)).is_some_and(|at| at.elapsed() < QUIET)
            || self.store.is_marked("groups", &named(leader), QUIET).await
    }
}

/// A pod by the names that replicas have in common.
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
