//! QuickConnect for clients of different pods.
//!
//! A flow goes to the leader, and stays with the pod that made its code while that pod lives. Only
//! the approving user's own pod knows that user. jellypin asks that pod who the user is, then
//! approves with the API key.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header, request};

use super::{Feature, dispatch_to_leader, warn_missing_key};
use crate::{
    affinity::pins::Kind,
    forward::outbound::ReplayBody,
    jellyfin::{
        authorization,
        body_scanner::BodyScanner,
        client::{
            quick_connect,
            users::{self, TokenStatus},
        },
    },
    observe::metrics::Metrics,
    pod::PodInstance,
    proxy::{
        dispatch::Dispatcher,
        pod_client::{Caller, PodClient},
        request::{
            attempt::Attempt,
            context::{RequestContext, Target},
            dispatch::Dispatch,
            refusal::Refusal,
        },
        response::rewriting::{Collected, collect},
        shared_state::SharedState,
    },
    sessions::{Session, plain_id},
};

/// How many times to ask for a code that no mint has used.
const CODES: usize = 3;

/// The longest answer with a code, in bytes. Real ones have some 300.
const LONGEST_CODE: usize = 16 * 1024;

pub(super) struct QuickConnect {
    pub(super) shared: Arc<SharedState>,
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) pods: Arc<PodClient>,
    pub(super) metrics: Metrics,
}

impl QuickConnect {
    /// Begins a QuickConnect flow. Never shows a code that a mint has just used: its receiver could
    /// be signed in as the mint's user.
    pub(super) async fn initiate(&self, dispatch: &mut Dispatch<'_>) -> Result<Attempt, Refusal> {
        let ctx = dispatch.ctx;
        for _ in 0..CODES {
            let mut attempt = dispatch_to_leader(&self.dispatcher, dispatch, None).await?;
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
    pub(super) async fn authorize(&self, dispatch: &mut Dispatch<'_>) -> Result<Attempt, Refusal> {
        let ctx = dispatch.ctx;
        let code = ctx.query("code");
        let target = Target::Leader(code.clone());
        // Text that cannot be a code goes to no other pod: the client's own pod answers.
        let Some(code) = code.filter(|code| is_plain(code)) else {
            return self.dispatcher.dispatch(dispatch).await;
        };
        let Some(session) = ctx.session() else {
            // The caller is an API key or an unknown client; the code's pod may still know its
            // token.
            return self.authorize_with_own_token(dispatch, target).await;
        };
        let named = ctx.query("userId");
        let approver = match self.approving_user(ctx, session).await {
            Some(approver) => approver,
            None => {
                // The user's own pod answers. If that is gone, the session migrates, and its new pod
                // knows nothing of a code that another has made.
                let answered = self.dispatcher.dispatch(dispatch).await?;
                if answered.answer.status() != StatusCode::NOT_FOUND {
                    return Ok(answered);
                }
                let Some(approver) = self.approving_user(ctx, session).await else { return Ok(answered) };
                approver
            }
        };
        let is_own = named.as_ref().is_none_or(|named| plain_id(named) == plain_id(&approver.user));
        if !is_own && !approver.is_administrator {
            // The user's own pod refuses this before it looks for the code.
            return self.dispatcher.dispatch(dispatch).await;
        }
        let Some(api_key) = self.shared.api_key() else {
            return self.dispatcher.dispatch(dispatch).await;
        };
        let user = named.unwrap_or(approver.user);
        let call = quick_connect::authorize(&code, &plain_id(&user), api_key.as_str());
        let head = head_for(ctx, &call.target);
        let Some(head) = head else { return Err(Refusal::Malformed("the code is no code")) };
        let by_key = RequestContext { head: &head, target, is_by_key: true, ..ctx.without_identity() };
        let body = ReplayBody::empty();
        let mut by_key = Dispatch { ctx: &by_key, body: &body, record: &mut *dispatch.record };
        self.dispatcher.dispatch(&mut by_key).await
    }

    /// Approves with the client's own token when jellypin knows no session. The code's pod knows
    /// the token if it started after the log-in. If it does not, the client must not take its 401
    /// for the end of the session.
    async fn authorize_with_own_token(&self, dispatch: &mut Dispatch<'_>, target: Target) -> Result<Attempt, Refusal> {
        let ctx = dispatch.ctx;
        let attempt = self.dispatcher.dispatch(&mut dispatch.with_context(&ctx.with_target(target))).await?;
        let is_unknown = attempt.answer.status() == StatusCode::UNAUTHORIZED
            && attempt.answer.headers().get(header::CONTENT_LENGTH).is_some_and(|length| length == "0");
        if !is_unknown {
            return Ok(attempt);
        }
        if ctx.keys.identity.token.is_some() && self.shared.api_key().is_none() {
            warn_missing_key(&self.metrics, ctx, Feature::QuickConnect);
        }
        self.dispatcher.dispatch(dispatch).await
    }

    /// Who the caller is, according to the pod that the caller lives on.
    async fn approving_user(&self, ctx: &RequestContext<'_>, session: &Session) -> Option<Approver> {
        let pods = ctx.pool.pool.pods();
        let home = session.home()?;
        let pod = pods.iter().find(|pod| pod.id == home.pod && pod.status().is_alive())?;
        let token = session.token_at(PodInstance::of(pod))?;
        match self.pods.call(pod, &Caller::of(ctx), users::who_am_i(token.as_str())).await {
            Ok(TokenStatus::Known { user: Some(user), is_administrator, .. }) => {
                Some(Approver { user, is_administrator })
            }
            _ => None,
        }
    }
}

struct Approver {
    user: String,
    is_administrator: bool,
}

/// A head with the same method and another target, on the client's behalf. It has no body.
fn head_for(ctx: &RequestContext<'_>, target: &str) -> Option<request::Parts> {
    let uri: Uri = format!("{}{target}", ctx.pool.pool.base_path).parse().ok()?;
    let mut headers: HeaderMap = ctx.head.headers.clone();
    authorization::remove(&mut headers);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::CONTENT_TYPE);
    let (mut head, ()) = Request::new(()).into_parts();
    head.method = ctx.head.method.clone();
    head.uri = uri;
    head.headers = headers;
    Some(head)
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
    fn only_a_code_is_put_into_a_query() {
        assert!(is_plain("123456") && !is_plain("12&userId=x 3"));
    }
}
