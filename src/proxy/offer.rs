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
    call::on_behalf_of,
    carry::Standing,
    decide::{self, Decision},
    exchange::Exchange,
    reply::Refusal,
};
use crate::{
    affinity::pins::{Home, Kind},
    carryover::{Token, session::Place},
    forward::{
        Cause, Failure, Patience,
        answer::AnswerBody,
        outbound::{Outbound, Source},
        retry::{self, Next},
    },
    health,
    identity::{
        endpoint::{self, Endpoint},
        verdict::{self, Verdict},
    },
    pod::{Pod, PodId},
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
        let mut place = None;
        let mut pause = LOOK;
        let mut breaks = 0;
        loop {
            let offered = self.ask_each(asking, source, exchange).await;
            breaks +=
                u32::from(matches!(offered, Err(refusal) if !matches!(refusal, Refusal::NoPod | Refusal::Undecided)));
            let is_refused = match &offered {
                Ok(offered) => offered.verdict == Verdict::UnknownToken,
                Err(refusal) => *refusal == Refusal::DeadToken,
            };
            let is_worth = match &offered {
                _ if is_refused => self.home_is_away(asking) || self.is_uncertain(asking),
                Ok(offered) if asking.got_start_up_page(offered) => asking.waits_out(offered, began),
                Ok(offered) => is_fatal(asking.endpoint, offered.answer.status()),
                Err(refusal) => asking.waits_after(*refusal, breaks),
            };
            if !is_worth || !source.can_replay() {
                return offered;
            }
            place = place.or_else(|| self.site.place(source));
            if place.is_none() {
                return asking.in_vain(offered);
            }
            if !self.pod_may_answer(asking, pause, began + self.site.forward.hold).await {
                if is_refused {
                    // Held once in vain: the next request of this client is not.
                    self.forget_token(asking);
                }
                if is_refused && self.is_uncertain(asking) {
                    // Whoever hears 401 forgets his token, and nobody knows yet that he has to.
                    return Err(if asking.endpoint.is_media() { Refusal::Media } else { Refusal::Undecided });
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
        let mut last = Err(Refusal::NoPod);
        loop {
            let Some(decision) = self.decide(asking, &tried) else { return self.placed(asking, last) };
            if last.is_ok() && !decision.pod.status().is_alive() {
                // A refusal of a living pod tells more than what a dead one would.
                return self.placed(asking, last);
            }
            let pod = decision.pod.clone();
            exchange.decided(&decision);
            match self.ask(asking, source, decision).await {
                Ok(offered) => {
                    exchange.answered(offered.answer.status().as_u16());
                    let why = match offered.verdict {
                        Verdict::UnknownToken if asking.session().is_some() => {
                            match Box::pin(self.doubt(asking, source, &offered)).await {
                                Doubted::GoOn => "unknown_token",
                                Doubted::AskAgain => continue,
                                Doubted::Final => return Ok(offered),
                            }
                        }
                        Verdict::UnknownToken if self.goes_on(asking, source, &pod) => "unknown_token",
                        _ if asking.may_be_elsewhere(&offered) && source.can_replay() => "unknown_code",
                        _ if asking.got_start_up_page(&offered) && source.can_replay() => "starting",
                        _ if is_fatal(asking.endpoint, offered.answer.status()) => "server_error",
                        _ => return Ok(offered),
                    };
                    exchange.moved(&pod, why);
                    last = Ok(offered);
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
            handshake::to_pod(request.headers_mut());
            return self.forward.upgrade(&decision.pod, request).await;
        }
        let patience = Patience { first_byte: self.site.first_byte(asking.endpoint), until_lost: asking.can_repeat() };
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
            Some(session) => decide::of_session(&pods, asking.endpoint, &asking.keys, session, &self.site.pins, tried),
            None => decide::decide(&pods, &asking.keys, &self.site.pins, tried, self.site.turn()),
        }
    }

    /// After a refusal of a known session's token.
    ///
    /// Where the session is known to be valid, the refusal may be the endpoint's own affair, or the end of the session: the pod
    /// is asked which. A living home that does not know its token any more has ended it, unless another replica has carried
    /// the session meanwhile.
    async fn doubt(self: &Arc<Self>, asking: &Asking<'_>, source: &Source, offered: &Offered) -> Doubted {
        let Some(session) = asking.session() else { return Doubted::Final };
        let (pod, place) = (&offered.decision.pod, Place::of(&offered.decision.pod));
        let own = asking.keys.identity.token.as_deref().unwrap_or_default();
        let used = offered.token.as_ref().map_or(own, Token::as_str);
        let was_valid = session.token_at(place).is_some();
        if was_valid {
            let client = on_behalf_of(asking);
            match self.ask_who(pod, &asking.pool.pool.base_path, used, &client).await {
                Ok(Standing::Unknown) => session.leave(place),
                Ok(Standing::Known { .. }) | Err(_) => return Doubted::Final,
            }
        }
        self.site.refusals.remember(used, pod);
        if was_valid && session.home() == Some(place) {
            self.site.sessions.refresh(session).await;
            let is_untried = |token: &Token| !self.site.refusals.is_refused(token.as_str(), pod);
            if session.tokens().iter().any(|minted| is_untried(&minted.token)) {
                return if source.can_replay() { Doubted::AskAgain } else { Doubted::Final };
            }
            // Another replica may have ended it, or minted another token for it: the request is held until Redis says which.
            if self.is_uncertain(asking) {
                return Doubted::GoOn;
            }
            self.site.sessions.end(session);
            asking.pool.pool.pods().iter().for_each(|pod| self.site.refusals.remember(own, pod));
            self.forget_token(asking);
            return Doubted::Final;
        }
        let goes_on = source.can_replay() && self.site.budget.spend(asking.origin, Instant::now());
        if goes_on { Doubted::GoOn } else { Doubted::Final }
    }

    /// The pods that refused this token in their present life need not be asked again.
    fn pods_known_to_refuse(&self, asking: &Asking<'_>) -> Result<Vec<PodId>, Refusal> {
        match asking.client_session {
            ClientSession::Ended if asking.demanded_token().is_some() => return Err(Refusal::DeadToken),
            // Which pods know a session by which token is its own affair.
            ClientSession::Ended | ClientSession::Known(_) => return Ok(Vec::new()),
            ClientSession::Unknown => {}
        }
        if self.site.refusals.is_empty() {
            return Ok(Vec::new());
        }
        let Some(token) = asking.demanded_token() else { return Ok(Vec::new()) };
        let pods = asking.pool.pool.pods();
        if self.site.refusals.is_dead(token, pods.iter().map(|pod| &**pod)) {
            if !asking.endpoint.is_media() {
                return Err(Refusal::DeadToken);
            }
            // A player gets no error that the proxy made: one pod is asked for its own.
            let asked = decide::place(&pods, &asking.keys, &[], 0).map(|decision| decision.pod.id);
            return Ok(pods.iter().map(|pod| pod.id).filter(|id| Some(*id) != asked).collect());
        }
        let refuses = pods.iter().filter(|pod| self.site.refusals.is_refused(token, pod));
        Ok(refuses.map(|pod| pod.id).collect())
    }

    /// After a refusal: whether the request is offered to another pod.
    ///
    /// A living home's own refusal means that the token is dead: it was logged out there, and must not come to life on a pod
    /// that has not heard of it.
    fn goes_on(&self, asking: &Asking<'_>, source: &Source, pod: &Pod) -> bool {
        let Some(token) = asking.keys.identity.token.as_deref() else { return false };
        self.site.refusals.remember(token, pod);
        let pods = asking.pool.pool.pods();
        if self.site.refusals.is_dead(token, pods.iter().map(|pod| &**pod)) {
            // A log-out may have come meanwhile.
            return false;
        }
        if self.home(asking) == Some(Home { pod: pod.id, epoch: pod.status().epoch }) {
            pods.iter().for_each(|pod| self.site.refusals.remember(token, pod));
            self.forget_token(asking);
            return false;
        }
        source.can_replay() && self.site.budget.spend(asking.origin, Instant::now())
    }

    /// A client that no pod knows belongs to the pod where its next log-in will go.
    fn placed(&self, asking: &Asking<'_>, last: Result<Offered, Refusal>) -> Result<Offered, Refusal> {
        let mut offered = last?;
        if offered.verdict == Verdict::UnknownToken {
            self.forget_token_unless_away(asking);
            let pods = asking.pool.pool.pods();
            offered.decision = decide::place(&pods, &asking.keys, &[], self.site.turn()).unwrap_or(offered.decision);
        }
        Ok(offered)
    }

    fn home(&self, asking: &Asking<'_>) -> Option<Home> {
        self.site.pins.home(Kind::Token, asking.keys.identity.token.as_deref()?, |_, _| true)
    }

    /// The client's home is known, and is not there at the moment: it may come back, and know the token again.
    fn home_is_away(&self, asking: &Asking<'_>) -> bool {
        if matches!(asking.client_session, ClientSession::Ended) {
            return false;
        }
        let home = match asking.session() {
            Some(session) => session.home().map(|home| home.pod),
            None => self.home(asking).map(|home| home.pod),
        };
        let Some(home) = home else { return false };
        asking.pool.pool.pods().iter().any(|pod| pod.id == home && !pod.status().is_alive())
    }

    /// Another replica may have ended the client's session, or minted for it.
    fn is_uncertain(&self, asking: &Asking<'_>) -> bool {
        asking.session().is_some_and(|session| self.site.sessions.is_uncertain(session))
    }

    fn forget_token_unless_away(&self, asking: &Asking<'_>) {
        if !self.home_is_away(asking) {
            self.forget_token(asking);
        }
    }

    fn forget_token(&self, asking: &Asking<'_>) {
        if let Some(token) = asking.keys.identity.token.as_deref() {
            self.site.pins.forget(Kind::Token, token);
        }
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

/// What follows from a refusal of a known session's token.
enum Doubted {
    /// Another pod is asked.
    GoOn,
    /// The same one, by another token.
    AskAgain,
    /// The answer is the client's.
    Final,
}

impl Asking<'_> {
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

    /// A pod that does not know a code or secret says so and has done nothing; another may have made it before the leader
    /// changed.
    fn may_be_elsewhere(&self, offered: &Offered) -> bool {
        matches!(self.target, Target::Leader(Some(_))) && offered.answer.status() == StatusCode::NOT_FOUND
    }

    /// Whether the same pod may be asked again after an error of its own.
    fn may_ask_twice(&self) -> bool {
        let method = &self.head.method;
        method == Method::GET || endpoint::is_harmless_twice(method, self.path)
    }

    /// The token, where the answer hangs on it.
    fn demanded_token(&self) -> Option<&str> {
        let hangs = self.is_upgrade || self.endpoint.demands_token();
        self.keys.identity.token.as_deref().filter(|_| hangs)
    }
}

/// An answer on which real clients erase their token.
fn is_fatal(endpoint: Endpoint, status: StatusCode) -> bool {
    endpoint == Endpoint::Vital && status.is_server_error()
}
