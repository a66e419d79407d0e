//! The proxies of a fleet, as its clients know them: a load balancer leads them past one that is dead.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

pub struct Doors(Vec<Door>);

struct Door {
    address: SocketAddr,
    /// How often the proxy was killed.
    kills: AtomicUsize,
    is_dead: AtomicBool,
}

impl Doors {
    pub fn new(addresses: impl Iterator<Item = SocketAddr>) -> Doors {
        let door = |address| Door { address, kills: AtomicUsize::default(), is_dead: AtomicBool::default() };
        Doors(addresses.map(door).collect())
    }

    pub fn address(&self, door: usize) -> SocketAddr {
        self.0[door].address
    }

    /// How often the proxy was killed so far.
    pub fn kills(&self, door: usize) -> usize {
        self.0[door].kills.load(Ordering::SeqCst)
    }

    /// The next door for what has just failed at this one, if the proxy is dead or was killed more than `kills` times.
    /// `None`: the proxy lived all the while, and has to answer for the failure.
    pub fn past_dead(&self, door: usize, kills: usize) -> Option<usize> {
        let is_dead = self.0[door].is_dead.load(Ordering::SeqCst);
        (is_dead || self.kills(door) != kills).then(|| (door + 1) % self.0.len())
    }

    /// The proxy at this address is about to be killed.
    ///
    /// # Panics
    /// If no proxy has this address.
    pub fn dies(&self, address: SocketAddr) {
        let door = self.at(address);
        door.is_dead.store(true, Ordering::SeqCst);
        door.kills.fetch_add(1, Ordering::SeqCst);
    }

    /// The proxy at this address serves again.
    ///
    /// # Panics
    /// If no proxy has this address.
    pub fn lives(&self, address: SocketAddr) {
        self.at(address).is_dead.store(false, Ordering::SeqCst);
    }

    fn at(&self, address: SocketAddr) -> &Door {
        self.0.iter().find(|door| door.address == address).expect("a proxy of the fleet")
    }
}
