//! What live traffic makes the prober look at, and the end of each probe.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

/// Why the request path suspects a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspicion {
    /// It refused a connection: its process is gone, or does not listen.
    Refused,
    /// Its process announced its end on its sockets: it listens only for a moment more.
    Farewell,
    /// A connection could not be made in time, or broke before an answer, or an answer came too
    /// late.
    Broken,
}

/// What was suspected until a probe ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Suspected {
    pub gravest: Option<Suspicion>,
    /// The process announced its end, whatever else was suspected of it.
    pub farewell: bool,
}

/// What was suspected of a pod since its last probe.
#[derive(Default)]
pub struct Suspicions {
    refused: AtomicBool,
    farewell: AtomicBool,
    broken: AtomicBool,
    probe: Notify,
    probes: watch::Sender<()>,
    failures: Mutex<Vec<Instant>>,
}

impl Suspicions {
    /// Records a failure that the request path met: the next probe comes at once and takes it into
    /// account.
    pub fn report(&self, suspicion: Suspicion) {
        match suspicion {
            Suspicion::Refused => self.refused.store(true, Ordering::Release),
            Suspicion::Farewell => self.farewell.store(true, Ordering::Release),
            Suspicion::Broken => self.broken.store(true, Ordering::Release),
        }
        self.probe.notify_one();
    }

    /// Lets the prober probe now.
    pub fn probe_now(&self) {
        self.probe.notify_one();
    }

    /// Ends when the prober is to probe now. Cancel safe.
    pub async fn await_next(&self) {
        self.probe.notified().await;
    }

    /// Whether the request path found that no process listens, since the last probe.
    pub fn has_refusal(&self) -> bool {
        self.refused.load(Ordering::Acquire)
    }

    /// Takes what was suspected, and forgets it.
    pub fn take(&self) -> Suspected {
        let refused = self.refused.swap(false, Ordering::AcqRel);
        let farewell = self.farewell.swap(false, Ordering::AcqRel);
        let broken = self.broken.swap(false, Ordering::AcqRel);
        let lighter = || if farewell { Some(Suspicion::Farewell) } else { broken.then_some(Suspicion::Broken) };
        Suspected { gravest: if refused { Some(Suspicion::Refused) } else { lighter() }, farewell }
    }

    /// Counts a gateway-type failure; returns how many there were within this time.
    pub fn count_failure(&self, window: Duration) -> u32 {
        let now = Instant::now();
        let mut failures = self.failures.lock();
        failures.retain(|at| now.duration_since(*at) < window);
        failures.push(now);
        failures.len().try_into().unwrap_or(u32::MAX)
    }

    /// Reports the end of each probe.
    pub fn probes(&self) -> watch::Receiver<()> {
        self.probes.subscribe()
    }

    /// A probe has ended, and its result is applied.
    pub fn record_probe(&self) {
        self.probes.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gravest_suspicion_hides_no_farewell_and_all_are_gone_then() {
        let suspicions = Suspicions::default();
        suspicions.report(Suspicion::Broken);
        suspicions.report(Suspicion::Refused);
        suspicions.report(Suspicion::Farewell);
        assert_eq!(suspicions.take(), Suspected { gravest: Some(Suspicion::Refused), farewell: true });
        assert_eq!(suspicions.take(), Suspected::default());
        suspicions.report(Suspicion::Broken);
        assert_eq!(suspicions.take(), Suspected { gravest: Some(Suspicion::Broken), farewell: false });
    }
}
