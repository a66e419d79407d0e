//! What is ended on one pod is ended everywhere: a log-out, a device taken away, a changed password, a user disabled or deleted.
//!
//! Pods do not tell each other. One that was restarted since a log-in has read the token's row and would take it for ever;
//! another keeps it in memory after its row is gone. So every session that is meant gets its tombstone at once, and each
//! pod is told before the client hears that it is done; whoever cannot be told is told of the tokens later.

mod calls;
pub(in crate::proxy) mod log_out;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    Proxy, RequestContext,
    pod_client::{PodRequest, TokenStatus, client_headers},
    request::{record::RequestRecord, select::Decision},
};
use crate::{
    forward::{head, outbound::ReplayBody},
    jellyfin::{
        authorization,
        endpoint::{Endpoint, Revocation},
    },
    pod::Pod,
    sessions::{Session, Token, plain_id},
};
use calls::REPEATS;
pub(super) use calls::{RevocationCall, RevocationOutcome};

/// What a request may have ended, by its answer's status: done, or worth a look at the caller's rights.
pub(super) fn revocation_of(ctx: &RequestContext<'_>, status: StatusCode) -> Option<Revocation> {
    let is_candidate = ctx.endpoint == Endpoint::LogOut || ctx.endpoint == Endpoint::Authenticated;
    if !is_candidate || (ctx.head.method != Method::POST && ctx.head.method != Method::DELETE) {
        return None;
    }
    let ends = Revocation::of(&ctx.head.method, ctx.path, ctx.head.uri.query().unwrap_or_default())?;
    (status.is_success() || may_be_right(&ends, status)).then_some(ends)
}

