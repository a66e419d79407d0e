//! Leaders that may have SyncPlay groups, and groups that one replica has made again for all.

use std::time::Duration;

use dashmap::DashMap;
use tokio::time::Instant;

use crate::{
    jellyfin::sync_play,
    pod::{Pod, PodInstance},
    sessions::session_store::ReplicaBus,
};

/// How long a leader may have groups after it last served a member's call. Members that only watch
/// call once a minute (`SyncPlay/Ping`).
const QUIET: Duration = Duration::from_secs(3600);

/// How often this replica notifies the others of that again.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// How long one replica may take to make a group again before another tries.
const CLAIM: Duration = Duration::from_secs(10);

/// How long the new id of a group is found by the old one.
const REMADE: Duration = Duration::from_secs(24 * 3600);

/// Leaders that may have SyncPlay groups, and when each was last seen serving a member.
pub struct GroupLeaders {
    seen: DashMap<PodInstance, Instant, ahash::RandomState>,
    bus: ReplicaBus,
}

impl GroupLeaders {
    pub(super) fn new(bus: ReplicaBus) -> GroupLeaders {
        GroupLeaders { seen: DashMap::default(), bus }
    }

    /// Records that this leader has served a call of a SyncPlay group's member.
    pub fn record(&self, leader: &Pod) {
        let place = PodInstance::of(leader);
        if self.seen.get(&place).is_none_or(|at| at.elapsed() >= TELL_AGAIN) {
            self.seen.insert(place, Instant::now());
            self.bus.mark("groups", &named(leader));
        }
    }

    /// Whether this replica is to make the group again that a pod knew by this id. Ids of groups are
    /// random, so no two groups share one.
    pub async fn claim_remake(&self, group: &str) -> bool {
        self.bus.claim("regroup", group, CLAIM).await
    }

    /// Records the id under which this replica has made the group again.
    pub fn record_remade(&self, group: &str, id: &str) {
        self.bus.put_notice("regrouped", group, id, REMADE);
    }

    /// The id under which a replica has made it again.
    pub async fn remade_as(&self, group: &str) -> Option<String> {
        // Others may write into Redis too.
        self.bus.find_notice("regrouped", group).await.and_then(|id| sync_play::group_id(&id))
    }

    /// Whether the leader may have groups, as far as this replica or another has seen.
    pub async fn may_be_at(&self, leader: &Pod) -> bool {
        self.seen.get(&PodInstance::of(leader)).is_some_and(|at| at.elapsed() < QUIET)
            || self.bus.is_marked("groups", &named(leader), QUIET).await
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
        let leader =
            Pod::new(&"main".into(), &PodConfig { name: "a".into(), authority: "h:1".into(), ..Default::default() });
        let groups = GroupLeaders::new(SessionStore::in_memory().into_parts().bus);
        assert!(!groups.may_be_at(&leader).await);
        for _ in 0..3 {
            groups.record(&leader);
            tokio::time::advance(QUIET - TELL_AGAIN).await;
            assert!(groups.may_be_at(&leader).await);
        }
        tokio::time::advance(QUIET).await;
        assert!(!groups.may_be_at(&leader).await);
    }
}
