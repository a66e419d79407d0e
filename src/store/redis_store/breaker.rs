//! When the proxy stops asking Redis, and when it tries again.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// After this many failures in a row the proxy stops asking Redis.
const FAILURES: u32 = 3;

/// The longest pause before the first attempt to connect again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause before any attempt.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: AtomicU32,
}

impl Breaker {
    /// Counts a failure. Returns whether the breaker must open.
    pub(super) fn failed(&self) -> bool {
        self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1) >= FAILURES
    }

    /// An answer ends the row.
    pub(super) fn answered(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }
}

/// The pause before the next attempt, after this many failed ones. It doubles each time. `chance`
/// (0 to 1) scales its upper half, so that replicas do not come back all at once.
pub(super) fn pause(attempts: u32, chance: f64) -> Duration {
    let whole = FIRST_PAUSE.saturating_mul(1 << attempts.min(16)).min(LONGEST_PAUSE);
    whole / 2 + (whole / 2).mul_f64(chance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_in_a_row_open_it() {
        let breaker = Breaker::default();
        assert!(!breaker.failed() && !breaker.failed());
        breaker.answered();
        assert!(!breaker.failed() && !breaker.failed() && breaker.failed());
        assert!(breaker.failed(), "it stays so until an answer");
    }

    #[test]
    fn pauses_grow_to_ten_seconds_and_are_never_nothing() {
        assert_eq!((pause(0, 0.0), pause(0, 1.0)), (Duration::from_millis(50), Duration::from_millis(100)));
        assert_eq!(pause(3, 1.0), Duration::from_millis(800));
        for attempts in [7, 20, u32::MAX] {
            assert_eq!((pause(attempts, 0.0), pause(attempts, 1.0)), (LONGEST_PAUSE / 2, LONGEST_PAUSE));
        }
    }
}
