//! Pins: what the proxy has learnt of where clients live.
//!
//! A pin is found by a keyed hash of the client's key, so that no token stands in memory as a key.
//! Each sort of pins has a bounded shelf of its own. A full shelf drops a sixteenth: first pins
//! never used since they were learnt, then the longest unused. So made-up keys do not displace
//! clients that return. An address has a share of each shelf, and displaces only its own pins
//! beyond it. `persistence` gets every change, and stores pins beyond this process.

mod shelf;
mod shelves;

use std::net::IpAddr;

use tokio::time::Instant;

pub use super::kind::Kind;
use super::{
    budget::Budget,
    persistence::{Freshness, Persistence, Stored, StoredPin},
};
use crate::pod::PodInstance;
use shelf::NOBODY;
use shelves::{Found, Shelves};

/// In seconds: within this time an address may store as many further pins as its share.
const SHARE_EVERY_S: f32 = 86_400.0;

/// The store. Shared by all workers; read and written without awaiting.
#[derive(Debug)]
pub struct Pins {
    shelves: Shelves,
    /// How many new pins each address may store beyond this process.
    to_store: Budget,
    /// Where pins are kept beyond this process.
    pub persistence: Persistence,
}

impl Pins {
    /// An empty store for `most` pins of tokens, and as many of devices. `secret` keys the hashes.
    pub fn new(most: usize, secret: (u64, u64)) -> Pins {
        Pins {
            shelves: Shelves::new(most, secret),
            to_store: Budget::new(f32::MAX, 0.0),
            persistence: Persistence::in_memory(),
        }
    }

    /// The same with a share of each shelf for one address: so many of tokens, and of each other
    /// sort in proportion.
    #[must_use]
    pub fn with_share_of_address(mut self, most_of_one: usize) -> Pins {
        self.shelves.limit_addresses(most_of_one);
        self.to_store = Budget::new(most_of_one as f32, most_of_one as f32 / SHARE_EVERY_S);
        self
    }

    /// Adds storage beyond this process. Pins under these older secrets are found too.
    pub fn with_persistence(mut self, persistence: Persistence, older: &[(u64, u64)]) -> Pins {
        self.persistence = persistence;
        self.shelves.add_secrets(older);
        self
    }

    /// Loads the pins of an earlier process, the latest first, as far as there is room.
    pub fn restore(&self, kept: &[StoredPin]) {
        self.shelves.restore(kept);
    }

    /// The home of the client with this key, if known. `alive` judges the home. Its flag: a pin of
    /// this kind ends with the epoch.
    pub fn home(&self, kind: Kind, key: &str, alive: impl FnOnce(PodInstance, bool) -> bool) -> Option<PodInstance> {
        let is_alive = |home| alive(home, kind.ends_with_epoch());
        let Found { hash, home, is_due } = self.shelves.find(kind, key, is_alive)?;
        if is_due && self.persistence.stores(kind) {
            self.persistence.put(kind, key, hash, home);
        }
        Some(home)
    }

    /// Learns a client's home from a request that came from this address. Returns whether it is new.
    pub fn learn(&self, kind: Kind, key: &str, home: PodInstance, from: IpAddr) -> bool {
        let is_new = self.shelves.remember(kind, key, home, self.shelves.address(from));
        // A pin in use that is not stored now is stored at its renewal.
        if is_new && self.persistence.stores(kind) && self.to_store.try_spend(from, Instant::now()) {
            self.persistence.put(kind, key, self.shelves.hash(kind, key), home);
        }
        is_new
    }

    /// Learns what a pod has confirmed. It counts against no address's share.
    pub fn learn_confirmed(&self, kind: Kind, key: &str, home: PodInstance) -> bool {
        let is_new = self.shelves.remember(kind, key, home, NOBODY);
        if is_new && self.persistence.stores(kind) {
            self.persistence.put(kind, key, self.shelves.hash(kind, key), home);
        }
        is_new
    }

