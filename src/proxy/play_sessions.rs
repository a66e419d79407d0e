//! Play sessions under another id at a pod that makes them go on.
//!
//! Some builds give a pod a lease of each transcode that it runs. If that pod dies, no other pod may
//! make a segment of that play session until the lease ends, half a minute later. Under a new id
//! another pod may at once. Only the pod sees that id: computed playlists go to it under the client's own.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use quick_cache::sync::Cache;

use crate::pod::{Pod, PodInstance};

/// Play sessions that are remembered.
const MOST: usize = 4096;

/// The longest id that is given another: Jellyfin's own have 32 digits.
const LONGEST: usize = 64;

/// The renamed play sessions, by their clients' ids. Shared by all workers.
pub struct PlaySessions {
    /// Something was renamed since the start. Until then a request costs one load.
    any: AtomicBool,
    renamed: Cache<String, Renamed>,
}

#[derive(Clone)]
struct Renamed {
    pod: PodInstance,
    id: Arc<str>,
}

impl Default for PlaySessions {
    fn default() -> PlaySessions {
        PlaySessions { any: AtomicBool::new(false), renamed: Cache::new(MOST) }
    }
}

impl PlaySessions {
    /// Nothing was renamed since the start.
    pub(super) fn is_empty(&self) -> bool {
        !self.any.load(Ordering::Acquire)
    }

    /// The id by which this pod knows the client's play session, if it is another.
    pub(super) fn at(&self, play_session: &str, pod: &Pod) -> Option<Arc<str>> {
        if self.is_empty() {
            return None;
        }
        self.renamed.get(play_session).filter(|renamed| renamed.pod == PodInstance::of(pod)).map(|renamed| renamed.id)
    }

    /// Gives the play session a new id at this pod. `None` if that is not possible. `used` is the id
    /// that the pod would not take: another request may have renamed it meanwhile.
    pub(super) fn rename(&self, play_session: &str, used: &str, pod: &Pod) -> Option<Arc<str>> {
        if play_session.is_empty() || play_session.len() > LONGEST {
            return None;
        }
        if let Some(known) = self.at(play_session, pod).filter(|known| **known != *used) {
            return Some(known);
        }
        let mut bytes = [0_u8; 16];
        getrandom::fill(&mut bytes).ok()?;
        let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let renamed = Renamed { pod: PodInstance::of(pod), id: id.into() };
        self.renamed.insert(play_session.to_owned(), renamed.clone());
        self.any.store(true, Ordering::Release);
        Some(renamed.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::PodConfig;

    #[test]
    fn a_play_session_has_one_id_at_each_pod_and_another_if_that_is_refused() {
        let pool: Arc<str> = "pool".into();
        let pod = |name: &str| {
            Pod::new(&pool, &PodConfig { name: name.into(), authority: "h:1".into(), ..Default::default() })
        };
        let (a, b, sessions) = (pod("a"), pod("b"), PlaySessions::default());
        assert!(sessions.is_empty() && sessions.at("p", &a).is_none());
        let first = sessions.rename("p", "p", &a).expect("an id");
        assert_eq!(first.len(), 32);
        assert_eq!(sessions.rename("p", "p", &a), Some(first.clone()), "a parallel request gets the same");
        assert_eq!(sessions.at("p", &a), Some(first.clone()));
        assert_eq!((sessions.at("p", &b), sessions.at("q", &a)), (None, None));
        assert_ne!(sessions.rename("p", &first, &a), Some(first), "the pod refused that too");
        assert!(sessions.rename("p", "p", &b).is_some());
        assert_eq!(sessions.at("p", &a), None, "it runs on one pod");
        assert_eq!(sessions.rename(&"x".repeat(65), "x", &a), None);
    }
}
