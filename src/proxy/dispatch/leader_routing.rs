//! Routes what only the leader can answer: QuickConnect, SyncPlay and single sign-on, for clients
//! that live on other pods.
//!
//! A QuickConnect flow goes to the leader, and stays with the pod that made its code while that pod
//! lives. Only the approving user's own pod knows that user. jellypin asks that pod who the user
//! is, then approves with the API key. A client that joins a SyncPlay group first moves to the
//! leader, with its socket. A client that only lists groups does not move.

use std::sync::Arc;

use http::{Response, StatusCode, header};
use tokio::time;

use super::Attempt;
use crate::{
    affinity::pins::Kind,
    forward::{answer::AnswerBody, outbound::ReplayBody},
    jellyfin::{
        Identity,
        body_scanner::BodyScanner,
        client::{
            quick_connect,
            users::{self, TokenStatus},
        },
        endpoint::{self, Endpoint, LeaderCall},
        verdict::Verdict,
    },
    observe::metrics,
    pod::{Pod, PodInstance, State},
    proxy::{
        ClientSession, Proxy, RequestContext, Target,
        migrate::{MigrationKind, MigrationRequest},
        pod_client::Caller,
        request::{record::RequestRecord, refusal::Refusal, select::Keys},
        response::rewriting::{Collected, collect},
    },
    sessions::{Session, plain_id, session::MigrationOutcome},
};

/// How many times to ask for a code that no mint has used.
const CODES: usize = 3;

/// The longest answer with a code, in bytes. Real ones have some 300.
const LONGEST_CODE: usize = 16 * 1024;

impl Proxy {
    /// Dispatches a request, by way of the leader if it needs the leader.
    pub(in crate::proxy) async fn dispatch_via_leader(
        self: &Arc<Self>,
        ctx: &RequestContext<'_>,
        replay_body: &ReplayBody,
        record: &mut RequestRecord,
    ) -> Result<Attempt, Refusal> {
        let led = match ctx.endpoint {
            endpoint if endpoint.may_be_leader_call() => LeaderCall::of(&ctx.head.method, ctx.path),
            _ if self.shared.is_leaders(ctx.path) => Some(LeaderCall::SignOn),
            _ => None,
        };
        let Some(led) = led else {
            return self.dispatch(ctx, replay_body, record).await;
        };
        // Boxed: these paths are rare, and would make every request's future larger.
        match led {
            LeaderCall::Enabled => Box::pin(self.dispatch_to_leader(ctx, None, replay_body, record)).await,
            LeaderCall::Initiate => Box::pin(self.initiate(ctx, replay_body, record)).await,
            LeaderCall::Connect => {
                Box::pin(self.dispatch_to_leader(ctx, ctx.query("secret"), replay_body, record)).await
            }
            LeaderCall::LogIn => {
                // The wait for the body is bounded; the pod itself ends bodies that come too
                // slowly.
                let body = time::timeout(self.shared.forward.hold, Box::pin(replay_body.read_ahead())).await;
                let secret = body.ok().flatten().and_then(|body| text_in(&body, "Secret"));
                Box::pin(self.dispatch_to_leader(ctx, secret, replay_body, record)).await
            }
            LeaderCall::Authorize => Box::pin(self.authorize_code(ctx, replay_body, record)).await,
            LeaderCall::New => {
                // A draining leader keeps the lead for its existing groups, but not for new ones.
                if let Some(leader) = ctx.pool.leader.current().filter(|pod| pod.status().state == State::Draining) {
                    leader.set_gives_up_lead(true);
                }
                Box::pin(self.join_group(ctx, replay_body, record)).await
            }
            LeaderCall::Join => Box::pin(self.join_group(ctx, replay_body, record)).await,
            LeaderCall::Member => Box::pin(self.group_call(ctx, replay_body, record)).await,
            LeaderCall::Look => Box::pin(self.list_groups(ctx, replay_body, record)).await,
            LeaderCall::Time => Box::pin(self.leader_time(ctx, replay_body, record)).await,
            LeaderCall::SignOn => Box::pin(self.sign_on(ctx, ctx.query("state"), replay_body, record)).await,
            LeaderCall::SignOnEnd => {
                let body = time::timeout(self.shared.forward.hold, Box::pin(replay_body.read_ahead())).await;
                let state = body.ok().flatten().and_then(|body| text_in(&body, "data"));
                Box::pin(self.sign_on(ctx, state, replay_body, record)).await
            }
        }
    }

    async fn dispatch_to_leader(
        self: &Arc<Self>,
        ctx: &RequestContext<'_>,
        key: Option<String>,
        replay_body: &ReplayBody,
        record: &mut RequestRecord,
    ) -> Result<Attempt, Refusal> {
        self.dispatch(&ctx.with_target(Target::Leader(key)), replay_body, record).await
    }

