//! Restarts a stream's job where its viewer lives now.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use tokio::{
    sync::watch,
    time::{self, Instant},
};

use super::{LONGEST, LONGEST_PAUSE, LiveStreams, outline, playlist_of};
use crate::{
    affinity::pins::Kind,
    jellyfin::{
        client::{ApiCall, media},
        endpoint,
        playlist::Name,
    },
    pod::{Pod, PodInstance},
    proxy::{
        pod_client::Caller,
        request::{attempt::Attempt, refusal::Refusal},
        response::rewriting,
        streams::Stream,
    },
};

/// The longest pause before jellypin asks a pod again to open a live stream.
const OPEN_AGAIN: Duration = Duration::from_secs(2);

/// The restart of one stream's job.
pub(super) struct StreamRestart {
    pub(super) streams: Arc<LiveStreams>,
    pub(super) stream: Arc<Stream>,
    pub(super) from: PodInstance,
}

/// Why a job does not restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NotRestarted {
    NoPod,
    Refused(Refusal),
    ClientRefused,
    UnknownItem,
    TooLate,
}

impl NotRestarted {
    fn as_str(self) -> &'static str {
        match self {
            NotRestarted::NoPod => "no pod answered in time",
            NotRestarted::Refused(refusal) => refusal.as_str(),
            NotRestarted::ClientRefused => "the pod refuses the client",
            NotRestarted::UnknownItem => "the pod does not know the item",
            NotRestarted::TooLate => "it did not begin in time",
        }
    }
}

impl StreamRestart {
    pub(super) async fn run(self, tell: watch::Sender<Option<bool>>) {
        let began = Instant::now();
        let revived = self.restart().await;
        tell.send_replace(Some(revived.is_ok()));
        let pods = self.pods();
        let name = |place: PodInstance| pods.iter().find(|pod| pod.id == place.pod).map(|pod| pod.name.clone());
        let (from, duration_ms) = (name(self.from).unwrap_or_default(), began.elapsed().as_millis() as u64);
        match revived {
            Ok(to) => {
                let to = name(to).unwrap_or_default();
                tracing::info!(from = &*from, to = &*to, duration_ms, "live stream goes on");
            }
            Err(why) => tracing::warn!(from = &*from, why = why.as_str(), duration_ms, "live stream does not go on"),
        }
    }

    async fn restart(&self) -> Result<PodInstance, NotRestarted> {
        let end = Instant::now() + self.streams.shared.forward.hold;
        let replayable = self.streams.replayer.of_saved(self.stream.saved_request.clone()).toward_new_home();
        let (mut was_opened, mut pause) = (false, LONGEST_PAUSE);
        loop {
            match time::timeout_at(end, replayable.send()).await {
                Err(_) => return Err(NotRestarted::NoPod),
                Ok(Err(refusal)) if !refusal.is_transient() => return Err(NotRestarted::Refused(refusal)),
                Ok(Err(_)) => {}
                Ok(Ok(replayed)) => {
                    let status = replayed.attempt.answer.status();
                    if status == StatusCode::OK {
                        if let Some((text, place)) = playlist_of(replayed.attempt).await {
                            self.record_start(&text, place);
                            return Ok(place);
                        }
                    } else if status == StatusCode::NOT_FOUND && !was_opened {
                        was_opened = self.open_live_stream(replayed.attempt).await?;
                        if was_opened {
                            continue;
                        }
                        // Each try may keep a tuner busy, so the pauses grow.
                        pause = (pause * 2).min(OPEN_AGAIN);
                    } else if status == StatusCode::NOT_FOUND {
                        pause = LONGEST_PAUSE;
                    } else if status.is_client_error() {
                        return Err(NotRestarted::ClientRefused);
                    }
                }
            }
            if self.streams.shutdown.is_stopping() || Instant::now() + pause >= end {
                return Err(NotRestarted::TooLate);
            }
            time::sleep(pause).await;
        }
    }

    fn record_start(&self, text: &Bytes, place: PodInstance) {
        let outline = outline(text);
        let name = outline.as_ref().and_then(|outline| outline.name);
        self.streams.shared.streams.record_job(&self.stream, place, name);
        if let Some(outline) = outline {
            self.stream.record_written(place, &outline);
        }
        if let Some(digits) = name.map(Name::digits) {
            self.streams.shared.pins.learn(Kind::Playlist, &digits, place, self.stream.saved_request.origin);
        }
    }

    /// Opens the live stream on a pod that does not have it open. Returns whether the pod opened
    /// it.
    async fn open_live_stream(&self, mut attempt: Attempt) -> Result<bool, NotRestarted> {
        let _ = rewriting::collect(attempt.answer.body_mut(), LONGEST).await;
        let Some((call, caller)) = self.open_call(&attempt) else {
            return Err(NotRestarted::UnknownItem);
        };
        match self.streams.pods.call(&attempt.decision.pod, &caller, call).await {
            Ok(status) if status.is_success() => return Ok(true),
            Ok(status) => tracing::debug!(status = status.as_u16(), "a live stream was not opened"),
            // A tuner may take longer than the call. The next request for the playlist shows the
            // outcome.
            Err(failure) => tracing::debug!(cause = failure.cause.as_str(), "a live stream was not opened"),
        }
        Ok(false)
    }

    fn open_call(&self, attempt: &Attempt) -> Option<(ApiCall<StatusCode>, Caller)> {
        self.streams.identifier.with_context(&self.stream.saved_request, |ctx| {
            let own = ctx.keys.identity.token.as_deref()?;
            let token = attempt.token.as_ref().map_or(own, |token| token.as_str());
            let live = endpoint::live_channel(ctx.path, ctx.head.uri.query().unwrap_or_default(), &[])?;
            Some((media::open_live_stream(&live, token), Caller::of(ctx)))
        })
    }

    fn pods(&self) -> Vec<Arc<Pod>> {
        self.streams.shared.pools[self.stream.saved_request.pool].pool.pods().to_vec()
    }
}
