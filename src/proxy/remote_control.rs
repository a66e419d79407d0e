//! Remote control of a session on another pod (`/Sessions/{id}/…`).
//!
//! Only the pod that has the session can answer. It gets the call by a token of the caller's own,
//! so that it judges by its own rule and shows the receiver who calls. If it knows none, one is
//! minted, and the caller's trace there is removed behind the answer. Only if that fails, the API
//! key calls, after the caller's own pod has said who the caller is.
//!
//! A message that meets a session on its way to another pod is sent once more to that pod.

use std::{sync::Arc, time::Duration};

use http::{Request, StatusCode, Uri, header, request};
use tokio::time::{self, Instant};

use super::{
    dispatch::Dispatcher,
    migrate::{MigrationKind, MigrationRequest, Migrator},
    pod_client::{Caller, PodClient},
    request::{
        attempt::Attempt,
        context::RequestContext,
        dispatch::Dispatch,
        reason::FailoverReason,
        refusal::Refusal,
        select::{Decision, Reason},
    },
    selector::Selector,
    session_lists::SessionLists,
    shared_state::SharedState,
    visit::Visits,
};
use crate::{
    jellyfin::{
        authorization,
        client::users::{self, TokenStatus},
        endpoint::{Control, RemoteControl, query_with},
        session_list::PROXY_DEVICE,
    },
    observe::metrics::{self, Metrics},
    pod::{Pod, PodInstance},
    sessions::{Device, PodSessionId, Session, Token, plain_id, session::MigrationOutcome},
    shutdown::Shutdown,
};

/// How long a call waits for a session that is on its way to another pod. It usually takes less
/// than one second.
const LONGEST: Duration = Duration::from_secs(5);

/// How often it looks whether the session has arrived.
const LOOK: Duration = Duration::from_millis(25);

/// A session that has moved within this time may have sockets of other replicas still on their way.
const MOVED_LATELY: Duration = Duration::from_secs(10);

/// Sends one worker's remote controls to the pods that have the sessions.
pub(super) struct RemoteController {
    shared: Arc<SharedState>,
    dispatcher: Arc<Dispatcher>,
    selector: Arc<Selector>,
    migrator: Arc<Migrator>,
    visits: Arc<Visits>,
    pods: Arc<PodClient>,
    lists: Arc<SessionLists>,
    metrics: Metrics,
    shutdown: Shutdown,
}

/// How a caller is known to the pod that has the session.
enum CallerThere {
    /// By a token of the caller's own; `None` means the one that the request carries.
    Own(Option<Token>),
    /// Not at all: jellypin calls for this user.
    Key { user: String, key: Token },
}

impl RemoteController {
    pub(super) fn new(
        shared: Arc<SharedState>,
        (dispatcher, selector): (Arc<Dispatcher>, Arc<Selector>),
        (migrator, visits): (Arc<Migrator>, Arc<Visits>),
        (pods, lists): (Arc<PodClient>, Arc<SessionLists>),
        (metrics, shutdown): (Metrics, Shutdown),
    ) -> RemoteController {
        RemoteController { shared, dispatcher, selector, migrator, visits, pods, lists, metrics, shutdown }
    }

    /// Dispatches a call on another client's session to the pod that has it.
    pub(super) async fn dispatch(&self, dispatch: &mut Dispatch<'_>) -> Result<Attempt, Refusal> {
        let ctx = dispatch.ctx;
        let call = RemoteControl::of(&ctx.head.method, ctx.path);
        let id = call.and_then(|call| PodSessionId::parse(call.session));
        let (Some(call), Some(id), Some(_)) = (call, id, self.lists.key_for(ctx.pool)) else {
            return self.dispatcher.dispatch(dispatch).await;
        };
        // A call may be sent twice, so its body must be there. The pod itself ends bodies that come
        // too slowly.
        let _ = time::timeout(LONGEST, dispatch.body.read_ahead()).await;
        let target = self.shared.sessions.known.listed_as(&ctx.pool.pool.name, id);
        if let Some(target) = &target
            && self.is_accepted(ctx).await
        {
            return self.control_known(dispatch, call, target).await;
        }
        // Another replica may know the session, or another pod the caller. The caller's own pod
        // answers first.
        let attempt = self.dispatcher.dispatch(dispatch).await?;
        if attempt.answer.status() != StatusCode::NOT_FOUND || !dispatch.body.can_replay() {
            return Ok(attempt);
        }
        if let Some(target) = &target {
            return self.control_known(dispatch, call, target).await;
        }
        match self.lists.pod_with(ctx.pool, &attempt.decision.pod, call.session).await {
            Some(pod) => self.control_on(dispatch, call, &pod).await,
            None => Ok(attempt),
        }
    }

