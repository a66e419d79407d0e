//! Decides what to do after a pod refuses a token. Perhaps only this pod does not know the token,
//! or the endpoint refused for its own reasons, or the token is dead.

use std::sync::Arc;

use tokio::time::Instant;

use super::Attempt;
use crate::{
    affinity::pins::Kind,
    forward::outbound::ReplayBody,
    jellyfin::{
        client::users::{self, TokenStatus},
        endpoint::Endpoint,
    },
    pod::{Pod, PodId, PodInstance},
    proxy::{
        ClientSession, Proxy, RequestContext,
        pod_client::Caller,
        request::{refusal::Refusal, select},
    },
    sessions::{Session, Token},
};

/// What to do after a refusal.
pub(in crate::proxy) enum AfterUnauthorized {
    /// Try another pod.
    TryNextPod,
    /// Try the same pod with another token.
    RetryPod,
    /// Give the answer to the client.
    Answer,
    /// The endpoint itself refused; the token is valid.
    EndpointRefused,
}

impl Proxy {
    /// Decides what to do after a refusal. A plug-in's own 401 looks the same, and so does
    /// SyncPlay's answer to an API key. Only the pod can say whether it knows the token.
    pub(in crate::proxy) async fn on_unauthorized(
        self: &Arc<Self>,
        ctx: &RequestContext<'_>,
        replay_body: &ReplayBody,
        attempt: &Attempt,
    ) -> AfterUnauthorized {
        match &ctx.client_session {
            ClientSession::Known(session) => self.session_unauthorized(ctx, session, replay_body, attempt).await,
            ClientSession::Unknown | ClientSession::Unresolved => {
                self.token_unauthorized(ctx, replay_body, &attempt.decision.pod).await
            }
            // No pod received the token, and none will.
            ClientSession::Ended => AfterUnauthorized::Answer,
        }
    }

    /// Handles a refusal for a known session. The endpoint may have refused for its own reasons, or
    /// the session has ended: ask the pod which. A living home that no longer knows its token has
    /// ended the session, unless another replica has migrated it meanwhile.
    async fn session_unauthorized(
        self: &Arc<Self>,
        ctx: &RequestContext<'_>,
        session: &Arc<Session>,
        replay_body: &ReplayBody,
        attempt: &Attempt,
    ) -> AfterUnauthorized {
        let (pod, place) = (&attempt.decision.pod, PodInstance::of(&attempt.decision.pod));
        let own = ctx.keys.identity.token.as_deref().unwrap_or_default();
        let used = attempt.token.as_ref().map_or(own, Token::as_str);
        let was_valid = session.token_at(place).is_some();
        if was_valid {
            match self.pods.call(pod, &Caller::of(ctx), users::who_am_i(used)).await {
                Ok(TokenStatus::Unknown) => session.forget_token_at(place),
                Ok(TokenStatus::Known { .. }) => return AfterUnauthorized::EndpointRefused,
                Err(_) => return AfterUnauthorized::Answer,
            }
        }
        self.shared.negative_cache.insert(used, pod);
        if was_valid && session.home() == Some(place) {
            self.shared.sessions.refresh(session).await;
            let is_untried = |token: &Token| !self.shared.negative_cache.is_refused(token.as_str(), pod);
            if session.tokens().iter().any(|minted| is_untried(&minted.token)) {
                return if replay_body.can_replay() { AfterUnauthorized::RetryPod } else { AfterUnauthorized::Answer };
            }
            // Another replica may have ended the session, or minted another token for it. The
            // request is held until Redis says which.
            if self.is_uncertain(ctx) {
                return AfterUnauthorized::TryNextPod;
            }
            self.shared.sessions.end_session(session);
            self.shared.negative_cache.insert_all(own, &ctx.pool.pool.pods());
            self.forget_token(ctx);
            return AfterUnauthorized::Answer;
        }
        let goes_on = replay_body.can_replay() && self.shared.budget.try_spend(ctx.origin, Instant::now());
        if goes_on { AfterUnauthorized::TryNextPod } else { AfterUnauthorized::Answer }
    }

