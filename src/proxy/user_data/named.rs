//! Whose data a write is about, before its pod has judged it.
//!
//! Path and query may name any user. A write that is under way keeps its pod from being told what
//! that user wrote elsewhere. So only the user and administrators may begin one.

use std::sync::Arc;

use crate::{
    jellyfin::{
        client::{
            system,
            users::{self, TokenStatus},
        },
        user_data::Id,
    },
    pod::Pod,
    proxy::{
        pod_client::{Caller, PodClient},
        request::context::RequestContext,
    },
    sessions::Token,
};

/// The user whose data the write is about. `None` if nobody is known, or if the caller may not write
/// for the user that the write names. `token` is that of the caller at the pod.
pub(super) async fn user_of(
    pods: &PodClient,
    ctx: &RequestContext<'_>,
    (pod, token): (&Arc<Pod>, Option<&Token>),
    named: Option<Id>,
) -> Option<Id> {
    let own = ctx.session().and_then(|session| Id::read(&session.user));
    match named {
        None => own,
        Some(named) if own == Some(named) => own,
        Some(named) => {
            let token = token.map(Token::as_str).or(ctx.keys.identity.token.as_deref())?;
            let caller = Caller::of(ctx);
            // Boxed: this path is rare.
            Box::pin(may_write_for(named, pods, (pod, token), &caller)).await.then_some(named)
        }
    }
}

/// Whether the pod says that this token is of the user, or of an administrator.
async fn may_write_for(named: Id, pods: &PodClient, (pod, token): (&Arc<Pod>, &str), caller: &Caller) -> bool {
    match pods.call(pod, caller, users::who_am_i(token)).await {
        Ok(TokenStatus::Known { user: Some(user), is_administrator, .. }) => {
            is_administrator || Id::read(&user) == Some(named)
        }
        // An API key, which pods admit wherever an administrator may go.
        Ok(TokenStatus::Known { user: None, .. }) => {
            pods.call(pod, caller, system::may_administer(token)).await.is_ok_and(|may| may)
        }
        Ok(TokenStatus::Unknown) | Err(_) => false,
    }
}
