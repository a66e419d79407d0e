//! Pins: what the proxy has learnt of where clients live.
//!
//! A pin is found by a keyed hash of the client's key, so that no token stands in memory as a key.
//! Each sort of pins has a bounded shelf of its own. A full shelf drops a sixteenth: first pins
//! never used since they were learnt, then the longest unused. So made-up keys do not displace
//! clients that return. `persistence` hears of every change, and stores pins beyond this process.

use std::{
    hash::Hasher,
    sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
};

use dashmap::DashMap;
use siphasher::sip128::{Hasher128, SipHasher24};
use tokio::time::Instant;

pub use super::kind::Kind;
use super::persistence::{Persistence, RENEWAL, StoredPin};
use crate::pod::PodInstance;

/// The store. Shared by all workers; read and written without awaiting.
#[derive(Debug)]
pub struct Pins {
    /// One for each sort, see [`shelf`].
    shelves: [Shelf; SHELVES],
    /// Newest first: pins are learnt under the first and found under all.
    secrets: Vec<(u64, u64)>,
    began: Instant,
    persistence: Persistence,
}

/// Pins of one sort.
#[derive(Debug)]
struct Shelf {
    pins: DashMap<u128, Pin, ahash::RandomState>,
    most: usize,
    count: AtomicUsize,
}

/// Tokens, devices, playback, QuickConnect codes, and users.
const SHELVES: usize = 5;

/// The shelf of a kind.
fn shelf(kind: Kind) -> usize {
    match kind {
        Kind::Token => 0,
        Kind::Device => 1,
        Kind::PlaySession | Kind::LiveStream | Kind::Playlist => 2,
        Kind::QuickConnect => 3,
        Kind::User | Kind::UserName => 4,
    }
}

#[derive(Debug)]
struct Pin {
    home: PodInstance,
    kind: Kind,
    /// It was used after it was learnt.
    is_proven: AtomicBool,
    /// Seconds since the store began.
    used: AtomicU32,
    /// When the next use renews the stored copy, in the same seconds.
    renewed_from: AtomicU32,
}

impl Pins {
    /// An empty store for `most` pins of tokens, and as many of devices. `secret` keys the hashes.
    pub fn new(most: usize, secret: (u64, u64)) -> Pins {
        let most = most.max(16);
        // A code lives for minutes, and any client may ask for one.
        let shelf = |most: usize| Shelf { pins: DashMap::default(), most, count: AtomicUsize::new(0) };
        Pins {
            shelves: [shelf(most), shelf(most), shelf(most), shelf((most / 10).max(16)), shelf((most / 5).max(16))],
            secrets: vec![secret],
            began: Instant::now(),
            persistence: Persistence::in_memory(),
        }
    }

    /// Adds storage beyond this process. Pins under these older secrets are found too.
    pub fn with_persistence(mut self, persistence: Persistence, older: &[(u64, u64)]) -> Pins {
        self.persistence = persistence;
        self.secrets.extend_from_slice(older);
        self
    }

