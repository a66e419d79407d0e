//! Step 3, decide: which pod a request goes to, and what this process knows of the client's home.

use std::sync::Arc;

use super::{
    request::{
        context::{ClientSession, RequestContext, Target},
        refusal::Refusal,
        select::{self, Decision, Reason},
    },
    shared_state::SharedState,
    user_homes,
};
use crate::{
    affinity::pins::Kind,
    jellyfin::endpoint::Endpoint,
    pod::{Pod, PodId, PodInstance, State},
    sessions::Session,
};

/// Chooses pods by sessions and pins.
pub(in crate::proxy) struct Selector {
    shared: Arc<SharedState>,
}

impl Selector {
    pub(in crate::proxy) fn new(shared: Arc<SharedState>) -> Selector {
        Selector { shared }
    }

    /// The best pod that was not tried.
    pub(in crate::proxy) fn select(&self, ctx: &RequestContext<'_>, tried: &[PodId]) -> Option<Decision> {
        let pods = ctx.pool.pool.pods();
        if let Target::Leader(key) = &ctx.target {
            return select::of_leader(&pods, ctx.pool.leader.current(), key.as_deref(), &self.shared.pins, tried);
        }
        if ctx.target == Target::Writer {
            let writer = ctx.pool.writer.current(&ctx.pool.pool).filter(|pod| !tried.contains(&pod.id));
            return writer.map(|pod| Decision::new(pod, Reason::Writer));
        }
        // A log-in that names its user goes where that user lives, whosever token comes with it.
        match ctx.session().filter(|_| ctx.keys.user.is_none()) {
            Some(session) => {
                let goes_with_media = ctx.endpoint.goes_with_media() && ctx.target != Target::NewHome;
                let placed = || {
                    let leader = self.leader_of_group(ctx, session).filter(|leader| !tried.contains(&leader.id));
                    leader.or_else(|| user_homes::place(&self.shared, &pods, session, tried))
                };
                select::of_session(&pods, goes_with_media, &ctx.keys, session, &self.shared.pins, tried, placed)
            }
            None => select::decide(&pods, &ctx.keys, &self.shared.pins, tried, self.shared.next_placement()),
        }
    }

    /// The pod on which the SyncPlay group of a session goes on whose home is gone.
    fn leader_of_group(&self, ctx: &RequestContext<'_>, session: &Arc<Session>) -> Option<Arc<Pod>> {
        self.shared.groups.of(session)?;
        ctx.pool.leader.current().filter(|leader| leader.status().state == State::Ready)
    }

    /// The pod for a client that must log in again.
    pub(in crate::proxy) fn place(&self, ctx: &RequestContext<'_>) -> Option<Decision> {
        select::place(&ctx.pool.pool.pods(), &ctx.keys, &[], self.shared.next_placement())
    }

    /// The pods that refused this token in their present epoch; trying them again is useless.
    pub(in crate::proxy) fn known_to_refuse(&self, ctx: &RequestContext<'_>) -> Result<Vec<PodId>, Refusal> {
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

    /// The pods that must not get this request: they were never set up, while another one was.
    pub(in crate::proxy) fn never_set_up(&self, ctx: &RequestContext<'_>) -> Vec<PodId> {
        if !needs_pod_set_up(ctx) {
            return Vec::new();
        }
        let pods = ctx.pool.pool.pods();
        let is_set_up = |pod: &Pod| pod.info.with(|info| info.is_set_up).flatten();
        if !pods.iter().any(|pod| is_set_up(pod) == Some(true)) {
            return Vec::new();
        }
        pods.iter().filter(|pod| is_set_up(pod) == Some(false)).map(|pod| pod.id).collect()
    }

    /// Whether this pod has just refused the request's token.
    pub(in crate::proxy) fn has_refused(&self, ctx: &RequestContext<'_>, pod: &Pod) -> bool {
        match ctx.session() {
            Some(session) => session.migrations.is_refused(PodInstance::of(pod)),
            None => ctx.required_token().is_some_and(|token| self.shared.negative_cache.is_refused(token, pod)),
        }
    }

    /// The pod that is to be woken for a request that is held: the client's home, or else one that can
    /// serve while no other does. One that stands by comes last.
    pub(in crate::proxy) fn sleeper(&self, ctx: &RequestContext<'_>) -> Option<Arc<Pod>> {
        let pool = &ctx.pool.pool;
        let pods = pool.pods();
        let sleepers = || pods.iter().filter(|pod| pod.sleep.is_wakeable() && !pod.status().is_alive());
        sleepers().next()?;
        let home = self.home_pod(ctx);
        let first = || sleepers().min_by_key(|pod| pool.is_standby(&pod.name));
        let own = sleepers().find(|pod| Some(pod.id) == home);
        own.or_else(|| first().filter(|_| !pods.iter().any(|pod| pod.can_answer()))).cloned()
    }

    /// The home by the token's pin.
    pub(in crate::proxy) fn pinned_home(&self, ctx: &RequestContext<'_>) -> Option<PodInstance> {
        self.shared.pins.home(Kind::Token, ctx.keys.identity.token.as_deref()?, |_, _| true)
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
        ctx.session().is_some_and(|session| self.shared.sessions.comparer.is_uncertain(session))
    }

    /// Whether this pod made the request's code, secret or state. Its answer about it is then
    /// final.
    pub(in crate::proxy) fn has_made(&self, ctx: &RequestContext<'_>, pod: &Pod) -> bool {
        let Target::Leader(Some(key)) = &ctx.target else { return false };
        self.shared.pins.home(Kind::QuickConnect, key, |_, _| true) == Some(PodInstance::of(pod))
    }

    pub(in crate::proxy) fn forget_token(&self, ctx: &RequestContext<'_>) {
        if let Some(token) = ctx.keys.identity.token.as_deref() {
            self.shared.pins.forget(Kind::Token, token);
        }
    }

    /// The pod that the client lives on, as far as this process knows.
    fn home_pod(&self, ctx: &RequestContext<'_>) -> Option<PodId> {
        match ctx.session() {
            Some(session) => session.home().map(|home| home.pod),
            None => self.pinned_home(ctx).map(|home| home.pod),
        }
    }
}

/// Whether a pod that was never set up answers differently from the others, and lets strangers set
/// it up.
fn needs_pod_set_up(ctx: &RequestContext<'_>) -> bool {
    ctx.endpoint == Endpoint::Guarded || (ctx.endpoint == Endpoint::Open && ctx.contains_address())
}
