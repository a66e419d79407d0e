//! How a session came to its home, for operators to see.

use crate::{pod::PodInstance, sessions::UnixMillis};

/// Why a session came to the pod that it lives on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MoveReason {
    /// It signed in there, or jellypin saw it there first.
    #[default]
    First,
    /// The pod has begun a new epoch, and knows the session in it.
    Restart,
    /// Its previous home was gone.
    HomeGone,
    /// Its previous home was drained.
    Drain,
    /// A SyncPlay group that it joins is there.
    Group,
    /// Its user lives there.
    User,
    /// An operator moved it.
    Operator,
    /// A stored entry says so: this proxy's from before its start, or another replica's.
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
            MoveReason::User => "user",
            MoveReason::Operator => "operator",
            MoveReason::StoredEntry => "kept",
        }
    }
}

/// A session's last move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Move {
    pub at: UnixMillis,
    /// Its previous home, if known.
    pub from: Option<PodInstance>,
    pub why: MoveReason,
}
