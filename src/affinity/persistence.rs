//! Pins beyond one process: shared with replicas through Redis, or kept on disk over a restart.
//!
//! Only pins of tokens, devices and users are stored, which have rows in the pods' database. The
//! rest dies with a pod's memory. A pin is stored as the names of its pool and pod, since pod numbers are
//! valid in one process only.
//!
//! The hash of the key differs. In memory and on disk it is SipHash-2-4 of 128 bits, keyed from the
//! ring. It costs every request some tens of nanoseconds, and disk entries load into memory as is.
//! Other programs than this proxy read Redis, so there it is HMAC-SHA256 under the ring's keys, cut
//! to 128 bits. Then one more layer must break before an attacker can confirm a guessed device id.
//! It is computed only on a miss and on a change.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hmac::{Hmac, Mac};
use sha2::Sha256;
use tokio::time;

use super::{Secret, kind::Kind, recent_misses::RecentMisses};
use crate::{
    pod::{PodInstance, Pools},
    store::{
        disk::{self, Disk, Entry},
        redis_store::{Found, RedisStore},
    },
};

/// How old the stored copy of a pin in use may become. It is written no more often, however much
/// the pin is used.
pub const RENEWAL: Duration = Duration::from_secs(60 * 60);

/// Where pins are stored, and the pools whose pods they name.
#[derive(Debug)]
pub struct Persistence {
    store: Store,
    names: PodNames,
}

/// The pools whose pods stored pins name.
#[derive(Debug, Default)]
struct PodNames(Pools);

#[derive(Debug)]
enum Store {
    Memory,
    Disk(Box<Disk>),
    RedisPins(RedisPins),
}

#[derive(Debug)]
struct RedisPins {
    shared: Arc<RedisStore>,
    prefix: String,
    /// Newest first. Entries are written under the current key and read under all.
    ring: Vec<Hmac<Sha256>>,
    /// The index of the key to write under: the first that all replicas have.
    current: AtomicUsize,
    recent_misses: RecentMisses,
}

/// A pin as read from disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredPin {
    pub kind: Kind,
    pub hash: u128,
    pub home: PodInstance,
    /// How long ago it was last written.
    pub age: Duration,
}

/// A home that another replica stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StoredHome {
    pub(super) home: PodInstance,
    /// It was found under the key that is written under.
    pub(super) is_current: bool,
}

/// What the store says of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    Home(StoredHome),
    /// No home, or a pod that is not there.
    Nothing,
    /// It was not asked, or did not answer in time.
    Unknown,
}

/// How new the store's answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freshness {
    /// A key that was unknown just now counts as unknown, so that made-up keys cost little.
    OfSomeSeconds,
    OfNow,
}

/// The longest time that the start waits for the first attempt to reach Redis.
const FIRST_ATTEMPT: Duration = Duration::from_secs(1);

impl Persistence {
    /// Stores nothing beyond this process.
    pub fn in_memory() -> Persistence {
        Persistence { store: Store::Memory, names: PodNames::default() }
    }

    pub fn on_disk(disk: Disk, pools: impl Into<Pools>) -> Persistence {
        Persistence { store: Store::Disk(Box::new(disk)), names: PodNames(pools.into()) }
    }

    /// Shared by all replicas with the same prefix and a common key. `keys` has the newest first.
    pub fn with_replicas(
        shared: Arc<RedisStore>,
        prefix: &str,
        keys: &[Secret],
        pools: impl Into<Pools>,
    ) -> Persistence {
        // HMAC takes keys of any length.
        let ring = keys.iter().filter_map(|key| Hmac::new_from_slice(key.bytes()).ok()).collect();
        let prefix = prefix.to_owned();
        Persistence {
            store: Store::RedisPins(RedisPins {
                shared,
                prefix,
                ring,
                current: AtomicUsize::new(0),
                recent_misses: RecentMisses::default(),
            }),
            names: PodNames(pools.into()),
        }
    }

    /// Sets the key to write under: the nth of the ring is the first that all replicas have.
    pub fn write_under(&self, nth: usize) {
        if let Store::RedisPins(replicas) = &self.store {
            replicas.current.store(nth, Ordering::Relaxed);
        }
    }

    /// Whether pins of this kind are stored.
    pub(super) fn stores(&self, kind: Kind) -> bool {
        !matches!(self.store, Store::Memory) && !kind.ends_with_epoch()
    }

    /// The Redis that all replicas share, if any.
    pub fn redis(&self) -> Option<&Arc<RedisStore>> {
        match &self.store {
            Store::RedisPins(replicas) => Some(&replicas.shared),
            Store::Memory | Store::Disk(_) => None,
        }
    }