    /// Asks the other replicas for the home of this key, unless a living one is known here. This
    /// store then knows what they know.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn look_up_stored(&self, kind: Kind, key: &str, alive: impl Fn(PodInstance) -> bool) {
        if self.persistence.redis().is_none() || self.home(kind, key, |home, _| alive(home)).is_some() {
            return;
        }
        let hash = self.shelves.hash(kind, key);
        let found = self.persistence.find(kind, key, hash, Freshness::OfSomeSeconds).await;
        let Stored::Home(recalled) = found else { return };
        if !alive(recalled.home) {
            return self.persistence.record_useless(hash);
        }
        self.shelves.remember(kind, key, recalled.home, NOBODY);
        if !recalled.is_current {
            self.persistence.put(kind, key, hash, recalled.home);
        }
    }

    /// Agrees with the other replicas on the home of this key, whatever is known here. The stored
    /// one counts if it is alive. Otherwise a living one that is known here is stored.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn agree(&self, kind: Kind, key: &str, alive: impl Fn(PodInstance) -> bool) {
        if self.persistence.redis().is_none() {
            return;
        }
        let hash = self.shelves.hash(kind, key);
        let (home, is_current) = match self.persistence.find(kind, key, hash, Freshness::OfNow).await {
            Stored::Home(stored) if alive(stored.home) => (stored.home, stored.is_current),
            Stored::Home(_) | Stored::Nothing => match self.home(kind, key, |home, _| alive(home)) {
                Some(own) => (own, false),
                None => return,
            },
            Stored::Unknown => return,
        };
        self.shelves.remember(kind, key, home, NOBODY);
        if !is_current {
            self.persistence.put(kind, key, hash, home);
        }
    }

    /// What the other replicas store of this key, for operators who ask. This store learns nothing.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn stored_home(&self, kind: Kind, key: &str) -> Option<PodInstance> {
        match self.persistence.find(kind, key, self.shelves.hash(kind, key), Freshness::OfNow).await {
            Stored::Home(stored) => Some(stored.home),
            Stored::Nothing | Stored::Unknown => None,
        }
    }

    /// Whether a pin that was found may be known under an older secret than the newest, so that it is
    /// to be learnt again.
    pub fn has_older_secrets(&self) -> bool {
        self.shelves.has_older_secrets()
    }

    /// Forgets a key.
    pub fn forget(&self, kind: Kind, key: &str) {
        for hash in self.shelves.forget(kind, key) {
            // Skip unknown keys: made-up ones must cost the store nothing.
            if self.persistence.stores(kind) {
                self.persistence.remove(kind, key, hash);
            }
        }
    }

    pub fn len(&self) -> usize {
        self.shelves.count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::Ipv4Addr,
        sync::{Arc, atomic::Ordering},
        time::Duration,
    };

    use super::*;
    use crate::{
        affinity::persistence::RENEWAL,
        observe::metrics::{Metrics, StoreOutcome},
        pod::{Epoch, Pod, PodConfig, Pool},
        store::disk::{Bounds, Disk},
    };

    const FROM: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn home() -> PodInstance {
        let pod = Pod::new(
            &Arc::from("pool"),
            &PodConfig { name: "a".into(), authority: "h:1".into(), ..Default::default() },
        );
        PodInstance { pod: pod.id, epoch: Epoch(1) }
    }

    /// A pool, and the first life of its only pod.
    fn pool_of_one() -> (Arc<Pool>, PodInstance) {
        let pool = Pool::new("pool", "");
        let pod = PodConfig { name: "a".into(), authority: "h:1".into(), ..Default::default() };
        pool.set_pods(vec![Pod::new(&pool.name, &pod)]);
        let home = PodInstance { pod: pool.pods()[0].id, epoch: Epoch(1) };
        (pool, home)
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
        let (pool, home) = pool_of_one();
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
        pins.persistence.finish().await;
        let written = metrics.store_writes.get_or_create(&StoreOutcome { outcome: "written" }).get();
        assert_eq!(written, 3, "learnt once, and renewed after an hour and after two");
    }

    #[tokio::test]
    async fn what_was_kept_comes_back_as_far_as_there_is_room() {
        let pins = Pins::new(100, (1, 2));
        let kept = |hash: u128| StoredPin { kind: Kind::Token, hash, home: home(), age: RENEWAL };
        pins.restore(&(0..500).map(kept).collect::<Vec<_>>());
        let tokens = &pins.shelves.of(Kind::Token).pins;
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
        let stand = pins.shelves.all.iter().map(|shelf| shelf.pins.len()).sum::<usize>();
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
        let of = |kind: Kind| pins.shelves.of(kind).pins.len();
        assert!(of(Kind::Token) <= 101 && of(Kind::Device) <= 150 && of(Kind::QuickConnect) <= 10);
        assert!(pins.learn(Kind::Token, "another's", home, other) && is_known(Kind::Token, "another's"));
        for shelf in &pins.shelves.all {
            let counted: usize = shelf.by_address.iter().map(|count| *count).sum();
            let known = shelf.pins.iter().filter(|pin| pin.address != NOBODY).count();
            assert_eq!((counted, shelf.count.load(Ordering::Relaxed)), (known, shelf.pins.len()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_stores_as_many_pins_as_its_share_a_day() {
        let folder = tempfile::tempdir().expect("a folder");
        let (pool, home) = pool_of_one();
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
        pins.persistence.finish().await;
        let written = metrics.store_writes.get_or_create(&StoreOutcome { outcome: "written" }).get();
        assert_eq!(written, 101);
    }
}
