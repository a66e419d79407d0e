//! What follows from a pod's refusal of a token. The pod may not know it, and another may; the endpoint may have refused it for
//! reasons of its own; or the token is dead.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    Asking, ClientSession, Proxy,
    call::{Standing, on_behalf_of},
    decide,
    offer::Offered,
    reply::Refusal,
};
use crate::{
    affinity::pins::Kind,
    carryover::{Session, Token},
    forward::outbound::Source,
    identity::endpoint::Endpoint,
    pod::{Place, Pod, PodId},
};

/// What follows from a refusal.
pub(super) enum Doubted {
    /// Another pod is asked.
    GoOn,
    /// The same one, by another token.
    AskAgain,
    /// The answer is the client's.
    Final,
    /// So it is, and it says nothing of the token, which the pod knows.
    Own,
}

impl Proxy {
    /// After a refusal. A plug-in's own 401 looks the same, and so does what an API key gets from SyncPlay: only the pod can say
    /// whether it knows the token.
    pub(super) async fn doubt(self: &Arc<Self>, asking: &Asking<'_>, source: &Source, offered: &Offered) -> Doubted {
        match &asking.client_session {
            ClientSession::Known(session) => self.doubt_session(asking, session, source, offered).await,
            ClientSession::Unknown | ClientSession::Untold => {
                self.doubt_token(asking, source, &offered.decision.pod).await
            }
            // No pod was shown the token, and none will be.
            ClientSession::Ended => Doubted::Final,
        }
    }

    /// Where the session is known to be valid, the refusal may be the endpoint's own affair, or the end of the session: the pod
    /// is asked which. A living home that does not know its token any more has ended it, unless another replica has carried
    /// the session meanwhile.
    async fn doubt_session(
        self: &Arc<Self>,
        asking: &Asking<'_>,
        session: &Arc<Session>,
        source: &Source,
        offered: &Offered,
    ) -> Doubted {
        let (pod, place) = (&offered.decision.pod, Place::of(&offered.decision.pod));
        let own = asking.keys.identity.token.as_deref().unwrap_or_default();
        let used = offered.token.as_ref().map_or(own, Token::as_str);
        let was_valid = session.token_at(place).is_some();
        if was_valid {
            match self.ask_who(pod, &asking.pool.pool.base_path, used, &on_behalf_of(asking)).await {
                Ok(Standing::Unknown) => session.leave(place),
                Ok(Standing::Known { .. }) => return Doubted::Own,
                Err(_) => return Doubted::Final,
            }
        }
        self.site.refusals.remember(used, pod);
        if was_valid && session.home() == Some(place) {
            self.site.sessions.refresh(session).await;
            let is_untried = |token: &Token| !self.site.refusals.is_refused(token.as_str(), pod);
            if session.tokens().iter().any(|minted| is_untried(&minted.token)) {
                return if source.can_replay() { Doubted::AskAgain } else { Doubted::Final };
            }
            // Another replica may have ended it, or minted another token for it: the request is held until Redis says which.
            if self.is_uncertain(asking) {
                return Doubted::GoOn;
            }
            self.site.sessions.end(session);
            self.site.refusals.remember_all(own, &asking.pool.pool.pods());
            self.forget_token(asking);
            return Doubted::Final;
        }
        let goes_on = source.can_replay() && self.site.budget.spend(asking.origin, Instant::now());
        if goes_on { Doubted::GoOn } else { Doubted::Final }
    }

    /// Of a token without a known session, which may be an API key, or made up. What the pod does not know is remembered, so that
    /// it hears of it once; a question and the next pod together take one piece of the address's budget.
    ///
    /// A living home's own refusal means that the token is dead: it was logged out there, and must not come to life on a pod
    /// that has not heard of it.
    async fn doubt_token(self: &Arc<Self>, asking: &Asking<'_>, source: &Source, pod: &Arc<Pod>) -> Doubted {
        let Some(token) = asking.keys.identity.token.as_deref() else { return Doubted::Final };
        let can_spend = self.site.budget.spend(asking.origin, Instant::now());
        let go_on = || if can_spend && source.can_replay() { Doubted::GoOn } else { Doubted::Final };
        // Elsewhere no plug-in answers, and an API key is taken: the pod has said it already.
        if matches!(asking.endpoint, Endpoint::Open | Endpoint::SyncPlay) && !asking.is_upgrade {
            if !can_spend {
                return Doubted::Final;
            }
            match self.ask_who(pod, &asking.pool.pool.base_path, token, &on_behalf_of(asking)).await {
                Ok(Standing::Unknown) => {}
                Ok(Standing::Known { .. }) => return Doubted::Own,
                Err(_) => return go_on(),
            }
        }
        self.site.refusals.remember(token, pod);
        let pods = asking.pool.pool.pods();
        if self.site.refusals.is_dead(token, &pods) {
            // A log-out may have come meanwhile.
            return Doubted::Final;
        }
        if self.home(asking) == Some(Place::of(pod)) {
            self.site.refusals.remember_all(token, &pods);
            self.forget_token(asking);
            return Doubted::Final;
        }
        go_on()
    }

