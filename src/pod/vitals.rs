//! How a pod answers: its signs of life, how late its health check is, and what that says.
//!
//! Only `health` judges. The request path records signs of life, one store of one word each.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// How a pod that serves is doing. It stays in service in all of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Condition {
    /// Answers its health checks in time.
    #[default]
    Well = 0,
    /// Answers its health checks late. It still answers something.
    Late = 1,
    /// Has answered nothing at all for a while. It is down if that goes on.
    Silent = 2,
    /// Reports that it cannot reach its database, or answers only what needs none.
    NoDatabase = 3,
}

impl Condition {
    pub const ALL: [Condition; 4] = [Condition::Well, Condition::Late, Condition::Silent, Condition::NoDatabase];

    /// A label of a closed set.
    pub fn as_str(self) -> &'static str {
        match self {
            Condition::Well => "well",
            Condition::Late => "late",
            Condition::Silent => "silent",
            Condition::NoDatabase => "no_database",
        }
    }
}

/// A moment in milliseconds since the first of them. Moments of all pods compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    pub fn now() -> Moment {
        static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
        // Zero stands for "never".
        Moment(FIRST.elapsed().as_millis() as u64 + 1)
    }

    pub(super) fn millis(self) -> u64 {
        self.0
    }

    /// The moment that was so long ago.
    pub fn before_now(time: Duration) -> Moment {
        Moment(Moment::now().0.saturating_sub(time.as_millis() as u64).max(1))
    }
}

/// What is known of how one pod answers.
#[derive(Debug, Default)]
pub struct Vitals {
    condition: AtomicU8,
    /// The last sign of life.
    heard: AtomicU64,
    /// When the last check began that was answered well, however late.
    good_check: AtomicU64,
    /// What its health checks take.
    check_ms: AtomicU32,
    /// How often its share of new clients is halved.
    halvings: AtomicU8,
    /// Sessions on it that play something, at the last count.
    playing: AtomicUsize,
}

impl Vitals {
    /// How the pod does while it serves.
    pub fn condition(&self) -> Condition {
        Condition::ALL[usize::from(self.condition.load(Ordering::Relaxed)) % Condition::ALL.len()]
    }

    /// Sets that; returns what it was.
    pub fn set_condition(&self, condition: Condition) -> Condition {
        let before = self.condition.swap(condition as u8, Ordering::Relaxed);
        Condition::ALL[usize::from(before) % Condition::ALL.len()]
    }

    /// The pod has just answered something, whatever it was. Bytes of a body are no sign of life: the
    /// kernel may have kept them since before the process stopped.
    pub fn record_life(&self) {
        self.heard.store(Moment::now().0, Ordering::Relaxed);
    }

    /// Whether it has answered anything since.
    pub fn was_heard_since(&self, moment: Moment) -> bool {
        self.heard.load(Ordering::Relaxed) >= moment.0
    }

    /// A health check that began at this moment was answered well, however late.
    pub fn record_good_check(&self, began: Moment) {
        self.good_check.store(began.0, Ordering::Relaxed);
    }

    /// Whether a health check that began since was answered well, however late.
    pub fn was_checked_since(&self, moment: Moment) -> bool {
        self.good_check.load(Ordering::Relaxed) >= moment.0
    }

    /// What its health checks take at present.
    pub fn check_time(&self) -> Duration {
        Duration::from_millis(self.check_ms.load(Ordering::Relaxed).into())
    }

    pub fn set_check_time(&self, time: Duration) {
        self.check_ms.store(u32::try_from(time.as_millis()).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// How often its share of new clients is halved, since it is slow, cold or busy.
    pub fn halvings(&self) -> u8 {
        self.halvings.load(Ordering::Relaxed)
    }

    pub fn set_halvings(&self, halvings: u8) {
        self.halvings.store(halvings, Ordering::Relaxed);
    }

    /// Sessions on it that play something, at the last count.
    pub fn playing(&self) -> usize {
        self.playing.load(Ordering::Relaxed)
    }

    pub fn set_playing(&self, sessions: usize) {
        self.playing.store(sessions, Ordering::Relaxed);
    }
}
