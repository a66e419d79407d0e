//! Which pods refused which tokens, so that a dead token costs each pod only one request.
//!
//! A refusal holds for one epoch of the pod, since a restarted pod reads every token's row again.
//! It holds for some minutes at most.

use std::{
    hash::Hasher,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use quick_cache::{UnitWeighter, sync::Cache};
use siphasher::sip128::{Hasher128, SipHasher13};
use tokio::time::Instant;

use crate::pod::Pod;

/// How long a refusal is remembered.
const REMEMBERED: Duration = Duration::from_secs(300);

/// Refusals kept at once. Beyond that, those go first that no request needed again, as for made-up
/// tokens. This costs extra requests, but no client loses its session.
const MOST: u64 = 200_000;

/// The capacity at first.
const AT_FIRST: usize = 64;

/// The refusals of all pods. Shared by all workers.
#[derive(Debug)]
pub struct NegativeCache {
    /// Something was refused since the start. Until then a request costs one load.
    any: AtomicBool,
    until: Cache<u128, Instant>,
    secret: (u64, u64),
}

impl NegativeCache {
    /// An empty cache; `secret` keys the hashes, so that no token stands in memory.
    pub fn new(secret: (u64, u64)) -> NegativeCache {
        let until = Cache::with_weighter(AT_FIRST, MOST, UnitWeighter);
        NegativeCache { any: AtomicBool::new(false), until, secret }
    }

    /// Remembers that the pod does not know this token.
    pub fn insert(&self, token: &str, pod: &Pod) {
        self.until.insert(self.hash(token, pod), Instant::now() + REMEMBERED);
        self.any.store(true, Ordering::Release);
    }

    /// Remembers a dead token: none of these pods gets a request with it any more.
    pub fn insert_all(&self, token: &str, pods: &[Arc<Pod>]) {
        for pod in pods {
            self.insert(token, pod);
        }
    }

    /// Nothing was refused since the start.
    pub fn is_empty(&self) -> bool {
        !self.any.load(Ordering::Acquire)
    }

    /// Whether the pod refused this token in its present epoch.
    pub fn is_refused(&self, token: &str, pod: &Pod) -> bool {
        if self.is_empty() {
            return false;
        }
        self.until.get(&self.hash(token, pod)).is_some_and(|until| until > Instant::now())
    }

    /// Whether every living pod refused this token. `false` if no pod lives.
    pub fn is_dead(&self, token: &str, pods: &[Arc<Pod>]) -> bool {
        let mut living = pods.iter().filter(|pod| pod.status().is_alive()).peekable();
        living.peek().is_some() && living.all(|pod| self.is_refused(token, pod))
    }

    fn hash(&self, token: &str, pod: &Pod) -> u128 {
        let mut hasher = SipHasher13::new_with_keys(self.secret.0, self.secret.1);
        hasher.write(pod.pool.as_bytes());
        hasher.write_u8(0);
        hasher.write(pod.name.as_bytes());
        hasher.write_u8(0);
        hasher.write_u32(pod.status().epoch.0);
        hasher.write(token.as_bytes());
        hasher.finish128().as_u128()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::{Epoch, PodConfig, State, Status};

    fn pod(name: &str) -> Arc<Pod> {
        let pod = Pod::new(
            &Arc::from("pool"),
            &PodConfig { name: name.into(), authority: "h:1".into(), ..Default::default() },
        );
        pod.life.change(|_| Status { state: State::Ready, accepts: true, epoch: Epoch(1) });
        pod
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_ends_with_its_pods_life_and_with_time() {
        let (negative_cache, a, b) = (NegativeCache::new((1, 2)), pod("a"), pod("b"));
        let pods = [a.clone(), b.clone()];
        let is_dead = || negative_cache.is_dead("t", &pods);
        negative_cache.insert("t", &a);
        assert!(
            negative_cache.is_refused("t", &a)
                && !negative_cache.is_refused("t", &b)
                && !negative_cache.is_refused("u", &a)
        );
        assert!(!is_dead());
        negative_cache.insert("t", &b);
        assert!(is_dead());
        a.life.change(|status| Status { epoch: Epoch(2), ..status });
        assert!(!is_dead(), "the restarted pod is asked again");
        a.life.change(|status| Status { state: State::Draining, ..status });
        assert!(!is_dead(), "it still serves its clients");
        a.life.change(|status| Status { state: State::Down, ..status });
        assert!(is_dead());
        a.life.change(|status| Status { state: State::Ready, ..status });
        negative_cache.insert("t", &a);
        assert!(is_dead());
        tokio::time::advance(REMEMBERED).await;
        assert!(!is_dead());
    }
}
