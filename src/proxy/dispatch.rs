//! Step 5, forward: sends a request to pods until one takes it. If a pod cannot be reached, or does
//! not know the client's token, the same request goes to another pod.

mod failover_reason;
mod hold;
mod on_unauthorized;
mod upstream_request;
mod urgency;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use http::Response;
use tokio::time::{self, Instant};

use super::{
    migrate::Migrator,
    own_users::OwnUsers,
    pod_client::PodClient,
    request::{
        attempt::{Attempt, is_refused},
        context::{ClientSession, RequestContext},
        dispatch::Dispatch,
        reason::FailoverReason,
        record::RequestRecord,
        refusal::Refusal,
        select::{self, Decision},
    },
    selector::Selector,
    shared_state::SharedState,
    user_data::UserData,
};
use crate::{
    forward::{
        Cause, Failure, Forward,
        answer::AnswerBody,
        outbound::ReplayBody,
        retry::{self, Next},
    },
    health,
    jellyfin::{
        endpoint::{self, Endpoint, LeaderCall},
        verdict::{self, Question, Verdict},
    },
    pod::{Pod, PodId, Urgency, WakeCall},
    sessions::{Session, Token},
    shutdown::Shutdown,
    websocket::handshake,
};
use failover_reason::{failover_reason, is_fatal, may_be_other_pods_job, may_retry_on_pod};
use hold::{Hold, HoldLog, after_hold, hold_reason, is_starting_up, waits_after_rejection, waits_for_start_up};
use on_unauthorized::{AfterUnauthorized, TokenJudge};
use upstream_request::upstream_request;
use urgency::urgency;

/// How often a held request looks for a pod that may answer it.
const LOOK: Duration = Duration::from_millis(50);

/// The longest pause between two rounds of a held request. The pause grows, so that failing pods
/// get fewer and fewer attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Sends one worker's requests to pods.
pub(super) struct Dispatcher {
    shared: Arc<SharedState>,
    forward: Arc<Forward>,
    selector: Arc<Selector>,
    migrator: Arc<Migrator>,
    user_data: Arc<UserData>,
    own_users: OwnUsers,
    judge: TokenJudge,
    hold_log: HoldLog,
    shutdown: Shutdown,
}

impl Dispatcher {
    pub(super) fn new(
        shared: Arc<SharedState>,
        (forward, pods): (Arc<Forward>, Arc<PodClient>),
        selector: Arc<Selector>,
        (migrator, user_data): (Arc<Migrator>, Arc<UserData>),
        shutdown: Shutdown,
    ) -> Dispatcher {
        let own_users = OwnUsers::new(shared.clone(), pods.clone());
        let (judge, hold_log) = (TokenJudge::new(shared.clone(), selector.clone(), pods), HoldLog::default());
        Dispatcher { shared, forward, selector, migrator, user_data, own_users, judge, hold_log, shutdown }
    }

