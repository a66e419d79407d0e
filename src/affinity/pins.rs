//! Pins: what the proxy has learnt of where clients live.
//!
//! A pin is found by a keyed hash of the client's key, so that no token stands in memory as a key. The store is bounded: when
//! it is full, the longest unused sixteenth goes.

use std::{
    hash::Hasher,
    sync::atomic::{AtomicU32, AtomicUsize, Ordering},
};

use dashmap::DashMap;
use siphasher::sip128::{Hasher128, SipHasher13};
use tokio::time::Instant;

use crate::pod::{Epoch, PodId};

/// What a key is a key of. Keys of different kinds never meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    Token = 1,
    Device = 2,
    PlaySession = 3,
    LiveStream = 4,
    Playlist = 5,
}

impl Kind {
    /// Whether the knowledge is of the pod's memory only, and ends with its process. Tokens and devices have rows in the
    /// database, which a restarted pod reads.
    fn ends_with_epoch(self) -> bool {
        matches!(self, Kind::PlaySession | Kind::LiveStream | Kind::Playlist)
    }
}

/// Where a key's client lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Home {
    pub pod: PodId,
    pub epoch: Epoch,
}

/// The store. Shared by all workers; read and written without awaiting.
#[derive(Debug)]
pub struct Pins {
    pins: DashMap<u128, Pin, ahash::RandomState>,
    secret: (u64, u64),
    most: usize,
    count: AtomicUsize,
    began: Instant,
}

#[derive(Debug)]
struct Pin {
    home: Home,
    kind: Kind,
    /// Seconds since the store began.
    used: AtomicU32,
}

impl Pins {
    /// An empty store for at most this many pins; `secret` keys the hashes.
    pub fn new(most: usize, secret: (u64, u64)) -> Pins {
        Pins { pins: DashMap::default(), secret, most: most.max(16), count: AtomicUsize::new(0), began: Instant::now() }
    }

    /// Where the client with this key lives, if it is known. `alive` judges what was learnt, given the kind's own rule.
    pub fn home(&self, kind: Kind, key: &str, alive: impl FnOnce(Home, bool) -> bool) -> Option<Home> {
        let pin = self.pins.get(&self.hash(kind, key))?;
        let now = self.now();
        // A store to a shared line only when it tells something new.
        if pin.used.load(Ordering::Relaxed) != now {
            pin.used.store(now, Ordering::Relaxed);
        }
        alive(pin.home, pin.kind.ends_with_epoch()).then_some(pin.home)
    }

    /// Learns a client's home. Says whether that is new.
    pub fn learn(&self, kind: Kind, key: &str, home: Home) -> bool {
        let hash = self.hash(kind, key);
        if let Some(pin) = self.pins.get(&hash)
            && pin.home == home
        {
            return false;
        }
        let pin = Pin { home, kind, used: AtomicU32::new(self.now()) };
        if self.pins.insert(hash, pin).is_none() && self.count.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.make_room();
        }
        true
    }

    /// Forgets a key.
    pub fn forget(&self, kind: Kind, key: &str) {
        if self.pins.remove(&self.hash(kind, key)).is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
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

    fn hash(&self, kind: Kind, key: &str) -> u128 {
        let mut hasher = SipHasher13::new_with_keys(self.secret.0, self.secret.1);
        hasher.write_u8(kind as u8);
        hasher.write(key.as_bytes());
        hasher.finish128().as_u128()
    }

    fn now(&self) -> u32 {
        self.began.elapsed().as_secs().try_into().unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::pod::{Pod, PodConfig};

    fn home() -> Home {
        let pod = Pod::new(&Arc::from("pool"), &PodConfig { name: "a".into(), authority: "h:1".into() });
        Home { pod: pod.id, epoch: Epoch(1) }
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
