//! When the names of a pool's users are read.

use std::time::Duration;

use tokio::time::Instant;

/// How long after a failure a pod is asked again.
const RETRY: Duration = Duration::from_secs(10);

/// How old the names become: they also change through other replicas, and past jellypin.
const READ_AGAIN: Duration = Duration::from_secs(3600);

/// What is known of the names, and since when.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// After how many changes they were read last, and when.
    read: Option<(u32, Instant)>,
    retry_at: Option<Instant>,
}

impl Names {
    /// Whether they are to be read after so many changes.
    pub(super) fn are_due(&self, changes: u32, now: Instant) -> bool {
        let are_old = self.read.is_none_or(|(seen, at)| seen != changes || now.duration_since(at) >= READ_AGAIN);
        are_old && self.retry_at.is_none_or(|at| at <= now)
    }

    /// A pod was asked for them.
    pub(super) fn record(&mut self, were_read: bool, changes: u32, now: Instant) {
        if were_read {
            self.read = Some((changes, now));
        }
        self.retry_at = (!were_read).then_some(now + RETRY);
    }

    /// Whether it is known whose devices are placed one by one.
    pub(super) fn say_who_is_spread(&self, is_anybody: bool) -> bool {
        !is_anybody || self.read.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_read_at_the_start_after_changes_and_once_an_hour() {
        let (mut names, start) = (Names::default(), Instant::now());
        assert!(names.are_due(0, start));
        names.record(true, 0, start);
        assert!(!names.are_due(0, start) && names.are_due(1, start) && names.are_due(0, start + READ_AGAIN));
    }

    #[test]
    fn while_no_pod_says_them_nobody_who_may_be_spread_is_gathered() {
        let (mut names, start) = (Names::default(), Instant::now());
        assert!(names.say_who_is_spread(false) && !names.say_who_is_spread(true));
        names.record(false, 0, start);
        assert!(!names.are_due(0, start) && names.are_due(0, start + RETRY));
        assert!(!names.say_who_is_spread(true), "the pod did not say");
        names.record(true, 0, start);
        names.record(false, 1, start);
        assert!(names.say_who_is_spread(true), "what it has said counts on");
    }
}
