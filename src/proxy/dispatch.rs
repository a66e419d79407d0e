//! Dispatches a request to pods until one takes it. If a pod cannot be reached, or does not know
//! the client's token, the same request goes to another pod.

pub(in crate::proxy) mod hold;
pub(in crate::proxy) mod leader_routing;
pub(in crate::proxy) mod on_unauthorized;
pub(in crate::proxy) mod remote_control;
pub(in crate::proxy) mod replay;
pub(in crate::proxy) mod session_lookup;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use http::{Method, Request, Response, StatusCode, Uri};
use tokio::time::{self, Instant};

use super::{
    ClientSession, Proxy, RequestContext, Target,
    dispatch::on_unauthorized::AfterUnauthorized,
    request::{
        record::RequestRecord,
        refusal::Refusal,
        select::{self, Decision},
    },
};
use crate::{
    forward::{
        Cause, Failure,
        answer::AnswerBody,
        outbound::{ReplayBody, UpstreamBody},
        retry::{self, Next},
    },
    health,
    jellyfin::{
        endpoint::{self, Endpoint, LeaderCall},
        verdict::{self, Verdict},
    },
    pod::{Pod, PodId, PodInstance},
    sessions::Token,
    websocket::handshake,
};

/// A pod's answer, the decision that led to the pod, and what the answer means.
pub(super) struct Attempt {
    pub(super) answer: Response<AnswerBody>,
    pub(super) decision: Decision,
    /// The token that the pod received in place of the client's.
    pub(super) token: Option<Token>,
    pub(super) verdict: Verdict,
}

/// How often a held request looks for a pod that may answer it.
const LOOK: Duration = Duration::from_millis(50);

/// The longest pause between two rounds of a held request. The pause grows, so that failing pods
/// get fewer and fewer attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

