//! The clock that all replicas share: that of Redis.
//!
//! A replica compares moments that other replicas wrote, so all moments are those of Redis. Each
//! replica measures how far its machine's clock is off, when it connects and every few seconds.
//! Without Redis the machine's clock serves.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

/// If the clock is set back by more milliseconds than this, it follows at once. If by less, it
/// stands still for a moment.
const JUMP: i64 = 5_000;

/// Unix milliseconds by the common clock. Cheap to clone; all clones are one clock.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<Reading>);

#[derive(Debug, Default)]
struct Reading {
    /// How far the common clock is ahead of this machine's, in milliseconds.
    ahead: AtomicI64,
    /// The latest moment returned: a small correction must not turn the clock back.
    latest: AtomicU64,
    /// Redis has given its time.
    is_measured: AtomicBool,
    /// An error added to this machine's clock, for tests.
    wrong: AtomicI64,
}

impl Clock {
    /// The present moment.
    pub fn now(&self) -> u64 {
        let now = self.machine().saturating_add(self.0.ahead.load(Ordering::Relaxed)).max(0) as u64;
        self.0.latest.fetch_max(now, Ordering::Relaxed).max(now)
    }

    /// What this machine's own clock says.
    pub fn machine(&self) -> i64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, |time| time.as_millis() as i64) + self.0.wrong.load(Ordering::Relaxed)
    }

    /// Takes over the time that Redis gave. By its own clock, this machine asked at `asked` and got
    /// the answer at `heard`.
    pub fn set(&self, redis: u64, asked: i64, heard: i64) {
        let ahead = redis as i64 - (asked + (heard - asked) / 2);
        let before = self.0.ahead.swap(ahead, Ordering::Relaxed);
        self.0.is_measured.store(true, Ordering::Relaxed);
        if (ahead - before).abs() > JUMP {
            self.0.latest.store(0, Ordering::Relaxed);
        }
    }

    /// Whether Redis has given its time. Before that it is this machine's alone.
    pub fn is_measured(&self) -> bool {
        self.0.is_measured.load(Ordering::Relaxed)
    }

    /// How far this machine's clock is ahead of the common one, in milliseconds.
    pub fn error(&self) -> i64 {
        -self.0.ahead.load(Ordering::Relaxed)
    }

    /// Makes this machine's clock wrong, for tests.
    pub fn be_ahead(&self, by: Duration) {
        self.0.wrong.store(by.as_millis() as i64, Ordering::Relaxed);
        self.0.latest.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    #[test]
    fn a_wrong_clock_is_corrected_and_small_corrections_never_turn_it_back() {
        let (right, wrong) = (Clock::default(), Clock::default());
        wrong.be_ahead(Duration::from_millis(HOUR as u64));
        assert!(wrong.now() > right.now() + HOUR as u64 / 2);
        let measure = |off: i64| {
            let (asked, heard) = (wrong.machine(), wrong.machine());
            wrong.set((right.machine() + off) as u64, asked, heard);
        };
        measure(0);
        assert!(wrong.now().abs_diff(right.now()) < 1_000, "it follows at once");
        assert!((wrong.error() - HOUR).abs() < 1_000);
        let before = wrong.now();
        measure(-2_000);
        assert!(wrong.now() >= before, "two seconds less, and it does not go back");
    }
}
