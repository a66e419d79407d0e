//! How long a pod may answer nothing at all before it counts as hung: pure.
//!
//! Slow and hung differ in one thing: a slow pod answers something, sooner or later. So the time
//! that a pod may be silent grows with how long it was silent lately, and answered in the end.

use std::time::Duration;

use super::Config;

/// The longest part of one look's time that counts. What the proxy's own machine is late with is
/// not the pod's silence.
const LONGEST_LOOK: Duration = Duration::from_millis(250);

/// How many times as long as lately a pod may be silent.
const PATIENCE: u32 = 4;

/// What is left of what a pod took lately, after each check that it answers sooner.
const FADES: f64 = 0.9;

/// What counts of the time since the last look.
pub fn counted(since_last: Duration) -> Duration {
    since_last.min(LONGEST_LOOK)
}

/// One pod's silence.
#[derive(Clone, Debug, Default)]
pub struct Silence {
    /// How long a check waits while nothing at all comes from the pod.
    lasts: Duration,
    /// What its checks, and the silences that it ended itself, took lately.
    usual: Duration,
}

impl Silence {
    /// A check still waits, this long after the last look; `heard` if anything came meanwhile.
    pub fn look(&mut self, since_last: Duration, heard: bool) {
        if heard {
            self.usual = self.usual.max(self.lasts);
            self.lasts = Duration::ZERO;
        } else {
            self.lasts += counted(since_last);
        }
    }

    /// A check was answered after this time.
    pub fn answered(&mut self, took: Duration) {
        self.usual = self.usual.mul_f64(FADES).max(took);
        self.lasts = Duration::ZERO;
    }

    /// A new process begins, or the old one was given up.
    pub fn forget(&mut self) {
        *self = Silence::default();
    }

    /// How long the pod has been silent.
    pub fn lasts(&self) -> Duration {
        self.lasts
    }

    /// How long it may be.
    pub fn may_last(&self, config: &Config) -> Duration {
        (self.usual * PATIENCE).clamp(config.silence, config.longest_silence.max(config.silence))
    }

    /// Whether it has been silent for too long.
    pub fn is_over(&self, config: &Config) -> bool {
        self.lasts >= self.may_last(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::rules::tests::config;

    const LOOK: Duration = Duration::from_millis(100);

    fn silent(silence: &mut Silence, seconds: u32) {
        (0..seconds * 10).for_each(|_| silence.look(LOOK, false));
    }

    #[test]
    fn a_pod_that_was_quick_may_be_silent_for_a_few_seconds() {
        let (mut silence, config) = (Silence::default(), config());
        silence.answered(Duration::from_millis(5));
        silent(&mut silence, 4);
        assert!(!silence.is_over(&config));
        silent(&mut silence, 1);
        assert!(silence.is_over(&config), "hung");
    }

    #[test]
    fn whatever_it_answers_ends_its_silence_and_gives_it_more_time() {
        let (mut silence, config) = (Silence::default(), config());
        silent(&mut silence, 4);
        silence.look(LOOK, true);
        silent(&mut silence, 15);
        assert!(!silence.is_over(&config), "it was silent for 4 s before");
        silent(&mut silence, 1);
        assert!(silence.is_over(&config));
    }

    #[test]
    fn late_checks_give_it_more_time_up_to_a_bound_and_timely_ones_take_it_back() {
        let (mut silence, config) = (Silence::default(), config());
        silence.answered(Duration::from_secs(3));
        assert_eq!(silence.may_last(&config), Duration::from_secs(12));
        silence.answered(Duration::from_secs(60));
        assert_eq!(silence.may_last(&config), config.longest_silence);
        (0..40).for_each(|_| silence.answered(Duration::from_millis(5)));
        assert_eq!(silence.may_last(&config), config.silence);
    }

    #[test]
    fn a_pause_of_the_proxy_itself_is_not_the_pods_silence() {
        let (mut silence, config) = (Silence::default(), config());
        silence.look(Duration::from_secs(60), false);
        assert!(!silence.is_over(&config));
    }
}
