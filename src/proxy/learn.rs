//! 7. Learns a client's home from an answer: from its head, and from its body as it streams.

pub(in crate::proxy) mod identify_session;

use std::{net::IpAddr, pin::Pin, sync::Arc, time::Duration};

use http::{StatusCode, response};
use tokio::time;

use super::{
    Proxy, RequestContext,
    migrate::MigrationKind,
    pod_client::{Caller, client_headers},
    request::select::{self, Decision, Reason},
};
use crate::{
    affinity::pins::Kind,
    forward::outbound::ReplayBody,
    jellyfin::{
        body_scanner::{BodyScanner, Learned},
        client::{
            sessions,
            users::{self, TokenStatus},
        },
        endpoint::{Endpoint, StateReport},
        verdict::Verdict,
    },
    pod::{Pod, PodInstance},
    sessions::{
        Device, Session, Token,
        session::{LONGEST_CALL, ReplayedCall},
    },
};

/// Scans the body of one answer.
pub(super) struct BodyLearner {
    scanner: BodyScanner,
    pod: Arc<Pod>,
    learned: Learned,
    /// The session that the request belongs to, if it is known.
    viewer: Option<Arc<Session>>,
    /// The client's address.
    from: IpAddr,
    /// For a log-in: the caller of the call that asks whose token it is.
    log_in: Option<Caller>,
    proxy: Arc<Proxy>,
}

/// A call to the pod that the client's answer waits for.
pub(super) type Confirmation = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Longest wait for a log-in's confirmation. A pod's first answers after its start take a second.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(5);

