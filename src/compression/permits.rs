//! How many answers are compressed at the same time: in all, and for each address.
//!
//! An encoder lives until its client has read the answer. Without a share for each address, one
//! address that reads slowly would hold all of them.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The part of all encoders that one address may hold.
const SHARE: usize = 8;

#[derive(Debug)]
pub(super) struct Permits {
    in_all: Arc<Semaphore>,
    most_of_address: usize,
    /// Permits that addresses hold; none without one.
    of_address: Mutex<HashMap<IpAddr, usize>>,
}

/// One encoder's permit.
pub(super) struct Permit {
    _of_all: OwnedSemaphorePermit,
    of_address: Option<(Arc<Permits>, IpAddr)>,
}

impl Permits {
    pub(super) fn new(most: usize) -> Arc<Permits> {
        let in_all = Arc::new(Semaphore::new(most));
        Arc::new(Permits { in_all, most_of_address: most.div_ceil(SHARE), of_address: Mutex::default() })
    }

    /// A permit; `None` if all are held, or this address holds its share. `None` for the address: it
    /// stands for many clients.
    pub(super) fn take(self: &Arc<Self>, address: Option<IpAddr>) -> Option<Permit> {
        let of_all = self.in_all.clone().try_acquire_owned().ok()?;
        if let Some(address) = address {
            let mut of_address = self.of_address.lock();
            let held = of_address.entry(address).or_default();
            if *held >= self.most_of_address {
                return None;
            }
            *held += 1;
        }
        Some(Permit { _of_all: of_all, of_address: address.map(|address| (self.clone(), address)) })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some((permits, address)) = &self.of_address else { return };
        let mut of_address = permits.of_address.lock();
        if let Some(held) = of_address.get_mut(address) {
            *held -= 1;
            if *held == 0 {
                of_address.remove(address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_holds_an_eighth_and_leaves_the_rest_to_others() {
        let permits = Permits::new(16);
        let (here, there) = (Some(IpAddr::from([192, 0, 2, 1])), Some(IpAddr::from([192, 0, 2, 2])));
        let take = |address| permits.take(address);
        let held: Vec<Permit> = (0..16).filter_map(|_| take(here)).collect();
        assert_eq!(held.len(), 2);
        let others: Vec<Permit> = [there, there, there].into_iter().filter_map(take).collect();
        assert_eq!(others.len(), 2);
        let many: Vec<Permit> = (0..16).filter_map(|_| take(None)).collect();
        assert_eq!(many.len(), 12, "one who stands for many clients takes all that is left");
        drop((held, others, many));
        assert!(permits.of_address.lock().is_empty() && take(here).is_some());
        assert!(Permits::new(1).take(here).is_some(), "a share is one at least");
    }
}
