//! Applies a revocation on one pod to every pod: a log-out, a removed device, a changed password, a
//! disabled or deleted user.
//!
//! Pods do not notify each other. A pod that restarted since a log-in has read the token's row and
//! would accept it forever. Another keeps the token in memory after its row is gone. So every
//! affected session gets its tombstone at once. The proxy calls each pod before it answers the
//! client. Pods that it cannot reach get the log-outs later.

mod calls;
pub(in crate::proxy) mod log_out;

use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode, header};

use super::{
    Proxy, RequestContext,
    pod_client::Caller,
    request::{record::RequestRecord, select::Decision},
};
use crate::{
    forward::{head, outbound::ReplayBody},
    jellyfin::{
        authorization,
        client::{
            ApiCall, ApiResponse, devices, system,
            users::{self, TokenStatus},
        },
        endpoint::{Endpoint, Revocation},
    },
    pod::Pod,
    sessions::{Session, Token, plain_id},
};
use calls::REPEATS;
pub(super) use calls::{RevocationCall, RevocationOutcome};

/// What a request may have revoked, by its answer's status. A failure needs a look at rights.
pub(super) fn revocation_of(ctx: &RequestContext<'_>, status: StatusCode) -> Option<Revocation> {
    let is_candidate = ctx.endpoint == Endpoint::LogOut || ctx.endpoint == Endpoint::Authenticated;
    if !is_candidate || (ctx.head.method != Method::POST && ctx.head.method != Method::DELETE) {
        return None;
    }
    let ends = Revocation::of(&ctx.head.method, ctx.path, ctx.head.uri.query().unwrap_or_default())?;
    (status.is_success() || may_be_right(&ends, status)).then_some(ends)
}