impl Proxy {
    /// Learns from an answer's head. A log-in shows where its device lives. An accepted token
    /// confirms its own home, and the home of the other keys in the request.
    pub(super) fn learn_from_head(
        self: &Arc<Self>,
        ctx: &RequestContext<'_>,
        decision: &Decision,
        verdict: Verdict,
        token: Option<&Token>,
        status: StatusCode,
    ) {
        let identity = &ctx.keys.identity;
        let is_log_in = ctx.endpoint == Endpoint::LogIn && status.is_success();
        if ctx.endpoint == Endpoint::LogOut {
            return;
        }
        if decision.reason != Reason::Playlist
            && status.is_success()
            && let Some(playlist) = identity.playlist.filter(|_| ctx.is_live_segment())
        {
            // No other pod has segments of this job.
            self.shared.pins.learn(Kind::Playlist, playlist, decision.home(), ctx.origin);
        }
        if verdict == Verdict::Accepted
            && let Some(own) = &identity.token
        {
            match ctx.session() {
                Some(session) => self.confirm_home(ctx, session, &decision.pod, token.map_or(own, Token::as_str)),
                None => {
                    if self.shared.pins.learn(Kind::Token, own, decision.home(), ctx.origin) {
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
            self.pin_live_stream(ctx.session(), stream, decision.home(), ctx.origin);
        }
    }

    /// Pins an open live stream: for its viewer, and for requests that name no user.
    fn pin_live_stream(&self, viewer: Option<&Arc<Session>>, id: &str, home: PodInstance, from: IpAddr) {
        self.shared.pins.learn(Kind::LiveStream, id, home, from);
        if let Some(viewer) = viewer {
            self.shared.pins.learn(Kind::LiveStream, &select::viewer_stream_key(viewer, id), home, from);
        }
    }

    /// The pod accepted the session. It lives there now, unless only its media runs there and its
    /// home is alive.
    fn confirm_home(&self, ctx: &RequestContext<'_>, session: &Session, pod: &Pod, token: &str) {
        if session.has_no_client_headers() {
            session.record_client_headers(client_headers(ctx));
        }
        if ctx.home_is_elsewhere(session, pod) {
            session.record_valid(PodInstance::of(pod), token);
        } else if session
            .record_home(PodInstance::of(pod), token, || self.move_reason(session, pod, MigrationKind::MoveHome))
        {
            self.shared.sessions.persist(session);
        }
    }

    /// Replays an unknown client's capabilities to its new home, without a retry.
    fn replay_state(self: &Arc<Self>, ctx: &RequestContext<'_>, token: &str, pod: &Arc<Pod>) {
        let Some(note) = self.shared.sessions.capabilities_for(token, pod) else { return };
        let ReplayedCall { reported_by, target, body } = note;
        let (proxy, pod, caller) = (self.clone(), pod.clone(), Caller::of(ctx));
        let call = sessions::replay(target, body, &reported_by, token);
        tokio::spawn(async move {
            if let Err(failure) = proxy.pods.call(&pod, &caller, call).await {
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
        self: &Arc<Self>,
        ctx: &RequestContext<'_>,
        replay_body: &ReplayBody,
        pod: &Pod,
        status: StatusCode,
    ) {
        if !status.is_success() {
            return;
        }
        let Some(report) = StateReport::of(&ctx.head.method, ctx.path) else { return };
        let session = ctx.session();
        let said = Device::claimed(&ctx.head.headers, ctx.pool.legacy());
        let reported_by = match session {
            Some(session) => said.filled_from(&session.device),
            None => said,
        };
        let note = |target: &str| {
            let body = replay_body.replayable().filter(|body| body.len() <= LONGEST_CALL)?;
            Some(ReplayedCall { reported_by: reported_by.clone(), target: target.to_owned(), body })
        };
        let capabilities = || {
            let query = ctx.head.uri.query().map_or(String::new(), |query| format!("?{query}"));
            note(&format!("{}{query}", ctx.path))
        };
        let Some(session) = session else {
            if report == StateReport::Capabilities
                && let (Some(token), Some(note)) = (&ctx.keys.identity.token, capabilities())
            {
                self.shared.sessions.record_capabilities(token, pod, note);
            }
            return;
        };
        match report {
            StateReport::Capabilities => {
                if let Some(note) = capabilities()
                    && session.record_capabilities(note)
                {
                    self.shared.sessions.persist(session);
                }
            }
            StateReport::Playing => session.record_playing(&reported_by, note(sessions::PROGRESS)),
            StateReport::Stopped => session.record_playing(&reported_by, None),
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
    ) -> Option<Box<BodyLearner>> {
        let listener = BodyScanner::of(ctx.endpoint, &ctx.head.method, ctx.path, answer)?;
        let (pod, viewer) = (decision.pod.clone(), ctx.session().cloned());
        let log_in = (ctx.endpoint == Endpoint::LogIn).then(|| Caller::of(ctx));
        Some(Box::new(BodyLearner {
            scanner: listener,
            pod,
            learned: Learned::default(),
            viewer,
            from: ctx.origin,
            log_in,
            proxy: self.clone(),
        }))
    }
}

impl BodyLearner {
    /// Scans a piece before the client gets it, so that the client's next request finds what the
    /// piece taught. The caller holds the piece back until the returned future ends.
    pub(super) fn feed(&mut self, piece: &[u8]) -> Option<Confirmation> {
        let learned = self.scanner.feed(piece);
        self.pin(learned)
    }

    pub(super) fn finish(mut self) {
        let learned = self.scanner.finish();
        if let Some(confirmation) = self.pin(learned) {
            tokio::spawn(confirmation);
        }
    }

    fn pin(&mut self, learned: Learned) -> Option<Confirmation> {
        if learned == Learned::default() {
            return None;
        }
        let (home, from) = (PodInstance::of(&self.pod), self.from);
        let learn = |kind, key: &str| {
            self.proxy.shared.pins.learn(kind, key, home, from);
        };
        learned.play_session.iter().for_each(|session| learn(Kind::PlaySession, session));
        let viewer = self.viewer.as_ref();
        learned.live_streams.iter().for_each(|stream| self.proxy.pin_live_stream(viewer, stream, home, from));
        learned.playlist.iter().for_each(|playlist| learn(Kind::Playlist, playlist));
        learned.quick_connect.iter().for_each(|text| learn(Kind::QuickConnect, text));
        let brings_token = learned.token.is_some();
        self.learned.merge(learned);
        // The user and the device stand before the token, so the log-in is now complete.
        if !brings_token {
            return None;
        }
        let caller = self.log_in.take()?;
        let confirmed = confirm(self.proxy.clone(), self.pod.clone(), caller, from, self.learned.clone());
        Some(Box::pin(async {
            if time::timeout(CONFIRMED_WITHIN, confirmed).await.is_err() {
                tracing::debug!("a pod did not say in time whose token a log-in has made");
            }
        }))
    }
}

/// Keeps a log-in's token only if its pod confirms whose it is. A plug-in may answer anything.
async fn confirm(proxy: Arc<Proxy>, pod: Arc<Pod>, caller: Caller, from: IpAddr, log_in: Learned) {
    let Some(token) = log_in.token else { return };
    let whose = proxy.pods.call(&pod, &caller, users::who_am_i(&token)).await;
    let Ok(TokenStatus::Known { user: Some(user), .. }) = whose else {
        tracing::warn!(pod.name = &*pod.name, "a log-in's token is not known to the pod that gave it; it is not kept");
        return;
    };
    let home = PodInstance::of(&pod);
    proxy.shared.pins.learn(Kind::Token, &token, home, from);
    if let Some(device) = &log_in.device {
        proxy.shared.pins.learn(Kind::Device, device, home, from);
    }
    let (Some(client), Some(name), Some(id), Some(version)) =
        (log_in.client, log_in.device_name, log_in.device, log_in.version)
    else {
        return;
    };
    if proxy.can_migrate() {
        let gone = proxy.shared.sessions.record_log_in(&pod, &user, Device { client, name, id, version }, &token);
        // Each user's share of the pins is limited too, so the pins of dropped tokens go.
        gone.iter().for_each(|token| proxy.shared.pins.forget(Kind::Token, token.as_str()));
    }
}