    /// Sends a single sign-on to the leader, and later to the pod that made its state while that
    /// pod lives. It needs no cookie: the browser that returns from the provider's site has none.
    async fn sign_on(
        self: &Arc<Self>,
        ctx: &RequestContext<'_>,
        state: Option<String>,
        replay_body: &ReplayBody,
        record: &mut RequestRecord,
    ) -> Result<Attempt, Refusal> {
        let leader = ctx.pool.leader.current().filter(|leader| leader.status().is_alive());
        // The leader must know a user who links an account, and an administrator.
        let visitor = ctx.session().zip(leader).filter(|(session, leader)| ctx.home_is_elsewhere(session, leader));
        if let Some((session, leader)) = &visitor
            && ctx.endpoint != Endpoint::LogIn
            && session.token_at(PodInstance::of(leader)).is_none()
        {
            let migration_request =
                MigrationRequest { kind: MigrationKind::KeepHome, ..MigrationRequest::for_request(ctx) };
            // If the migration fails, `dispatch` tries the other pods.
            let _ = self.migrate(session, leader, migration_request).await;
        }
        let attempt = self.dispatch_to_leader(ctx, state, replay_body, record).await?;
        if let Some(state) = state_in(&attempt.answer) {
            self.shared.pins.learn(Kind::QuickConnect, &state, attempt.decision.home(), ctx.origin);
        }
        if let Some((session, leader)) = visitor {
            self.end_visit(ctx, session, &leader);
        }
        Ok(attempt)
    }

    /// Whether this pod made the request's code, secret or state. Its answer about it is then
    /// final.
    pub(in crate::proxy) fn has_made(&self, ctx: &RequestContext<'_>, pod: &Pod) -> bool {
        let Target::Leader(Some(key)) = &ctx.target else { return false };
        self.shared.pins.home(Kind::QuickConnect, key, |_, _| true) == Some(PodInstance::of(pod))
    }

    /// Begins a QuickConnect flow. Never shows a code that a mint has just used: its receiver could
    /// be signed in as the mint's user.
    async fn initiate(
        self: &Arc<Self>,
        ctx: &RequestContext<'_>,
        replay_body: &ReplayBody,
        record: &mut RequestRecord,
    ) -> Result<Attempt, Refusal> {
        for _ in 0..CODES {
            let mut attempt = self.dispatch_to_leader(ctx, None, replay_body, record).await?;
            let (head, mut body) = attempt.answer.into_parts();
            let listener = BodyScanner::of(ctx.endpoint, &ctx.head.method, ctx.path, &head);
            let Some(mut listener) = listener else {
                attempt.answer = Response::from_parts(head, body);
                return Ok(attempt);
            };
            let early = match collect(&mut body, LONGEST_CODE).await {
                Ok(Collected::Whole(whole)) => whole,
                Ok(Collected::Longer(_)) | Err(_) => return Err(Refusal::Broken),
            };
            let mut learned = listener.feed(&early);
            learned.merge(listener.finish());
            let pod = &attempt.decision.pod;
            if learned.quick_connect.iter().any(|code| self.shared.mint_codes.is_taken(pod.id, code)) {
                continue;
            }
            for text in &learned.quick_connect {
                self.shared.pins.learn(Kind::QuickConnect, text, PodInstance::of(pod), ctx.origin);
            }
            attempt.answer = Response::from_parts(head, body.with_early(early));
            return Ok(attempt);
        }
        Err(Refusal::NoPod)
    }

    /// Approves a code on the pod that made it, for the user that the caller's own pod names.
    async fn authorize_code(
        self: &Arc<Self>,
        ctx: &RequestContext<'_>,
        replay_body: &ReplayBody,
        record: &mut RequestRecord,
    ) -> Result<Attempt, Refusal> {
        let code = ctx.query("code");
        let target = Target::Leader(code.clone());
        // Text that cannot be a code goes to no other pod: the client's own pod answers.
        let Some(code) = code.filter(|code| is_plain(code)) else {
            return self.dispatch(ctx, replay_body, record).await;
        };
        let Some(session) = ctx.session() else {
            // The caller is an API key or an unknown client; the code's pod may still know its
            // token.
            return self.authorize_with_own_token(ctx, target, replay_body, record).await;
        };
        let named = ctx.query("userId");
        let Some(approver) = self.approving_user(ctx, session).await else {
            // The user's own pod answers.
            return self.dispatch(ctx, replay_body, record).await;
        };
        let is_own = named.as_ref().is_none_or(|named| plain_id(named) == plain_id(&approver.user));
        if !is_own && !approver.is_administrator {
            // The user's own pod refuses this before it looks for the code.
            return self.dispatch(ctx, replay_body, record).await;
        }
        let Some(api_key) = &self.shared.migration.api_key else {
            return self.dispatch(ctx, replay_body, record).await;
        };
        let user = named.unwrap_or(approver.user);
        let call = quick_connect::authorize(&code, &plain_id(&user), api_key.as_str());
        let head = ctx.head_for(&call.target);
        let Some(mut head) = head else { return Err(Refusal::Malformed("the code is no code")) };
        head.headers.extend(call.authorization.map(|authorization| (header::AUTHORIZATION, authorization)));
        let by_key = RequestContext {
            head: &head,
            keys: Keys { identity: Identity::default(), ..ctx.keys.clone() },
            client_session: ClientSession::Unknown,
            target,
            ..ctx.with_target(Target::Home)
        };
        self.dispatch(&by_key, &ReplayBody::empty(), record).await
    }

