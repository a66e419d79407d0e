//! Step 7, learn: a client's home from an answer: from its head, and from its body as it streams.

mod body_learner;
mod identify_session;
mod notify_transcoder;

use std::{net::IpAddr, sync::Arc};

use http::{StatusCode, response};

use super::{
    pod_client::{Caller, PodClient, client_headers},
    request::{
        context::RequestContext,
        select::{self, Decision, Reason},
    },
    response::body::BodyObserver,
    shared_state::SharedState,
    user_homes,
};
use crate::{
    affinity::pins::{Kind, Pins},
    forward::outbound::ReplayBody,
    jellyfin::{
        body_scanner::{BodyScanner, Learned},
        client::sessions,
        endpoint::{self, Endpoint, StateReport},
        verdict::Verdict,
    },
    pod::{Pod, PodInstance},
    sessions::{
        Device, Session, Token,
        session::{LONGEST_CALL, ReplayedCall},
    },
};

use body_learner::{BodyLearner, LogIn};

/// Learns where clients live, and what their pods know of them.
pub(super) struct Learner {
    shared: Arc<SharedState>,
    pods: Arc<PodClient>,
}

impl Learner {
    pub(super) fn new(shared: Arc<SharedState>, pods: Arc<PodClient>) -> Learner {
        Learner { shared, pods }
    }

    /// Learns from an answer's head. A log-in shows where its device lives. An accepted token
    /// confirms its own home, and the home of the other keys in the request.
    pub(super) fn learn_from_head(
        &self,
        ctx: &RequestContext<'_>,
        decision: &Decision,
        verdict: Verdict,
        token: Option<&Token>,
        status: StatusCode,
    ) {
        if status.is_success() && ctx.endpoint == Endpoint::Guarded && endpoint::completes_set_up(ctx.path) {
            decision.pod.info.record_set_up();
        }
        if status.is_success() && endpoint::changes_names(&ctx.head.method, ctx.path) {
            self.shared.user_homes.record_change();
        }
        let identity = &ctx.keys.identity;
        let is_log_in = ctx.endpoint == Endpoint::LogIn && status.is_success();
        if ctx.endpoint == Endpoint::LogOut || decision.is_duty_call(ctx.duty) {
            return;
        }
        if status.is_success() {
            self.learn_running_media(ctx, decision);
        }
        if verdict == Verdict::Accepted
            && let Some(own) = &identity.token
        {
            match ctx.session() {
                Some(session) => self.confirm_home(ctx, session, &decision.pod, token.map_or(own, Token::as_str)),
                None => {
                    let pins = &self.shared.pins;
                    let is_known = decision.reason == Reason::Token && decision.is_pinned && !pins.has_older_secrets();
                    if !is_known && pins.learn(Kind::Token, own, decision.home(), ctx.origin) {
                        self.replay_state(ctx, own, &decision.pod);
                    }
                    self.identify_session(ctx, &decision.pod);
                }
            }
        } else if !is_log_in {
            return;
        }
        // If the token's own pin decided, its device is already known.
        let device = identity.device.as_ref().filter(|_| decision.reason != Reason::Token);
        for (kind, key) in [(Kind::Device, device), (Kind::PlaySession, identity.play_session.as_ref())] {
            if let Some(key) = key {
                self.shared.pins.learn(kind, key, decision.home(), ctx.origin);
            }
        }
        if let Some(stream) = &identity.live_stream {
            pin_live_stream(&self.shared.pins, ctx.session(), stream, decision.home(), ctx.origin);
        }
    }

    /// The pod has what only the pod that runs it has: a live segment, stream or recording.
    fn learn_running_media(&self, ctx: &RequestContext<'_>, decision: &Decision) {
        let identity = &ctx.keys.identity;
        let learn = |kind, key: Option<&str>| {
            if let Some(key) = key {
                self.shared.pins.learn(kind, key, decision.home(), ctx.origin);
            }
        };
        if decision.reason != Reason::Playlist && ctx.is_live_segment() {
            learn(Kind::Playlist, identity.playlist);
        } else if decision.reason != Reason::LiveStream && ctx.is_for_open_stream() {
            learn(Kind::LiveStream, identity.live_file.or(identity.live_stream.as_deref()));
        }
    }

