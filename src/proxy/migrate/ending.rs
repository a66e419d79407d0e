//! How one migration ended: for its session, for the log, and for the metrics.

use crate::{forward::Cause, sessions::session::MigrationOutcome};

/// One out of a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The pod knows a token of the session.
    Known,
    /// The pod has minted a token for the session.
    Minted,
    EndedMeanwhile,
    HomeForgotIt,
    /// Another server answers at its home's address.
    OtherServer,
    NoToken,
    NoApiKey,
    /// A pod refused the mint.
    Mint(MintRefusal),
    SessionsUnreadable,
    Stopping,
    LivesElsewhere,
    StoreUnavailable,
    PodGone,
    /// The pod gave no answer.
    Failure(Cause),
}

/// Why a pod minted nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MintRefusal {
    QuickConnectDisabled,
    Initiate,
    NoCode,
    CodeOfClient,
    ApiKey,
    UserMayNotSignIn,
    UserIsGone,
    Authorize,
    LogIn,
    NoToken,
    OtherUser,
}

impl Ending {
    pub(super) fn outcome(self) -> MigrationOutcome {
        use Ending::{
            EndedMeanwhile, Failure, HomeForgotIt, Known, LivesElsewhere, Mint, Minted, NoApiKey, NoToken, OtherServer,
            PodGone, SessionsUnreadable, Stopping, StoreUnavailable,
        };
        match self {
            Known | Minted => MigrationOutcome::Done,
            EndedMeanwhile | HomeForgotIt | NoToken => MigrationOutcome::Ended,
            NoApiKey | OtherServer | Mint(_) => MigrationOutcome::Refused,
            SessionsUnreadable | Stopping | LivesElsewhere | StoreUnavailable | PodGone | Failure(_) => {
                MigrationOutcome::Failed
            }
        }
    }

    /// The label for metrics.
    pub(super) fn label(self) -> &'static str {
        match self.outcome() {
            MigrationOutcome::Done => self.as_str(),
            MigrationOutcome::Refused => "refused",
            MigrationOutcome::Ended => "dead",
            MigrationOutcome::Failed => "failed",
        }
    }

    /// The text for the log.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Ending::Known => "known",
            Ending::Minted => "minted",
            Ending::EndedMeanwhile => "ended meanwhile",
            Ending::HomeForgotIt => "its home knows it no more",
            Ending::OtherServer => "another server answers at its home's address",
            Ending::NoToken => "no token",
            Ending::NoApiKey => "no API key",
            Ending::Mint(refusal) => refusal.as_str(),
            Ending::SessionsUnreadable => "another replica's sessions cannot be read",
            Ending::Stopping => "stopping",
            Ending::LivesElsewhere => "it lives elsewhere by now",
            Ending::StoreUnavailable => "Redis does not say whether it was ended",
            Ending::PodGone => "the pod is gone",
            Ending::Failure(cause) => cause.as_str(),
        }
    }
}

impl MintRefusal {
    fn as_str(self) -> &'static str {
        match self {
            MintRefusal::QuickConnectDisabled => "Quick Connect is disabled in Jellyfin",
            MintRefusal::Initiate => "Initiate was refused",
            MintRefusal::NoCode => "Initiate gave no code",
            MintRefusal::CodeOfClient => "the code is a client's",
            MintRefusal::ApiKey => "the API key is not valid",
            MintRefusal::UserMayNotSignIn => "the user may not sign in there",
            MintRefusal::UserIsGone => "the user is gone",
            MintRefusal::Authorize => "Authorize was refused",
            MintRefusal::LogIn => "the log-in was refused",
            MintRefusal::NoToken => "the log-in gave no token",
            MintRefusal::OtherUser => "the log-in was another user's",
        }
    }
}
