//! Pins: what the proxy has learnt of where clients live.
//!
//! A pin is found by a keyed hash of the client's key, so that no token stands in memory as a key. The store is bounded: when
//! it is full, the longest unused sixteenth goes. What goes beyond this process is `keeping`'s affair; it is told of every
//! change.

use std::{
    hash::Hasher,
    sync::atomic::{AtomicU32, AtomicUsize, Ordering},
};

use dashmap::DashMap;
use siphasher::sip128::{Hasher128, SipHasher24};
use tokio::time::Instant;

use super::keeping::{Keeping, Kept, RENEWAL};
use crate::pod::Place;

/// What a key is a key of. Keys of different kinds never meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// An access token or API key.
    Token = 1,
    /// A device's id.
    Device = 2,
    /// A `PlaySessionId`.
    PlaySession = 3,
    /// A `LiveStreamId`, by itself or with its viewer's device, or the id of a live stream's file.
    LiveStream = 4,
    /// The 32 hex digits that a live playlist's segments are named by.
    Playlist = 5,
    /// A QuickConnect code or secret, or the state of a single sign-on.
    QuickConnect = 6,
}

impl Kind {
    /// Whether the knowledge is of the pod's memory only, and ends with its process. Tokens and devices have rows in the
    /// database, which a restarted pod reads.
    pub(super) fn ends_with_epoch(self) -> bool {
        matches!(self, Kind::PlaySession | Kind::LiveStream | Kind::Playlist | Kind::QuickConnect)
    }
}

/// The store. Shared by all workers; read and written without awaiting.
#[derive(Debug)]
pub struct Pins {
    pins: DashMap<u128, Pin, ahash::RandomState>,
    /// Newest first: learnt under the first, found under all.
    secrets: Vec<(u64, u64)>,
    most: usize,
    count: AtomicUsize,
    began: Instant,
    keeping: Keeping,
}

#[derive(Debug)]
struct Pin {
    home: Place,
    kind: Kind,
    /// Seconds since the store began.
    used: AtomicU32,
    /// When a use is to be told to `keeping` again, in the same seconds.
    renewed_from: AtomicU32,
}

impl Pins {
    /// An empty store for at most this many pins; `secret` keys the hashes.
    pub fn new(most: usize, secret: (u64, u64)) -> Pins {
        Pins {
            pins: DashMap::default(),
            secrets: vec![secret],
            most: most.max(16),
            count: AtomicUsize::new(0),
            began: Instant::now(),
            keeping: Keeping::in_memory(),
        }
    }

    /// The same with pins that are kept beyond this process, those under these older secrets included.
    pub fn kept(mut self, keeping: Keeping, older: &[(u64, u64)]) -> Pins {
        self.keeping = keeping;
        self.secrets.extend_from_slice(older);
        self
    }

