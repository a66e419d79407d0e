//! What the ledger is asked, and what it answers.

use tokio::{sync::watch, time::Instant};

use crate::{
    jellyfin::user_data::{Fields, Id},
    pod::PodInstance,
    proxy::user_data_state::round::Round,
};

/// A pod whose memory may hold rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) struct PodView {
    pub(in crate::proxy) instance: PodInstance,
    /// Whether it can be asked now. If not, its process may still come back with its memory.
    pub(in crate::proxy) is_alive: bool,
    /// Whether its machine sleeps, however long, and so may its process.
    pub(in crate::proxy) sleeps: bool,
}

/// What a request is about to do on a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Access {
    /// Writes user data: of this item, or of one that only the body names.
    Write(Option<Id>),
    /// Reads this item.
    Item(Id),
    /// Anything else.
    Other,
    /// Whatever comes: the user moves there.
    All,
}

/// Whether a request may go to its pod.
pub(in crate::proxy) enum Admission {
    /// It may. A write brings its ticket back.
    Granted(Option<Ticket>),
    /// The pod is to be told first. The receiver hears of every change.
    Wait(watch::Receiver<()>),
}

/// A write that is under way to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) struct Ticket(pub(super) u64);

/// What is to be done for a user.
#[derive(Debug)]
pub(in crate::proxy) enum Plan {
    Work(Vec<Round>),
    /// Nothing until this moment, or a change.
    Wait(Option<Instant>),
    /// Nothing at all: the task stops.
    Done,
}

/// Whether a pod may be told of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum TellPermit {
    /// It may, but for these fields, which it wrote last itself.
    Without(Fields),
    /// Something was written since the rows were read, or is being written there.
    Stale,
}

/// How telling a pod went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum TellOutcome {
    Done,
    Failed,
}

impl Access {
    pub(super) fn may_write(self, item: Id) -> bool {
        matches!(self, Access::Write(of) if of.is_none_or(|of| of == item))
    }
}
