//! Where sessions are kept beyond this process. Each entry is sealed, under a name that only its
//! token gives.
//!
//! There are three kinds of entries. A session stands under each of its tokens (`entries`). A
//! tombstone is the moment at which a token, or all of a user or device, was ended (`ends`). The
//! third are pending log-outs (`pending_logouts`). A tombstone stands beside the session, not in
//! its place. So no later write takes it away: neither a replica that missed the end, nor someone
//! who puts an old entry back.

mod backend;
mod end_names;
mod ends;
mod entries;
mod locks;
mod on_disk;
mod pending_logouts;
mod replicas;
mod tombstones;

use std::{fmt, sync::Arc};

use parking_lot::Mutex;

use super::{Bounds, Token, UnixMillis, fingerprint::Fingerprint};
use crate::store::{
    disk::{self, Disk, Entry},
    redis_store::RedisStore,
};
use backend::InRedis;
use on_disk::{DiskEntry, Entries, OnDisk};
use tombstones::Tombstones;

pub use backend::Backend;
pub(super) use end_names::EndScope;
pub(super) use ends::StoredEnds;
pub(super) use entries::{StoredEntry, StoredSessions};
pub use locks::MigrationLocks;
pub(super) use pending_logouts::{MOST as MOST_PENDING, StoredPendingLogouts};
pub use replicas::ReplicaBus;

/// One owner's tombstones are at most all tombstones divided by this.
const OF_ONE_OWNER: usize = 50;

/// The shortest sealed entry: a nonce and a tag. A shorter value is the moment of a tombstone.
const SHORTEST: usize = 40;

/// The kept entries as they are opened at the start: in Redis, shared; on disk, if there is a
/// folder. Tombstones are in memory too.
pub struct SessionStore {
    backend: Backend,
    /// Opens the pending log-outs, since no client presents their tokens any more.
    api_key: Option<Token>,
    bounds: Bounds,
    tombstones: Tombstones,
}

/// The store's parts, each for one kind.
pub(super) struct StoreParts {
    pub(super) backend: Backend,
    pub(super) ends: Arc<StoredEnds>,
    pub(super) entries: Arc<StoredSessions>,
    pub(super) pending_logouts: StoredPendingLogouts,
    pub(super) locks: MigrationLocks,
    pub(super) bus: ReplicaBus,
}

impl SessionStore {
    pub fn in_memory() -> SessionStore {
        SessionStore::new(std::iter::empty(), None, Bounds::default())
    }

    /// In memory only. `keys` are the ring's, newest first.
    pub fn new<'a>(keys: impl Iterator<Item = &'a [u8]>, api_key: Option<&Token>, bounds: Bounds) -> SessionStore {
        SessionStore {
            backend: Backend::in_memory(keys),
            api_key: api_key.cloned(),
            bounds,
            tombstones: Tombstones::new(bounds.tombstones, bounds.tombstones / OF_ONE_OWNER),
        }
    }

    /// Adds a disk with room for `most` sessions. It held `entries` at the start, the latest first.
    #[must_use]
    pub fn on_disk(mut self, disk: Disk, entries: Vec<Entry>, most: usize) -> SessionStore {
        let mut known = Entries::bounded(most);
        // Nobody has said what time it is: `StoredEnds::mend` looks whether one is in the future.
        let now = UnixMillis::MAX;
        let mut pending_logouts = Vec::new();
        for Entry { key, value, .. } in entries.into_iter().rev() {
            match DiskEntry::of(&key) {
                // An earlier version kept tombstones like this.
                Some(DiskEntry::Session(name)) if value.len() < SHORTEST => {
                    drop(self.tombstones.learn(name, &value, now))
                }
                Some(DiskEntry::Session(name)) => known.put(name, value),
                Some(DiskEntry::End(name)) => drop(self.tombstones.learn(name, &value, now)),
                Some(DiskEntry::PendingLogout) => pending_logouts.push(value),
                None => {}
            }
        }
        let kept = OnDisk { disk, entries: Mutex::new(known), pending_logouts: Mutex::new(pending_logouts) };
        self.backend.disk = Some(Arc::new(kept));
        self
    }

    /// Adds the Redis of all replicas. The keys there begin with `prefix`.
    #[must_use]
    pub fn in_redis(mut self, shared: Arc<RedisStore>, prefix: &str) -> SessionStore {
        self.backend.clock = shared.clock().clone();
        self.backend.redis = Some(InRedis::new(shared, prefix));
        self
    }

    /// What a disk keeps of each kind. Pending log-outs have a bound of their own.
    pub fn bounds_on_disk(sessions: usize, bounds: Bounds) -> disk::Bounds {
        let kind = |key: &[u8]| match DiskEntry::of(key) {
            Some(DiskEntry::End(_)) => 1,
            Some(DiskEntry::PendingLogout) => 2,
            Some(DiskEntry::Session(_)) | None => 0,
        };
        disk::Bounds { kind, most: vec![sessions, bounds.tombstones, 2 * MOST_PENDING] }
    }

    /// The fingerprint of this replica's configuration.
    pub fn fingerprint(&self, parts: &[(&str, String)]) -> Fingerprint {
        Fingerprint::new(&self.backend.ring, parts)
    }

    pub(super) fn into_parts(self) -> StoreParts {
        let SessionStore { backend, api_key, bounds, tombstones } = self;
        let ends = Arc::new(StoredEnds::new(backend.clone(), bounds.tombstone_keep, tombstones));
        StoreParts {
            entries: Arc::new(StoredSessions::new(backend.clone(), ends.clone())),
            ends,
            pending_logouts: StoredPendingLogouts::new(backend.clone(), api_key),
            locks: MigrationLocks::new(backend.clone()),
            bus: ReplicaBus::new(backend.clone()),
            backend,
        }
    }
}

impl fmt::Debug for SessionStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (disk, redis) = (self.backend.disk.is_some(), self.backend.redis.is_some());
        f.debug_struct("SessionStore").field("disk", &disk).field("redis", &redis).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sessions::Owner;

    #[tokio::test]
    async fn an_address_displaces_only_the_ends_that_it_made() {
        let bounds = Bounds { tombstones: 1000, ..Bounds::default() };
        let store = SessionStore::new([b"key".as_slice()].into_iter(), None, bounds).into_parts();
        let of = |last: u8| Owner::Address([192, 0, 2, last].into());
        (0..10).for_each(|number| store.entries.end(&format!("other {number}"), of(2), 1));
        (0..5000).for_each(|number| store.entries.end(&format!("one {number}"), of(1), 1));
        assert_eq!(store.ends.count(), 10 + 1000 / OF_ONE_OWNER);
        for number in 0..10 {
            assert_eq!(store.entries.find(&format!("other {number}")).await, Ok(Some(StoredEntry::Ended)));
        }
        assert_eq!(store.entries.find("one 4999").await, Ok(Some(StoredEntry::Ended)), "its latest stay");
    }
}
