//! Why a request left a pod for another.

use crate::forward::Cause;

/// One out of a closed set, for metrics and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum FailoverReason {
    /// The pod gave no answer.
    Failure(Cause),
    /// The pod does not know the client's token.
    UnknownToken,
    /// The pod does not know the code, secret or state; another may have made it.
    UnknownCode,
    /// The pod has no such live segment, stream or recording; another may run it.
    UnknownJob,
    /// The pod is starting.
    Starting,
    /// The pod failed where clients would erase their token.
    ServerError,
    /// The session that is called lives on another pod by now.
    Moved,
}

impl FailoverReason {
    pub(in crate::proxy) fn as_str(self) -> &'static str {
        match self {
            FailoverReason::Failure(cause) => cause.as_str(),
            FailoverReason::UnknownToken => "unknown_token",
            FailoverReason::UnknownCode => "unknown_code",
            FailoverReason::UnknownJob => "unknown_job",
            FailoverReason::Starting => "starting",
            FailoverReason::ServerError => "server_error",
            FailoverReason::Moved => "moved",
        }
    }
}
