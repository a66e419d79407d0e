//! How a store's reads and writes come out, for metrics.

/// What became of an entry that was to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteOutcome {
    Written,
    /// The store does not keep up, or refuses it.
    Dropped,
    /// The store may hold no more.
    Full,
}

impl WriteOutcome {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            WriteOutcome::Written => "written",
            WriteOutcome::Dropped => "dropped",
            WriteOutcome::Full => "full",
        }
    }
}

/// What became of a look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LookupOutcome {
    Hit,
    Miss,
    /// The store was not asked.
    Skipped,
    Failed,
    TimedOut,
}

impl LookupOutcome {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            LookupOutcome::Hit => "hit",
            LookupOutcome::Miss => "miss",
            LookupOutcome::Skipped => "skipped",
            LookupOutcome::Failed => "failed",
            LookupOutcome::TimedOut => "timed_out",
        }
    }
}