impl Proxy {
    /// Tries the pods. If none can answer, holds the request and tries again when a pod may answer,
    /// until `[timeouts] hold` has passed.
    pub(super) async fn dispatch(
        self: &Arc<Self>,
        ctx: &RequestContext<'_>,
        replay_body: &ReplayBody,
        record: &mut RequestRecord,
    ) -> Result<Attempt, Refusal> {
        let began = Instant::now();
        // The hold starts at the first failure, since the first round may itself have waited for a
        // pod.
        let mut end = None;
        let mut permit = None;
        let mut pause = LOOK;
        let mut breaks = 0;
        loop {
            let attempt = self.try_pods(ctx, replay_body, record).await;
            breaks += u32::from(
                matches!(attempt, Err(refusal) if !matches!(refusal, Refusal::NoPod | Refusal::StoreUnavailable)),
            );
            let is_refused = is_refused(&attempt);
            let is_worth_holding = match &attempt {
                // The client's session must be looked up first. A WebSocket client dials again by
                // itself.
                _ if is_refused && !ctx.is_upgrade && matches!(ctx.client_session, ClientSession::Unresolved) => false,
                _ if is_refused => self.home_is_away(ctx) || self.is_uncertain(ctx),
                Ok(attempt) if ctx.is_starting_up(attempt) => ctx.waits_for_start_up(attempt, began),
                Ok(attempt) => is_fatal(ctx.endpoint, attempt.answer.status()),
                Err(refusal) => ctx.waits_after_rejection(*refusal, breaks),
            };
            if !is_worth_holding || !replay_body.can_replay() {
                return attempt;
            }
            permit = permit.or_else(|| self.shared.hold_permit(ctx, replay_body));
            if permit.is_none() {
                return ctx.after_hold(attempt);
            }
            let end = *end.get_or_insert_with(|| Instant::now() + self.shared.forward.hold);
            if !self.await_pod(ctx, pause, end).await {
                if is_refused {
                    // Holding was in vain: do not hold this client's next request too.
                    self.forget_token(ctx);
                }
                if is_refused && self.is_uncertain(ctx) {
                    // A client that gets 401 erases its token, and nothing shows yet that the token
                    // is dead.
                    return Err(ctx.store_unavailable());
                }
                return ctx.after_hold(attempt);
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One round: tries each pod at most once, except after a stale connection or a stale row.
    async fn try_pods(
        self: &Arc<Self>,
        ctx: &RequestContext<'_>,
        replay_body: &ReplayBody,
        record: &mut RequestRecord,
    ) -> Result<Attempt, Refusal> {
        let mut tried = self.pods_known_to_refuse(ctx)?;
        // The last refusal of the token, and the last other result.
        let (mut refused, mut last) = (None, Err(Refusal::NoPod));
        // The client may live on a pod that is alive but has failed. Refusals by other pods then
        // prove nothing.
        let mut home_failed = false;
        loop {
            let decision = self.select_pod(ctx, &tried);
            // A living pod's refusal says more than an attempt at a dead pod would.
            let is_over = |pod: &Pod| (refused.is_some() || last.is_ok()) && !pod.status().is_alive();
            let Some(decision) = decision.filter(|decision| !is_over(&decision.pod)) else {
                return self.round_outcome(ctx, refused.filter(|_| !home_failed), last, record);
            };
            let pod = decision.pod.clone();
            if !tried.is_empty() && ctx.cannot_know_token(&pod) {
                tried.push(pod.id);
                continue;
            }
            record.begin_attempt(&decision);
            match self.try_pod(ctx, replay_body, decision).await {
                Ok(mut attempt) => {
                    record.record_answer(attempt.answer.status().as_u16());
                    if attempt.verdict == Verdict::UnknownToken {
                        match Box::pin(self.on_unauthorized(ctx, replay_body, &attempt)).await {
                            AfterUnauthorized::TryNextPod => {}
                            AfterUnauthorized::RetryPod => continue,
                            AfterUnauthorized::Answer => return if home_failed { last } else { Ok(attempt) },
                            AfterUnauthorized::EndpointRefused => attempt.verdict = Verdict::Other,
                        }
                    }
                    let why = ctx.failover_reason(&attempt, replay_body.can_replay());
                    let why = why.filter(|why| *why != "unknown_code" || !self.has_made(ctx, &pod));
                    let why = why.or_else(|| self.may_be_other_pods_job(ctx, &attempt).then_some("unknown_job"));
                    let Some(why) = why else { return Ok(attempt) };
                    record.record_failover(&pod, why);
                    if attempt.verdict == Verdict::UnknownToken {
                        refused = Some(attempt);
                    } else {
                        home_failed |= self.may_be_home(ctx, &pod);
                        last = Ok(attempt);
                    }
                    tried.push(pod.id);
                }
                Err(failure) => {
                    self.shared.report_failure(&pod, failure, replay_body.bytes() == 0 && !replay_body.is_waited_for());
                    // The request was lost before it was sent: its token could not be obtained.
                    let is_undecided =
                        failure.cause == Cause::Lost && !failure.may_be_received && self.is_uncertain(ctx);
                    let refusal =
                        if is_undecided { Refusal::StoreUnavailable } else { Refusal::of(failure, ctx.endpoint) };
                    if retry::next(failure, ctx.can_repeat(), replay_body.can_replay()) == Next::GiveUp {
                        return Err(refusal);
                    }
                    record.record_failover(&pod, failure.cause.as_str());
                    home_failed |= self.may_be_home(ctx, &pod);
                    last = last.or(Err(refusal));
                    tried.push(pod.id);
                }
            }
        }
    }

    /// Tries one pod, and once more over a fresh connection or after a stale row.
    async fn try_pod(
        self: &Arc<Self>,
        ctx: &RequestContext<'_>,
        replay_body: &ReplayBody,
        decision: Decision,
    ) -> Result<Attempt, Failure> {
        let token = match ctx.session() {
            Some(_) => Box::pin(self.upstream_token(ctx, &decision.pod)).await?,
            None => None,
        };
        if let Some(session) = ctx.session().filter(|_| ctx.endpoint == Endpoint::SyncPlay) {
            Box::pin(self.await_sockets(ctx, session, &decision.pod)).await;
        }
        let mut again = true;
        loop {
            match self.send_to_pod(ctx, replay_body, &decision, token.as_ref()).await {
                Ok(answer) => {
                    let (head, body) = answer.into_parts();
                    self.judge_health(&decision.pod, head.status.as_u16());
                    let has_token = ctx.keys.identity.token.is_some();
                    let verdict = if has_token {
                        verdict::judge(ctx.endpoint, ctx.may_retry_on_pod(), ctx.is_upgrade, &head)
                    } else {
                        Verdict::Other
                    };
                    if verdict == Verdict::StaleRow && again && replay_body.can_replay() {
                        again = false;
                        continue;
                    }
                    return Ok(Attempt { answer: Response::from_parts(head, body), decision, token, verdict });
                }
                Err(failure)
                    if again && retry::next(failure, ctx.can_repeat(), replay_body.can_replay()) == Next::SamePod =>
                {
                    again = false;
                    health::report_suspect(&decision.pod);
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    pub(super) async fn send_to_pod(
        &self,
        ctx: &RequestContext<'_>,
        replay_body: &ReplayBody,
        decision: &Decision,
        token: Option<&Token>,
    ) -> Result<Response<AnswerBody>, Failure> {
        let mut request: Request<UpstreamBody> = self.upstream_request(ctx, replay_body, &decision.pod, token);
        if ctx.is_upgrade {
            handshake::restore(request.headers_mut());
            return self.forward.upgrade(&decision.pod, request).await;
        }
        let response_timeout = self.shared.response_timeout(ctx.path, ctx.can_repeat());
        let sent = self.forward.send(&decision.pod, request, response_timeout).await;
        if sent.as_ref().is_err_and(|failure| failure.may_be_received) {
            ctx.may_be_executed.store(true, Ordering::Relaxed);
        }
        sent
    }

    pub(super) fn select_pod(&self, ctx: &RequestContext<'_>, tried: &[PodId]) -> Option<Decision> {
        let pods = ctx.pool.pool.pods();
        if let Target::Leader(key) = &ctx.target {
            return select::of_leader(&pods, ctx.pool.leader.current(), key.as_deref(), &self.shared.pins, tried);
        }
        match ctx.session() {
            Some(session) => {
                let goes_with_media = ctx.endpoint.goes_with_media() && ctx.target != Target::NewHome;
                select::of_session(&pods, goes_with_media, &ctx.keys, session, &self.shared.pins, tried)
            }
            None => select::decide(&pods, &ctx.keys, &self.shared.pins, tried, self.shared.next_placement()),
        }
    }

    /// The result of a round. A client whose token no pod knows is bound to the pod where its next
    /// log-in will go.
    fn round_outcome(
        &self,
        ctx: &RequestContext<'_>,
        refused: Option<Attempt>,
        last: Result<Attempt, Refusal>,
        record: &mut RequestRecord,
    ) -> Result<Attempt, Refusal> {
        let Some(mut attempt) = refused else {
            if let Ok(attempt) = &last {
                record.set_status(attempt.answer.status().as_u16());
            }
            return last;
        };
        if !self.home_is_away(ctx) {
            self.forget_token(ctx);
        }
        let pods = ctx.pool.pool.pods();
        attempt.decision =
            select::place(&pods, &ctx.keys, &[], self.shared.next_placement()).unwrap_or(attempt.decision);
        Ok(attempt)
    }

    /// Waits until a living pod may answer this request: at least `pause`, at most until `end`.
    /// Stops waiting when the proxy stops.
    async fn await_pod(&self, ctx: &RequestContext<'_>, pause: Duration, end: Instant) -> bool {
        tokio::select! {
            () = time::sleep(pause) => {}
            () = self.shutdown.stopping() => {}
        }
        loop {
            let refuses = |pod: &Pod| match ctx.session() {
                Some(session) => session.is_refused(PodInstance::of(pod)),
                None => ctx.required_token().is_some_and(|token| self.shared.negative_cache.is_refused(token, pod)),
            };
            if Instant::now() >= end || self.shutdown.is_stopping() {
                return false;
            }
            if ctx.pool.pool.pods().iter().any(|pod| pod.status().is_alive() && !refuses(pod)) {
                return true;
            }
            time::sleep(LOOK).await;
        }
    }
}

/// Whether no pod knows the token.
pub(super) fn is_refused(attempt: &Result<Attempt, Refusal>) -> bool {
    match attempt {
        Ok(attempt) => attempt.verdict == Verdict::UnknownToken,
        Err(refusal) => *refusal == Refusal::DeadToken,
    }
}

impl RequestContext<'_> {
    /// The refusal to give while nobody knows whether the token is dead.
    pub(super) fn store_unavailable(&self) -> Refusal {
        if self.endpoint.is_media() { Refusal::Media } else { Refusal::StoreUnavailable }
    }

    /// Whether the right answer depends on the client's token. This holds for all but log-ins and
    /// media that anybody may fetch.
    pub(super) fn depends_on_token(&self) -> bool {
        self.is_upgrade || !matches!(self.endpoint, Endpoint::LogIn | Endpoint::AnonymousMedia)
    }

    /// Whether a pod may receive the request although another may have executed it.
    pub(super) fn can_repeat(&self) -> bool {
        let method = &self.head.method;
        method.is_idempotent()
            || endpoint::is_safe_to_repeat(method, self.path)
            || endpoint::starts_playback(method, self.path)
    }

    /// The target for the pod: usually the client's own. If a pod may already have started the
    /// playback, a progress report replaces the start, which must not happen twice.
    pub(super) fn current_target(&self) -> Uri {
        let uri = &self.head.uri;
        let may_be_executed = self.may_be_executed.load(Ordering::Relaxed);
        if may_be_executed && endpoint::starts_playback(&self.head.method, self.path) {
            return endpoint::start_as_progress(uri).unwrap_or_else(|| uri.clone());
        }
        uri.clone()
    }

    /// Why to try another pod instead of using this answer, or `None` to use it.
    fn failover_reason(&self, attempt: &Attempt, can_replay: bool) -> Option<&'static str> {
        match attempt.verdict {
            Verdict::UnknownToken => Some("unknown_token"),
            _ if self.may_be_elsewhere(attempt) && can_replay => Some("unknown_code"),
            _ if self.is_starting_up(attempt) && can_replay => Some("starting"),
            _ if is_fatal(self.endpoint, attempt.answer.status()) => Some("server_error"),
            _ => None,
        }
    }

    /// Whether another pod may know the code or secret. A pod that does not know it says so and
    /// does nothing; another may have made it before the leader changed.
    fn may_be_elsewhere(&self, attempt: &Attempt) -> bool {
        let status = attempt.answer.status();
        // For an unknown state, the single sign-on plug-in throws an exception or answers a
        // "problem".
        let is_unknown_state = self.endpoint == Endpoint::SignOn || self.is_sign_on_end();
        let is_unknown = status == StatusCode::NOT_FOUND
            || (is_unknown_state && matches!(status, StatusCode::BAD_REQUEST | StatusCode::INTERNAL_SERVER_ERROR));
        matches!(self.target, Target::Leader(Some(_))) && is_unknown
    }

    fn is_sign_on_end(&self) -> bool {
        self.endpoint == Endpoint::LogIn && LeaderCall::of(&self.head.method, self.path) == Some(LeaderCall::SignOnEnd)
    }

    /// Whether the same pod may get the request again after its own error.
    fn may_retry_on_pod(&self) -> bool {
        let method = &self.head.method;
        method == Method::GET || endpoint::is_safe_to_repeat(method, self.path)
    }

    /// The token, if the answer depends on it.
    pub(super) fn required_token(&self) -> Option<&str> {
        let hangs = self.is_upgrade || self.endpoint.requires_token();
        self.keys.identity.token.as_deref().filter(|_| hangs)
    }
}

/// Whether real clients erase their token on this answer.
fn is_fatal(endpoint: Endpoint, status: StatusCode) -> bool {
    endpoint == Endpoint::LogoutTrigger && status.is_server_error()
}
