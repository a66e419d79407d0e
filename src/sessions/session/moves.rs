//! How a session came where it lives, for an operator to see.

use crate::{pod::PodInstance, sessions::UnixMillis};

/// How a session came to the pod that it lives on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MoveReason {
    /// It has signed in there, or was seen there first.
    #[default]
    First,
    /// The pod has begun another life, and knows the session in it.
    Restart,
    /// Its home before was gone.
    HomeGone,
    /// Its home before was drained.
    Drain,
    /// A SyncPlay group that it joins is there.
    Group,
    /// So it was kept: by this proxy before its start, or by another replica.
    StoredEntry,
}

impl MoveReason {
    pub fn as_str(self) -> &'static str {
        match self {
            MoveReason::First => "first",
            MoveReason::Restart => "restart",
            MoveReason::HomeGone => "home_gone",
            MoveReason::Drain => "drain",
            MoveReason::Group => "group",
            MoveReason::StoredEntry => "kept",
        }
    }
}

/// A session's last move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Move {
    pub at: UnixMillis,
    /// Where it lived before, if that is known.
    pub from: Option<PodInstance>,
    pub why: MoveReason,
}