/// Whether an allowed revocation may fail like this. The caller's rights still need a check.
fn may_be_right(ends: &Revocation, status: StatusCode) -> bool {
    match ends {
        // `log_out` handles the log-out of a known token.
        Revocation::Token => false,
        // A pod refuses if it does not know the device; another pod may know it.
        Revocation::Devices(_) => status == StatusCode::INTERNAL_SERVER_ERROR || is_absent(status),
        // 10.11 fails when another pod has deleted a row, but it has done the work.
        Revocation::OtherSessionsOf(_) | Revocation::UserIfDisabled(_) | Revocation::User(_) => {
            status == StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

/// For an unknown device, 12.0 answers 400 and 10.11 answers 404.
fn is_absent(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND)
}

impl Proxy {
    /// Ends the sessions here and calls every pod. The access line gets each pod's answer; 401
    /// means that the pod did not know the token. Returns the client's status if the pods together
    /// say more than its own pod.
    pub(super) async fn revoke_everywhere(
        self: &Arc<Self>,
        ctx: &RequestContext<'_>,
        ends: Revocation,
        answered: (StatusCode, Option<&Token>),
        replay_body: &ReplayBody,
        done: &Decision,
        record: &mut RequestRecord,
    ) -> Option<StatusCode> {
        let (status, token) = answered;
        let own = ctx.keys.identity.token.as_deref()?;
        let used = token.map_or(own, Token::as_str);
        let caller = AnsweringPod { pod: &done.pod, token: used };
        if !status.is_success() && !self.is_right(ctx, &ends, status, replay_body, &caller).await {
            return None;
        }
        let has_failed = status == StatusCode::INTERNAL_SERVER_ERROR;
        // Another replica may know tokens that were minted since.
        if let Some(session) = ctx.session() {
            self.shared.sessions.refresh(session).await;
        }
        let pool = &ctx.pool.pool;
        let mut ended = Vec::new();
        let calls = match &ends {
            Revocation::Token => self.end_tokens(ctx.session(), (&Token::new(own), ctx.origin), pool),
            Revocation::Devices(named) => {
                ended.extend(named.iter().flat_map(|device| self.shared.sessions.end_device(&pool.name, device)));
                // One call for each device: a pod that does not know all of several ends none.
                named.iter().flat_map(|device| self.calls_by_key(devices::remove(device), &[])).collect()
            }
            Revocation::OtherSessionsOf(user) => {
                let callers = match ctx.session() {
                    Some(session) => Some(session.user.clone()),
                    None => self.user_of(ctx, &caller).await,
                };
                let user = user.as_deref().map(plain_id).or_else(|| callers.clone())?;
                let is_own = callers.is_some_and(|own| user == own);
                ended = self.shared.sessions.end_user(&pool.name, &user, ctx.session());
                // The API key has no user, so the query names one.
                // A pod spares the session whose token calls it. So the caller's own tokens come
                // first, led by the one that its home has spared.
                let mut callers_own = Vec::new();
                if let Some(session) = ctx.session().filter(|_| is_own) {
                    callers_own.push(used.to_owned());
                    callers_own.extend(session.tokens().into_iter().map(|minted| minted.token.as_str().to_owned()));
                    session.reset_instances(session.home());
                }
                match replay_body.replayable().and_then(|body| users::repeated_password_change(&body)) {
                    Some(body) => self.calls_by_key(users::change_password(&user, body), &callers_own),
                    // The body is ambiguous, so the pods get log-outs of the ended sessions.
                    None => log_out_calls(&ended),
                }
            }
            Revocation::UserIfDisabled(user) => {
                if !users::disables(&replay_body.replayable()?) {
                    return None;
                }
                self.shared.sessions.end_user(&pool.name, user, None);
                // Pods read in the database that the user is disabled, and refuse the user.
                Vec::new()
            }
            Revocation::User(user) => {
                self.shared.sessions.end_user(&pool.name, user, None);
                Vec::new()
            }
        };
        if calls.is_empty() {
            return has_failed.then_some(StatusCode::NO_CONTENT);
        }
        let log_outs = if ends == Revocation::Token { calls.clone() } else { log_out_calls(&ended) };
        // For a single token, its pod's own answer is complete and is already in the access line.
        let but = (ends == Revocation::Token).then_some(done.pod.id);
        let told = self.call_all_pods(pool, Caller::of(ctx), calls, log_outs, but).await;
        told.iter().for_each(|told| record.record_revocation(told));
        let did_one = told.iter().any(|told| told.as_str() == "204");
        let is_more = has_failed || (did_one && matches!(ends, Revocation::Devices(_)) && !status.is_success());
        is_more.then_some(StatusCode::NO_CONTENT)
    }

    /// Whether the caller may do what its own pod failed at. The server's own rule decides, never
    /// the status.
    ///
    /// A 500 says nothing about rights. 10.11 returns it when the work is done but another pod had
    /// deleted a row. Every pod returns it, before it checks rights, to a caller whose own row is
    /// gone. A 400 or 404 says nothing either: any caller gets it for an unknown path or an
    /// unreadable header.
    async fn is_right(
        &self,
        ctx: &RequestContext<'_>,
        ends: &Revocation,
        status: StatusCode,
        replay_body: &ReplayBody,
        caller: &AnsweringPod<'_>,
    ) -> bool {
        let last = if status == StatusCode::INTERNAL_SERVER_ERROR {
            self.retry_until_definite(ctx, ends, replay_body, caller).await
        } else {
            Some(status)
        };
        match (ends, last) {
            (_, Some(last)) if last.is_success() => true,
            (Revocation::Devices(_), Some(last)) if is_absent(last) => self.is_administrator(ctx, caller).await,
            // The user existed at the first call, which failed.
            (Revocation::User(_), Some(StatusCode::NOT_FOUND)) => self.is_administrator(ctx, caller).await,
            _ => false,
        }
    }

    /// After a failure: repeats the request on the same pod until the pod decides.
    async fn retry_until_definite(
        &self,
        ctx: &RequestContext<'_>,
        ends: &Revocation,
        replay_body: &ReplayBody,
        caller: &AnsweringPod<'_>,
    ) -> Option<StatusCode> {
        let body = replay_body.replayable()?;
        // If the pod has made the change, the new password is the current one.
        let body =
            if matches!(ends, Revocation::OtherSessionsOf(_)) { users::repeated_password_change(&body)? } else { body };
        let by = Caller::of(ctx);
        for _ in 0..REPEATS {
            let call = ApiCall::again(ctx.head.method.clone(), ctx.target(), body.clone()).with_token(caller.token);
            let reply = self.pods.call(caller.pod, &by, call).await.ok()?;
            if reply.status != StatusCode::INTERNAL_SERVER_ERROR {
                return Some(reply.status);
            }
        }
        None
    }

    /// The caller's user, according to the pod that answered the caller.
    async fn user_of(&self, ctx: &RequestContext<'_>, caller: &AnsweringPod<'_>) -> Option<String> {
        match self.pods.call(caller.pod, &Caller::of(ctx), users::who_am_i(caller.token)).await {
            Ok(TokenStatus::Known { user, .. }) => user.as_deref().map(plain_id),
            _ => None,
        }
    }

    /// Whether the pod that answered the caller grants administrator rights (policy
    /// `RequiresElevation`). The caller is a user or an API key. A key has no user, but pods admit
    /// it wherever an administrator may go.
    async fn is_administrator(&self, ctx: &RequestContext<'_>, caller: &AnsweringPod<'_>) -> bool {
        let by = Caller::of(ctx);
        match self.pods.call(caller.pod, &by, users::who_am_i(caller.token)).await {
            Ok(TokenStatus::Known { user: Some(_), is_administrator }) => is_administrator,
            Ok(TokenStatus::Known { user: None, .. }) => {
                self.pods.call(caller.pod, &by, system::may_administer(caller.token)).await.is_ok_and(|may| may)
            }
            Ok(TokenStatus::Unknown) | Err(_) => false,
        }
    }

    /// The caller's act for other pods, with one of these tokens or else the API key. Only the
    /// caller's home knows its own token.
    fn calls_by_key(&self, call: ApiCall<ApiResponse>, tokens: &[String]) -> Vec<RevocationCall> {
        let Some(key) = &self.shared.migration.api_key else { return Vec::new() };
        let tokens = tokens.iter().map(String::as_str).chain([key.as_str()]);
        vec![RevocationCall::new(call, tokens.map(authorization::token_only).collect())]
    }
}

/// The log-outs of these sessions, for pods that do not answer.
fn log_out_calls(ended: &[Arc<Session>]) -> Vec<RevocationCall> {
    let tokens = ended.iter().flat_map(|session| session.tokens());
    tokens.map(|minted| RevocationCall::log_out(&minted.token)).collect()
}

/// Strips a head whose body it no longer describes.
pub(super) fn strip(headers: &mut HeaderMap) {
    head::to_client(headers);
    for name in [header::CONTENT_LENGTH, header::CONTENT_TYPE, header::CONTENT_ENCODING, header::TRANSFER_ENCODING] {
        headers.remove(name);
    }
}

/// The pod that answered the request, and the token that the pod got.
struct AnsweringPod<'a> {
    pod: &'a Arc<Pod>,
    token: &'a str,
}

impl RequestContext<'_> {
    /// Path and query below the BaseUrl.
    fn target(&self) -> String {
        let query = self.head.uri.query().map_or(String::new(), |query| format!("?{query}"));
        format!("{}{query}", self.path)
    }
}
