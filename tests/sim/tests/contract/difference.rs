//! One difference between what was recorded and what the simulated pod did, and where it lies.

use std::fmt;

/// What kind of difference it is. A row of the table of tolerated differences names the kind it forgives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// The recording has it, the simulated pod has not.
    Missing,
    /// The simulated pod has it, the recording has not.
    Extra,
    /// Another type of JSON value, or another structure of a line.
    Shape,
    /// The same thing with another value.
    Value,
    /// An array, a list of lines or a body of another length.
    Length,
}

pub(crate) struct Difference {
    pub(crate) kind: Kind,
    /// Where: `status`, `header Age`, `body MediaSources[].Size`, `frame Data[].Id`, `playlist …`.
    pub(crate) at: String,
    /// What was recorded and what was seen, for the reader of the report.
    pub(crate) detail: String,
}

impl Difference {
    pub(crate) fn new(kind: Kind, at: impl Into<String>, detail: impl Into<String>) -> Difference {
        Difference { kind, at: at.into(), detail: detail.into() }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {}: {}", self.kind, self.at, self.detail)
    }
}