    /// Takes in what was kept of an earlier process, the latest first, as far as there is room.
    pub fn restore(&self, kept: &[Kept]) {
        for kept in kept.iter().take(self.most.saturating_sub(self.len())) {
            let due = RENEWAL.saturating_sub(kept.age).as_secs() as u32;
            let pin = self.pin(kept.kind, kept.home, self.now().saturating_add(due));
            if self.pins.insert(kept.hash, pin).is_none() {
                self.count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Where pins are kept beyond this process.
    pub fn keeping(&self) -> &Keeping {
        &self.keeping
    }

    /// Where the client with this key lives, if it is known. `alive` judges what was learnt, given the kind's own rule.
    pub fn home(&self, kind: Kind, key: &str, alive: impl FnOnce(Place, bool) -> bool) -> Option<Place> {
        let (hash, pin) = self.hashes(kind, key).find_map(|hash| Some((hash, self.pins.get(&hash)?)))?;
        let now = self.now();
        // A store to a shared line only when it tells something new.
        if pin.used.load(Ordering::Relaxed) != now {
            pin.used.store(now, Ordering::Relaxed);
        }
        let home = pin.home;
        if !alive(home, kind.ends_with_epoch()) {
            return None;
        }
        let is_due = self.is_due(&pin, now);
        drop(pin);
        if is_due {
            self.keeping.put(kind, key, hash, home);
        }
        Some(home)
    }

    /// Learns a client's home. Says whether that is new.
    pub fn learn(&self, kind: Kind, key: &str, home: Place) -> bool {
        let is_new = self.remember(kind, key, home);
        if is_new && self.keeping.keeps(kind) {
            self.keeping.put(kind, key, self.hash(kind, key), home);
        }
        is_new
    }

    /// Asks the other replicas for the client with this key, unless its home is known here and alive. What they know is known
    /// here afterwards.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn recall(&self, kind: Kind, key: &str, alive: impl Fn(Place) -> bool) {
        if !self.keeping.is_shared() || self.home(kind, key, |home, _| alive(home)).is_some() {
            return;
        }
        let hash = self.hash(kind, key);
        let Some(recalled) = self.keeping.find(kind, key, hash).await else { return };
        if !alive(recalled.home) {
            return self.keeping.is_of_no_use(hash);
        }
        self.remember(kind, key, recalled.home);
        if !recalled.is_current {
            self.keeping.put(kind, key, hash, recalled.home);
        }
    }

    /// Forgets a key.
    pub fn forget(&self, kind: Kind, key: &str) {
        for hash in self.hashes(kind, key) {
            if self.pins.remove(&hash).is_some() {
                self.count.fetch_sub(1, Ordering::Relaxed);
                // What was not known here is kept nowhere, or not for long: made-up keys cost the store nothing.
                if self.keeping.keeps(kind) {
                    self.keeping.remove(kind, key, hash);
                }
            }
        }
    }

    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets the longest unused sixteenth go, so that the walk over the whole store is paid by many insertions.
    fn make_room(&self) {
        let mut ages: Vec<u32> = self.pins.iter().map(|pin| pin.used.load(Ordering::Relaxed)).collect();
        let share = (ages.len() / 16).max(1);
        if ages.len() <= self.most || share >= ages.len() {
            return;
        }
        let (_, &mut oldest_kept, _) = ages.select_nth_unstable(share);
        let mut same_age = ages[..share].iter().filter(|age| **age == oldest_kept).count();
        let mut gone = 0;
        self.pins.retain(|_, pin| {
            let used = pin.used.load(Ordering::Relaxed);
            let goes = used < oldest_kept || (used == oldest_kept && same_age > 0);
            if goes {
                same_age = same_age.saturating_sub(usize::from(used == oldest_kept));
                gone += 1;
            }
            !goes
        });
        self.count.fetch_sub(gone, Ordering::Relaxed);
    }

    /// Into memory only. Says whether it is new.
    fn remember(&self, kind: Kind, key: &str, home: Place) -> bool {
        let hash = self.hash(kind, key);
        if let Some(pin) = self.pins.get(&hash)
            && pin.home == home
        {
            return false;
        }
        let pin = self.pin(kind, home, self.now().saturating_add(RENEWAL.as_secs() as u32));
        if self.pins.insert(hash, pin).is_none() && self.count.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.make_room();
        }
        true
    }

    fn pin(&self, kind: Kind, home: Place, renewed_from: u32) -> Pin {
        Pin { home, kind, used: AtomicU32::new(self.now()), renewed_from: AtomicU32::new(renewed_from) }
    }

    /// Whether this use is the first for long enough to be told; of parallel ones, one is.
    fn is_due(&self, pin: &Pin, now: u32) -> bool {
        let due = pin.renewed_from.load(Ordering::Relaxed);
        let next = now.saturating_add(RENEWAL.as_secs() as u32);
        now >= due
            && self.keeping.keeps(pin.kind)
            && pin.renewed_from.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The hash that the key is learnt under.
    fn hash(&self, kind: Kind, key: &str) -> u128 {
        self.hashes(kind, key).next().unwrap_or_default()
    }

    /// The hashes that it may be found under, newest first.
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

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::{
        observe::metrics::{Metrics, StoreOutcome},
        pod::{Epoch, Pod, PodConfig, Pool},
        store::disk::Disk,
    };

    fn home() -> Place {
        let pod = Pod::new(&Arc::from("pool"), &PodConfig { name: "a".into(), authority: "h:1".into() });
        Place { pod: pod.id, epoch: Epoch(1) }
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
        let home = Place { pod: pool.pods()[0].id, epoch: Epoch(1) };
        let metrics = Metrics::new();
        let (disk, _) = Disk::open(&folder.path().join("pins.redb"), 100, Duration::from_secs(1), metrics.clone())
            .expect("a store");
        let pins = Pins::new(100, (1, 2)).kept(Keeping::on_disk(disk, vec![pool]), &[]);
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
        pins.keeping().finish().await;
        let written = metrics.store_writes.get_or_create(&StoreOutcome { outcome: "written" }).get();
        assert_eq!(written, 3, "learnt once, and renewed after an hour and after two");
    }

    #[tokio::test]
    async fn what_was_kept_comes_back_as_far_as_there_is_room() {
        let pins = Pins::new(100, (1, 2));
        let kept = |hash: u128| Kept { kind: Kind::Token, hash, home: home(), age: RENEWAL };
        pins.restore(&(0..500).map(kept).collect::<Vec<_>>());
        assert_eq!((pins.len(), pins.pins.len()), (100, 100));
        assert!(pins.pins.contains_key(&0) && !pins.pins.contains_key(&100), "the latest come first");
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
            pins.learn(Kind::Device, &i.to_string(), home);
            assert!(pins.len() <= 161);
            if i == 170 {
                let used = (0..100).filter(|i| pins.home(Kind::Token, &i.to_string(), |_, _| true).is_some()).count();
                assert_eq!(used, 100, "those in use stay");
            }
        }
        assert_eq!(pins.pins.len(), pins.len(), "the count is the store's own");
    }
}