    /// The pod accepted the session. It lives there now, unless only its media runs there and its
    /// home is alive.
    fn confirm_home(&self, ctx: &RequestContext<'_>, session: &Arc<Session>, pod: &Pod, token: &str) {
        if session.calls.has_no_client_headers() {
            session.calls.record_client_headers(client_headers(ctx));
        }
        if session.lives_elsewhere(&ctx.pool.pool, pod) {
            session.residence.record_valid(PodInstance::of(pod), token);
        } else if session.residence.record_home(PodInstance::of(pod), token, || self.shared.move_reason(session, pod)) {
            self.shared.sessions.keeper.persist(session);
            user_homes::record(&self.shared, session);
        }
    }

    /// Replays an unknown client's capabilities to its new home, without a retry.
    fn replay_state(&self, ctx: &RequestContext<'_>, token: &str, pod: &Arc<Pod>) {
        let Some(kept) = self.shared.sessions.capabilities.missing_at(pod, token) else { return };
        let ReplayedCall { reported_by, target, body } = kept;
        let (pods, pod, caller) = (self.pods.clone(), pod.clone(), Caller::of(ctx));
        let call = sessions::replay(target, body, &reported_by, token);
        tokio::spawn(async move {
            if let Err(failure) = pods.call(&pod, &caller, call).await {
                tracing::debug!(
                    pod.name = &*pod.name,
                    cause = failure.cause.as_str(),
                    "the pod did not accept the replayed capabilities"
                );
            }
        });
    }

    /// Records client state that this pod has received and another pod would not know.
    pub(super) fn record_client_state(
        &self,
        ctx: &RequestContext<'_>,
        replay_body: &ReplayBody,
        pod: &Pod,
        status: StatusCode,
    ) {
        if !status.is_success() {
            return;
        }
        self.forget_ended_streams(ctx);
        let Some(report) = StateReport::of(&ctx.head.method, ctx.path) else { return };
        let session = ctx.session();
        // What plays is kept with the session.
        if session.is_none() && report != StateReport::Capabilities {
            return;
        }
        let said = Device::claimed(&ctx.head.headers, ctx.pool.legacy());
        let reported_by = match session {
            Some(session) => said.filled_from(&session.device),
            None => said,
        };
        let replayed = |target: &str| {
            let body = replay_body.replayable().filter(|body| body.len() <= LONGEST_CALL)?;
            Some(ReplayedCall { reported_by: reported_by.clone(), target: target.to_owned(), body })
        };
        let capabilities = || {
            let query = ctx.head.uri.query().map_or(String::new(), |query| format!("?{query}"));
            replayed(&format!("{}{query}", ctx.path))
        };
        let Some(session) = session else {
            if let (Some(token), Some(call)) = (&ctx.keys.identity.token, capabilities()) {
                self.shared.sessions.capabilities.record(token, pod, call);
            }
            return;
        };
        match report {
            StateReport::Capabilities => {
                if let Some(call) = capabilities()
                    && session.calls.record_capabilities(call)
                {
                    self.shared.sessions.keeper.persist(session);
                }
            }
            StateReport::Playing => session.calls.record_playing(&reported_by, replayed(sessions::PROGRESS)),
            StateReport::Stopped => session.calls.forget_playing(&reported_by),
        }
        if report != StateReport::Capabilities {
            self.notify_transcoder(ctx, session, replay_body, pod, report);
        }
    }

    /// Returns a scanner if this answer's body has something to learn from.
    pub(super) fn scan_body(
        self: &Arc<Self>,
        ctx: &RequestContext<'_>,
        decision: &Decision,
        answer: &response::Parts,
    ) -> Option<Box<dyn BodyObserver>> {
        let scanner = BodyScanner::of(ctx.endpoint, &ctx.head.method, ctx.path, answer)?;
        let (pod, viewer) = (decision.pod.clone(), ctx.session().cloned());
        let log_in = (ctx.endpoint == Endpoint::LogIn).then(|| LogIn {
            caller: Caller::of(ctx),
            named: ctx.keys.user.clone(),
            is_leaders: decision.reason == Reason::Leader,
        });
        let learner = self.clone();
        let from = ctx.origin;
        Some(Box::new(BodyLearner { scanner, pod, learned: Learned::default(), viewer, from, log_in, learner }))
    }
}

/// Pins an open live stream: for its viewer, and for requests that name no user.
pub(super) fn pin_live_stream(pins: &Pins, viewer: Option<&Arc<Session>>, id: &str, home: PodInstance, from: IpAddr) {
    pins.learn(Kind::LiveStream, id, home, from);
    if let Some(viewer) = viewer {
        pins.learn(Kind::LiveStream, &select::viewer_stream_key(viewer, id), home, from);
    }
}
