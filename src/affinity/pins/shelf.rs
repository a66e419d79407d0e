//! Pins of one sort, and who taught them.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
};

use dashmap::{DashMap, Entry};

use crate::pod::PodInstance;

/// Pins of one sort.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) pins: DashMap<u128, Pin, ahash::RandomState>,
    pub(super) most: usize,
    pub(super) most_of_one: usize,
    pub(super) count: AtomicUsize,
    /// The pins of each address.
    pub(super) by_address: DashMap<Address, usize, ahash::RandomState>,
}

/// A keyed hash of a client's network. Two that meet share one share.
pub(super) type Address = u64;

/// The address of pins from an earlier process, or from another replica.
pub(super) const NOBODY: Address = 0;

/// One pin.
#[derive(Debug)]
pub(super) struct Pin {
    pub(super) home: PodInstance,
    /// Whose request taught it.
    pub(super) address: Address,
    /// It was used after it was learnt.
    pub(super) is_proven: AtomicBool,
    /// Seconds since the store began.
    pub(super) used: AtomicU32,
    /// When the next use renews the stored copy, in the same seconds.
    pub(super) renewed_from: AtomicU32,
}

impl Shelf {
    pub(super) fn new(most: usize) -> Shelf {
        Shelf {
            pins: DashMap::default(),
            most,
            most_of_one: most,
            count: AtomicUsize::new(0),
            by_address: DashMap::default(),
        }
    }

    /// Says whether the shelf has one more pin now. A pin that is there already stays its address's.
    pub(super) fn insert(&self, hash: u128, pin: Pin) -> bool {
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

    pub(super) fn remove(&self, hash: u128) -> bool {
        let Some((_, pin)) = self.pins.remove(&hash) else { return false };
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.count_off(pin.address, 1);
        true
    }

    pub(super) fn of_address(&self, address: Address) -> usize {
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
    pub(super) fn make_room(&self, only: Option<Address>) {
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

impl Pin {
    /// The order in which pins go: never used ones first.
    fn worth(&self) -> (bool, u32) {
        (self.is_proven.load(Ordering::Relaxed), self.used.load(Ordering::Relaxed))
    }
}