/// Whether a pod may fail so though the act is right. That alone gives nobody a right: the caller's are asked for.
fn may_be_right(ends: &Revocation, status: StatusCode) -> bool {
    match ends {
        // A log-out of a token that is known goes another way (`log_out`).
        Revocation::Token => false,
        // A pod refuses where it does not know the device itself; others may.
        Revocation::Devices(_) => status == StatusCode::INTERNAL_SERVER_ERROR || is_absent(status),
        // 10.11 fails when another pod has deleted a row, and has done it all the same.
        Revocation::OtherSessionsOf(_) | Revocation::UserIfDisabled(_) | Revocation::User(_) => {
            status == StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

/// 12.0 says 400 of a device that it does not know, 10.11 says 404.
fn is_absent(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND)
}

impl Proxy {
    /// Ends it here, and tells every pod. What each answered goes to the access line: 401 means that it did not know the token.
    /// Gives the status for the client, where that of its own pod says less than all of them.
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
        let caller = Caller { pod: &done.pod, token: used };
        if !status.is_success() && !self.is_right(ctx, &ends, status, replay_body, &caller).await {
            return None;
        }
        let has_failed = status == StatusCode::INTERNAL_SERVER_ERROR;
        // Another replica may know of tokens that were minted since.
        if let Some(session) = ctx.session() {
            self.shared.sessions.refresh(session).await;
        }
        let (pool, client) = (&ctx.pool.pool, client_headers(ctx));
        let mut ended = Vec::new();
        let calls = match &ends {
            Revocation::Token => self.end_tokens(ctx.session(), &Token::new(own), pool, &client),
            Revocation::Devices(devices) => {
                ended.extend(devices.iter().flat_map(|device| self.shared.sessions.end_device(&pool.name, device)));
                // One by one: of several devices a pod that does not know them all ends none.
                let target = |device: &String| {
                    let device = utf8_percent_encode(device, NON_ALPHANUMERIC);
                    format!("/Devices?id={device}")
                };
                devices.iter().flat_map(|device| self.calls_by_key(ctx, &target(device), Bytes::new(), &[])).collect()
            }
            Revocation::OtherSessionsOf(user) => {
                let callers = match ctx.session() {
                    Some(session) => Some(session.user.clone()),
                    None => self.user_of(ctx, &caller).await,
                };
                let user = user.as_deref().map(plain_id).or_else(|| callers.clone())?;
                let is_own = callers.is_some_and(|own| user == own);
                ended = self.shared.sessions.end_user(&pool.name, &user, ctx.session());
                // The key is nobody, so that the user has to be named.
                let target = format!("/Users/Password?userId={user}");
                // The caller's own tokens first, that which his home has spared before all: a pod spares the one that it is told by.
                let mut callers_own = Vec::new();
                if let Some(session) = ctx.session().filter(|_| is_own) {
                    callers_own.push(used.to_owned());
                    callers_own.extend(session.tokens().into_iter().map(|minted| minted.token.as_str().to_owned()));
                    session.reset_instances(session.home());
                }
                match replay_body.replayable().and_then(|body| by_one_who_knows(&body)) {
                    Some(body) => self.calls_by_key(ctx, &target, body, &callers_own),
                    // What was wished for could be read in two ways: the pods hear of the sessions that have ended.
                    None => log_out_calls(&ended, &client),
                }
            }
            Revocation::UserIfDisabled(user) => {
                if !disables(&replay_body.replayable()?) {
                    return None;
                }
                self.shared.sessions.end_user(&pool.name, user, None);
                // Pods read in the database that he is disabled, and refuse him.
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
        let log_outs = if ends == Revocation::Token { calls.clone() } else { log_out_calls(&ended, &client) };
        // Of one token its pod's own answer says all, and stands in the line already.
        let but = (ends == Revocation::Token).then_some(done.pod.id);
        let told = self.call_all_pods(pool, calls, log_outs, but).await;
        told.iter().for_each(|told| record.record_revocation(told));
        let did_one = told.iter().any(|told| told.as_str() == "204");
        let is_more = has_failed || (did_one && matches!(ends, Revocation::Devices(_)) && !status.is_success());
        is_more.then_some(StatusCode::NO_CONTENT)
    }

    /// Whether the caller may do what his own pod has failed at: by the server's own rule, never by the status.
    ///
    /// A 500 says nothing of a right: 10.11 gives it when it has done what was asked and met a row that another pod had deleted, and
    /// every pod gives it to a caller whose own row is gone, before it looks at his rights. A 400 or 404 says nothing either: an
    /// unknown path and a header that cannot be read are answered so to everybody.
    async fn is_right(
        &self,
        ctx: &RequestContext<'_>,
        ends: &Revocation,
        status: StatusCode,
        replay_body: &ReplayBody,
        caller: &Caller<'_>,
    ) -> bool {
        let last = if status == StatusCode::INTERNAL_SERVER_ERROR {
            self.retry_until_definite(ctx, ends, replay_body, caller).await
        } else {
            Some(status)
        };
        match (ends, last) {
            (_, Some(last)) if last.is_success() => true,
            (Revocation::Devices(_), Some(last)) if is_absent(last) => self.is_administrator(ctx, caller).await,
            // It was there when it was asked for first.
            (Revocation::User(_), Some(StatusCode::NOT_FOUND)) => self.is_administrator(ctx, caller).await,
            _ => false,
        }
    }

    /// After a failure: asks the same pod again, by the caller's own leave, until it says what becomes of it.
    async fn retry_until_definite(
        &self,
        ctx: &RequestContext<'_>,
        ends: &Revocation,
        replay_body: &ReplayBody,
        caller: &Caller<'_>,
    ) -> Option<StatusCode> {
        let body = replay_body.replayable()?;
        // Where the change was made, the new password is the present one.
        let body = if matches!(ends, Revocation::OtherSessionsOf(_)) { by_one_who_knows(&body)? } else { body };
        let client = client_headers(ctx);
        for _ in 0..REPEATS {
            let call = PodRequest {
                method: ctx.head.method.clone(),
                target: &ctx.target(),
                client: &client,
                authorization: Some(authorization::token_only(caller.token)),
                body: body.clone(),
            };
            let reply = self.call_pod(caller.pod, &ctx.pool.pool.base_path, call).await.ok()?;
            if reply.status != StatusCode::INTERNAL_SERVER_ERROR {
                return Some(reply.status);
            }
        }
        None
    }

    /// The caller's user, by the word of the pod that has answered him.
    async fn user_of(&self, ctx: &RequestContext<'_>, caller: &Caller<'_>) -> Option<String> {
        let client = client_headers(ctx);
        match self.token_status(caller.pod, &ctx.pool.pool.base_path, caller.token, &client).await {
            Ok(TokenStatus::Known { user, .. }) => user.as_deref().map(plain_id),
            _ => None,
        }
    }

    /// Whether the caller has the rights of an administrator (policy `RequiresElevation`), by the word of the pod that has answered
    /// him: as a user, or as an API key, which is nobody and is let in where an administrator is.
    async fn is_administrator(&self, ctx: &RequestContext<'_>, caller: &Caller<'_>) -> bool {
        let (client, base_path) = (client_headers(ctx), &ctx.pool.pool.base_path);
        match self.token_status(caller.pod, base_path, caller.token, &client).await {
            Ok(TokenStatus::Known { user: Some(_), is_administrator }) => is_administrator,
            Ok(TokenStatus::Known { user: None, .. }) => {
                let call = PodRequest {
                    method: Method::GET,
                    target: "/System/ActivityLog/Entries?limit=1",
                    client: &client,
                    authorization: Some(authorization::token_only(caller.token)),
                    body: Bytes::new(),
                };
                self.call_pod(caller.pod, base_path, call).await.is_ok_and(|reply| reply.status == StatusCode::OK)
            }
            Ok(TokenStatus::Unknown) | Err(_) => false,
        }
    }

    /// The caller's own request again, by one of these tokens or else by the API key: his own is known to his home only.
    fn calls_by_key(
        &self,
        ctx: &RequestContext<'_>,
        target: &str,
        body: Bytes,
        tokens: &[String],
    ) -> Vec<RevocationCall> {
        let Some(key) = &self.shared.migration.api_key else { return Vec::new() };
        let tokens = tokens.iter().map(String::as_str).chain([key.as_str()]);
        let authorizations = tokens.map(authorization::token_only).collect();
        vec![RevocationCall::new(ctx.head.method.clone(), target.to_owned(), authorizations, body, client_headers(ctx))]
    }
}

/// What pods that do not answer are told of these sessions.
fn log_out_calls(ended: &[Arc<Session>], client: &HeaderMap) -> Vec<RevocationCall> {
    let tokens = ended.iter().flat_map(|session| session.tokens());
    tokens.map(|minted| RevocationCall::log_out(&minted.token, client)).collect()
}

/// The head of an answer whose body does not fit it any more.
pub(super) fn strip(headers: &mut HeaderMap) {
    head::to_client(headers);
    for name in [header::CONTENT_LENGTH, header::CONTENT_TYPE, header::CONTENT_ENCODING, header::TRANSFER_ENCODING] {
        headers.remove(name);
    }
}

/// Who has asked for it: the pod that has answered, and the token that it was given.
struct Caller<'a> {
    pod: &'a Arc<Pod>,
    token: &'a str,
}

/// A request for a new password, as one who knows that already makes it: `CurrentPw`, `NewPw` and `ResetPassword`, and nothing else.
/// `None` for what could be read in two ways.
fn by_one_who_knows(body: &[u8]) -> Option<Bytes> {
    let json: serde_json::Value = serde_json::from_slice(body).ok()?;
    let new = only(&json, "NewPw")?;
    let reset = only(&json, "ResetPassword")?;
    Some(Bytes::from(serde_json::json!({"CurrentPw": new, "NewPw": new, "ResetPassword": reset == true}).to_string()))
}

/// A field, its name in any case; `None` if it is there in more than one. What is missing is null.
fn only<'a>(json: &'a serde_json::Value, name: &str) -> Option<&'a serde_json::Value> {
    let mut named = json.as_object()?.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let first = named.next().unwrap_or(&serde_json::Value::Null);
    named.next().is_none().then_some(first)
}