    /// Whether a pod knows the caller. Nobody else may make jellypin wait or ask.
    async fn is_accepted(&self, ctx: &RequestContext<'_>) -> bool {
        if ctx.session().is_some() {
            return true;
        }
        let (Some(token), Some(own)) = (ctx.keys.identity.token.as_deref(), self.selector.select(ctx, &[])) else {
            return false;
        };
        let said = self.pods.call(&own.pod, &Caller::of(ctx), users::who_am_i(token)).await;
        matches!(said, Ok(TokenStatus::Known { .. }))
    }

    /// Calls a session that this process knows, wherever it lives.
    async fn control_known(
        &self,
        dispatch: &mut Dispatch<'_>,
        call: RemoteControl<'_>,
        target: &Arc<Session>,
    ) -> Result<Attempt, Refusal> {
        let end = Instant::now() + LONGEST;
        let mut is_first = true;
        loop {
            let Some(pod) = self.await_arrival(dispatch.ctx, target, call.act, end).await else {
                // Nobody has the session now: the caller's own pod says so.
                return self.dispatcher.dispatch(dispatch).await;
            };
            let before = target.sockets.remote_controls();
            let attempt = self.control_on(dispatch, call, &pod).await;
            let is_done = match &attempt {
                Ok(attempt) if attempt.answer.status().is_success() => {
                    !call.act.is_message() || lives_on(target, &pod) || target.sockets.remote_controls() != before
                }
                Ok(attempt) => attempt.answer.status() != StatusCode::NOT_FOUND,
                Err(refusal) => !refusal.is_transient(),
            };
            // A pod that answers may have seen the session leave; a session that rests is not there.
            let is_at_rest = attempt.is_ok() && lives_on(target, &pod) && target.residence.moved_for() > MOVED_LATELY;
            let is_over = is_done || !is_first || is_at_rest || !dispatch.body.can_replay();
            if is_over || !self.await_change(target, &pod, end).await {
                return attempt;
            }
            is_first = false;
            dispatch.record.record_failover(&pod, FailoverReason::Moved);
        }
    }

    /// Calls the session on this pod.
    async fn control_on(
        &self,
        dispatch: &mut Dispatch<'_>,
        call: RemoteControl<'_>,
        pod: &Arc<Pod>,
    ) -> Result<Attempt, Refusal> {
        let own_pod = self.selector.select(dispatch.ctx, &[]).map(|decision| decision.pod);
        if let Some(own_pod) = own_pod.filter(|own_pod| own_pod.id != pod.id)
            && let Some(attempt) = self.control_from(dispatch, call, (pod, &own_pod)).await
        {
            return attempt;
        }
        let attempt = self.dispatcher.dispatch(dispatch).await?;
        // Another pod than expected knows the caller, and that one has no such session.
        let own_pod = attempt.decision.pod.clone();
        if attempt.answer.status() == StatusCode::NOT_FOUND
            && own_pod.id != pod.id
            && dispatch.body.can_replay()
            && let Some(attempt) = self.control_from(dispatch, call, (pod, &own_pod)).await
        {
            return attempt;
        }
        Ok(attempt)
    }

    /// Calls the session on a pod that is not the caller's own. `None` if that pod may not be called
    /// for this caller.
    async fn control_from(
        &self,
        dispatch: &mut Dispatch<'_>,
        call: RemoteControl<'_>,
        (pod, own_pod): (&Arc<Pod>, &Arc<Pod>),
    ) -> Option<Result<Attempt, Refusal>> {
        let ctx = dispatch.ctx;
        let decision = Decision::new(pod.clone(), Reason::Session);
        let attempt = match self.caller_there(ctx, pod, own_pod).await? {
            CallerThere::Own(token) => self.dispatcher.send_only(dispatch, decision, token).await,
            CallerThere::Key { user, key } => {
                tracing::debug!(pod.name = &*pod.name, act = ?call.act, "a remote control goes by API key");
                let head = head_by_key(ctx, call, &user, &key)?;
                let by_key = RequestContext { head: &head, ..ctx.without_identity() };
                self.dispatcher.send_only(&mut dispatch.with_context(&by_key), decision, None).await
            }
        };
        let outcome = attempt.as_ref().map_or("failed", |attempt| metrics::class(attempt.answer.status().as_u16()));
        let labels =
            metrics::PodCall { pool: pod.pool.clone(), pod: pod.name.clone(), what: "remote_control", outcome };
        self.metrics.pod_calls.get_or_create(&labels).inc();
        if let Some(session) = ctx.session() {
            self.visits.end(ctx, session, pod);
        }
        // The pod may have lost the token at this moment. Its refusal says nothing to the caller.
        let is_refused = |attempt: &Attempt| attempt.answer.status() == StatusCode::UNAUTHORIZED;
        if attempt.as_ref().is_ok_and(is_refused) {
            if let Some(session) = ctx.session() {
                session.residence.forget_token_at(PodInstance::of(pod));
            }
            return None;
        }
        Some(attempt)
    }

