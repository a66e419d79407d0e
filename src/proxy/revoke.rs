//! Applies a revocation on one pod to every pod: a log-out, a removed device, a changed password, a
//! disabled or deleted user.
//!
//! Pods do not notify each other. A pod that restarted since a log-in has read the token's row and
//! would accept it forever. Another keeps the token in memory after its row is gone. So every
//! affected session gets its tombstone at once. The proxy calls each pod before it answers the
//! client. Pods that it cannot reach get the log-outs later.

mod broadcast;
mod log_out;
mod rights;

use std::sync::{Arc, atomic::Ordering};

use http::{Method, StatusCode};

use super::{
    pod_client::{Caller, PodClient},
    request::{context::RequestContext, dispatch::Dispatch},
    selector::Selector,
    shared_state::SharedState,
};
use crate::{
    forward::outbound::ReplayBody,
    jellyfin::{
        authorization,
        client::{ApiCall, ApiResponse, devices, users},
        endpoint::{Endpoint, Revocation},
    },
    pod::Pod,
    sessions::{Session, Token, plain_id},
    shutdown::Shutdown,
};
pub(super) use broadcast::Broadcast;
use broadcast::RevocationCall;
use rights::AnsweringPod;

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

/// Ends sessions, here and on every pod.
pub(super) struct Revoker {
    shared: Arc<SharedState>,
    selector: Arc<Selector>,
    pods: Arc<PodClient>,
    broadcast: Arc<Broadcast>,
    shutdown: Shutdown,
}

impl Revoker {
    pub(super) fn new(
        shared: Arc<SharedState>,
        selector: Arc<Selector>,
        pods: Arc<PodClient>,
        shutdown: Shutdown,
    ) -> Revoker {
        let broadcast = Arc::new(Broadcast::new(shared.clone(), pods.clone(), shutdown.clone()));
        Revoker { shared, selector, pods, broadcast, shutdown }
    }

    /// Ends the sessions here and calls every pod. The access line gets each pod's answer; 401
    /// means that the pod did not know the token. Returns the client's status if the pods together
    /// say more than its own pod.
    pub(super) async fn revoke_everywhere(
        &self,
        dispatch: &mut Dispatch<'_>,
        ends: Revocation,
        (status, pod, token): (StatusCode, &Arc<Pod>, Option<&Token>),
    ) -> Option<StatusCode> {
        let (ctx, body) = (dispatch.ctx, dispatch.body);
        let own = ctx.keys.identity.token.as_deref()?;
        let used = token.map_or(own, Token::as_str);
        let caller = AnsweringPod { pods: &self.pods, ctx, pod, token: used };
        if !status.is_success() && !caller.is_right(&ends, status, body).await {
            return None;
        }
        if matches!(ends, Revocation::OtherSessionsOf(_) | Revocation::UserIfDisabled(_) | Revocation::User(_)) {
            self.shared.rights_changed.fetch_add(1, Ordering::Relaxed);
        }
        let has_failed = status == StatusCode::INTERNAL_SERVER_ERROR;
        // Another replica may know tokens that were minted since.
        if let Some(session) = ctx.session() {
            self.shared.sessions.comparer.refresh(session).await;
        }
        let (calls, ended) = self.end_here(&ends, &caller, body).await?;
        if calls.is_empty() {
            return has_failed.then_some(StatusCode::NO_CONTENT);
        }
        let log_outs = if ends == Revocation::Token { calls.clone() } else { log_out_calls(&ended) };
        // For a single token, its pod's own answer is complete and is already in the access line.
        // By the key alone, it would end the caller's own token too.
        let is_by_key = ctx.pool.shown_server.users.is_some() && matches!(ends, Revocation::OtherSessionsOf(_));
        let but = (ends == Revocation::Token || is_by_key).then_some(pod.id);
        let outcomes = self.broadcast.call_all_pods(&ctx.pool.pool, Caller::of(ctx), calls, log_outs, but).await;
        outcomes.iter().for_each(|outcome| dispatch.record.record_fan_out(&outcome.pod, outcome.as_str()));
        let did_one = outcomes.iter().any(|outcome| outcome.as_str() == "204");
        let is_more = has_failed || (did_one && matches!(ends, Revocation::Devices(_)) && !status.is_success());
        is_more.then_some(StatusCode::NO_CONTENT)
    }

