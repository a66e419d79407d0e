//! Moments within this process, as small numbers.

use tokio::time::Instant;

/// How long this process knows sessions. All of them share one.
#[derive(Clone, Copy, Debug)]
pub struct Uptime(Instant);

impl Default for Uptime {
    fn default() -> Uptime {
        Uptime::start()
    }
}

impl Uptime {
    pub fn start() -> Uptime {
        Uptime(Instant::now())
    }

    pub fn seconds(self) -> u32 {
        self.0.elapsed().as_secs().try_into().unwrap_or(u32::MAX)
    }

    /// The present second plus one, so that it is never 0.
    pub fn moment(self) -> u32 {
        self.seconds().saturating_add(1)
    }
}
