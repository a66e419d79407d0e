//! A request is offered to pods until one takes it: a pod that cannot be reached, or does not know the client's token, is left
//! for another within the same exchange.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use http::{Method, Request, Response, StatusCode, Uri};
use tokio::time::{self, Instant};

use super::{
    Asking, ClientSession, Proxy, Target,
    decide::{self, Decision},
    doubt::Doubted,
    exchange::Exchange,
    reply::Refusal,
};
use crate::{
    carryover::Token,
    forward::{
        Cause, Failure,
        answer::AnswerBody,
        outbound::{Outbound, Source},
        retry::{self, Next},
    },
    health,
    identity::{
        endpoint::{self, Endpoint, Led},
        verdict::{self, Verdict},
    },
    pod::{Place, Pod, PodId},
    websocket::handshake,
};

/// A pod's answer, whose it is, and what it means.
pub(super) struct Offered {
    pub(super) answer: Response<AnswerBody>,
    pub(super) decision: Decision,
    /// The token that the pod was given in the place of the client's.
    pub(super) token: Option<Token>,
    pub(super) verdict: Verdict,
}

/// How often a held request looks for a pod that may answer it.
const LOOK: Duration = Duration::from_millis(50);

/// The longest pause between two rounds of a held request. Pods that answer, but not as they should, are asked less and less
/// often.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

