//! Limits how often one client address may cause extra work: each has a token bucket. So made-up
//! access tokens neither multiply the load on the pods nor fill the stores.

use std::net::IpAddr;

use dashmap::DashMap;
use tokio::time::Instant;

use crate::limits::network;

/// By default: extra requests at once, each with a question about its token. A hundred clients behind one
/// address stay below it on eight pods, even if a restart made all their pins stale.
const BURST: f32 = 1024.0;

/// By default: extra requests per second after that.
const RATE: f32 = 32.0;

/// Addresses kept at once. Beyond that, those with a full bucket are forgotten.
const MOST: usize = 100_000;

/// The buckets of all addresses. Shared by all workers.
#[derive(Debug)]
pub struct Budget {
    burst: f32,
    rate: f32,
    buckets: DashMap<IpAddr, Bucket, ahash::RandomState>,
}

impl Default for Budget {
    fn default() -> Self {
        Budget::new(BURST, RATE)
    }
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f32,
    at: Instant,
}

impl Bucket {
    fn refilled(self, now: Instant, burst: f32, rate: f32) -> Bucket {
        let left = (self.left + now.duration_since(self.at).as_secs_f32() * rate).min(burst);
        Bucket { left, at: now }
    }
}

impl Budget {
    /// So much at once, and so much per second after that.
    pub fn new(burst: f32, rate: f32) -> Budget {
        Budget { burst, rate, buckets: DashMap::default() }
    }

    /// Takes one from this client's budget. Returns whether there was one left.
    pub fn try_spend(&self, client: IpAddr, now: Instant) -> bool {
        let (burst, rate) = (self.burst, self.rate);
        if self.buckets.len() >= MOST {
            self.buckets.retain(|_, bucket| bucket.refilled(now, burst, rate).left < burst);
        }
        let mut bucket = self.buckets.entry(network(client)).or_insert(Bucket { left: burst, at: now });
        *bucket = bucket.refilled(now, burst, rate);
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
