//! Delays answers to refused WebSocket handshakes, and spaces them out for each token.

use std::{hash::Hasher, time::Duration};

use dashmap::DashMap;
use siphasher::sip::SipHasher13;
use tokio::time::Instant;

/// What names the client: its token, or its address if it has none, as before a log-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Token = 1,
    Address = 2,
}

impl Kind {
    /// The time from one answer to the next.
    fn interval(self) -> Duration {
        match self {
            Kind::Token => Duration::from_secs(1),
            Kind::Address => Duration::from_millis(200),
        }
    }
}

/// The longest delay of an answer: clients give up on a handshake after some seconds.
const LONGEST: Duration = Duration::from_secs(10);

/// Clients kept at once. Beyond that, those that may be answered at once are forgotten.
const MOST: usize = 50_000;

/// When the next refusal of each client may be answered. Shared by all workers.
#[derive(Debug)]
pub struct RejectPacer {
    next: DashMap<u64, Instant, ahash::RandomState>,
    secret: (u64, u64),
}

impl RejectPacer {
    /// `secret` keys the hashes, so that no token stands in memory as a key.
    pub fn new(secret: (u64, u64)) -> RejectPacer {
        RejectPacer { next: DashMap::default(), secret }
    }

    /// When to answer the refusal of this handshake.
    pub fn slot(&self, kind: Kind, key: &str) -> Instant {
        let now = Instant::now();
        if self.next.len() >= MOST {
            self.next.retain(|_, next| *next > now);
        }
        let mut hasher = SipHasher13::new_with_keys(self.secret.0, self.secret.1);
        hasher.write_u8(kind as u8);
        hasher.write(key.as_bytes());
        let mut next = self.next.entry(hasher.finish()).or_insert(now);
        *next = (next.max(now) + kind.interval()).min(now + LONGEST);
        *next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn dials_of_one_token_are_answered_one_after_the_other_and_others_do_not_wait_for_them() {
        let (reject_pacer, now) = (RejectPacer::new((1, 2)), Instant::now());
        let after = |key| reject_pacer.slot(Kind::Token, key) - now;
        assert_eq!([after("t"), after("t"), after("t")], [1, 2, 3].map(Duration::from_secs));
        assert_eq!(after("u"), Duration::from_secs(1));
        assert_eq!((0..100).map(|_| after("t")).max(), Some(LONGEST), "nobody waits for ever");
        assert_eq!(reject_pacer.slot(Kind::Address, "192.0.2.1") - now, Duration::from_millis(200));
    }
}