impl Proxy {
    /// Offers the request to the pods. Where none can answer it, the request is held and offered again when a pod may, for a
    /// bounded time.
    pub(super) async fn offer(
        self: &Arc<Self>,
        asking: &Asking<'_>,
        source: &Source,
        exchange: &mut Exchange,
    ) -> Result<Offered, Refusal> {
        let began = Instant::now();
        // Held from the first failure on: a pod may have been waited for until then.
        let mut end = None;
        let mut permit = None;
        let mut pause = LOOK;
        let mut breaks = 0;
        loop {
            let offered = self.ask_each(asking, source, exchange).await;
            breaks +=
                u32::from(matches!(offered, Err(refusal) if !matches!(refusal, Refusal::NoPod | Refusal::Undecided)));
            let is_refused = is_refused(&offered);
            let is_worth_holding = match &offered {
                // Who he is has to be heard first; a socket's client dials again.
                _ if is_refused && !asking.is_upgrade && matches!(asking.client_session, ClientSession::Untold) => {
                    false
                }
                _ if is_refused => self.home_is_away(asking) || self.is_uncertain(asking),
                Ok(offered) if asking.got_start_up_page(offered) => asking.waits_out(offered, began),
                Ok(offered) => is_fatal(asking.endpoint, offered.answer.status()),
                Err(refusal) => asking.waits_after(*refusal, breaks),
            };
            if !is_worth_holding || !source.can_replay() {
                return offered;
            }
            permit = permit.or_else(|| self.site.hold_permit(source));
            if permit.is_none() {
                return asking.in_vain(offered);
            }
            let end = *end.get_or_insert_with(|| Instant::now() + self.site.forward.hold);
            if !self.pod_may_answer(asking, pause, end).await {
                if is_refused {
                    // Held once in vain: the next request of this client is not.
                    self.forget_token(asking);
                }
                if is_refused && self.is_uncertain(asking) {
                    // Whoever hears 401 forgets his token, and nobody knows yet that he has to.
                    return Err(asking.undecided());
                }
                return asking.in_vain(offered);
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One round: each pod at most once, but for a stale connection or a stale row.
    async fn ask_each(
        self: &Arc<Self>,
        asking: &Asking<'_>,
        source: &Source,
        exchange: &mut Exchange,
    ) -> Result<Offered, Refusal> {
        let mut tried = self.pods_known_to_refuse(asking)?;
        // The last refusal of the token, and what else came last.
        let (mut refused, mut last) = (None, Err(Refusal::NoPod));
        // The client may live on a pod that is there and has failed: what the others refuse says nothing then.
        let mut home_failed = false;
        loop {
            let decision = self.decide(asking, &tried);
            // A refusal of a living pod tells more than what a dead one would.
            let is_over = |pod: &Pod| (refused.is_some() || last.is_ok()) && !pod.status().is_alive();
            let Some(decision) = decision.filter(|decision| !is_over(&decision.pod)) else {
                return self.outcome(asking, refused.filter(|_| !home_failed), last, exchange);
            };
            let pod = decision.pod.clone();
            if !tried.is_empty() && asking.is_unknown_at(&pod) {
                tried.push(pod.id);
                continue;
            }
            exchange.decided(&decision);
            match self.ask(asking, source, decision).await {
                Ok(mut offered) => {
                    exchange.answered(offered.answer.status().as_u16());
                    if offered.verdict == Verdict::UnknownToken {
                        match Box::pin(self.doubt(asking, source, &offered)).await {
                            Doubted::GoOn => {}
                            Doubted::AskAgain => continue,
                            Doubted::Final => return if home_failed { last } else { Ok(offered) },
                            Doubted::Own => offered.verdict = Verdict::Other,
                        }
                    }
                    let why = asking.why_left(&offered, source.can_replay());
                    let why = why.filter(|why| *why != "unknown_code" || !self.has_made(asking, &pod));
                    let why = why.or_else(|| self.may_run_elsewhere(asking, &offered).then_some("unknown_job"));
                    let Some(why) = why else { return Ok(offered) };
                    exchange.moved(&pod, why);
                    if offered.verdict == Verdict::UnknownToken {
                        refused = Some(offered);
                    } else {
                        home_failed |= self.may_be_home(asking, &pod);
                        last = Ok(offered);
                    }
                    tried.push(pod.id);
                }
                Err(failure) => {
                    self.site.report(&pod, failure, source.bytes() == 0);
                    // What was not sent was lost on the way to its token.
                    let is_undecided =
                        failure.cause == Cause::Lost && !failure.maybe_received && self.is_uncertain(asking);
                    let refusal = if is_undecided { Refusal::Undecided } else { Refusal::of(failure, asking.endpoint) };
                    if retry::next(failure, asking.can_repeat(), source.can_replay()) == Next::GiveUp {
                        return Err(refusal);
                    }
                    exchange.moved(&pod, failure.cause.name());
                    home_failed |= self.may_be_home(asking, &pod);
                    last = last.or(Err(refusal));
                    tried.push(pod.id);
                }
            }
        }
    }

    /// Asks one pod, and once more over a fresh connection or after a stale row.
    async fn ask(
        self: &Arc<Self>,
        asking: &Asking<'_>,
        source: &Source,
        decision: Decision,
    ) -> Result<Offered, Failure> {
        let token = match asking.session() {
            Some(_) => Box::pin(self.passage(asking, &decision.pod)).await?,
            None => None,
        };
        if let Some(session) = asking.session().filter(|_| asking.endpoint == Endpoint::SyncPlay) {
            Box::pin(self.await_sockets(asking, session, &decision.pod)).await;
        }
        let mut again = true;
        loop {
            match self.send(asking, source, &decision, token.as_ref()).await {
                Ok(answer) => {
                    let (head, body) = answer.into_parts();
                    self.judge_health(&decision.pod, head.status.as_u16());
                    let has_token = asking.keys.identity.token.is_some();
                    let verdict = if has_token {
                        verdict::judge(asking.endpoint, asking.may_ask_twice(), asking.is_upgrade, &head)
                    } else {
                        Verdict::Other
                    };
                    if verdict == Verdict::StaleRow && again && source.can_replay() {
                        again = false;
                        continue;
                    }
                    return Ok(Offered { answer: Response::from_parts(head, body), decision, token, verdict });
                }
                Err(failure)
                    if again && retry::next(failure, asking.can_repeat(), source.can_replay()) == Next::SamePod =>
                {
                    again = false;
                    health::doubtful(&decision.pod);
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    pub(super) async fn send(
        &self,
        asking: &Asking<'_>,
        source: &Source,
        decision: &Decision,
        token: Option<&Token>,
    ) -> Result<Response<AnswerBody>, Failure> {
        let mut request: Request<Outbound> = self.outbound(asking, source, &decision.pod, token);
        if asking.is_upgrade {
            handshake::restore(request.headers_mut());
            return self.forward.upgrade(&decision.pod, request).await;
        }
        let patience = self.site.patience(asking.path, asking.can_repeat());
        let sent = self.forward.send(&decision.pod, request, patience).await;
        if sent.as_ref().is_err_and(|failure| failure.maybe_received) {
            asking.may_be_done.store(true, Ordering::Relaxed);
        }
        sent
    }

    pub(super) fn decide(&self, asking: &Asking<'_>, tried: &[PodId]) -> Option<Decision> {
        let pods = asking.pool.pool.pods();
        if let Target::Leader(key) = &asking.target {
            return decide::of_leader(&pods, asking.pool.leader.current(), key.as_deref(), &self.site.pins, tried);
        }
        match asking.session() {
            Some(session) => {
                let goes_with_media = asking.endpoint.goes_with_media() && asking.target != Target::NewHome;
                decide::of_session(&pods, goes_with_media, &asking.keys, session, &self.site.pins, tried)
            }
            None => decide::decide(&pods, &asking.keys, &self.site.pins, tried, self.site.turn()),
        }
    }

    /// What a round comes to. A client that no pod knows belongs to the pod where its next log-in will go.
    fn outcome(
        &self,
        asking: &Asking<'_>,
        refused: Option<Offered>,
        last: Result<Offered, Refusal>,
        exchange: &mut Exchange,
    ) -> Result<Offered, Refusal> {
        let Some(mut offered) = refused else {
            if let Ok(offered) = &last {
                exchange.set_status(offered.answer.status().as_u16());
            }
            return last;
        };
        if !self.home_is_away(asking) {
            self.forget_token(asking);
        }
        let pods = asking.pool.pool.pods();
        offered.decision = decide::place(&pods, &asking.keys, &[], self.site.turn()).unwrap_or(offered.decision);
        Ok(offered)
    }

    /// Waits until a living pod may answer this request: at least for `pause`, at most until `end`, and not while the proxy stops.
    async fn pod_may_answer(&self, asking: &Asking<'_>, pause: Duration, end: Instant) -> bool {
        tokio::select! {
            () = time::sleep(pause) => {}
            () = self.shutdown.stopping() => {}
        }
        loop {
            let refuses = |pod: &Pod| match asking.session() {
                Some(session) => session.is_refused(Place::of(pod)),
                None => asking.demanded_token().is_some_and(|token| self.site.refusals.is_refused(token, pod)),
            };
            if Instant::now() >= end || self.shutdown.is_stopping() {
                return false;
            }
            if asking.pool.pool.pods().iter().any(|pod| pod.status().is_alive() && !refuses(pod)) {
                return true;
            }
            time::sleep(LOOK).await;
        }
    }
}

/// Whether no pod knows the token.
pub(super) fn is_refused(offered: &Result<Offered, Refusal>) -> bool {
    match offered {
        Ok(offered) => offered.verdict == Verdict::UnknownToken,
        Err(refusal) => *refusal == Refusal::DeadToken,
    }
}

impl Asking<'_> {
    /// What is said where nobody knows whether the token is dead.
    pub(super) fn undecided(&self) -> Refusal {
        if self.endpoint.is_media() { Refusal::Media } else { Refusal::Undecided }
    }

    /// Whether the pod has to know the client's token for the right answer: so it is for all but log-ins, and media that
    /// anybody may fetch.
    pub(super) fn hangs_on_token(&self) -> bool {
        self.is_upgrade || !matches!(self.endpoint, Endpoint::LogIn | Endpoint::AnonymousMedia)
    }

    /// Whether a pod may get it though another may have carried it out.
    pub(super) fn can_repeat(&self) -> bool {
        let method = &self.head.method;
        method.is_idempotent()
            || endpoint::is_harmless_twice(method, self.path)
            || endpoint::begins_playback(method, self.path)
    }

    /// What a pod is asked for: what the client asked for, unless a pod may have done that which is not to be done twice.
    pub(super) fn target_now(&self) -> Uri {
        let uri = &self.head.uri;
        let may_be_done = self.may_be_done.load(Ordering::Relaxed);
        if may_be_done && endpoint::begins_playback(&self.head.method, self.path) {
            return endpoint::as_progress(uri).unwrap_or_else(|| uri.clone());
        }
        uri.clone()
    }

    /// Why an answer is left for that of another pod, if it is.
    fn why_left(&self, offered: &Offered, can_replay: bool) -> Option<&'static str> {
        match offered.verdict {
            Verdict::UnknownToken => Some("unknown_token"),
            _ if self.may_be_elsewhere(offered) && can_replay => Some("unknown_code"),
            _ if self.got_start_up_page(offered) && can_replay => Some("starting"),
            _ if is_fatal(self.endpoint, offered.answer.status()) => Some("server_error"),
            _ => None,
        }
    }

    /// A pod that does not know a code or secret says so and has done nothing; another may have made it before the leader
    /// changed.
    fn may_be_elsewhere(&self, offered: &Offered) -> bool {
        let status = offered.answer.status();
        // A state that is not there is an exception to the plug-in for single sign-on, or a "problem".
        let is_unknown_state = self.endpoint == Endpoint::SignOn || self.is_sign_on_end();
        let is_unknown = status == StatusCode::NOT_FOUND
            || (is_unknown_state && matches!(status, StatusCode::BAD_REQUEST | StatusCode::INTERNAL_SERVER_ERROR));
        matches!(self.target, Target::Leader(Some(_))) && is_unknown
    }

    fn is_sign_on_end(&self) -> bool {
        self.endpoint == Endpoint::LogIn && Led::of(&self.head.method, self.path) == Some(Led::SignOnEnd)
    }

    /// Whether the same pod may be asked again after an error of its own.
    fn may_ask_twice(&self) -> bool {
        let method = &self.head.method;
        method == Method::GET || endpoint::is_harmless_twice(method, self.path)
    }

    /// The token, where the answer hangs on it.
    pub(super) fn demanded_token(&self) -> Option<&str> {
        let hangs = self.is_upgrade || self.endpoint.demands_token();
        self.keys.identity.token.as_deref().filter(|_| hangs)
    }
}

/// An answer on which real clients erase their token.
fn is_fatal(endpoint: Endpoint, status: StatusCode) -> bool {
    endpoint == Endpoint::Vital && status.is_server_error()
}
