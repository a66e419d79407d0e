//! What a report of playback says to a job that runs on another pod than its client lives on.
//!
//! Reports go to the client's home. A film that was begun elsewhere stays there; that pod ends its job after a minute in which nobody
//! asks for a segment, as in a pause, and otherwise lets it run after its player has stopped. So it is told by requests of the
//! proxy's own, in the client's name, which wait for nobody and for which nobody waits.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    Asking, Proxy,
    call::{Call, on_behalf_of},
};
use crate::{
    affinity::pins::Kind,
    carryover::Session,
    forward::outbound::Source,
    identity::{
        authorization,
        endpoint::{self, Endpoint, Noteworthy},
    },
    pod::{Place, Pod},
};

impl Proxy {
    /// Tells the pod that runs the reported job, where that is not the one that has heard the report.
    pub(super) fn tell_job(
        self: &Arc<Self>,
        asking: &Asking<'_>,
        session: &Arc<Session>,
        source: &Source,
        heard: &Pod,
        report: Noteworthy,
    ) {
        let has_stopped = report == Noteworthy::Stopped;
        let pods = asking.pool.pool.pods();
        let may_run = |pod: &&Arc<Pod>| {
            pod.id != heard.id && pod.status().is_alive() && session.token_at(Place::of(pod)).is_some()
        };
        // Most clients have lived on one pod only, and their reports are not read.
        if !has_stopped && !pods.iter().any(|pod| may_run(&pod)) {
            return;
        }
        let Some(play_session) = source.kept().and_then(|body| endpoint::play_session_in(&body)) else { return };
        if has_stopped {
            self.site.streams.end(session, Some(&play_session), None);
        }
        let Some(home) = self.site.pins.home(Kind::PlaySession, &play_session, |_, _| true) else { return };
        let runs = |pod: &&Arc<Pod>| Place::of(pod) == home && may_run(pod);
        let Some(pod) = pods.iter().find(runs).cloned() else { return };
        let Some(token) = session.token_at(Place::of(&pod)) else { return };
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let play_session = encoded(&play_session);
        let (method, target) = if has_stopped {
            let device = encoded(&session.device.id);
            (Method::DELETE, format!("/Videos/ActiveEncodings?deviceId={device}&playSessionId={play_session}"))
        } else {
            (Method::POST, format!("/Sessions/Playing/Ping?playSessionId={play_session}"))
        };
        let (proxy, client, base_path) = (self.clone(), on_behalf_of(asking), asking.pool.pool.base_path.clone());
        tokio::spawn(async move {
            let authorization = Some(authorization::token_only(token.as_str()));
            let call = Call { method, target: &target, client: &client, authorization, body: Bytes::new() };
            if let Err(failure) = proxy.call(&pod, &base_path, call).await {
                tracing::debug!(
                    pod.name = &*pod.name,
                    cause = failure.cause.name(),
                    "a job was not told of its player"
                );
            }
        });
    }

    /// What its client has ended is not begun again when that comes to live elsewhere.
    pub(super) fn end_streams(&self, asking: &Asking<'_>, status: StatusCode) {
        let ends = asking.endpoint == Endpoint::OfJob && endpoint::ends_playback(asking.path);
        if let Some(session) = asking.session().filter(|_| ends && status.is_success()) {
            let identity = &asking.keys.identity;
            self.site.streams.end(session, identity.play_session.as_deref(), identity.live_stream.as_deref());
        }
    }
}
