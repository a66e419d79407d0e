//! Learns from a body as it streams: log-ins, play sessions, live streams, codes.

use std::{net::IpAddr, sync::Arc, time::Duration};

use tokio::time;

use super::{Learner, pin_live_stream};
use crate::{
    affinity::{pins::Kind, user_homes::NamedUser},
    jellyfin::{
        body_scanner::{BodyScanner, Learned},
        client::users::{self, TokenStatus},
    },
    pod::{Pod, PodInstance},
    proxy::{
        pod_client::Caller,
        response::body::{BodyObserver, Confirmation},
        shared_state::SharedState,
        user_homes,
    },
    sessions::{Device, Session, SessionLookup},
};

/// Longest wait for a log-in's confirmation. A pod's first answers after its start take a second.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(5);

/// Scans the body of one answer.
pub(super) struct BodyLearner {
    pub(super) scanner: BodyScanner,
    pub(super) pod: Arc<Pod>,
    pub(super) learned: Learned,
    /// The session that the request belongs to, if it is known.
    pub(super) viewer: Option<Arc<Session>>,
    /// The client's address.
    pub(super) from: IpAddr,
    pub(super) log_in: Option<LogIn>,
    pub(super) learner: Arc<Learner>,
}

/// What is known of a log-in before its answer.
pub(super) struct LogIn {
    /// Who asks whose token it makes.
    pub(super) caller: Caller,
    /// The user that it named.
    pub(super) named: Option<NamedUser>,
    /// Only the leader could answer it.
    pub(super) is_leaders: bool,
}

impl BodyObserver for BodyLearner {
    fn feed(&mut self, piece: &[u8]) -> Option<Confirmation> {
        let learned = self.scanner.feed(piece);
        self.pin(learned)
    }

    fn finish(mut self: Box<Self>) {
        let learned = self.scanner.finish();
        if let Some(confirmation) = self.pin(learned) {
            tokio::spawn(confirmation);
        }
    }
}

impl BodyLearner {
    fn pin(&mut self, learned: Learned) -> Option<Confirmation> {
        if learned == Learned::default() {
            return None;
        }
        let (home, from) = (PodInstance::of(&self.pod), self.from);
        let learn = |kind, key: &str| {
            self.learner.shared.pins.learn(kind, key, home, from);
        };
        learned.play_session.iter().for_each(|session| learn(Kind::PlaySession, session));
        learned
            .live_streams
            .iter()
            .for_each(|stream| pin_live_stream(&self.learner.shared.pins, self.viewer.as_ref(), stream, home, from));
        learned.live_files.iter().for_each(|file| learn(Kind::LiveStream, file));
        learned.playlist.iter().for_each(|playlist| learn(Kind::Playlist, playlist));
        learned.quick_connect.iter().for_each(|text| learn(Kind::QuickConnect, text));
        let brings_token = learned.token.is_some();
        self.learned.merge(learned);
        // The user and the device stand before the token, so the log-in is now complete.
        if !brings_token {
            return None;
        }
        let log_in = self.log_in.take()?;
        let confirmed = confirm(self.learner.clone(), self.pod.clone(), (log_in, from), self.learned.clone());
        Some(Box::pin(async {
            if time::timeout(CONFIRMED_WITHIN, confirmed).await.is_err() {
                tracing::debug!("a pod did not say in time whose token a log-in has made");
            }
        }))
    }
}

/// Keeps a log-in's token only if its pod confirms whose it is. A plug-in may answer anything.
async fn confirm(learner: Arc<Learner>, pod: Arc<Pod>, (log_in, from): (LogIn, IpAddr), learned: Learned) {
    let Learner { shared, pods } = &*learner;
    let Some(token) = learned.token else { return };
    let whose = pods.call(&pod, &log_in.caller, users::who_am_i(&token)).await;
    let Ok(TokenStatus::Known { user: Some(user), name, .. }) = whose else {
        tracing::warn!(pod.name = &*pod.name, "a log-in's token is not known to the pod that gave it; it is not kept");
        return;
    };
    let home = PodInstance::of(&pod);
    shared.pins.learn(Kind::Token, &token, home, from);
    record_user(shared, &pod, (&user, name.as_deref()), log_in.named.as_ref()).await;
    if let Some(device) = &learned.device {
        shared.pins.learn(Kind::Device, device, home, from);
    }
    let (Some(client), Some(name), Some(id), Some(version)) =
        (learned.client, learned.device_name, learned.device, learned.version)
    else {
        return;
    };
    if shared.api_key().is_some() {
        let gone = shared.sessions.log_ins.record(&pod, &user, Device { client, name, id, version }, &token);
        // Each user's share of the pins is limited too, so the pins of dropped tokens go.
        gone.iter().for_each(|token| shared.pins.forget(Kind::Token, token.as_str()));
        if log_in.is_leaders
            && let SessionLookup::Active(session) = shared.sessions.known.find(&token)
        {
            user_homes::place_device(shared, &pod, &session);
        }
        // A log-in that the client has seen must outlive this process.
        if !shared.sessions.keeper.flush().await {
            tracing::debug!("a log-in is not kept beyond this process yet");
        }
    }
}

/// Records where a user has logged in, and whose name it is.
async fn record_user(
    shared: &SharedState,
    pod: &Arc<Pod>,
    (user, name): (&str, Option<&str>),
    named: Option<&NamedUser>,
) {
    if let Some(name) = name {
        shared.user_homes.record_name(&pod.pool, name, user);
    }
    match named {
        Some(named) => user_homes::record_log_in(shared, pod, user, named).await,
        None => user_homes::record_anywhere(shared, pod, user).await,
    }
}
