//! Pins: what the proxy has learnt of where clients live.
//!
//! A pin is found by a keyed hash of the client's key, so that no token stands in memory as a key.
//! Each sort of pins has a bounded shelf of its own. A full shelf drops a sixteenth: first pins
//! never used since they were learnt, then the longest unused. So made-up keys do not displace
//! clients that return. An address has a share of each shelf, and displaces only its own pins
//! beyond it. `persistence` hears of every change, and stores pins beyond this process.

use std::{
    collections::HashMap,
    hash::Hasher,
    net::IpAddr,
    sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
};

use dashmap::{DashMap, Entry};
use siphasher::sip128::{Hasher128, SipHasher24};
use tokio::time::Instant;

pub use super::kind::Kind;
use super::{
    budget::Budget,
    persistence::{Persistence, RENEWAL, StoredPin},
};
use crate::{limits::network, pod::PodInstance};

/// The store. Shared by all workers; read and written without awaiting.
#[derive(Debug)]
pub struct Pins {
    /// One for each sort, see [`shelf`].
    shelves: [Shelf; SHELVES],
    /// Newest first: pins are learnt under the first and found under all.
    secrets: Vec<(u64, u64)>,
    began: Instant,
    /// Names addresses in memory.
    addresses: ahash::RandomState,
    /// How many new pins each address may store beyond this process.
    to_store: Budget,
    persistence: Persistence,
}

/// Pins of one sort.
#[derive(Debug)]
struct Shelf {
    pins: DashMap<u128, Pin, ahash::RandomState>,
    most: usize,
    most_of_one: usize,
    count: AtomicUsize,
    /// The pins of each address.
    by_address: DashMap<Address, usize, ahash::RandomState>,
}

/// A keyed hash of a client's network. Two that meet share one share.
type Address = u64;

/// The address of pins from an earlier process, or from another replica.
const NOBODY: Address = 0;

