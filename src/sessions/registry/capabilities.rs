//! What clients without a known session said of themselves.

use std::sync::Arc;

use quick_cache::{Weighter, sync::Cache};

use super::{
    keeper::Keeper,
    keyed_hash::KeyedHash,
    known::{KnownSessions, SessionLookup},
    tables,
};
use crate::{
    pod::{Pod, PodInstance},
    sessions::{Session, session::ReplayedCall},
};

/// Bytes of all capabilities that are kept. Those sent longest ago go first.
const MOST_BYTES: u64 = 8 << 20;

/// The capabilities of clients without a known session, by token, and the pod that got them last.
pub struct Capabilities {
    told: Cache<u128, (PodInstance, ReplayedCall), Bytes>,
    known: Arc<KnownSessions>,
    keeper: Arc<Keeper>,
    hash: KeyedHash,
}

/// Weighs an entry by its bytes.
#[derive(Clone, Debug)]
struct Bytes;

impl Weighter<u128, (PodInstance, ReplayedCall)> for Bytes {
    fn weight(&self, _: &u128, (_, call): &(PodInstance, ReplayedCall)) -> u64 {
        call.size() as u64 + 128
    }
}

impl Capabilities {
    pub(super) fn new(known: Arc<KnownSessions>, keeper: Arc<Keeper>, hash: KeyedHash) -> Capabilities {
        Capabilities { told: tables::weighted(MOST_BYTES, Bytes), known, keeper, hash }
    }

    /// Records the capabilities that a client without a known session sent to this pod.
    pub fn record(&self, token: &str, pod: &Pod, call: ReplayedCall) {
        self.told.insert(self.hash.of(&[token]), (PodInstance::of(pod), call));
        // The session may have become known at this very moment.
        if let SessionLookup::Active(session) = self.known.find(token)
            && session.pool == pod.pool
            && self.adopt(&session, token)
        {
            self.keeper.persist(&session);
        }
    }

    /// What such a client sent to another pod, or to an earlier epoch of this one. From now on this
    /// one counts as notified.
    pub fn missing_at(&self, pod: &Pod, token: &str) -> Option<ReplayedCall> {
        let hash = self.hash.of(&[token]);
        let (told, call) = self.told.get(&hash)?;
        let place = PodInstance::of(pod);
        if told == place {
            return None;
        }
        self.told.insert(hash, (place, call.clone()));
        Some(call)
    }

    /// Gives a session what its client sent before it was known. Says whether that is news.
    pub(super) fn adopt(&self, session: &Session, token: &str) -> bool {
        let Some((_, (_, told))) = self.told.remove(&self.hash.of(&[token])) else { return false };
        session
            .calls
            .record_capabilities(ReplayedCall { reported_by: told.reported_by.filled_from(&session.device), ..told })
    }
}
