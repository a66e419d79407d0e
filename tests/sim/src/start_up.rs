//! How a pod comes up: at once, or through the phases that a real Jellyfin shows while it starts.

use std::time::Duration;

/// What happens between the start of the process and readiness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartUp {
    /// Ready as soon as the port is open.
    #[default]
    Instant,
    /// Refused, setup server, refused again, core, ready.
    Phased(PhaseLengths),
}

/// How long each phase of a start takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhaseLengths {
    /// Nothing listens yet.
    pub refused: Duration,
    /// The setup server answers (`/health` 200 `Degraded`).
    pub setup: Duration,
    /// From the start of the setup server until the host exists and `/System/Info/Public` answers 200 in camelCase. As long
    /// as the setup itself, as recorded of 12.0: the one answer comes with `Connection: close`, and then the port is shut.
    pub host_after: Duration,
    /// How long the setup server holds `/System/Info/Public` before it gives up with a 503.
    pub info_wait: Duration,
    /// Nothing listens again, between the setup server and the main one.
    pub gap: Duration,
    /// The main server listens and its core has not completed (`/health` 503).
    pub core: Duration,
}

impl PhaseLengths {
    /// The lengths of the recorded start of a 12.0.0 pod, about nine seconds in all.
    pub const RECORDED: PhaseLengths = PhaseLengths {
        refused: Duration::from_millis(950),
        setup: Duration::from_millis(2600),
        host_after: Duration::from_millis(2600),
        info_wait: Duration::from_millis(2500),
        gap: Duration::from_millis(2300),
        core: Duration::from_millis(2900),
    };

    /// The same start, each phase made longer or shorter by one factor.
    pub fn scaled(self, factor: f64) -> PhaseLengths {
        PhaseLengths {
            refused: self.refused.mul_f64(factor),
            setup: self.setup.mul_f64(factor),
            host_after: self.host_after.mul_f64(factor),
            info_wait: self.info_wait.mul_f64(factor),
            gap: self.gap.mul_f64(factor),
            core: self.core.mul_f64(factor),
        }
    }
}

/// Where a process stands in its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing listens.
    Closed,
    /// The setup server; the flag says whether the host exists.
    Setup { host: bool },
    /// The main server before its core has completed.
    Core,
    /// Ready.
    Running,
    /// Told to end.
    Stopping,
}
