//! Bounds what jellypin asks of a pod beyond what clients ask: retries, migrations, questions of
//! whose token it is.
//!
//! A pod that is well may be asked more: nothing shows that it is too much. A pod that is late gets a
//! share of what it answers to clients, so that help for some never becomes an outage for all.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{self, Instant};

/// Extra calls for each request that the pod answers.
const SHARE: f64 = 0.2;

/// Extra calls a second that a pod may get however few requests it answers.
const FLOOR: f64 = 20.0;

/// The same for a pod that is well.
const WELL: f64 = 200.0;

/// The most that may come at once.
const BURST: f64 = 100.0;

/// Time between two looks of a call that waits.
const LOOK: Duration = Duration::from_millis(50);

/// One pod's budget.
#[derive(Debug)]
pub struct ExtraCalls {
    answers: AtomicU64,
    is_late: AtomicBool,
    budget: Mutex<Budget>,
    waited: AtomicU64,
}

#[derive(Debug)]
struct Budget {
    level: f64,
    answers: u64,
    at: Instant,
}

impl Default for ExtraCalls {
    fn default() -> ExtraCalls {
        ExtraCalls {
            answers: AtomicU64::new(0),
            is_late: AtomicBool::new(false),
            budget: Mutex::new(Budget { level: BURST, answers: 0, at: Instant::now() }),
            waited: AtomicU64::new(0),
        }
    }
}

impl ExtraCalls {
    /// The pod answered a client.
    pub fn record_answer(&self) {
        self.answers.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the pod answers its health checks late.
    pub fn set_late(&self, is_late: bool) {
        self.is_late.store(is_late, Ordering::Relaxed);
    }

    /// Takes one call out of the budget. Returns whether there was one.
    pub fn try_draw(&self) -> bool {
        let rate = if self.is_late.load(Ordering::Relaxed) { FLOOR } else { WELL };
        let mut budget = self.budget.lock();
        let (answers, now) = (self.answers.load(Ordering::Relaxed), Instant::now());
        let earned =
            answers.saturating_sub(budget.answers) as f64 * SHARE + now.duration_since(budget.at).as_secs_f64() * rate;
        budget.level = (budget.level + earned).min(BURST);
        (budget.answers, budget.at) = (answers, now);
        let has_one = budget.level >= 1.0;
        if has_one {
            budget.level -= 1.0;
        }
        has_one
    }

    /// Waits until the budget has a call, for no longer than this. Cancel safe.
    pub async fn draw(&self, longest: Duration) -> bool {
        if self.try_draw() {
            return true;
        }
        self.waited.fetch_add(1, Ordering::Relaxed);
        let end = Instant::now() + longest;
        while Instant::now() < end {
            time::sleep(LOOK.min(end - Instant::now())).await;
            if self.try_draw() {
                return true;
            }
        }
        false
    }

    /// Calls that had to wait.
    pub fn waited(&self) -> u64 {
        self.waited.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(calls: &ExtraCalls) -> usize {
        (0..10_000).take_while(|_| calls.try_draw()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_pod_gets_a_share_of_what_it_answers_and_a_small_floor() {
        let calls = ExtraCalls::default();
        calls.set_late(true);
        assert_eq!(drawn(&calls), BURST as usize);
        (0..100).for_each(|_| calls.record_answer());
        assert_eq!(drawn(&calls), 20);
        time::advance(Duration::from_secs(2)).await;
        assert_eq!(drawn(&calls), 40);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_is_well_gets_more_and_what_waits_comes_in_time() {
        let calls = ExtraCalls::default();
        drawn(&calls);
        assert!(calls.draw(Duration::from_millis(200)).await);
        calls.set_late(true);
        drawn(&calls);
        assert!(!calls.draw(Duration::from_millis(40)).await);
        assert_eq!(calls.waited(), 2);
    }
}