    /// Approves with the client's own token when jellypin knows no session. The code's pod knows
    /// the token if it started after the log-in. If it does not, the client must not take its 401
    /// for the end of the session.
    async fn authorize_with_own_token(
        self: &Arc<Self>,
        ctx: &RequestContext<'_>,
        target: Target,
        replay_body: &ReplayBody,
        record: &mut RequestRecord,
    ) -> Result<Attempt, Refusal> {
        let attempt = self.dispatch(&ctx.with_target(target), replay_body, record).await?;
        let is_unknown = attempt.answer.status() == StatusCode::UNAUTHORIZED
            && attempt.answer.headers().get(header::CONTENT_LENGTH).is_some_and(|length| length == "0");
        if !is_unknown {
            return Ok(attempt);
        }
        if ctx.keys.identity.token.is_some() && !self.can_migrate() {
            self.warn_missing_key(ctx, "quick_connect");
        }
        self.dispatch(ctx, replay_body, record).await
    }

    /// Who the caller is, according to the pod that the caller lives on.
    async fn approving_user(self: &Arc<Self>, ctx: &RequestContext<'_>, session: &Session) -> Option<Approver> {
        let pods = ctx.pool.pool.pods();
        let home = session.home()?;
        let pod = pods.iter().find(|pod| pod.id == home.pod && pod.status().is_alive())?;
        let token = session.token_at(PodInstance::of(pod))?;
        match self.pods.call(pod, &Caller::of(ctx), users::who_am_i(token.as_str())).await {
            Ok(TokenStatus::Known { user: Some(user), is_administrator }) => Some(Approver { user, is_administrator }),
            _ => None,
        }
    }

    /// Moves the client to the leader, and only then lets it join a group there.
    async fn join_group(
        self: &Arc<Self>,
        ctx: &RequestContext<'_>,
        replay_body: &ReplayBody,
        record: &mut RequestRecord,
    ) -> Result<Attempt, Refusal> {
        let leader = ctx.pool.leader.await_fit(&ctx.pool.pool).await;
        if let (Some(session), Some(leader)) = (ctx.session(), &leader) {
            self.move_to_leader(ctx, session, leader).await;
        }
        let attempt = self.group_call(ctx, replay_body, record).await?;
        // A stranger may name any device: only the pod's word counts.
        if let Some(leader) = leader.filter(|_| ctx.session().is_none() && attempt.verdict == Verdict::Accepted) {
            self.pin_to_leader(ctx, &leader);
        }
        Ok(attempt)
    }

    /// Dispatches a group call. If it succeeds, the pod may have groups from now on.
    async fn group_call(
        self: &Arc<Self>,
        ctx: &RequestContext<'_>,
        replay_body: &ReplayBody,
        record: &mut RequestRecord,
    ) -> Result<Attempt, Refusal> {
        let attempt = self.dispatch(ctx, replay_body, record).await?;
        if attempt.answer.status().is_success() {
            self.shared.sessions.record_groups(&attempt.decision.pod);
        }
        Ok(attempt)
    }

    async fn move_to_leader(self: &Arc<Self>, ctx: &RequestContext<'_>, session: &Arc<Session>, leader: &Arc<Pod>) {
        session.record_group_move(PodInstance::of(leader));
        let is_home = session.home().is_some_and(|home| home.pod == leader.id);
        if !is_home && self.migrate(session, leader, MigrationRequest::for_request(ctx)).await != MigrationOutcome::Done
        {
            tracing::warn!(
                user.id = &*session.user,
                to = &*leader.name,
                "a client cannot come to live on the leader; its group stays on its own pod"
            );
        }
    }

    /// Waits until the client's sockets are at the pod that is to add it to a group. The pod
    /// announces the membership only once, over the sockets it has then.
    pub(in crate::proxy) async fn await_sockets(&self, ctx: &RequestContext<'_>, session: &Session, pod: &Pod) {
        let is_join = matches!(LeaderCall::of(&ctx.head.method, ctx.path), Some(LeaderCall::New | LeaderCall::Join));
        if is_join && pod.status().is_alive() && !self.shared.sessions.await_sockets(session, pod).await {
            tracing::warn!(to = &*pod.name, "a client's socket is not at its pod in time; its group may not hear it");
        }
    }

