//! Why the client does not get a pod's answer: another pod may have a better one. Pure, but for the
//! budget.

use http::{Method, StatusCode};
use tokio::time::Instant;

use super::hold::is_starting_up;
use crate::{
    jellyfin::{
        endpoint::{self, Endpoint, LeaderCall},
        verdict::Verdict,
    },
    proxy::{
        request::{
            attempt::Attempt,
            context::{RequestContext, Target},
            reason::FailoverReason,
            select::Reason,
        },
        shared_state::SharedState,
    },
};

/// Why to try another pod instead of using this answer, or `None` to use it.
pub(super) fn failover_reason(ctx: &RequestContext<'_>, attempt: &Attempt, can_replay: bool) -> Option<FailoverReason> {
    match attempt.verdict {
        Verdict::UnknownToken => Some(FailoverReason::UnknownToken),
        _ if may_be_elsewhere(ctx, attempt) && can_replay => Some(FailoverReason::UnknownCode),
        _ if is_starting_up(ctx, attempt) && can_replay => Some(FailoverReason::Starting),
        _ if is_fatal(ctx.endpoint, attempt.answer.status()) => Some(FailoverReason::ServerError),
        _ => None,
    }
}

/// Whether real clients erase their token on this answer.
pub(super) fn is_fatal(endpoint: Endpoint, status: StatusCode) -> bool {
    endpoint == Endpoint::LogoutTrigger && status.is_server_error()
}

/// Whether another pod may have this segment of live HLS, live stream or recording. Only the pod
/// with the job, or that opened the stream, has it. A proxy that just started, or is one of several,
/// may not know that pod, so it asks each.
pub(super) fn may_be_other_pods_job(shared: &SharedState, ctx: &RequestContext<'_>, attempt: &Attempt) -> bool {
    let reason = attempt.decision.reason;
    let may_be_elsewhere = if ctx.is_live_segment() {
        reason != Reason::Playlist && attempt.is_missing()
    } else {
        // A file has one pod. A stream may be open on several, for different viewers.
        let is_certain = reason == Reason::LiveStream && ctx.keys.identity.live_file.is_some();
        ctx.is_for_open_stream() && !is_certain && attempt.answer.status() == StatusCode::NOT_FOUND
    };
    may_be_elsewhere && shared.budget.try_spend(ctx.origin, Instant::now())
}

/// Whether the same pod may get the request again after its own error.
pub(super) fn may_retry_on_pod(ctx: &RequestContext<'_>) -> bool {
    let method = &ctx.head.method;
    matches!(*method, Method::GET | Method::HEAD) || endpoint::is_safe_to_repeat(method, ctx.path)
}

/// Whether another pod may know the code or secret. A pod that does not know it says so and does
/// nothing; another may have made it before the leader changed.
fn may_be_elsewhere(ctx: &RequestContext<'_>, attempt: &Attempt) -> bool {
    let status = attempt.answer.status();
    // For an unknown state, the single sign-on plug-in throws an exception or answers a "problem".
    let is_unknown_state = ctx.endpoint == Endpoint::SignOn || is_sign_on_end(ctx);
    let is_unknown = status == StatusCode::NOT_FOUND
        || (is_unknown_state && matches!(status, StatusCode::BAD_REQUEST | StatusCode::INTERNAL_SERVER_ERROR));
    matches!(ctx.target, Target::Leader(Some(_))) && is_unknown
}

fn is_sign_on_end(ctx: &RequestContext<'_>) -> bool {
    ctx.endpoint == Endpoint::LogIn && LeaderCall::of(&ctx.head.method, ctx.path) == Some(LeaderCall::SignOnEnd)
}