    /// Ends the sessions here. Returns the calls for the pods, and the sessions that ended. `None` if
    /// the request ends none.
    async fn end_here(
        &self,
        ends: &Revocation,
        caller: &AnsweringPod<'_>,
        body: &ReplayBody,
    ) -> Option<(Vec<RevocationCall>, Vec<Arc<Session>>)> {
        let (ctx, used) = (caller.ctx, caller.token);
        let pool = &ctx.pool.pool;
        let mut ended = Vec::new();
        let calls = match ends {
            Revocation::Token if ctx.session().is_none() && self.is_api_key(ctx, caller.pod, caller.token).await => {
                return None;
            }
            Revocation::Token => {
                let own = Token::new(ctx.keys.identity.token.as_deref()?);
                self.end_tokens(ctx.session(), &own, ctx.origin, pool)
            }
            Revocation::Devices(named) => {
                ended.extend(named.iter().flat_map(|device| self.shared.sessions.ends.end_device(&pool.name, device)));
                // One call for each device: a pod that does not know all of several ends none.
                named.iter().flat_map(|device| self.calls_by_key(devices::remove(device), &[])).collect()
            }
            Revocation::OtherSessionsOf(_) if body.replayable().is_some_and(|body| users::resets_password(&body)) => {
                return None;
            }
            Revocation::OtherSessionsOf(user) => {
                let callers = match ctx.session() {
                    Some(session) => Some(session.user.clone()),
                    None => caller.user().await,
                };
                let user = user.as_deref().map(plain_id).or_else(|| callers.clone())?;
                let is_own = callers.is_some_and(|own| user == own);
                ended = self.shared.sessions.ends.end_user(&pool.name, &user, ctx.session());
                // A pod spares the session whose token calls it. So the caller's own tokens come
                // first, led by the one that its home has spared.
                let mut callers_own = Vec::new();
                if let Some(session) = ctx.session().filter(|_| is_own) {
                    // A pod with a database of its own has the old password still, which only the key
                    // may replace.
                    if ctx.pool.shown_server.users.is_none() {
                        callers_own.push(used.to_owned());
                        let own = session.tokens.all().into_iter();
                        callers_own.extend(own.map(|minted| minted.token.as_str().to_owned()));
                    }
                    session.residence.reset_instances(session.home());
                }
                match body.replayable().and_then(|body| users::repeated_password_change(&body)) {
                    // The API key has no user, so the call names one.
                    Some(body) => self.calls_by_key(users::change_password(&user, body), &callers_own),
                    // The body is ambiguous, so the pods get log-outs of the ended sessions.
                    None => log_out_calls(&ended),
                }
            }
            Revocation::UserIfDisabled(user) => {
                if !users::disables(&body.replayable()?) {
                    return None;
                }
                ended = self.shared.sessions.ends.end_user(&pool.name, user, None);
                // Pods read in the database that the user is disabled, and refuse the user.
                log_outs_where_users_are_own(ctx, &ended)
            }
            Revocation::User(user) => {
                ended = self.shared.sessions.ends.end_user(&pool.name, user, None);
                log_outs_where_users_are_own(ctx, &ended)
            }
        };
        Some((calls, ended))
    }

    /// The caller's act for other pods, with one of these tokens or else the API key. Only the
    /// caller's home knows its own token.
    fn calls_by_key(&self, call: ApiCall<ApiResponse>, tokens: &[String]) -> Vec<RevocationCall> {
        let Some(key) = self.shared.api_key() else { return Vec::new() };
        let tokens = tokens.iter().map(String::as_str).chain([key.as_str()]);
        vec![RevocationCall::new(call, tokens.map(authorization::token_only).collect())]
    }
}

/// A pod with a database of its own does not read there what another pod did to a user.
fn log_outs_where_users_are_own(ctx: &RequestContext<'_>, ended: &[Arc<Session>]) -> Vec<RevocationCall> {
    if ctx.pool.shown_server.users.is_some() { log_out_calls(ended) } else { Vec::new() }
}

/// The log-outs of these sessions, for pods that do not answer.
fn log_out_calls(ended: &[Arc<Session>]) -> Vec<RevocationCall> {
    let tokens = ended.iter().flat_map(|session| session.tokens.all());
    tokens.map(|minted| RevocationCall::log_out(&minted.token)).collect()
}
