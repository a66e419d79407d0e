//! What became of a change at one other pod.

use std::sync::Arc;

use http::StatusCode;

use crate::{forward::Failure, jellyfin::endpoint::Act, pod::Pod};

/// A pod, and what it did.
pub(super) struct PodOutcome {
    pub(super) pod: Arc<Pod>,
    pub(super) outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The pod followed.
    Done(StatusCode),
    /// There was nothing to do.
    InStep,
    /// The pod refused.
    Refused(StatusCode),
    /// The pod gave no answer, or none that can be read.
    Failed(&'static str),
    /// The pod is away, and follows at its next life.
    Away,
    /// The client's answer did not wait for the pod any longer.
    Late,
    /// Nobody asked the pod, for this reason.
    Skipped(Skip),
}

/// Why a change is not carried to other pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skip {
    /// The body is longer than jellypin keeps.
    TooLarge,
    /// It cannot be found out what changed, or by whose right.
    Unknown,
    /// Another user is signed in on the device too.
    SharedDevice,
    /// Too many changes are under way.
    Busy,
}

/// What was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    SameRequest,
    ItemDeletion,
    ItemPicture,
    UserPicture,
    SplashScreen,
    Settings,
    Library,
    Sidecar,
    UserDevices,
    /// Nothing was: a pod comes back.
    Return,
    /// Others tell the pods of it.
    Other,
}

impl Label {
    pub(super) fn of(act: Act<'_>) -> Label {
        match act {
            Act::Same { .. } | Act::Refresh(_) => Label::SameRequest,
            Act::Items(_) => Label::ItemDeletion,
            Act::Images { .. } | Act::RemoteImage { .. } => Label::ItemPicture,
            Act::UserImage(_) => Label::UserPicture,
            Act::Splashscreen => Label::SplashScreen,
            Act::Document { .. } => Label::Settings,
            Act::Library => Label::Library,
            Act::Sidecar { .. } => Label::Sidecar,
            Act::UserDeletion(_) => Label::UserDevices,
            Act::UserData | Act::Revocation => Label::Other,
        }
    }

    /// The label of the metric, of a closed set.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Label::SameRequest => "same_request",
            Label::ItemDeletion => "item_deletion",
            Label::ItemPicture => "item_picture",
            Label::UserPicture => "user_picture",
            Label::SplashScreen => "splash_screen",
            Label::Settings => "settings",
            Label::Library => "library",
            Label::Sidecar => "sidecar",
            Label::UserDevices => "user_devices",
            Label::Return => "return",
            Label::Other => "other",
        }
    }
}

impl Outcome {
    pub(super) fn of(answered: Result<StatusCode, Failure>) -> Outcome {
        match answered {
            Ok(status) if status.is_success() => Outcome::Done(status),
            Ok(status) => Outcome::Refused(status),
            Err(failure) => Outcome::Failed(failure.cause.as_str()),
        }
    }

    /// Whether a later attempt may end otherwise.
    pub(super) fn is_transient(self) -> bool {
        match self {
            Outcome::Refused(status) => status.is_server_error(),
            Outcome::Failed(_) => true,
            Outcome::Done(_) | Outcome::InStep | Outcome::Away | Outcome::Late | Outcome::Skipped(_) => false,
        }
    }

    /// Whether the pod goes on with what it had.
    pub(super) fn is_behind(self) -> bool {
        !matches!(self, Outcome::Done(_) | Outcome::InStep | Outcome::Away | Outcome::Late)
    }

    /// The label of the metric, of a closed set.
    pub(super) fn label(self) -> &'static str {
        match self {
            Outcome::Done(_) => "done",
            Outcome::InStep => "in_step",
            Outcome::Refused(_) => "refused",
            Outcome::Failed(_) => "failed",
            Outcome::Away => "away",
            Outcome::Late => "late",
            Outcome::Skipped(_) => "skipped",
        }
    }

    /// For the access line and the log.
    pub(super) fn shown(&self) -> &str {
        match self {
            Outcome::Done(status) | Outcome::Refused(status) => status.as_str(),
            Outcome::Failed(why) => why,
            Outcome::Skipped(why) => why.as_str(),
            Outcome::InStep | Outcome::Away | Outcome::Late => self.label(),
        }
    }
}

impl Skip {
    fn as_str(self) -> &'static str {
        match self {
            Skip::TooLarge => "too_large",
            Skip::Unknown => "unknown",
            Skip::SharedDevice => "shared_device",
            Skip::Busy => "busy",
        }
    }
}
