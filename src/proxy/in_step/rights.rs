//! Whether the caller is an administrator, before jellypin reads or does anything by the key.

use std::sync::Arc;

use super::{InStep, peers::Peers};
use crate::{
    jellyfin::{
        client::{
            system,
            users::{self, TokenStatus},
        },
        endpoint,
    },
    pod::{Pod, PodInstance},
    proxy::{
        pod_client::Caller,
        request::context::{ClientSession, RequestContext},
    },
    sessions::Token,
};

/// Tokens of a session that one pod is asked for.
const MOST_TOKENS: usize = 3;

/// What the caller's own pod says of the caller.
pub(super) enum Right {
    Administrator(Arc<Pod>),
    None,
    /// No pod that knows the caller can be asked.
    Unknown,
}

impl InStep {
    /// Whether a request may give a user another name, where users are one by their names: it needs
    /// [`InStep::is_administrator`].
    pub(in crate::proxy) fn renames(&self, ctx: &RequestContext<'_>) -> bool {
        ctx.pool.shown_server.users.is_some()
            && endpoint::may_rename_user(&ctx.head.method, ctx.path)
            // A pod refuses it without a token.
            && ctx.keys.identity.token.is_some()
    }

    /// Whether the caller's own pod says that the caller is an administrator.
    pub(in crate::proxy) async fn is_administrator(&self, ctx: &RequestContext<'_>) -> bool {
        matches!(self.peers.judge(ctx).await, Right::Administrator(_))
    }
}

impl Peers {
    /// Asks the caller's own pod whether the caller is an administrator.
    pub(super) async fn judge(&self, ctx: &RequestContext<'_>) -> Right {
        let caller = Caller::of(ctx);
        for (pod, token) in knowers(ctx) {
            let is_administrator = match self.pods.call(&pod, &caller, users::who_am_i(token.as_str())).await {
                Ok(TokenStatus::Known { user: Some(_), is_administrator, .. }) => is_administrator,
                // An API key, which pods admit wherever an administrator may go.
                Ok(TokenStatus::Known { user: None, .. }) => {
                    self.pods.call(&pod, &caller, system::may_administer(token.as_str())).await.unwrap_or_default()
                }
                Ok(TokenStatus::Unknown) | Err(_) => continue,
            };
            return if is_administrator { Right::Administrator(pod) } else { Right::None };
        }
        Right::Unknown
    }

    /// The user of the caller's token, by the pod that answered.
    pub(super) async fn user_of(&self, ctx: &RequestContext<'_>, pod: &Arc<Pod>) -> Option<String> {
        if let Some(session) = ctx.session() {
            return Some(session.user.clone());
        }
        let token = ctx.keys.identity.token.as_deref()?;
        match self.pods.call(pod, &Caller::of(ctx), users::who_am_i(token)).await {
            Ok(TokenStatus::Known { user, .. }) => user,
            Ok(TokenStatus::Unknown) | Err(_) => None,
        }
    }
}

/// The pods that may know the caller, each with a token that it may know; the home first.
fn knowers(ctx: &RequestContext<'_>) -> Vec<(Arc<Pod>, Token)> {
    let Some(own) = ctx.keys.identity.token.as_deref() else { return Vec::new() };
    let pods = ctx.pool.pool.pods();
    let alive = pods.iter().filter(|pod| pod.status().is_alive());
    match &ctx.client_session {
        ClientSession::Known(session) => {
            let home = session.home().map(|home| home.pod);
            let mut alive: Vec<_> = alive.cloned().collect();
            alive.sort_by_key(|pod| Some(pod.id) != home);
            let tokens_at = |pod: Arc<Pod>| {
                let known = session.token_at(PodInstance::of(&pod));
                // A pod that has just restarted knows every token whose row is left.
                let all = || session.tokens.all().into_iter().map(|minted| minted.token).take(MOST_TOKENS).collect();
                let tokens = known.map_or_else(all, |token| vec![token]);
                tokens.into_iter().map(move |token| (pod.clone(), token))
            };
            alive.into_iter().flat_map(tokens_at).collect()
        }
        ClientSession::Ended => Vec::new(),
        // Every pod knows an API key. A stranger's token makes one pod answer, and no more.
        ClientSession::Unknown | ClientSession::Unresolved => {
            alive.take(1).map(|pod| (pod.clone(), Token::new(own))).collect()
        }
    }
}
