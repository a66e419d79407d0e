//! Notifies the pod that runs a job of playback reports, if the client lives on another pod.
//!
//! Reports go to the client's home, but a film that began on another pod stays there. That pod ends
//! its job after a minute without a segment request, as in a pause. Otherwise it lets the job run
//! after the player has stopped. So jellypin sends that pod its own requests in the client's name.
//! They wait for no other request, and none waits for them.

use std::sync::Arc;

use crate::{
    affinity::pins::Kind,
    forward::outbound::ReplayBody,
    jellyfin::{
        client::{media, sessions},
        endpoint::{self, Endpoint, StateReport},
    },
    pod::{Pod, PodInstance},
    proxy::{learn::Learner, pod_client::Caller, request::context::RequestContext},
    sessions::Session,
};

impl Learner {
    /// Notifies the pod that runs the reported job, if another pod got the report.
    pub(super) fn notify_transcoder(
        &self,
        ctx: &RequestContext<'_>,
        session: &Arc<Session>,
        replay_body: &ReplayBody,
        reported_to: &Pod,
        report: StateReport,
    ) {
        let has_stopped = report == StateReport::Stopped;
        let pods = ctx.pool.pool.pods();
        let may_run = |pod: &&Arc<Pod>| pod.id != reported_to.id && pod.status().is_alive() && session.is_known_at(pod);
        // Most clients have lived on one pod only, so jellypin does not parse their reports.
        if !has_stopped && !pods.iter().any(|pod| may_run(&pod)) {
            return;
        }
        let Some(play_session) = replay_body.replayable().and_then(|body| endpoint::reported_play_session(&body))
        else {
            return;
        };
        if has_stopped {
            self.shared.streams.forget(session, Some(&play_session), None);
        }
        let Some(home) = self.shared.pins.home(Kind::PlaySession, &play_session, |_, _| true) else { return };
        let runs = |pod: &&Arc<Pod>| PodInstance::of(pod) == home && may_run(pod);
        let Some(pod) = pods.iter().find(runs).cloned() else { return };
        let Some(token) = session.token_at(PodInstance::of(&pod)) else { return };
        let (client, caller) = (self.pods.clone(), Caller::of(ctx));
        let play_session =
            self.shared.play_sessions.at(&play_session, &pod).map_or(play_session, |renamed| renamed.to_string());
        let call = if has_stopped {
            media::end_transcode(&session.device.id, &play_session, token.as_str())
        } else {
            sessions::ping(&play_session, token.as_str())
        };
        tokio::spawn(async move {
            if let Err(failure) = client.call(&pod, &caller, call).await {
                tracing::debug!(
                    pod.name = &*pod.name,
                    cause = failure.cause.as_str(),
                    "the pod that runs the transcode was not notified"
                );
            }
        });
    }

    /// Forgets streams that the client has ended, so that they do not restart at its next home.
    pub(super) fn forget_ended_streams(&self, ctx: &RequestContext<'_>) {
        let ends = ctx.endpoint == Endpoint::TranscodeControl && endpoint::ends_playback(ctx.path);
        if let Some(session) = ctx.session().filter(|_| ends) {
            let identity = &ctx.keys.identity;
            self.shared.streams.forget(session, identity.play_session.as_deref(), identity.live_stream.as_deref());
        }
    }
}