    /// Handles a refusal of a token without a known session: perhaps an API key, or made up. The
    /// negative cache remembers which pods do not know the token, so that each sees it once. Asking
    /// the pod and trying the next one together cost one unit of the address's budget.
    ///
    /// If a living home refuses the token, the token is dead: the home has logged it out. It must
    /// not come back to life on a pod that does not know of the log-out.
    async fn token_unauthorized(
        self: &Arc<Self>,
        ctx: &RequestContext<'_>,
        replay_body: &ReplayBody,
        pod: &Arc<Pod>,
    ) -> AfterUnauthorized {
        let Some(token) = ctx.keys.identity.token.as_deref() else { return AfterUnauthorized::Answer };
        let can_spend = self.shared.budget.try_spend(ctx.origin, Instant::now());
        let go_on = || {
            if can_spend && replay_body.can_replay() {
                AfterUnauthorized::TryNextPod
            } else {
                AfterUnauthorized::Answer
            }
        };
        // Only here can a plug-in answer, or the pod refuse an API key. Elsewhere the 401 already
        // says that the pod does not know the token.
        if matches!(ctx.endpoint, Endpoint::Open | Endpoint::SyncPlay) && !ctx.is_upgrade {
            if !can_spend {
                return AfterUnauthorized::Answer;
            }
            match self.pods.call(pod, &Caller::of(ctx), users::who_am_i(token)).await {
                Ok(TokenStatus::Unknown) => {}
                Ok(TokenStatus::Known { .. }) => return AfterUnauthorized::EndpointRefused,
                Err(_) => return go_on(),
            }
        }
        self.shared.negative_cache.insert(token, pod);
        let pods = ctx.pool.pool.pods();
        if self.shared.negative_cache.is_dead(token, &pods) {
            // A log-out may have happened meanwhile.
            return AfterUnauthorized::Answer;
        }
        if self.pinned_home(ctx) == Some(PodInstance::of(pod)) {
            self.shared.negative_cache.insert_all(token, &pods);
            self.forget_token(ctx);
            return AfterUnauthorized::Answer;
        }
        go_on()
    }

    /// The pods that refused this token in their present epoch; trying them again is useless.
    pub(in crate::proxy) fn pods_known_to_refuse(&self, ctx: &RequestContext<'_>) -> Result<Vec<PodId>, Refusal> {
        match ctx.client_session {
            ClientSession::Ended if ctx.required_token().is_some() => return Err(Refusal::DeadToken),
            // A known session keeps track itself of which pods know which token.
            ClientSession::Ended | ClientSession::Known(_) => return Ok(Vec::new()),
            ClientSession::Unknown | ClientSession::Unresolved => {}
        }
        if self.shared.negative_cache.is_empty() {
            return Ok(Vec::new());
        }
        let Some(token) = ctx.required_token() else { return Ok(Vec::new()) };
        let pods = ctx.pool.pool.pods();
        if self.shared.negative_cache.is_dead(token, &pods) {
            if !ctx.endpoint.is_media() {
                return Err(Refusal::DeadToken);
            }
            // Players must not get an error made by the proxy, so one pod gives its own.
            let asked = select::place(&pods, &ctx.keys, &[], 0).map(|decision| decision.pod.id);
            return Ok(pods.iter().map(|pod| pod.id).filter(|id| Some(*id) != asked).collect());
        }
        let refuses = pods.iter().filter(|pod| self.shared.negative_cache.is_refused(token, pod));
        Ok(refuses.map(|pod| pod.id).collect())
    }

    pub(in crate::proxy) fn pinned_home(&self, ctx: &RequestContext<'_>) -> Option<PodInstance> {
        self.shared.pins.home(Kind::Token, ctx.keys.identity.token.as_deref()?, |_, _| true)
    }

    /// The pod that the client lives on, as far as this process knows.
    fn home_pod(&self, ctx: &RequestContext<'_>) -> Option<PodId> {
        match ctx.session() {
            Some(session) => session.home().map(|home| home.pod),
            None => self.pinned_home(ctx).map(|home| home.pod),
        }
    }

    /// Whether the client may live on this pod and the pod is alive. While such a pod fails,
    /// refusals by other pods prove nothing.
    pub(in crate::proxy) fn may_be_home(&self, ctx: &RequestContext<'_>, pod: &Pod) -> bool {
        pod.status().is_alive() && self.home_pod(ctx).is_none_or(|home| home == pod.id)
    }

    /// Whether the client's known home is away. It may come back and know the token again.
    pub(in crate::proxy) fn home_is_away(&self, ctx: &RequestContext<'_>) -> bool {
        if matches!(ctx.client_session, ClientSession::Ended) {
            return false;
        }
        let Some(home) = self.home_pod(ctx) else { return false };
        ctx.pool.pool.pods().iter().any(|pod| pod.id == home && !pod.status().is_alive())
    }

    /// Whether another replica may have ended the client's session, or minted a token for it.
    pub(in crate::proxy) fn is_uncertain(&self, ctx: &RequestContext<'_>) -> bool {
        ctx.session().is_some_and(|session| self.shared.sessions.is_uncertain(session))
    }

    pub(in crate::proxy) fn forget_token(&self, ctx: &RequestContext<'_>) {
        if let Some(token) = ctx.keys.identity.token.as_deref() {
            self.shared.pins.forget(Kind::Token, token);
        }
    }
}

impl RequestContext<'_> {
    /// Whether the pod cannot know the token that the request needs. The client's home is another
    /// pod, and only the home's refusal counts.
    pub(in crate::proxy) fn cannot_know_token(&self, pod: &Pod) -> bool {
        let is_known = |session: &Session| session.token_at(PodInstance::of(pod)).is_some();
        let is_strange = |session: &Arc<Session>| self.home_is_elsewhere(session, pod) && !is_known(session);
        self.required_token().is_some() && self.session().is_some_and(is_strange)
    }
}
