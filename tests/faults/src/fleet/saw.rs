//! What the clients of a fleet saw.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

/// What a player has in store: a piece that comes later is a stall.
const IN_STORE: Duration = Duration::from_secs(10);

/// What takes longer is not as usual.
const LATE: Duration = Duration::from_millis(1500);

/// What all clients saw together.
#[derive(Clone, Default)]
pub struct Saw {
    pub good: usize,
    /// GETs that were refused, or not answered whole.
    pub failed: usize,
    /// Other requests of that kind.
    pub failed_posts: usize,
    /// 401 for a token that nobody has ended.
    pub log_outs: usize,
    pub closed_sockets: usize,
    pub refused_sockets: usize,
    pub broken_films: usize,
    pub stalls: usize,
    /// What no proxy can help: its own death. It is repeated.
    pub met_dead_proxy: usize,
    pub longest_wait: Duration,
    pub longest_stall: Duration,
    /// When something was last not as usual.
    pub last_bad: Option<Instant>,
    /// What failed, and how often.
    pub failures: BTreeMap<String, usize>,
}

impl Saw {
    pub(super) fn record_good(&mut self, took: Duration) {
        self.good += 1;
        self.longest_wait = self.longest_wait.max(took);
        if took > LATE {
            self.last_bad = Some(Instant::now());
        }
    }

    pub(super) fn record_bad(&mut self, what: String) {
        self.last_bad = Some(Instant::now());
        *self.failures.entry(what).or_default() += 1;
    }

    /// A piece of a film came so long after it was wished for.
    pub(super) fn record_piece(&mut self, took: Duration) {
        self.longest_stall = self.longest_stall.max(took);
        self.stalls += usize::from(took > IN_STORE);
        if took > LATE {
            self.last_bad = Some(Instant::now());
        }
    }
}

impl fmt::Display for Saw {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failures: Vec<String> = self.failures.iter().map(|(what, count)| format!("{count} × {what}")).collect();
        write!(formatter, "{} good; {}", self.good, failures.join(", "))
    }
}