    /// Without an API key no session can migrate: the device goes to the leader at its next log-in.
    fn pin_to_leader(&self, ctx: &RequestContext<'_>, leader: &Pod) {
        let home = self.select_pod(ctx, &[]).map(|decision| decision.pod.id);
        if home == Some(leader.id) || self.can_migrate() {
            return;
        }
        if let Some(device) = ctx.keys.identity.device.as_deref() {
            let home = PodInstance::of(leader);
            self.shared.pins.learn(Kind::Device, device, home, ctx.origin);
        }
        self.warn_missing_key(ctx, "sync_play");
    }

    /// Lists the leader's groups as this user may see them. It moves no client, and asks the leader
    /// only while it may have groups.
    async fn list_groups(
        self: &Arc<Self>,
        ctx: &RequestContext<'_>,
        replay_body: &ReplayBody,
        record: &mut RequestRecord,
    ) -> Result<Attempt, Refusal> {
        let (Some(session), Some(leader)) = (ctx.session(), ctx.pool.leader.current()) else {
            return self.dispatch(ctx, replay_body, record).await;
        };
        let is_home = session.home().is_none_or(|home| home.pod == leader.id);
        if is_home || !leader.status().is_alive() || !self.shared.sessions.may_have_groups(&leader).await {
            return self.dispatch(ctx, replay_body, record).await;
        }
        if session.token_at(PodInstance::of(&leader)).is_none()
            && self
                .migrate(
                    session,
                    &leader,
                    MigrationRequest { kind: MigrationKind::KeepHome, ..MigrationRequest::for_request(ctx) },
                )
                .await
                != MigrationOutcome::Done
        {
            return self.dispatch(ctx, replay_body, record).await;
        }
        let attempt = self.dispatch(&ctx.with_target(Target::Leader(None)), replay_body, record).await;
        self.end_visit(ctx, session, &leader);
        attempt
    }

    /// Answers with the clock that stamps group commands. That is the leader's, for clients that
    /// may still join a group. If the client's home may have groups, it is the home's, which may
    /// have led before.
    async fn leader_time(
        self: &Arc<Self>,
        ctx: &RequestContext<'_>,
        replay_body: &ReplayBody,
        record: &mut RequestRecord,
    ) -> Result<Attempt, Refusal> {
        let (home, leader) = (self.select_pod(ctx, &[]).map(|decision| decision.pod), ctx.pool.leader.current());
        let Some(home) = home.filter(|home| leader.is_some_and(|leader| leader.id != home.id)) else {
            return self.dispatch(ctx, replay_body, record).await;
        };
        if self.shared.sessions.may_have_groups(&home).await {
            return self.dispatch(ctx, replay_body, record).await;
        }
        self.dispatch_to_leader(ctx, None, replay_body, record).await
    }

    /// Warns once about a feature that needs an API key.
    fn warn_missing_key(&self, ctx: &RequestContext<'_>, what: &'static str) {
        let labels = metrics::MissingRequirement { pool: ctx.pool.pool.name.clone(), pod: "".into(), what };
        let gauge = self.metrics.missing_requirements.get_or_create(&labels).clone();
        if gauge.set(1) == 0 {
            let feature = if what == "sync_play" { "SyncPlay" } else { "Quick Connect" };
            tracing::warn!(
                "{feature} between clients of different pods needs an API key of Jellyfin; set [jellyfin] api_key"
            );
        }
    }
}

struct Approver {
    user: String,
    is_administrator: bool,
}

/// Reads a text from a JSON body, ignoring the case of its key: a QuickConnect's secret or a single
/// sign-on's state.
fn text_in(body: &[u8], name: &str) -> Option<String> {
    let json: serde_json::Value = serde_json::from_slice(body).ok()?;
    let text = json.as_object()?.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?.1;
    text.as_str().map(str::to_owned)
}

/// The state in a redirect to the provider.
fn state_in(answer: &Response<AnswerBody>) -> Option<String> {
    if !answer.status().is_redirection() {
        return None;
    }
    let (_, query) = answer.headers().get(header::LOCATION)?.to_str().ok()?.split_once('?')?;
    endpoint::query_value(query, "state")
}

/// Whether the code has only a code's characters. Anything else could inject parameters into the
/// query that jellypin builds.
fn is_plain(code: &str) -> bool {
    code.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_as_the_server_reads_them() {
        assert_eq!(text_in(br#"{"secret":"ABC"}"#, "Secret").as_deref(), Some("ABC"));
        assert_eq!(text_in(b"no JSON", "Secret"), None);
        assert!(is_plain("123456") && !is_plain("12&userId=x 3"));
    }
}
