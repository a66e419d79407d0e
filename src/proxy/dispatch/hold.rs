//! Which requests wait while no pod can answer them. Pure.
//!
//! A single pod that restarts is away for some ten seconds. First, nothing listens; then its set-up
//! server answers 503 with a page. Then again nothing listens, and the server itself answers 503
//! with a page until its core is complete. None of these executes a request, so a request that
//! waits can still be served normally.
//!
//! The set-up server does answer one question: who the server is. Its answer differs from the real
//! server's: clients take it for another server, or for one that was never set up.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    jellyfin::endpoint::{self, Endpoint},
    pod::{State, Status},
    proxy::request::{attempt::Attempt, context::RequestContext, refusal::Refusal},
};

/// A hold is logged once it has lasted so long.
const LONG: Duration = Duration::from_secs(2);

/// A request that waits for a pod.
pub(super) struct Hold {
    pub(super) began: Instant,
    pub(super) end: Instant,
    /// Why it began to wait, out of a closed set.
    pub(super) why: &'static str,
    /// The log has a line about it.
    pub(super) is_logged: bool,
}

impl Hold {
    pub(super) fn new(longest: Duration, why: &'static str) -> Hold {
        let began = Instant::now();
        Hold { began, end: began + longest, why, is_logged: false }
    }

    /// Whether the log is to have a line because the request still waits.
    pub(super) fn is_to_be_logged(&self) -> bool {
        !self.is_logged && self.began.elapsed() >= LONG
    }
}

/// Thousands of requests may begin to wait at once. One line in this time tells of all of them.
const LOG_AGAIN: Duration = Duration::from_secs(1);

/// One worker's lines of the log about requests that wait.
#[derive(Default)]
pub(super) struct HoldLog {
    logged: Mutex<Option<Instant>>,
}

impl HoldLog {
    /// Logs that requests wait, unless it was just logged. `held`: how many there are.
    pub(super) fn log_wait(&self, hold: &mut Hold, pool: &str, held: usize) {
        hold.is_logged = true;
        let now = Instant::now();
        let mut logged = self.logged.lock();
        if logged.is_none_or(|at| now.duration_since(at) >= LOG_AGAIN) {
            *logged = Some(now);
            drop(logged);
            tracing::info!(pod.pool = pool, wait.why = hold.why, held, "a request has waited for two seconds");
        }
    }
}

/// Why a request begins to wait after this attempt. `is_refused`: no pod that was asked knows the
/// token.
pub(super) fn hold_reason(
    ctx: &RequestContext<'_>,
    attempt: &Result<Attempt, Refusal>,
    is_refused: bool,
) -> &'static str {
    match attempt {
        _ if is_refused => "home_away",
        Ok(attempt) if is_starting_up(ctx, attempt) => "starting",
        Ok(_) => "server_error",
        Err(refusal) => refusal.as_str(),
    }
}

/// How long jellypin believes a pod that says it is starting while its state says it is ready.
/// Health checks notice a real start sooner; after that time the answer means something else.
const UNNOTICED: Duration = Duration::from_secs(3);

/// Whether the answer is a starting pod's page, or its set-up server's answer to who the server
/// is. The pod has not executed such a request.
///
/// A pod without its database is not starting; its answers are final.
pub(super) fn is_starting_up(ctx: &RequestContext<'_>, attempt: &Attempt) -> bool {
    let (answer, pod) = (&attempt.answer, attempt.decision.pod.status());
    is_start_up_page(answer.status(), answer.headers(), pod.state)
        || (answer.status() == StatusCode::OK && may_be_set_up_server(pod) && ctx.contains_address())
}

/// Whether to wait out a start-up page. `began`: when the first attempt was made.
pub(super) fn waits_for_start_up(ctx: &RequestContext<'_>, attempt: &Attempt, began: Instant) -> bool {
    let is_alive = attempt.decision.pod.status().is_alive();
    can_wait(ctx) && (!is_alive || began.elapsed() < UNNOTICED)
}