    /// How the caller is known to this pod. `None` if nobody says who the caller is.
    async fn caller_there(&self, ctx: &RequestContext<'_>, pod: &Arc<Pod>, own_pod: &Arc<Pod>) -> Option<CallerThere> {
        if let Some(session) = ctx.session() {
            let place = PodInstance::of(pod);
            let is_known = || session.token_at(place).is_some();
            let as_guest = || MigrationRequest { kind: MigrationKind::KeepHome, ..MigrationRequest::for_request(ctx) };
            if is_known() || self.migrator.migrate(session, pod, as_guest()).await == MigrationOutcome::Done {
                return Some(CallerThere::Own(session.token_at(place)));
            }
        }
        let own = ctx.session().and_then(|session| session.token_at(PodInstance::of(own_pod)));
        let own = own.as_ref().map(Token::as_str).or(ctx.keys.identity.token.as_deref())?;
        let key = self.lists.key_for(ctx.pool).and(self.shared.api_key_of(pod))?;
        match self.pods.call(own_pod, &Caller::of(ctx), users::who_am_i(own)).await.ok()? {
            // An API key is valid on every pod.
            TokenStatus::Known { user: None, .. } if ctx.session().is_none() => Some(CallerThere::Own(None)),
            TokenStatus::Known { user: Some(user), .. } => Some(CallerThere::Key { user, key: key.clone() }),
            TokenStatus::Known { .. } | TokenStatus::Unknown => None,
        }
    }

    /// The pod that has the session. Waits for a session on its way: its pod must be alive, and for
    /// a message all its sockets must be there. `None` if no pod has it in time.
    async fn await_arrival(
        &self,
        ctx: &RequestContext<'_>,
        target: &Session,
        act: Control,
        end: Instant,
    ) -> Option<Arc<Pod>> {
        loop {
            let pods = ctx.pool.pool.pods();
            let home = target.home();
            let pod = home.and_then(|home| pods.iter().find(|pod| pod.id == home.pod && pod.status().is_alive()));
            if let Some(pod) = pod {
                let is_whole = !act.is_message() || self.sockets_are_at(target, pod, end).await;
                if lives_on(target, pod) && (is_whole || Instant::now() >= end) {
                    return Some(pod.clone());
                }
            }
            if Instant::now() >= end || target.is_ended() || self.shutdown.is_stopping() {
                return None;
            }
            time::sleep(LOOK).await;
        }
    }

    async fn sockets_are_at(&self, target: &Session, pod: &Pod, end: Instant) -> bool {
        let is_settled = target.residence.moved_for() > MOVED_LATELY || !self.shared.sessions.replicas.has_others();
        if is_settled && target.sockets.are_only_at(pod.id) {
            return true;
        }
        let moved = async {
            let mut homes = target.residence.home_changes();
            // It cannot fail: the session holds the sender.
            let _ = homes.wait_for(|home| home.is_none_or(|home| home.pod != pod.id)).await;
        };
        tokio::select! {
            are_there = self.shared.sessions.socket_wait.all_at(target, pod) => are_there,
            () = moved => false,
            () = time::sleep_until(end) => false,
        }
    }

    /// Waits until the session lives elsewhere, or this pod is gone. Says whether that is so.
    async fn await_change(&self, target: &Session, pod: &Pod, end: Instant) -> bool {
        let place = PodInstance::of(pod);
        while !target.is_ended() && !self.shutdown.is_stopping() {
            if target.home() != Some(place) || !pod.status().is_alive() {
                return true;
            }
            if Instant::now() >= end {
                break;
            }
            time::sleep(LOOK).await;
        }
        false
    }
}

fn lives_on(target: &Session, pod: &Pod) -> bool {
    target.home().is_some_and(|home| home.pod == pod.id)
}

/// The same call by API key. A pod then does not know who calls; for a playstate the query says it.
fn head_by_key(ctx: &RequestContext<'_>, call: RemoteControl<'_>, user: &str, key: &Token) -> Option<request::Parts> {
    let uri = &ctx.head.uri;
    let user = (call.act == Control::Playstate).then(|| plain_id(user));
    let query = query_with(uri.query().unwrap_or_default(), "controllingUserId", user.as_deref());
    let target = if query.is_empty() { uri.path().to_owned() } else { format!("{}?{query}", uri.path()) };
    let (mut head, ()) = Request::new(()).into_parts();
    head.method = ctx.head.method.clone();
    head.uri = target.parse::<Uri>().ok()?;
    head.headers = ctx.head.headers.clone();
    authorization::remove(&mut head.headers);
    let text = || PROXY_DEVICE.to_owned();
    let device = Device { client: text(), name: text(), id: text(), version: env!("CARGO_PKG_VERSION").to_owned() };
    let mut authorization = device.header(Some(key.as_str()));
    authorization.set_sensitive(true);
    head.headers.insert(header::AUTHORIZATION, authorization);
    Some(head)
}
