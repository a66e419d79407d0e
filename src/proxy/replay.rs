//! Sends an answered request again.
//!
//! An answer may outlive its pod: a film half-way through, or an open WebSocket. The proxy then
//! asks another pod for the same thing, for the same client. The rules are those of the first time:
//! identify, decide, forward, judge.

use std::{sync::Arc, time::Duration};

use http::HeaderMap;

use super::{
    dispatch::Dispatcher,
    identify::Identifier,
    learn::Learner,
    observer::Observer,
    pool_state::PoolState,
    request::{
        attempt::Attempt,
        context::{RequestContext, Target},
        dispatch::Dispatch,
        record::RequestRecord,
        refusal::Refusal,
        saved::SavedRequest,
    },
    shared_state::SharedState,
};
use crate::{
    forward::outbound::ReplayBody,
    sessions::{Device, Session, SessionLookup},
    shutdown::Shutdown,
};

/// Sends one worker's kept requests again.
pub(in crate::proxy) struct Replayer {
    pub(in crate::proxy) shared: Arc<SharedState>,
    identifier: Arc<Identifier>,
    dispatcher: Arc<Dispatcher>,
    learner: Arc<Learner>,
    pub(in crate::proxy) observer: Arc<Observer>,
    pub(in crate::proxy) shutdown: Shutdown,
}

/// A copy of a request, owned by one worker.
pub(in crate::proxy) struct ReplayableRequest {
    replayer: Arc<Replayer>,
    saved_request: SavedRequest,
    target: Target,
}

/// A pod's answer to a replayed request.
pub(in crate::proxy) struct ReplayedAnswer {
    pub(in crate::proxy) attempt: Attempt,
    /// Counts as load at the pod while it exists; keep it as long as the answer lasts. It writes no
    /// access line.
    pub(in crate::proxy) record: Box<RequestRecord>,
}

impl Replayer {
    pub(in crate::proxy) fn new(
        shared: Arc<SharedState>,
        identifier: Arc<Identifier>,
        dispatcher: Arc<Dispatcher>,
        learner: Arc<Learner>,
        (observer, shutdown): (Arc<Observer>, Shutdown),
    ) -> Replayer {
        Replayer { shared, identifier, dispatcher, learner, observer, shutdown }
    }

    /// Longest time to look for a pod that answers.
    pub(in crate::proxy) fn hold(&self) -> Duration {
        self.shared.forward.hold
    }

    /// Copies what is needed to send the request again.
    pub(in crate::proxy) fn copy(self: &Arc<Self>, ctx: &RequestContext<'_>) -> ReplayableRequest {
        self.of_saved(SavedRequest::new(ctx))
    }

    /// Lets this worker replay a request that another worker received.
    pub(in crate::proxy) fn of_saved(self: &Arc<Self>, saved_request: SavedRequest) -> ReplayableRequest {
        ReplayableRequest { replayer: self.clone(), saved_request, target: Target::Home }
    }
}

impl ReplayableRequest {
    /// Sends the request to the client's home, wherever its media runs.
    pub(in crate::proxy) fn toward_new_home(self) -> ReplayableRequest {
        ReplayableRequest { target: Target::NewHome, ..self }
    }

    pub(in crate::proxy) fn replayer(&self) -> &Replayer {
        &self.replayer
    }

    /// The pool of the request.
    pub(in crate::proxy) fn pool(&self) -> &PoolState {
        &self.replayer.shared.pools[self.saved_request.pool]
    }

    /// The session of the request's token, as far as this process knows it.
    pub(in crate::proxy) fn session(&self) -> Option<Arc<Session>> {
        let Replayer { shared, identifier, .. } = &*self.replayer;
        let known = identifier.with_context(&self.saved_request, |ctx| {
            let token = ctx.keys.identity.token.as_deref()?;
            match shared.sessions.known.find(token) {
                SessionLookup::Active(session) if session.pool == ctx.pool.pool.name => Some(session),
                SessionLookup::Active(_)
                | SessionLookup::Ended
                | SessionLookup::Unknown
                | SessionLookup::Unresolved => None,
            }
        });
        known.filter(|session| !session.is_ended())
    }

    /// What the client says about itself in the request; the session's log-in supplies the rest.
    pub(in crate::proxy) fn reported_by(&self, session: &Session) -> Device {
        self.replayer.identifier.with_context(&self.saved_request, |ctx| ctx.reported_by(session))
    }

    /// The header fields for the next replay: the client's own, until the caller changes them.
    pub(in crate::proxy) fn headers(&mut self) -> &mut HeaderMap {
        self.saved_request.headers()
    }

    /// Dispatches the request as if the client had just sent it, and learns from the answer. The
    /// same waits apply: `[timeouts] hold` and the first byte.
    ///
    /// # Errors
    /// The refusal that the client would have got.
    ///
    /// # Cancel safety
    /// Dropping the future ends the request at the pod.
    pub(in crate::proxy) async fn send(&self) -> Result<ReplayedAnswer, Refusal> {
        let Replayer { shared, identifier, dispatcher, learner, observer, .. } = &*self.replayer;
        let saved = &self.saved_request;
        let mut record = RequestRecord::unlogged(observer.clone(), saved.origin);
        let cookies = shared.pools[saved.pool].cookies.load_full();
        let mut ctx = identifier.identify_saved(saved, &cookies);
        ctx.target = self.target.clone();
        identifier.look_up_session(&mut ctx).await;
        let mut dispatch = Dispatch { ctx: &ctx, body: &ReplayBody::empty(), record: &mut record };
        let attempt = dispatcher.dispatch(&mut dispatch).await?;
        let Attempt { answer, decision, token, verdict, .. } = &attempt;
        learner.learn_from_head(&ctx, decision, *verdict, token.as_ref(), answer.status());
        Ok(ReplayedAnswer { attempt, record })
    }
}
