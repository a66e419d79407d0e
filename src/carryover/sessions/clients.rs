//! What is known of clients without a session, and of leaders: their capabilities, and whether there may be groups.

use super::Sessions;
use crate::{
    carryover::session::{Note, Place},
    pod::Pod,
};

/// Clients without a known session whose capabilities are kept. When they are more, all are forgotten.
const MOST_NOTES: usize = 10_000;

impl Sessions {
    /// A client whose session is not known has told this pod what it can do.
    pub fn note_capabilities(&self, token: &str, pod: &Pod, note: Note) {
        if self.capabilities.len() >= MOST_NOTES {
            self.capabilities.clear();
        }
        self.capabilities.insert(self.hash(&[token]), (Place::of(pod), note));
    }

    /// What such a client has told another pod, or an earlier life of this one; from now on this one counts as told.
    pub fn capabilities_for(&self, token: &str, pod: &Pod) -> Option<Note> {
        let mut noted = self.capabilities.get_mut(&self.hash(&[token]))?;
        let place = Place::of(pod);
        (std::mem::replace(&mut noted.0, place) != place).then(|| noted.1.clone())
    }

    /// This leader has made a SyncPlay group.
    pub fn note_groups(&self, leader: &Pod) {
        self.groups.insert(Place::of(leader), ());
        self.vault.mark("groups", &named(leader));
    }

    /// It has none at the moment.
    pub fn note_no_groups(&self, leader: &Pod) {
        self.groups.remove(&Place::of(leader));
        self.vault.unmark("groups", &named(leader));
    }

    /// Whether the leader may have groups, by what this proxy or another has seen.
    pub async fn may_have_groups(&self, leader: &Pod) -> bool {
        self.groups.contains_key(&Place::of(leader)) || self.vault.is_marked("groups", &named(leader)).await
    }
}

/// A pod by the names that replicas have in common.
fn named(pod: &Pod) -> String {
    format!("{}:{}", pod.pool, pod.name)
}