    pub(super) fn put(&self, kind: Kind, key: &str, hash: u128, home: PodInstance) {
        let Some(value) = self.names.write(home) else { return };
        match &self.store {
            Store::Memory => {}
            Store::Disk(disk) => disk.put(disk_key(kind, hash), value),
            Store::RedisPins(replicas) => {
                if let Some(key) = replicas.keys(kind, key).nth(replicas.current.load(Ordering::Relaxed)) {
                    replicas.shared.queue.put(key, value);
                }
            }
        }
    }

    pub(super) fn remove(&self, kind: Kind, key: &str, hash: u128) {
        match &self.store {
            Store::Memory => {}
            Store::Disk(disk) => disk.remove(disk_key(kind, hash)),
            Store::RedisPins(replicas) => replicas.keys(kind, key).for_each(|key| replicas.shared.queue.remove(key)),
        }
    }

    /// What another replica has learnt of a key. Waits no longer than the store's deadline.
    pub(super) async fn find(&self, kind: Kind, key: &str, hash: u128, freshness: Freshness) -> Stored {
        let Store::RedisPins(replicas) = &self.store else { return Stored::Unknown };
        if freshness == Freshness::OfSomeSeconds && replicas.recent_misses.contains(hash) {
            return Stored::Unknown;
        }
        let keys: Vec<String> = replicas.keys(kind, key).collect();
        let (nth, home) = match replicas.shared.find(&keys).await {
            Found::Value { nth, bytes } => (nth, self.names.read(&bytes)),
            Found::Nothing => (0, None),
            Found::Unknown => return Stored::Unknown,
        };
        let Some(home) = home else {
            replicas.recent_misses.insert(hash);
            return Stored::Nothing;
        };
        Stored::Home(StoredHome { home, is_current: nth == replicas.current.load(Ordering::Relaxed) })
    }

    /// Remembers that the stored home does not help, so that Redis is not asked again at once.
    pub(super) fn record_useless(&self, hash: u128) {
        if let Store::RedisPins(replicas) = &self.store {
            replicas.recent_misses.insert(hash);
        }
    }

    /// The pins of a store's entries. Leaves out pins whose pod is gone.
    pub fn of_entries(&self, entries: &[Entry]) -> Vec<StoredPin> {
        let now = disk::now();
        let kept = |entry: &Entry| {
            let (kind, hash) = of_disk_key(&entry.key)?;
            let age = Duration::from_secs(now.saturating_sub(entry.at));
            Some(StoredPin { kind, hash, home: self.names.read(&entry.value)?, age })
        };
        entries.iter().filter_map(kept).collect()
    }

    /// Waits until Redis has answered for the first time, or for a second at most.
    pub async fn await_first_attempt(&self) {
        if let Store::RedisPins(replicas) = &self.store {
            // A slower attempt goes on by itself.
            let _ = time::timeout(FIRST_ATTEMPT, replicas.shared.await_first_attempt()).await;
        }
    }

    /// Closes the file on disk, if there is one, until [`Persistence::resume`]. Returns whether it is
    /// closed.
    pub async fn pause(&self, at_most: Duration) -> bool {
        match &self.store {
            Store::Disk(disk) => disk.pause(at_most).await,
            Store::Memory | Store::RedisPins(_) => true,
        }
    }

    pub fn resume(&self) {
        if let Store::Disk(disk) = &self.store {
            disk.resume();
        }
    }

    /// Writes what is still queued.
    pub async fn finish(&self) {
        match &self.store {
            Store::Memory => {}
            Store::Disk(disk) => disk.finish().await,
            Store::RedisPins(replicas) => replicas.shared.queue.finish().await,
        }
    }
}

impl PodNames {
    /// `None` if the pod is not there.
    fn write(&self, home: PodInstance) -> Option<Vec<u8>> {
        self.0.load().iter().find_map(|pool| {
            let pods = pool.pods();
            let pod = pods.iter().find(|pod| pod.id == home.pod)?;
            Some(format!("{}/{}", pool.name, pod.name).into_bytes())
        })
    }

    /// The home gets the pod's present epoch: stored pins have none.
    fn read(&self, names: &[u8]) -> Option<PodInstance> {
        let (pool, pod) = std::str::from_utf8(names).ok()?.split_once('/')?;
        let pool = self.0.named(pool)?;
        let pods = pool.pods();
        let pod = pods.iter().find(|of| *of.name == *pod)?;
        Some(PodInstance::of(pod))
    }
}

