//! Opens a live stream again for a request that names one which its pod does not have.
//!
//! A client that has come to another pod still names the stream by the id that it got from the
//! first, and the id is the same everywhere. Playlists in play are `restart`'s. But a pod may be gone
//! before the first playlist, or the client plays the stream itself, or asks for another way to play
//! it. Players take a 404 to any of these for the end.

use http::StatusCode;
use tokio::time::Instant;

use super::{LONGEST, LiveStreams};
use crate::{
    affinity::pins::Kind,
    jellyfin::{
        client::media,
        endpoint::{LiveChannel, live},
    },
    pod::PodInstance,
    proxy::{
        learn,
        pod_client::Caller,
        request::{attempt::Attempt, context::RequestContext, dispatch::Dispatch, refusal::Refusal, select},
        response::rewriting,
        streams::OpeningRole,
    },
};

impl LiveStreams {
    /// The pod that has opened the live stream of the request's query for its client, as far as this
    /// process knows.
    pub(in crate::proxy) fn opened_at(&self, ctx: &RequestContext<'_>) -> Option<PodInstance> {
        opened_at(self, ctx, ctx.keys.identity.live_stream.as_deref()?)
    }

    /// Whether the pod lacks a live stream that it may open for this client. `opened_at`: where it
    /// was open before the attempt. A stream that this very pod had opened was closed there, and
    /// stays so.
    pub(in crate::proxy) fn may_reopen(
        &self,
        dispatch: &Dispatch<'_>,
        attempt: &Attempt,
        opened_at: Option<PodInstance>,
    ) -> bool {
        let ctx = dispatch.ctx;
        attempt.answer.status() == StatusCode::NOT_FOUND
            && ctx.keys.identity.token.is_some()
            && opened_at != Some(PodInstance::of(&attempt.decision.pod))
            && live::may_name_live_stream(&ctx.head.method, ctx.path)
            && dispatch.body.can_replay()
    }

    /// Lets the pod of a failed attempt open the live stream that the request names, and dispatches
    /// the request again.
    pub(in crate::proxy) async fn dispatch_reopened(
        &self,
        dispatch: &mut Dispatch<'_>,
        mut failed: Attempt,
    ) -> Result<Attempt, Refusal> {
        let ctx = dispatch.ctx;
        let body = dispatch.body.replayable().unwrap_or_default();
        let live = live::live_channel(ctx.path, ctx.head.uri.query().unwrap_or_default(), &body);
        let Some(live) = live else { return Ok(failed) };
        let token = ctx.keys.identity.token.as_deref().unwrap_or_default();
        let key = self.shared.streams.key([b"opening", live.stream.as_bytes(), token.as_bytes(), b""]);
        let place = PodInstance::of(&failed.decision.pod);
        // Each opening counts at the pod, and takes an end of its own.
        let may_be_open = match self.shared.streams.openings.join(key) {
            OpeningRole::Lead(_opening) => {
                opened_at(self, ctx, &live.stream) == Some(place) || open(self, ctx, &failed, &live).await
            }
            OpeningRole::Follow(mut opening) => {
                // It never changes, and ends with its sender.
                let _ = opening.changed().await;
                true
            }
        };
        if !may_be_open {
            return Ok(failed);
        }
        // Read the body to its end, so that the connection is kept.
        let _ = rewriting::collect(failed.answer.body_mut(), LONGEST).await;
        self.dispatcher.dispatch(dispatch).await
    }
}

fn opened_at(streams: &LiveStreams, ctx: &RequestContext<'_>, stream: &str) -> Option<PodInstance> {
    let own = ctx.session().map(|session| select::viewer_stream_key(session, stream));
    streams.shared.pins.home(Kind::LiveStream, own.as_deref().unwrap_or(stream), |_, _| true)
}

/// Whether the pod of this attempt may have the stream open now.
async fn open(streams: &LiveStreams, ctx: &RequestContext<'_>, failed: &Attempt, live: &LiveChannel<'_>) -> bool {
    let pod = &failed.decision.pod;
    if !streams.shared.budget.try_spend(ctx.origin, Instant::now()) {
        return false;
    }
    let token = match &failed.token {
        Some(token) => Some(token.clone()),
        None => streams.migrator.token_for_call(ctx, pod).await,
    };
    let Some(token) = token else { return false };
    let call = media::open_live_stream(live, token.as_str());
    match streams.pods.call(pod, &Caller::of(ctx), call).await {
        Ok(status) if status.is_success() => {
            let home = PodInstance::of(pod);
            learn::pin_live_stream(&streams.shared.pins, ctx.session(), &live.stream, home, ctx.origin);
            tracing::info!(to = &*pod.name, "live stream opened again");
            true
        }
        Ok(status) => {
            tracing::debug!(status = status.as_u16(), "a live stream was not opened");
            false
        }
        // A tuner may take longer than the call. The next answer shows the outcome.
        Err(failure) => {
            tracing::debug!(cause = failure.cause.as_str(), "a live stream was not opened");
            failure.may_be_received
        }
    }
}
