//! Step 6, judge: what to do after a pod refuses a token. Perhaps only this pod does not know the token,
//! or the endpoint refused for its own reasons, or the token is dead.

use std::{sync::Arc, time::Duration};

use tokio::time::{self, Instant};

use crate::{
    forward::outbound::ReplayBody,
    health,
    jellyfin::{
        client::{
            system::{self, PublicInfo},
            users::{self, TokenStatus},
        },
        endpoint::Endpoint,
    },
    pod::{Pod, PodInstance},
    proxy::{
        pod_client::{Caller, PodClient},
        request::{
            attempt::Attempt,
            context::{ClientSession, RequestContext},
        },
        selector::Selector,
        shared_state::SharedState,
    },
    sessions::{Session, Token},
};

/// The longest wait for a probe that tells who listens at a pod's address.
const PROBED: Duration = Duration::from_secs(2);

/// What to do after a refusal.
pub(super) enum AfterUnauthorized {
    /// Try another pod.
    TryNextPod,
    /// Try the same pod with another token.
    RetryPod,
    /// Give the answer to the client.
    Answer,
    /// The endpoint itself refused; the token is valid.
    EndpointRefused,
}

/// Asks what a refusal means.
pub(super) struct TokenJudge {
    shared: Arc<SharedState>,
    selector: Arc<Selector>,
    pods: Arc<PodClient>,
}

impl TokenJudge {
    pub(super) fn new(shared: Arc<SharedState>, selector: Arc<Selector>, pods: Arc<PodClient>) -> TokenJudge {
        TokenJudge { shared, selector, pods }
    }

    /// Decides what to do after a refusal. A plug-in's own 401 looks the same, and so does
    /// SyncPlay's answer to an API key. Only the pod can say whether it knows the token.
    pub(super) async fn on_unauthorized(
        &self,
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
        &self,
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
                Ok(TokenStatus::Unknown) => session.residence.forget_token_at(place),
                Ok(TokenStatus::Known { .. }) => return AfterUnauthorized::EndpointRefused,
                Err(_) => return AfterUnauthorized::Answer,
            }
        }
        self.shared.negative_cache.insert(used, pod);
        if was_valid && session.home() == Some(place) {
            self.shared.sessions.comparer.refresh(session).await;
            let is_untried = |token: &Token| !self.shared.negative_cache.is_refused(token.as_str(), pod);
            if session.tokens.all().iter().any(|minted| is_untried(&minted.token)) {
                return if replay_body.can_replay() { AfterUnauthorized::RetryPod } else { AfterUnauthorized::Answer };
            }
            // Another replica may have ended the session, or minted another token for it. The
            // request is held until Redis says which.
            if self.selector.is_uncertain(ctx) {
                return AfterUnauthorized::TryNextPod;
            }
            if !self.is_same_server(ctx, pod).await {
                return self.after_other_server(place, pod, replay_body).await;
            }
            self.shared.sessions.ends.end_session(session);
            self.shared.negative_cache.insert_all(own, &ctx.pool.pool.pods());
            self.selector.forget_token(ctx);
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
        &self,
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
        let place = PodInstance::of(pod);
        if self.selector.pinned_home(ctx) == Some(place) {
            if !self.is_same_server(ctx, pod).await {
                return self.after_other_server(place, pod, replay_body).await;
            }
            self.shared.negative_cache.insert_all(token, &pods);
            self.selector.forget_token(ctx);
            return AfterUnauthorized::Answer;
        }
        go_on()
    }

    /// Whether the pod is still the server that jellypin knows. Another one may have taken its address
    /// a moment ago, and knows nobody.
    async fn is_same_server(&self, ctx: &RequestContext<'_>, pod: &Arc<Pod>) -> bool {
        let Some(known) = pod.info.latest() else { return true };
        let info = self.pods.call(pod, &Caller::of(ctx), system::public_info()).await;
        matches!(info, Ok(PublicInfo::Known(info)) if info.id == known.id)
    }

    /// Lets the prober look who is there; then the request goes on as after a restart of its home.
    async fn after_other_server(
        &self,
        place: PodInstance,
        pod: &Arc<Pod>,
        replay_body: &ReplayBody,
    ) -> AfterUnauthorized {
        let mut probes = pod.suspicions.probes();
        probes.mark_unchanged();
        health::report_suspect(pod);
        // If it does not come, the other pods are asked all the same.
        let _ = time::timeout(PROBED, probes.changed()).await;
        match PodInstance::of(pod) != place {
            _ if !replay_body.can_replay() => AfterUnauthorized::Answer,
            true => AfterUnauthorized::RetryPod,
            false => AfterUnauthorized::TryNextPod,
        }
    }
}