    /// Loads the pins of an earlier process, the latest first, as far as there is room.
    pub fn restore(&self, kept: &[StoredPin]) {
        for kept in kept {
            let shelf = self.shelf(kept.kind);
            if shelf.count.load(Ordering::Relaxed) >= shelf.most {
                continue;
            }
            let due = RENEWAL.saturating_sub(kept.age).as_secs() as u32;
            let pin = self.pin(kept.kind, kept.home, self.now().saturating_add(due));
            if shelf.pins.insert(kept.hash, pin).is_none() {
                shelf.count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Where pins are kept beyond this process.
    pub fn persistence(&self) -> &Persistence {
        &self.persistence
    }

    /// The home of the client with this key, if known. `alive` judges the home. Its flag: a pin of
    /// this kind ends with the epoch.
    pub fn home(&self, kind: Kind, key: &str, alive: impl FnOnce(PodInstance, bool) -> bool) -> Option<PodInstance> {
        let (hash, pin) = self.hashes(kind, key).find_map(|hash| Some((hash, self.shelf(kind).pins.get(&hash)?)))?;
        let now = self.now();
        // Write to the shared cache line only if the second has changed.
        if pin.used.load(Ordering::Relaxed) != now {
            pin.used.store(now, Ordering::Relaxed);
            pin.is_proven.store(true, Ordering::Relaxed);
        }
        let home = pin.home;
        if !alive(home, kind.ends_with_epoch()) {
            return None;
        }
        let is_due = self.is_due(&pin, now);
        drop(pin);
        if is_due {
            self.persistence.put(kind, key, hash, home);
        }
        Some(home)
    }

    /// Learns a client's home. Returns whether it is new.
    pub fn learn(&self, kind: Kind, key: &str, home: PodInstance) -> bool {
        let is_new = self.remember(kind, key, home);
        if is_new && self.persistence.stores(kind) {
            self.persistence.put(kind, key, self.hash(kind, key), home);
        }
        is_new
    }

    /// Asks the other replicas for the home of this key, unless a living one is known here. This
    /// store then knows what they know.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn look_up_stored(&self, kind: Kind, key: &str, alive: impl Fn(PodInstance) -> bool) {
        if !self.persistence.is_shared() || self.home(kind, key, |home, _| alive(home)).is_some() {
            return;
        }
        let hash = self.hash(kind, key);
        let Some(recalled) = self.persistence.find(kind, key, hash).await else { return };
        if !alive(recalled.home) {
            return self.persistence.record_useless(hash);
        }
        self.remember(kind, key, recalled.home);
        if !recalled.is_current {
            self.persistence.put(kind, key, hash, recalled.home);
        }
    }

    /// Forgets a key.
    pub fn forget(&self, kind: Kind, key: &str) {
        for hash in self.hashes(kind, key) {
            let shelf = self.shelf(kind);
            if shelf.pins.remove(&hash).is_some() {
                shelf.count.fetch_sub(1, Ordering::Relaxed);
                // Skip unknown keys: made-up ones must cost the store nothing.
                if self.persistence.stores(kind) {
                    self.persistence.remove(kind, key, hash);
                }
            }
        }
    }

    pub fn len(&self) -> usize {
        self.shelves.iter().map(|shelf| shelf.count.load(Ordering::Relaxed)).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes to memory only. Returns whether the pin is new.
    fn remember(&self, kind: Kind, key: &str, home: PodInstance) -> bool {
        let hash = self.hash(kind, key);
        let shelf = self.shelf(kind);
        if let Some(pin) = shelf.pins.get(&hash)
            && pin.home == home
        {
            return false;
        }
        let pin = self.pin(kind, home, self.now().saturating_add(RENEWAL.as_secs() as u32));
        if shelf.pins.insert(hash, pin).is_none() && shelf.count.fetch_add(1, Ordering::Relaxed) >= shelf.most {
            shelf.make_room();
        }
        true
    }

    fn shelf(&self, kind: Kind) -> &Shelf {
        &self.shelves[shelf(kind)]
    }

    fn pin(&self, kind: Kind, home: PodInstance, renewed_from: u32) -> Pin {
        let is_proven = AtomicBool::new(false);
        Pin { home, kind, is_proven, used: AtomicU32::new(self.now()), renewed_from: AtomicU32::new(renewed_from) }
    }

    /// Whether this use must renew the stored copy. Of parallel uses, one does.
    fn is_due(&self, pin: &Pin, now: u32) -> bool {
        let due = pin.renewed_from.load(Ordering::Relaxed);
        let next = now.saturating_add(RENEWAL.as_secs() as u32);
        now >= due
            && self.persistence.stores(pin.kind)
            && pin.renewed_from.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The hash under which the key is learnt.
    fn hash(&self, kind: Kind, key: &str) -> u128 {
        self.hashes(kind, key).next().unwrap_or_default()
    }

    /// The hashes under which the key may be found, newest first.
    fn hashes(&self, kind: Kind, key: &str) -> impl Iterator<Item = u128> {
        self.secrets.iter().map(move |secret| {
            let mut hasher = SipHasher24::new_with_keys(secret.0, secret.1);
            hasher.write_u8(kind as u8);
            hasher.write(key.as_bytes());
            hasher.finish128().as_u128()
        })
    }

    fn now(&self) -> u32 {
        self.began.elapsed().as_secs().try_into().unwrap_or(u32::MAX)
    }
}

impl Pin {
    /// The order in which pins go: never used ones first.
    fn worth(&self) -> (bool, u32) {
        (self.is_proven.load(Ordering::Relaxed), self.used.load(Ordering::Relaxed))
    }
}

impl Shelf {
    /// Drops a sixteenth, so that one walk over the whole shelf serves many insertions.
    fn make_room(&self) {
        let mut worths: Vec<(bool, u32)> = self.pins.iter().map(|pin| pin.worth()).collect();
        let share = (worths.len() / 16).max(1);
        if worths.len() <= self.most || share >= worths.len() {
            return;
        }
        let (_, &mut least_kept, _) = worths.select_nth_unstable(share);
        let mut equal = worths[..share].iter().filter(|worth| **worth == least_kept).count();
        let mut gone = 0;
        self.pins.retain(|_, pin| {
            let worth = pin.worth();
            let goes = worth < least_kept || (worth == least_kept && equal > 0);
            if goes {
                equal = equal.saturating_sub(usize::from(worth == least_kept));
                gone += 1;
            }
            !goes
        });
        self.count.fetch_sub(gone, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::{
        observe::metrics::{Metrics, StoreOutcome},
        pod::{Epoch, Pod, PodConfig, Pool},
        store::disk::{Bounds, Disk},
    };

    fn home() -> PodInstance {
        let pod = Pod::new(&Arc::from("pool"), &PodConfig { name: "a".into(), authority: "h:1".into() });
        PodInstance { pod: pod.id, epoch: Epoch(1) }
    }

    #[test]
    fn keys_of_different_kinds_never_meet() {
        let pins = Pins::new(100, (1, 2));
        let home = home();
        assert!(pins.learn(Kind::Token, "x", home));
        assert!(!pins.learn(Kind::Token, "x", home), "known already");
        assert_eq!(pins.home(Kind::Token, "x", |_, _| true), Some(home));
        assert_eq!(pins.home(Kind::Device, "x", |_, _| true), None);
        pins.forget(Kind::Token, "x");
        assert_eq!(pins.home(Kind::Token, "x", |_, _| true), None);
        assert!(pins.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pin_in_use_is_told_once_an_hour_and_one_of_a_pods_memory_never() {
        let folder = tempfile::tempdir().expect("a folder");
        let pool = Pool::new("pool", "");
        pool.set_pods(vec![Pod::new(&pool.name, &PodConfig { name: "a".into(), authority: "h:1".into() })]);
        let home = PodInstance { pod: pool.pods()[0].id, epoch: Epoch(1) };
        let metrics = Metrics::new();
        let (disk, _) =
            Disk::open(&folder.path().join("pins.redb"), Bounds::of_all(100), Duration::from_secs(1), metrics.clone())
                .expect("a store");
        let pins = Pins::new(100, (1, 2)).with_persistence(Persistence::on_disk(disk, vec![pool]), &[]);
        for _ in 0..3 {
            pins.learn(Kind::Token, "t", home);
            pins.learn(Kind::PlaySession, "p", home);
            for _ in 0..10 {
                assert!(pins.home(Kind::Token, "t", |_, _| true).is_some());
                assert!(pins.home(Kind::PlaySession, "p", |_, _| true).is_some());
            }
            tokio::time::advance(RENEWAL).await;
        }
        pins.forget(Kind::Device, "never known");
        pins.forget(Kind::PlaySession, "p");
        pins.persistence().finish().await;
        let written = metrics.store_writes.get_or_create(&StoreOutcome { outcome: "written" }).get();
        assert_eq!(written, 3, "learnt once, and renewed after an hour and after two");
    }

    #[tokio::test]
    async fn what_was_kept_comes_back_as_far_as_there_is_room() {
        let pins = Pins::new(100, (1, 2));
        let kept = |hash: u128| StoredPin { kind: Kind::Token, hash, home: home(), age: RENEWAL };
        pins.restore(&(0..500).map(kept).collect::<Vec<_>>());
        let tokens = &pins.shelf(Kind::Token).pins;
        assert_eq!((pins.len(), tokens.len()), (100, 100));
        assert!(tokens.contains_key(&0) && !tokens.contains_key(&100), "the latest come first");
    }

    #[tokio::test(start_paused = true)]
    async fn the_store_is_bounded_and_the_longest_unused_go_first() {
        let pins = Pins::new(160, (1, 2));
        let home = home();
        for i in 0..160 {
            pins.learn(Kind::Token, &i.to_string(), home);
        }
        tokio::time::advance(Duration::from_secs(10)).await;
        for i in 0..100 {
            assert!(pins.home(Kind::Token, &i.to_string(), |_, _| true).is_some());
        }
        for i in 160..10_000 {
            for kind in [Kind::Token, Kind::Device, Kind::PlaySession, Kind::QuickConnect] {
                pins.learn(kind, &i.to_string(), home);
            }
            assert!(pins.len() <= 3 * 161 + 17);
        }
        let used = (0..100).filter(|i| pins.home(Kind::Token, &i.to_string(), |_, _| true).is_some()).count();
        assert_eq!(used, 100, "those that are used outlive any number of those that nobody uses");
        let stand = pins.shelves.iter().map(|shelf| shelf.pins.len()).sum::<usize>();
        assert_eq!(stand, pins.len(), "the counts are the shelves' own");
    }
}
