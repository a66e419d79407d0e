//! When a session was used, and when its client was heard.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Duration,
};

use super::uptime::Uptime;

/// When something last was, as a moment of the uptime; 0: never by this process.
#[derive(Debug, Default)]
pub(in crate::sessions) struct Moment(AtomicU32);

impl Moment {
    pub(in crate::sessions) fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Writes to the shared cache line only when the value changes.
    pub(in crate::sessions) fn set(&self, at: u32) {
        if self.get() != at {
            self.0.store(at, Ordering::Relaxed);
        }
    }
}

/// A session's use.
#[derive(Debug)]
pub struct Usage {
    uptime: Uptime,
    used: Moment,
    heard: Moment,
    /// It was used after it had become known, so a client depends on it.
    is_proven: AtomicBool,
}

impl Usage {
    pub(super) fn new(uptime: Uptime) -> Usage {
        Usage { uptime, used: Moment::default(), heard: Moment::default(), is_proven: AtomicBool::new(false) }
    }

    /// Records that a request of the session's client has come.
    pub fn record_heard(&self) {
        self.heard.set(self.uptime.moment());
    }

    /// Records that the session is used now.
    pub(in crate::sessions) fn touch(&self) {
        let (before, now) = (self.used.get(), self.uptime.moment());
        self.used.set(now);
        if before != now && before != 0 {
            self.is_proven.store(true, Ordering::Relaxed);
        }
    }

    /// When the client was last heard.
    pub(in crate::sessions) fn heard(&self) -> u32 {
        self.heard.get()
    }

    pub(super) fn is_heard_within(&self, time: Duration) -> bool {
        let heard = self.heard();
        heard > 0 && u64::from(self.uptime.moment().saturating_sub(heard)) <= time.as_secs()
    }

    pub(in crate::sessions) fn is_used_within(&self, time: Duration) -> bool {
        u64::from(self.uptime.moment().saturating_sub(self.used.get())) <= time.as_secs()
    }

    /// The order in which sessions go when there are too many. First go those unused since they
    /// became known, then the longest unused.
    pub(in crate::sessions) fn worth(&self) -> (bool, u32) {
        (self.is_proven.load(Ordering::Relaxed), self.used.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_used_again_outlives_what_was_only_made() {
        let (used, made) = (Usage::new(Uptime::start()), Usage::new(Uptime::start()));
        used.touch();
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(!used.is_heard_within(Duration::from_secs(60)), "nobody was heard yet");
        used.touch();
        used.record_heard();
        tokio::time::advance(Duration::from_secs(2)).await;
        made.touch();
        assert!(used.worth() > made.worth());
        assert!(used.is_heard_within(Duration::from_secs(2)) && !used.is_heard_within(Duration::from_secs(1)));
    }
}