    /// Tries the pods. If none can answer, holds the request and tries again when a pod may answer,
    /// until `[timeouts] hold` has passed.
    pub(super) async fn dispatch(&self, dispatch: &mut Dispatch<'_>) -> Result<Attempt, Refusal> {
        let (ctx, body) = (dispatch.ctx, dispatch.body);
        let began = Instant::now();
        // The hold starts at the first failure, since the first round may itself have waited for a
        // pod.
        let mut hold: Option<Hold> = None;
        let mut permit = None;
        let mut wake_call = None;
        let mut pause = LOOK;
        let mut breaks = 0;
        loop {
            let attempt = self.try_pods(dispatch).await;
            breaks += u32::from(
                matches!(attempt, Err(refusal) if !matches!(refusal, Refusal::NoPod | Refusal::UserNotThere | Refusal::StoreUnavailable)),
            );
            let is_refused = is_refused(&attempt);
            let is_worth_holding = match &attempt {
                // The client's session must be looked up first. A WebSocket client dials again by
                // itself.
                _ if is_refused && !ctx.is_upgrade && matches!(ctx.client_session, ClientSession::Unresolved) => false,
                _ if is_refused => self.selector.home_is_away(ctx) || self.selector.is_uncertain(ctx),
                Ok(attempt) if is_starting_up(ctx, attempt) => waits_for_start_up(ctx, attempt, began),
                Ok(attempt) => is_fatal(ctx.endpoint, attempt.answer.status()),
                Err(refusal) => waits_after_rejection(ctx, *refusal, breaks),
            };
            if !is_worth_holding || !body.can_replay() {
                return attempt;
            }
            permit = permit.or_else(|| self.shared.hold_permit(ctx, body));
            if permit.is_none() {
                return after_hold(ctx, attempt);
            }
            wake_call = wake_call.or_else(|| self.selector.sleeper(ctx).as_ref().map(WakeCall::new));
            let why = hold_reason(ctx, &attempt, is_refused);
            let hold = hold.get_or_insert_with(|| Hold::new(self.shared.forward.hold, why));
            let may_be_answered = self.await_pod(ctx, pause, hold).await;
            dispatch.record.held = Some((hold.began.elapsed(), hold.why));
            if !may_be_answered {
                if is_refused {
                    // Holding was in vain: do not hold this client's next request too.
                    self.selector.forget_token(ctx);
                }
                if is_refused && self.selector.is_uncertain(ctx) {
                    // A client that gets 401 erases its token, and nothing shows yet that the token
                    // is dead.
                    return Err(Refusal::of_unknown_token(ctx.endpoint));
                }
                return after_hold(ctx, attempt);
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Sends the request to this pod alone, once. What the pod says of the token concerns nobody.
    pub(super) async fn send_only(
        &self,
        dispatch: &mut Dispatch<'_>,
        decision: Decision,
        token: Option<Token>,
    ) -> Result<Attempt, Refusal> {
        let Dispatch { ctx, body, record } = dispatch;
        record.begin_attempt(&decision);
        match self.send_to_pod(ctx, body, &decision, token.as_ref()).await {
            Ok(answer) => {
                record.record_answer(answer.status().as_u16());
                self.shared.report_status(&decision.pod, answer.status());
                Ok(Attempt { answer, decision, token, verdict: Verdict::Other, user_data_write: None })
            }
            Err(failure) => {
                record.record_tried(&decision.pod, failure.cause.as_str());
                self.shared.report_failure(&decision.pod, failure, body.bytes() == 0 && !body.is_waited_for());
                Err(Refusal::of(failure, ctx.endpoint))
            }
        }
    }

    /// One round, at the pods that have the user.
    async fn try_pods(&self, dispatch: &mut Dispatch<'_>) -> Result<Attempt, Refusal> {
        if dispatch.ctx.pool.shown_server.users.is_none() {
            return self.try_others(dispatch, Vec::new()).await;
        }
        // Boxed: this path is rare, and would make every request's future larger.
        let unfit = Box::pin(self.own_users.unfit(dispatch.ctx, dispatch.body)).await;
        match Box::pin(self.try_others(dispatch, unfit.pods)).await {
            Err(Refusal::NoPod) if unfit.lacks_user => {
                self.own_users.warn(dispatch.ctx);
                Err(Refusal::UserNotThere)
            }
            attempt => attempt,
        }
    }

    /// One round: tries each other pod at most once, except after a stale connection or a stale row.
    async fn try_others(&self, dispatch: &mut Dispatch<'_>, mut tried: Vec<PodId>) -> Result<Attempt, Refusal> {
        let Dispatch { ctx, body, record } = dispatch;
        let (ctx, body) = (*ctx, *body);
        tried.extend(self.selector.known_to_refuse(ctx)?);
        tried.extend(self.selector.never_set_up(ctx));
        tried.extend(select::asleep(&ctx.pool.pool.pods()));
        // Pods that never get it. The first attempt at another one costs nobody anything.
        let excluded = tried.len();
        // The last refusal of the token, and the last other result.
        let (mut refused, mut last) = (None, Err(Refusal::NoPod));
        // The client may live on a pod that is alive but has failed. Refusals by other pods then
        // prove nothing.
        let mut home_failed = false;
        // Another pod in place of one that has too much to do must know the session already: a
        // session more on the next pod would only spread the load.
        let mut must_know = false;
        // It has waited for its turn for as long as a request may.
        let (began, mut has_waited) = (Instant::now(), false);
        loop {
            let decision = self.selector.select(ctx, &tried);
            // A living pod's word says more than an attempt at a dead pod would.
            let is_over = |pod: &Pod| (refused.is_some() || last.is_ok() || has_waited) && !pod.status().is_alive();
            let Some(decision) = decision.filter(|decision| !is_over(&decision.pod)) else {
                return self.round_outcome(ctx, refused.filter(|_| !home_failed), last, record);
            };
            let pod = decision.pod.clone();
            let is_known_at = |pod: &Pod| ctx.session().is_some_and(|session| session.is_known_at(pod));
            let is_first = tried.len() == excluded;
            if !is_first && (ctx.cannot_know_token(&pod) || (must_know && !is_known_at(&pod))) {
                tried.push(pod.id);
                continue;
            }
            // What one pod's failure costs the others is bounded.
            if !is_first && !pod.extra_calls.draw(self.shared.forward.queue_time).await {
                return Err(Refusal::overloaded(ctx.endpoint));
            }
            record.begin_attempt(&decision);
            match self.try_pod(ctx, body, decision).await {
                Ok(mut attempt) => {
                    record.record_answer(attempt.answer.status().as_u16());
                    if attempt.verdict == Verdict::UnknownToken {
                        match Box::pin(self.judge.on_unauthorized(ctx, body, &attempt)).await {
                            AfterUnauthorized::TryNextPod => {}
                            AfterUnauthorized::RetryPod => continue,
                            AfterUnauthorized::Answer => return if home_failed { last } else { Ok(attempt) },
                            AfterUnauthorized::EndpointRefused => attempt.verdict = Verdict::Other,
                        }
                    }
                    let why = failover_reason(ctx, &attempt, body.can_replay());
                    let has_made = || self.selector.has_made(ctx, &pod);
                    let why = why.filter(|why| *why != FailoverReason::UnknownCode || !has_made());
                    let is_elsewhere = || may_be_other_pods_job(&self.shared, ctx, &attempt);
                    let why = why.or_else(|| is_elsewhere().then_some(FailoverReason::UnknownJob));
                    let Some(why) = why else { return Ok(attempt) };
                    record.record_failover(&pod, why);
                    if attempt.verdict == Verdict::UnknownToken {
                        refused = Some(attempt);
                    } else {
                        home_failed |= self.selector.may_be_home(ctx, &pod);
                        last = Ok(attempt);
                    }
                    tried.push(pod.id);
                }
                Err(failure) => {
                    self.shared.report_failure(&pod, failure, body.bytes() == 0 && !body.is_waited_for());
                    // The request was lost before it was sent: its token could not be obtained.
                    let is_undecided =
                        failure.cause == Cause::Lost && !failure.may_be_received && self.selector.is_uncertain(ctx);
                    let refusal =
                        if is_undecided { Refusal::StoreUnavailable } else { Refusal::of(failure, ctx.endpoint) };
                    if retry::next(failure, ctx.can_repeat(), body.can_replay()) == Next::GiveUp {
                        record.record_tried(&pod, failure.cause.as_str());
                        return Err(refusal);
                    }
                    must_know |= failure.cause == Cause::Overloaded && ctx.required_token().is_some();
                    has_waited |= must_know && began.elapsed() >= self.shared.forward.queue_time;
                    record.record_failover(&pod, FailoverReason::Failure(failure.cause));
                    home_failed |= self.selector.may_be_home(ctx, &pod);
                    last = last.or(Err(refusal));
                    tried.push(pod.id);
                }
            }
        }
    }

    /// Tries one pod, and once more over a fresh connection or after a stale row.
    async fn try_pod(
        &self,
        ctx: &RequestContext<'_>,
        replay_body: &ReplayBody,
        decision: Decision,
    ) -> Result<Attempt, Failure> {
        let token = match ctx.session() {
            Some(_) => Box::pin(self.migrator.upstream_token(ctx, &decision.pod)).await?,
            None => None,
        };
        if let Some(session) = ctx.session().filter(|_| ctx.endpoint == Endpoint::SyncPlay) {
            Box::pin(self.await_sockets(ctx, session, &decision.pod)).await;
        }
        let mut user_data_write = self.user_data.admit(ctx, &decision.pod, token.as_ref()).await;
        upstream_request::await_report(&self.shared, ctx, replay_body).await;
        let mut may_rename = ctx.pool.writer.is_one() && endpoint::is_leased(ctx.path);
        let mut again = true;
        loop {
            match self.send_to_pod(ctx, replay_body, &decision, token.as_ref()).await {
                Ok(answer) => {
                    let (head, body) = answer.into_parts();
                    self.shared.report_status(&decision.pod, head.status);
                    let has_token = ctx.keys.identity.token.is_some();
                    let verdict = if has_token {
                        let (method, endpoint) = (&ctx.head.method, ctx.endpoint);
                        let may_repeat = may_retry_on_pod(ctx);
                        verdict::judge(Question { method, endpoint, may_repeat, is_upgrade: ctx.is_upgrade }, &head)
                    } else {
                        Verdict::Other
                    };
                    if may_rename && upstream_request::rename_leased(&self.shared, ctx, &decision.pod, &head) {
                        may_rename = false;
                        continue;
                    }
                    if verdict == Verdict::StaleRow && again && replay_body.can_replay() {
                        again = false;
                        continue;
                    }
                    let answer = Response::from_parts(head, body);
                    let user_data_write = user_data_write.take();
                    return Ok(Attempt { answer, decision, token, verdict, user_data_write });
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

    async fn send_to_pod(
        &self,
        ctx: &RequestContext<'_>,
        replay_body: &ReplayBody,
        decision: &Decision,
        token: Option<&Token>,
    ) -> Result<Response<AnswerBody>, Failure> {
        let mut request = upstream_request(&self.shared, ctx, replay_body, &decision.pod, token);
        if ctx.is_upgrade {
            handshake::restore(request.headers_mut());
            return self.forward.upgrade(&decision.pod, request, Urgency::Idle).await;
        }
        decision.pod.sleep.record_use();
        let response_timeout = self.shared.response_timeout(ctx.path, ctx.can_repeat());
        let sent = self.forward.send(&decision.pod, request, response_timeout, urgency(ctx)).await;
        if sent.as_ref().is_err_and(|failure| failure.may_be_received) {
            ctx.may_be_executed.store(true, Ordering::Relaxed);
        }
        sent
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
        if !self.selector.home_is_away(ctx) {
            self.selector.forget_token(ctx);
        }
        attempt.decision = self.selector.place(ctx).unwrap_or(attempt.decision);
        Ok(attempt)
    }

    /// Waits until a living pod may answer this request: at least `pause`, at most until the hold
    /// ends. Stops waiting when the proxy stops.
    async fn await_pod(&self, ctx: &RequestContext<'_>, pause: Duration, hold: &mut Hold) -> bool {
        tokio::select! {
            () = time::sleep(pause) => {}
            () = self.shutdown.stopping() => {}
        }
        loop {
            let refuses = |pod: &Pod| self.selector.has_refused(ctx, pod);
            if hold.is_to_be_logged() {
                self.hold_log.log_wait(hold, &ctx.pool.pool.name, self.shared.held());
            }
            if Instant::now() >= hold.end || self.shutdown.is_stopping() {
                return false;
            }
            if ctx.pool.pool.pods().iter().any(|pod| pod.can_answer() && !refuses(pod)) {
                return true;
            }
            time::sleep(LOOK).await;
        }
    }

    /// Waits until the client's sockets are at the pod that is to add it to a group. The pod
    /// announces the membership only once, over the sockets it has then.
    async fn await_sockets(&self, ctx: &RequestContext<'_>, session: &Session, pod: &Pod) {
        let is_join = matches!(LeaderCall::of(&ctx.head.method, ctx.path), Some(LeaderCall::New | LeaderCall::Join));
        if is_join && pod.status().is_alive() && !self.shared.sessions.socket_wait.all_at(session, pod).await {
            tracing::warn!(to = &*pod.name, "a client's socket is not at its pod in time; its group may not hear it");
        }
    }
}
