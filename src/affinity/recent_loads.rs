//! The loads of each pool's pods, kept for a moment. A count walks over all sessions,
//! and anybody can cause one by a log-in under a made-up name.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::placement::Loads;
use crate::pod::PodId;

/// A count is kept 20 times as long as it took. So counting takes at most a twentieth of the time,
/// and a small server's counts are always fresh.
const TIMES: u32 = 20;

/// A count is kept no longer than this.
const LONGEST: Duration = Duration::from_secs(1);

/// The last count of each pool.
#[derive(Debug, Default)]
pub struct RecentLoads(Mutex<HashMap<String, Counted>>);

#[derive(Debug)]
struct Counted {
    loads: Loads,
    until: Instant,
}

impl RecentLoads {
    /// The loads of a pool's pods, by `count` if the last count is too old. Holds no lock meanwhile.
    pub fn get(&self, pool: &str, count: impl FnOnce() -> Loads) -> Loads {
        let began = Instant::now();
        if let Some(counted) = self.0.lock().get(pool).filter(|counted| counted.until > began) {
            return counted.loads.clone();
        }
        let loads = count();
        let now = Instant::now();
        let counted = Counted { loads: loads.clone(), until: now + kept_for(now.duration_since(began)) };
        self.0.lock().insert(pool.to_owned(), counted);
        loads
    }

    /// Counts one user more on a pod, whom the next count finds by itself.
    pub fn add(&self, pool: &str, pod: PodId) {
        if let Some(counted) = self.0.lock().get_mut(pool) {
            *counted.loads.entry(pod).or_default() += 1;
        }
    }
}

/// How long a count is kept, by the time that it took.
fn kept_for(took: Duration) -> Duration {
    took.saturating_mul(TIMES).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::{Pod, PodConfig};

    #[test]
    fn a_long_count_is_kept_and_those_who_come_meanwhile_are_added() {
        let pod =
            Pod::new(&"main".into(), &PodConfig { name: "a".into(), authority: "h:1".into(), ..Default::default() }).id;
        let recent = RecentLoads::default();
        let slow = || {
            std::thread::sleep(LONGEST / TIMES);
            Loads::from([(pod, 5)])
        };
        recent.add("main", pod);
        assert_eq!(recent.get("main", slow)[&pod], 5, "nothing was counted before");
        recent.add("main", pod);
        assert_eq!(recent.get("main", || panic!("it counts again"))[&pod], 6);
        assert_eq!(recent.get("other", Loads::new), Loads::new());
    }

    #[test]
    fn counts_take_a_twentieth_of_the_time_at_most() {
        for (took, kept) in [(0, 0), (1, 20), (30, 600), (400, 1000)] {
            assert_eq!(kept_for(Duration::from_millis(took)), Duration::from_millis(kept));
        }
    }
}
