//! The pins in memory, found by keyed hashes.

use std::{
    hash::Hasher,
    net::IpAddr,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
};

use siphasher::sip128::{Hasher128, SipHasher24};
use tokio::time::Instant;

use super::shelf::{Address, NOBODY, Pin, Shelf};
use crate::{
    affinity::{
        kind::Kind,
        persistence::{RENEWAL, StoredPin},
    },
    limits::network,
    pod::PodInstance,
};

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

/// All pins of this process.
#[derive(Debug)]
pub(super) struct Shelves {
    /// One for each sort, see [`shelf`].
    pub(super) all: [Shelf; SHELVES],
    /// Newest first: pins are learnt under the first and found under all.
    secrets: Vec<(u64, u64)>,
    began: Instant,
    /// Names addresses in memory.
    addresses: ahash::RandomState,
}

/// A pin that was found.
pub(super) struct Found {
    pub(super) hash: u128,
    pub(super) home: PodInstance,
    /// The stored copy is to be renewed. Of parallel uses, one is told so.
    pub(super) is_due: bool,
}

impl Shelves {
    /// Room for `most` pins of tokens, and as many of devices. `secret` keys the hashes.
    pub(super) fn new(most: usize, secret: (u64, u64)) -> Shelves {
        let most = most.max(16);
        // A code lives for minutes, and any client may ask for one.
        let all = [
            Shelf::new(most),
            Shelf::new(most),
            Shelf::new(most),
            Shelf::new((most / 10).max(16)),
            Shelf::new((most / 5).max(16)),
        ];
        Shelves { all, secrets: vec![secret], began: Instant::now(), addresses: ahash::RandomState::new() }
    }

    /// Limits one address to so many pins of tokens, and of each other sort in proportion.
    pub(super) fn limit_addresses(&mut self, most_of_one: usize) {
        let most = self.all[0].most;
        for shelf in &mut self.all {
            shelf.most_of_one = (most_of_one.saturating_mul(shelf.most) / most).max(1);
        }
    }

    /// Finds pins under these older secrets too.
    pub(super) fn add_secrets(&mut self, older: &[(u64, u64)]) {
        self.secrets.extend_from_slice(older);
    }

    pub(super) fn has_older_secrets(&self) -> bool {
        self.secrets.len() > 1
    }

    /// Loads the pins of an earlier process, the latest first, as far as there is room.
    pub(super) fn restore(&self, kept: &[StoredPin]) {
        for kept in kept {
            let shelf = self.of(kept.kind);
            if shelf.count.load(Ordering::Relaxed) >= shelf.most {
                continue;
            }
            let due = RENEWAL.saturating_sub(kept.age).as_secs() as u32;
            let pin = self.pin(kept.home, NOBODY, self.now().saturating_add(due));
            shelf.insert(kept.hash, pin);
        }
    }

    /// Finds a key's pin, unless `is_alive` says that it holds no more. That is a use of it.
    pub(super) fn find(&self, kind: Kind, key: &str, is_alive: impl FnOnce(PodInstance) -> bool) -> Option<Found> {
        let (hash, pin) = self.hashes(kind, key).find_map(|hash| Some((hash, self.of(kind).pins.get(&hash)?)))?;
        let now = self.now();
        // Write to the shared cache line only if the second has changed.
        if pin.used.load(Ordering::Relaxed) != now {
            pin.used.store(now, Ordering::Relaxed);
            pin.is_proven.store(true, Ordering::Relaxed);
        }
        is_alive(pin.home).then(|| Found { hash, home: pin.home, is_due: is_due(&pin, now) })
    }

    /// Learns a pin. Returns whether it is new.
    pub(super) fn remember(&self, kind: Kind, key: &str, home: PodInstance, address: Address) -> bool {
        let hash = self.hash(kind, key);
        let shelf = self.of(kind);
        if let Some(pin) = shelf.pins.get(&hash)
            && pin.home == home
        {
            return false;
        }
        let pin = self.pin(home, address, self.now().saturating_add(RENEWAL.as_secs() as u32));
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

    /// Forgets a key. Gives the hashes under which it was known.
    pub(super) fn forget(&self, kind: Kind, key: &str) -> impl Iterator<Item = u128> {
        self.hashes(kind, key).filter(move |hash| self.of(kind).remove(*hash))
    }

    pub(super) fn count(&self) -> usize {
        self.all.iter().map(|shelf| shelf.count.load(Ordering::Relaxed)).sum()
    }

    /// The name of an address.
    pub(super) fn address(&self, from: IpAddr) -> Address {
        self.addresses.hash_one(network(from)).max(NOBODY + 1)
    }

    /// The shelf of a kind.
    pub(super) fn of(&self, kind: Kind) -> &Shelf {
        &self.all[shelf(kind)]
    }

    /// The hash under which the key is learnt.
    pub(super) fn hash(&self, kind: Kind, key: &str) -> u128 {
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

    fn pin(&self, home: PodInstance, address: Address, renewed_from: u32) -> Pin {
        let (used, renewed_from) = (AtomicU32::new(self.now()), AtomicU32::new(renewed_from));
        Pin { home, address, is_proven: AtomicBool::new(false), used, renewed_from }
    }

    fn now(&self) -> u32 {
        self.began.elapsed().as_secs().try_into().unwrap_or(u32::MAX)
    }
}

/// Whether this use must renew the stored copy.
fn is_due(pin: &Pin, now: u32) -> bool {
    let due = pin.renewed_from.load(Ordering::Relaxed);
    let next = now.saturating_add(RENEWAL.as_secs() as u32);
    now >= due && pin.renewed_from.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}
