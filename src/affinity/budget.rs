//! How much extra work a client's address may cause. Each address has a bucket of tokens, so that
//! made-up access tokens cannot multiply the load on the pods.

use std::net::IpAddr;

use dashmap::DashMap;
use tokio::time::Instant;

use crate::limits::network;

/// Extra requests at once, each with a question about its token. A hundred clients behind one
/// address stay below it on eight pods, even if a restart made all their pins stale.
const BURST: f32 = 1024.0;

/// Extra requests per second after that.
const RATE: f32 = 32.0;

/// Addresses kept at once. Beyond that, those with a full bucket are forgotten.
const MOST: usize = 100_000;

/// The buckets of all addresses. Shared by all workers.
#[derive(Debug, Default)]
pub struct Budget {
    buckets: DashMap<IpAddr, Bucket, ahash::RandomState>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f32,
    at: Instant,
}

impl Bucket {
    fn refilled(self, now: Instant) -> Bucket {
        let left = (self.left + now.duration_since(self.at).as_secs_f32() * RATE).min(BURST);
        Bucket { left, at: now }
    }
}

impl Budget {
    /// Takes one extra request from this client's budget. Returns whether there was one left.
    pub fn try_spend(&self, client: IpAddr, now: Instant) -> bool {
        if self.buckets.len() >= MOST {
            self.buckets.retain(|_, bucket| bucket.refilled(now).left < BURST);
        }
        let mut bucket = self.buckets.entry(network(client)).or_insert(Bucket { left: BURST, at: now });
        *bucket = bucket.refilled(now);
        let enough = bucket.left >= 1.0;
        if enough {
            bucket.left -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_address_has_a_burst_and_then_a_rate() {
        let (budget, client) = (Budget::default(), IpAddr::from([192, 0, 2, 1]));
        let spend = |times: u32| (0..times).filter(|_| budget.try_spend(client, Instant::now())).count();
        assert_eq!(spend(10_000), BURST as usize);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(spend(10_000), RATE as usize);
        assert!(budget.try_spend([192, 0, 2, 2].into(), Instant::now()), "another address has its own");
    }

    #[tokio::test(start_paused = true)]
    async fn an_ipv6_client_cannot_choose_a_fresh_bucket() {
        let budget = Budget::default();
        let address = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, last]);
        let spent = (0..10_000).filter(|last| budget.try_spend(address(*last), Instant::now())).count();
        assert_eq!(spent, BURST as usize);
    }
}
