//! Whether a caller may do what its own pod failed at. Other pods act by the API key only then.

use std::sync::Arc;

use http::StatusCode;

use super::{broadcast::REPEATS, is_absent};
use crate::{
    forward::outbound::ReplayBody,
    jellyfin::{
        client::{
            ApiCall, system,
            users::{self, TokenStatus},
        },
        endpoint::Revocation,
    },
    pod::Pod,
    proxy::{
        pod_client::{Caller, PodClient},
        request::context::RequestContext,
    },
    sessions::plain_id,
};

/// The pod that answered the caller, and the token that the pod got.
pub(super) struct AnsweringPod<'a> {
    pub(super) pods: &'a PodClient,
    pub(super) ctx: &'a RequestContext<'a>,
    pub(super) pod: &'a Arc<Pod>,
    pub(super) token: &'a str,
}

impl AnsweringPod<'_> {
    /// Whether the caller may do what its own pod failed at. The server's own rule decides, never
    /// the status.
    ///
    /// A 500 says nothing about rights. 10.11 returns it when the work is done but another pod had
    /// deleted a row. Every pod returns it, before it checks rights, to a caller whose own row is
    /// gone. A 400 or 404 says nothing either: any caller gets it for an unknown path or an
    /// unreadable header.
    pub(super) async fn is_right(&self, ends: &Revocation, status: StatusCode, body: &ReplayBody) -> bool {
        let last = if status == StatusCode::INTERNAL_SERVER_ERROR {
            self.retry_until_definite(ends, body).await
        } else {
            Some(status)
        };
        match (ends, last) {
            (_, Some(last)) if last.is_success() => true,
            (Revocation::Devices(_), Some(last)) if is_absent(last) => self.is_administrator().await,
            // The user existed at the first call, which failed.
            (Revocation::User(_), Some(StatusCode::NOT_FOUND)) => self.is_administrator().await,
            _ => false,
        }
    }

    /// After a failure: repeats the request on the same pod until the pod decides.
    async fn retry_until_definite(&self, ends: &Revocation, body: &ReplayBody) -> Option<StatusCode> {
        let body = body.replayable()?;
        // If the pod has made the change, the new password is the current one.
        let body =
            if matches!(ends, Revocation::OtherSessionsOf(_)) { users::repeated_password_change(&body)? } else { body };
        let by = Caller::of(self.ctx);
        for _ in 0..REPEATS {
            let call =
                ApiCall::again(self.ctx.head.method.clone(), target(self.ctx), body.clone()).with_token(self.token);
            let reply = self.pods.call(self.pod, &by, call).await.ok()?;
            if reply.status != StatusCode::INTERNAL_SERVER_ERROR {
                return Some(reply.status);
            }
        }
        None
    }

    /// The caller's user, according to the pod that answered the caller.
    pub(super) async fn user(&self) -> Option<String> {
        match self.pods.call(self.pod, &Caller::of(self.ctx), users::who_am_i(self.token)).await {
            Ok(TokenStatus::Known { user, .. }) => user.as_deref().map(plain_id),
            _ => None,
        }
    }

    /// Whether the pod that answered the caller grants administrator rights (policy
    /// `RequiresElevation`). The caller is a user or an API key. A key has no user, but pods admit
    /// it wherever an administrator may go.
    async fn is_administrator(&self) -> bool {
        let by = Caller::of(self.ctx);
        match self.pods.call(self.pod, &by, users::who_am_i(self.token)).await {
            Ok(TokenStatus::Known { user: Some(_), is_administrator, .. }) => is_administrator,
            Ok(TokenStatus::Known { user: None, .. }) => {
                self.pods.call(self.pod, &by, system::may_administer(self.token)).await.is_ok_and(|may| may)
            }
            Ok(TokenStatus::Unknown) | Err(_) => false,
        }
    }
}

/// Path and query below the BaseUrl.
fn target(ctx: &RequestContext<'_>) -> String {
    let query = ctx.head.uri.query().map_or(String::new(), |query| format!("?{query}"));
    format!("{}{query}", ctx.path)
}