/// Whether a policy disables its user, by any reading of it.
fn disables(policy: &[u8]) -> bool {
    let Ok(serde_json::Value::Object(policy)) = serde_json::from_slice(policy) else { return false };
    policy.iter().any(|(key, value)| key.eq_ignore_ascii_case("IsDisabled") && *value == true)
}

impl RequestContext<'_> {
    /// Path and query below the BaseUrl.
    fn target(&self) -> String {
        let query = self.head.uri.query().map_or(String::new(), |query| format!("?{query}"));
        format!("{}{query}", self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_repeated_as_it_was_read_and_not_at_all_if_that_is_doubtful() {
        let read =
            |body: &str| by_one_who_knows(body.as_bytes()).map(|body| String::from_utf8_lossy(&body).into_owned());
        let plain = r#"{"CurrentPw":"n","NewPw":"n","ResetPassword":false}"#;
        assert_eq!(read(r#"{"CurrentPw":"o","newpw":"n","X":1}"#).as_deref(), Some(plain));
        for doubtful in
            [r#"{"NewPw":"a","newpw":"b"}"#, r#"{"NewPw":"a","RESETPASSWORD":true,"ResetPassword":false}"#, "[]", "x"]
        {
            assert_eq!(read(doubtful), None, "{doubtful}");
        }
        assert!(disables(br#"{"isdisabled":true}"#) && !disables(br#"{"IsDisabled":false}"#) && !disables(b"[]"));
    }
}
