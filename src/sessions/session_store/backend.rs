//! Where entries stand: in Redis, on a disk, in both or in neither. Also the keys that name and
//! seal them.

use std::{sync::Arc, time::Duration};

use super::on_disk::OnDisk;
use crate::{
    sessions::UnixMillis,
    store::{clock::Clock, redis_store::RedisStore, seal::Ring},
};

/// The longest time that a flush waits until a change is safe.
const SAFE: Duration = Duration::from_millis(500);

/// One name under each of the ring's keys.
pub(in crate::sessions) type Names = Vec<[u8; 16]>;

/// What all parts of the store have in common. Cheap to clone.
#[derive(Clone)]
pub struct Backend {
    pub(in crate::sessions) ring: Arc<Ring>,
    pub(super) disk: Option<Arc<OnDisk>>,
    pub(super) redis: Option<InRedis>,
    /// The clock of all moments that are kept here.
    pub clock: Clock,
}

/// The Redis of all replicas, and what the keys there begin with.
#[derive(Clone)]
pub(super) struct InRedis {
    pub(super) store: Arc<RedisStore>,
    prefix: Arc<str>,
}

/// jellypin did not ask Redis, or Redis did not answer in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sessions) struct StoreUnavailable;

impl Backend {
    /// In memory only. `keys` are the ring's, newest first.
    pub(super) fn in_memory<'a>(keys: impl Iterator<Item = &'a [u8]>) -> Backend {
        Backend { ring: Arc::new(Ring::new(keys)), disk: None, redis: None, clock: Clock::default() }
    }

    /// Whether other replicas change the store as well.
    pub(in crate::sessions) fn is_shared(&self) -> bool {
        self.redis.is_some()
    }

    /// The present moment, by the clock of all moments that are kept here. `None` before Redis has
    /// given its time.
    pub(super) fn known_now(&self) -> Option<UnixMillis> {
        (self.redis.is_none() || self.clock.is_measured()).then(|| self.clock.now())
    }

    /// What Redis has under these names, within the store's deadline. Each list is of one kind.
    pub(super) async fn values(&self, names: &[(&str, &Names)]) -> Result<Vec<Option<Vec<u8>>>, StoreUnavailable> {
        let all = names.iter().flat_map(|(kind, names)| names.iter().map(move |name| (*kind, *name)));
        let Some(redis) = &self.redis else { return Ok(all.map(|_| None).collect()) };
        let keys: Vec<String> = all.map(|(kind, name)| redis.key(kind, name)).collect();
        redis.store.find_all(&keys).await.ok_or(StoreUnavailable)
    }

    /// Waits for a bounded time until the queued writes are safe. Says whether they are.
    pub(in crate::sessions) async fn flush(&self) -> bool {
        let on_disk = async || match &self.disk {
            Some(kept) => kept.disk.flush(SAFE).await,
            None => self.redis.is_none(),
        };
        match &self.redis {
            Some(redis) => redis.store.queue.flush(SAFE).await || on_disk().await,
            None => on_disk().await,
        }
    }

    /// Closes the file on disk, if there is one, until [`Backend::resume`]. Returns whether it is
    /// closed.
    pub async fn pause(&self, at_most: Duration) -> bool {
        match &self.disk {
            Some(kept) => kept.disk.pause(at_most).await,
            None => true,
        }
    }

    pub fn resume(&self) {
        if let Some(kept) = &self.disk {
            kept.disk.resume();
        }
    }

    /// Writes all that is still queued.
    pub async fn finish(&self) {
        if let Some(redis) = &self.redis {
            redis.store.queue.finish().await;
        }
        if let Some(kept) = &self.disk {
            kept.disk.finish().await;
        }
    }
}

impl InRedis {
    pub(super) fn new(store: Arc<RedisStore>, prefix: &str) -> InRedis {
        InRedis { store, prefix: prefix.into() }
    }

    /// The key of an entry.
    pub(super) fn key(&self, kind: &str, name: [u8; 16]) -> String {
        self.plain_key(kind, &format!("{:032x}", u128::from_be_bytes(name)))
    }

    /// The key of something whose name is no secret.
    pub(super) fn plain_key(&self, kind: &str, name: &str) -> String {
        format!("{}:{kind}:{name}", self.prefix)
    }

    /// The channel on which replicas notify each other of changes.
    pub(super) fn channel(&self) -> String {
        format!("{}:changes", self.prefix)
    }
}

/// The latest of these moments.
pub(super) fn latest(values: &[Option<Vec<u8>>]) -> UnixMillis {
    let moment = |value: &Vec<u8>| std::str::from_utf8(value).ok()?.parse::<UnixMillis>().ok();
    values.iter().flatten().filter_map(moment).max().unwrap_or(0)
}