    /// The pods that refused this token in their present life need not be asked again.
    pub(super) fn pods_known_to_refuse(&self, asking: &Asking<'_>) -> Result<Vec<PodId>, Refusal> {
        match asking.client_session {
            ClientSession::Ended if asking.demanded_token().is_some() => return Err(Refusal::DeadToken),
            // Which pods know a session by which token is its own affair.
            ClientSession::Ended | ClientSession::Known(_) => return Ok(Vec::new()),
            ClientSession::Unknown | ClientSession::Untold => {}
        }
        if self.site.refusals.is_empty() {
            return Ok(Vec::new());
        }
        let Some(token) = asking.demanded_token() else { return Ok(Vec::new()) };
        let pods = asking.pool.pool.pods();
        if self.site.refusals.is_dead(token, &pods) {
            if !asking.endpoint.is_media() {
                return Err(Refusal::DeadToken);
            }
            // A player gets no error that the proxy made: one pod is asked for its own.
            let asked = decide::place(&pods, &asking.keys, &[], 0).map(|decision| decision.pod.id);
            return Ok(pods.iter().map(|pod| pod.id).filter(|id| Some(*id) != asked).collect());
        }
        let refuses = pods.iter().filter(|pod| self.site.refusals.is_refused(token, pod));
        Ok(refuses.map(|pod| pod.id).collect())
    }

    pub(super) fn home(&self, asking: &Asking<'_>) -> Option<Place> {
        self.site.pins.home(Kind::Token, asking.keys.identity.token.as_deref()?, |_, _| true)
    }

    /// The pod that the client lives on, as far as is known.
    fn home_pod(&self, asking: &Asking<'_>) -> Option<PodId> {
        match asking.session() {
            Some(session) => session.home().map(|home| home.pod),
            None => self.home(asking).map(|home| home.pod),
        }
    }

    /// Whether the client may live on this pod, which is alive: while it fails, no other pod's refusal tells anything.
    pub(super) fn may_be_home(&self, asking: &Asking<'_>, pod: &Pod) -> bool {
        pod.status().is_alive() && self.home_pod(asking).is_none_or(|home| home == pod.id)
    }

    /// The client's home is known, and is not there at the moment: it may come back, and know the token again.
    pub(super) fn home_is_away(&self, asking: &Asking<'_>) -> bool {
        if matches!(asking.client_session, ClientSession::Ended) {
            return false;
        }
        let Some(home) = self.home_pod(asking) else { return false };
        asking.pool.pool.pods().iter().any(|pod| pod.id == home && !pod.status().is_alive())
    }

    /// Another replica may have ended the client's session, or minted for it.
    pub(super) fn is_uncertain(&self, asking: &Asking<'_>) -> bool {
        asking.session().is_some_and(|session| self.site.sessions.is_uncertain(session))
    }

    pub(super) fn forget_token(&self, asking: &Asking<'_>) {
        if let Some(token) = asking.keys.identity.token.as_deref() {
            self.site.pins.forget(Kind::Token, token);
        }
    }
}

impl Asking<'_> {
    /// Whether a pod cannot know the token that the request demands: the client's home lives elsewhere, and has the last word.
    pub(super) fn is_unknown_at(&self, pod: &Pod) -> bool {
        let is_known = |session: &Session| session.token_at(Place::of(pod)).is_some();
        let is_strange = |session: &Arc<Session>| self.lives_elsewhere(session, pod) && !is_known(session);
        self.demanded_token().is_some() && self.session().is_some_and(is_strange)
    }
}