/// Whether to hold a request that got no answer. `breaks`: how many of its rounds may have
/// reached a pod.
pub(super) fn waits_after_rejection(ctx: &RequestContext<'_>, refusal: Refusal, breaks: u32) -> bool {
    if !refusal.is_transient() || !can_wait(ctx) {
        return false;
    }
    // A late pod is alive and may still be working on the request. Only where clients would
    // erase their token is it worth another attempt.
    if refusal == Refusal::TimedOut && ctx.endpoint != Endpoint::LogoutTrigger {
        return false;
    }
    // One more attempt, in case the pod was killed; a request that kills its pod must not
    // repeat it. Asking who the server is kills no pod, and on an error the client takes the
    // server for gone.
    let may_ask_again =
        ctx.endpoint.is_failure_costly() || ctx.contains_address() || (refusal == Refusal::Broken && breaks <= 1);
    let is_unsent = matches!(refusal, Refusal::NoPod | Refusal::UserNotThere | Refusal::StoreUnavailable);
    is_unsent || (ctx.can_repeat() && may_ask_again)
}

/// The final result for a request that was held in vain, or for which there was no room.
pub(super) fn after_hold(ctx: &RequestContext<'_>, attempt: Result<Attempt, Refusal>) -> Result<Attempt, Refusal> {
    match attempt {
        Ok(attempt) if is_starting_up(ctx, &attempt) => {
            Err(if ctx.endpoint.is_media() { Refusal::Media } else { Refusal::NoPod })
        }
        attempt => attempt,
    }
}

/// Whether the request may wait. A probe must not: its client wants the state of this moment.
fn can_wait(ctx: &RequestContext<'_>) -> bool {
    !endpoint::is_probe(ctx.path)
}

/// Whether the answer may come from this pod's set-up server: the pod says that it is starting, or
/// it refused connections at the last check. In the second case, what answers now has just begun.
fn may_be_set_up_server(pod: Status) -> bool {
    pod.state == State::Starting || !pod.accepts
}

fn is_start_up_page(status: StatusCode, headers: &HeaderMap, state: State) -> bool {
    let is_page = || {
        let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
        kind.get(..9).is_some_and(|start| start.eq_ignore_ascii_case(b"text/html"))
    };
    status == StatusCode::SERVICE_UNAVAILABLE
        && (state == State::Starting || headers.contains_key(header::RETRY_AFTER) || is_page())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::pod::Epoch;

    fn page(kind: &'static str, retry_after: bool) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        if retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("005"));
        }
        headers
    }

    #[test]
    fn who_a_pod_is_may_be_said_by_its_set_up_server_unless_it_was_well_or_ill_before() {
        let pod = |state, accepts| Status { state, accepts, epoch: Epoch(1) };
        assert!(may_be_set_up_server(pod(State::Starting, true)), "it says that it is starting");
        assert!(may_be_set_up_server(pod(State::Down, false)), "nobody listened");
        assert!(!may_be_set_up_server(pod(State::Down, true)), "no database");
        assert!(!may_be_set_up_server(pod(State::Ready, true)) && !may_be_set_up_server(pod(State::Draining, true)));
    }

    #[test]
    fn a_starting_pod_is_logged_from_one_that_is_ill() {
        let (load_guard, ready, down) = (StatusCode::SERVICE_UNAVAILABLE, State::Ready, State::Down);
        assert!(is_start_up_page(load_guard, &page("text/html", true), ready), "the set-up server");
        assert!(
            is_start_up_page(load_guard, &page("Text/HTML; charset=utf-8", false), down),
            "the core is not complete"
        );
        assert!(is_start_up_page(load_guard, &page("text/plain", false), State::Starting));
        assert!(!is_start_up_page(load_guard, &page("text/plain", false), down), "Unhealthy: no database");
        assert!(!is_start_up_page(load_guard, &HeaderMap::new(), ready));
        assert!(!is_start_up_page(StatusCode::BAD_GATEWAY, &page("text/html", true), ready));
    }
}