/// An address may store as many further pins as its share within this time.
const STORES_ANEW: f32 = 86_400.0;

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
    /// Whose request taught it.
    address: Address,
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
        Pins {
            shelves: [
                Shelf::new(most),
                Shelf::new(most),
                Shelf::new(most),
                Shelf::new((most / 10).max(16)),
                Shelf::new((most / 5).max(16)),
            ],
            secrets: vec![secret],
            began: Instant::now(),
            addresses: ahash::RandomState::new(),
            to_store: Budget::new(f32::MAX, 0.0),
            persistence: Persistence::in_memory(),
        }
    }

    /// The same with a share of each shelf for one address: so many of tokens, and of each other
    /// sort in proportion.
    #[must_use]
    pub fn with_share_of_address(mut self, most_of_one: usize) -> Pins {
        let most = self.shelves[0].most;
        for shelf in &mut self.shelves {
            shelf.most_of_one = (most_of_one.saturating_mul(shelf.most) / most).max(1);
        }
        self.to_store = Budget::new(most_of_one as f32, most_of_one as f32 / STORES_ANEW);
        self
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
            let pin = self.pin(kept.kind, kept.home, NOBODY, self.now().saturating_add(due));
            shelf.insert(kept.hash, pin);
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

    /// Learns a client's home from a request that came from this address. Returns whether it is new.
    pub fn learn(&self, kind: Kind, key: &str, home: PodInstance, from: IpAddr) -> bool {
        let is_new = self.remember(kind, key, home, self.address(from));
        // A pin in use that is not stored now is stored at its renewal.
        if is_new && self.persistence.stores(kind) && self.to_store.try_spend(from, Instant::now()) {
            self.persistence.put(kind, key, self.hash(kind, key), home);
        }
        is_new
    }

    /// Learns what a pod has confirmed. It counts against no address's share.
    pub fn learn_confirmed(&self, kind: Kind, key: &str, home: PodInstance) -> bool {
        let is_new = self.remember(kind, key, home, NOBODY);
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
        self.remember(kind, key, recalled.home, NOBODY);
        if !recalled.is_current {
            self.persistence.put(kind, key, hash, recalled.home);
        }
    }

    /// What the other replicas store of this key, for operators who ask. This store learns nothing.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn stored_home(&self, kind: Kind, key: &str) -> Option<PodInstance> {
        self.persistence.find(kind, key, self.hash(kind, key)).await.map(|stored| stored.home)
    }

    /// Forgets a key.
    pub fn forget(&self, kind: Kind, key: &str) {
        for hash in self.hashes(kind, key) {
            if self.shelf(kind).remove(hash) {
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
    fn remember(&self, kind: Kind, key: &str, home: PodInstance, address: Address) -> bool {
        let hash = self.hash(kind, key);
        let shelf = self.shelf(kind);
        if let Some(pin) = shelf.pins.get(&hash)
            && pin.home == home
        {
            return false;
        }
        let pin = self.pin(kind, home, address, self.now().saturating_add(RENEWAL.as_secs() as u32));
        if shelf.insert(hash, pin) {
            if address != NOBODY && shelf.of_address(address) > shelf.most_of_one {
                shelf.make_room(Some(address));
            }
            if shelf.count.load(Ordering::Relaxed) > shelf.most {
                shelf.make_room(None);
            }
        }
        true
    }

    fn address(&self, from: IpAddr) -> Address {
        self.addresses.hash_one(network(from)).max(NOBODY + 1)
    }

    fn shelf(&self, kind: Kind) -> &Shelf {
        &self.shelves[shelf(kind)]
    }

    fn pin(&self, kind: Kind, home: PodInstance, address: Address, renewed_from: u32) -> Pin {
        let (used, renewed_from) = (AtomicU32::new(self.now()), AtomicU32::new(renewed_from));
        Pin { home, kind, address, is_proven: AtomicBool::new(false), used, renewed_from }
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
    fn new(most: usize) -> Shelf {
        Shelf {
            pins: DashMap::default(),
            most,
            most_of_one: most,
            count: AtomicUsize::new(0),
            by_address: DashMap::default(),
        }
    }

    /// Says whether the shelf has one more pin now. A pin that is there already stays its address's.
    fn insert(&self, hash: u128, pin: Pin) -> bool {
        let address = pin.address;
        match self.pins.entry(hash) {
            Entry::Occupied(mut known) => {
                let address = known.get().address;
                known.insert(Pin { address, ..pin });
                return false;
            }
            Entry::Vacant(place) => drop(place.insert(pin)),
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        if address != NOBODY {
            *self.by_address.entry(address).or_default() += 1;
        }
        true
    }

    fn remove(&self, hash: u128) -> bool {
        let Some((_, pin)) = self.pins.remove(&hash) else { return false };
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.count_off(pin.address, 1);
        true
    }

    fn of_address(&self, address: Address) -> usize {
        self.by_address.get(&address).map_or(0, |count| *count)
    }

    fn count_off(&self, address: Address, gone: usize) {
        if address == NOBODY {
            return;
        }
        self.by_address.remove_if_mut(&address, |_, count| {
            *count = count.saturating_sub(gone);
            *count == 0
        });
    }

    /// Drops a sixteenth of all, or of what an address has taught, so that one walk over the whole
    /// shelf serves many insertions.
    fn make_room(&self, only: Option<Address>) {
        let is_meant = |pin: &Pin| only.is_none_or(|address| pin.address == address);
        let most = if only.is_some() { self.most_of_one } else { self.most };
        let mut worths: Vec<(bool, u32)> =
            self.pins.iter().filter(|pin| is_meant(pin)).map(|pin| pin.worth()).collect();
        let share = (worths.len() / 16).max(1);
        if worths.len() <= most || share >= worths.len() {
            return;
        }
        let (_, &mut least_kept, _) = worths.select_nth_unstable(share);
        let mut equal = worths[..share].iter().filter(|worth| **worth == least_kept).count();
        let mut gone: HashMap<Address, usize> = HashMap::new();
        self.pins.retain(|_, pin| {
            let worth = pin.worth();
            let goes = is_meant(pin) && (worth < least_kept || (worth == least_kept && equal > 0));
            if goes {
                equal = equal.saturating_sub(usize::from(worth == least_kept));
                *gone.entry(pin.address).or_default() += 1;
            }
            !goes
        });
        self.count.fetch_sub(gone.values().sum(), Ordering::Relaxed);
        gone.into_iter().for_each(|(address, gone)| self.count_off(address, gone));
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, sync::Arc, time::Duration};

    use super::*;
    use crate::{
        observe::metrics::{Metrics, StoreOutcome},
        pod::{Epoch, Pod, PodConfig, Pool},
        store::disk::{Bounds, Disk},
    };

    const FROM: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn home() -> PodInstance {
        let pod = Pod::new(&Arc::from("pool"), &PodConfig { name: "a".into(), authority: "h:1".into() });
        PodInstance { pod: pod.id, epoch: Epoch(1) }
    }

    #[test]
    fn keys_of_different_kinds_never_meet() {
        let pins = Pins::new(100, (1, 2));
        let home = home();
        assert!(pins.learn(Kind::Token, "x", home, FROM));
        assert!(!pins.learn(Kind::Token, "x", home, FROM), "known already");
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
            pins.learn(Kind::Token, "t", home, FROM);
            pins.learn(Kind::PlaySession, "p", home, FROM);
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
            pins.learn(Kind::Token, &i.to_string(), home, FROM);
        }
        tokio::time::advance(Duration::from_secs(10)).await;
        for i in 0..100 {
            assert!(pins.home(Kind::Token, &i.to_string(), |_, _| true).is_some());
        }
        for i in 160..10_000 {
            for kind in [Kind::Token, Kind::Device, Kind::PlaySession, Kind::QuickConnect] {
                pins.learn(kind, &i.to_string(), home, FROM);
            }
            assert!(pins.len() <= 3 * 161 + 17);
        }
        let used = (0..100).filter(|i| pins.home(Kind::Token, &i.to_string(), |_, _| true).is_some()).count();
        assert_eq!(used, 100, "those that are used outlive any number of those that nobody uses");
        let stand = pins.shelves.iter().map(|shelf| shelf.pins.len()).sum::<usize>();
        assert_eq!(stand, pins.len(), "the counts are the shelves' own");
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_displaces_only_its_own_pins() {
        let pins = Pins::new(1000, (1, 2)).with_share_of_address(100);
        let (home, other) = (home(), IpAddr::from([198, 51, 100, 1]));
        pins.restore(&[StoredPin { kind: Kind::Token, hash: 7, home, age: RENEWAL }]);
        let is_known = |kind: Kind, key: &str| pins.home(kind, key, |_, _| true).is_some();
        for number in 0..50 {
            pins.learn(Kind::Device, &format!("device {number}"), home, other);
        }
        pins.learn(Kind::Device, "television", home, FROM);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(is_known(Kind::Device, "television"));
        for number in 0..10_000 {
            for kind in [Kind::Token, Kind::Device, Kind::QuickConnect] {
                pins.learn(kind, &format!("made up {number}"), home, FROM);
            }
            // What it uses itself displaces what it has used longer ago, and nobody else's.
            assert!(is_known(Kind::Device, &format!("made up {number}")));
            tokio::time::advance(Duration::from_millis(200)).await;
        }
        assert!((0..50).all(|number| is_known(Kind::Device, &format!("device {number}"))), "those of others stay");
        assert!(is_known(Kind::Token, "made up 9999") && !is_known(Kind::Token, "made up 0"), "its oldest go");
        let of = |kind: Kind| pins.shelf(kind).pins.len();
        assert!(of(Kind::Token) <= 101 && of(Kind::Device) <= 150 && of(Kind::QuickConnect) <= 10);
        assert!(pins.learn(Kind::Token, "another's", home, other) && is_known(Kind::Token, "another's"));
        for shelf in &pins.shelves {
            let counted: usize = shelf.by_address.iter().map(|count| *count).sum();
            let known = shelf.pins.iter().filter(|pin| pin.address != NOBODY).count();
            assert_eq!((counted, shelf.count.load(Ordering::Relaxed)), (known, shelf.pins.len()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_stores_as_many_pins_as_its_share_a_day() {
        let folder = tempfile::tempdir().expect("a folder");
        let pool = Pool::new("pool", "");
        pool.set_pods(vec![Pod::new(&pool.name, &PodConfig { name: "a".into(), authority: "h:1".into() })]);
        let home = PodInstance { pod: pool.pods()[0].id, epoch: Epoch(1) };
        let metrics = Metrics::new();
        let path = folder.path().join("pins.redb");
        let (disk, _) =
            Disk::open(&path, Bounds::of_all(1000), Duration::from_secs(1), metrics.clone()).expect("a store");
        let pins = Pins::new(1000, (1, 2)).with_share_of_address(100);
        let pins = pins.with_persistence(Persistence::on_disk(disk, vec![pool]), &[]);
        for number in 0..5000 {
            pins.learn(Kind::Device, &number.to_string(), home, FROM);
        }
        assert!(pins.home(Kind::Device, "4999", |_, _| true).is_some(), "known here, and not stored");
        tokio::time::advance(RENEWAL).await;
        assert!(pins.home(Kind::Device, "4999", |_, _| true).is_some(), "in use for an hour, so it is stored");
        pins.persistence().finish().await;
        let written = metrics.store_writes.get_or_create(&StoreOutcome { outcome: "written" }).get();
        assert_eq!(written, 101);
    }
}