impl RedisPins {
    /// The key's names in Redis, under the newest key of the ring first.
    fn keys(&self, kind: Kind, key: &str) -> impl Iterator<Item = String> {
        self.ring.iter().map(move |mac| {
            let mut mac = mac.clone();
            mac.update(b"jellypin pin");
            mac.update(&[kind as u8]);
            mac.update(key.as_bytes());
            let mac = mac.finalize().into_bytes();
            let hash = mac.iter().take(16).fold(0, |hash, byte| (hash << 8) | u128::from(*byte));
            format!("{}:pin:{hash:032x}", self.prefix)
        })
    }
}

fn disk_key(kind: Kind, hash: u128) -> Vec<u8> {
    [&[kind as u8][..], &hash.to_be_bytes()].concat()
}

fn of_disk_key(key: &[u8]) -> Option<(Kind, u128)> {
    let (kind, hash) = key.split_first()?;
    let kind = [Kind::Token, Kind::Device, Kind::User, Kind::UserName].into_iter().find(|of| *of as u8 == *kind)?;
    Some((kind, u128::from_be_bytes(hash.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        observe::metrics::Metrics,
        pod::{Pod, PodConfig, Pool},
    };

    fn pool(pods: &[&str]) -> Arc<Pool> {
        let pool = Pool::new("main", "");
        let pod = |name: &&str| {
            Pod::new(&pool.name, &PodConfig { name: (*name).into(), authority: "h:1".into(), ..Default::default() })
        };
        pool.set_pods(pods.iter().map(pod).collect());
        pool
    }

    fn persistence(folder: &tempfile::TempDir, pods: &[&str]) -> (Persistence, Vec<Entry>) {
        let (disk, entries) = Disk::open(
            &folder.path().join("pins.redb"),
            disk::Bounds::of_all(100),
            Duration::from_secs(1),
            Metrics::new(),
        )
        .expect("a store");
        (Persistence::on_disk(disk, vec![pool(pods)]), entries)
    }

    #[tokio::test]
    async fn a_pin_comes_back_by_name_and_only_while_its_pod_is_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let (before, _) = persistence(&folder, &["a", "b", "gone"]);
        let home = |persistence: &Persistence, pod: &str| persistence.names.read(format!("main/{pod}").as_bytes());
        before.put(Kind::Token, "t", 7, home(&before, "b").expect("a home"));
        before.put(Kind::Device, "d", 7, home(&before, "gone").expect("a home"));
        before.put(Kind::Token, "u", 8, home(&before, "a").expect("a home"));
        before.remove(Kind::Token, "u", 8);
        before.finish().await;
        let (after, entries) = persistence(&folder, &["a", "b"]);
        assert_eq!(entries.len(), 2);
        let kept = after.of_entries(&entries);
        assert_eq!(kept.len(), 1);
        assert_eq!((kept[0].kind, kept[0].hash, Some(kept[0].home)), (Kind::Token, 7, home(&after, "b")));
        after.finish().await;
    }

    #[test]
    fn names_in_redis_differ_by_key_kind_and_ring_and_show_nothing() {
        let ring = |keys: &[&str]| keys.iter().filter_map(|key| Hmac::new_from_slice(key.as_bytes()).ok()).collect();
        let (link, _runtime) = {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let config = crate::store::redis_store::Config {
                url: crate::store::redis_store::Url::parse("unix:///nowhere").expect("a URL"),
                sentinels: Vec::new(),
                ca: None,
                deadline: Duration::from_millis(1),
                prefix: "p".into(),
                ttl: RENEWAL,
                bounds: crate::store::redis_store::Bounds::default(),
            };
            let _inside = runtime.enter();
            let shared = RedisStore::start(&config, Metrics::new(), &crate::shutdown::Shutdown::new()).expect("a link");
            (Arc::new(shared), runtime)
        };
        let replicas = RedisPins {
            shared: link,
            prefix: "p".into(),
            ring: ring(&["new", "old"]),
            current: AtomicUsize::new(0),
            recent_misses: RecentMisses::default(),
        };
        let keys: Vec<String> = replicas.keys(Kind::Token, "token").collect();
        assert_eq!(keys.len(), 2);
        assert!(keys.iter().all(|key| key.starts_with("p:pin:") && key.len() == 38), "{keys:?}");
        assert_ne!(keys[0], keys[1]);
        assert!(replicas.keys(Kind::Device, "token").all(|key| !keys.contains(&key)));
        let older = RedisPins { ring: ring(&["old"]), ..replicas };
        assert_eq!(older.keys(Kind::Token, "token").collect::<Vec<_>>(), keys[1..]);
    }
}
