//! Live HLS goes on after its pod fails.
//!
//! The segments of a live playlist are files of one pod's job. Players request them without a token
//! or a query. When that pod is gone, jellypin repeats the client's own playlist request on its new
//! home, which begins the job there. A film's job has the same name on every pod, since Jellyfin
//! derives it from the request, and its segments come again. A live channel must be opened first,
//! and its job has a new name. jellypin appends that job's list to what the client has seen of the
//! first. Meanwhile segment requests wait, and no playlist is ever shorter than the one before.
//!
//! A client may also leave a pod that lives. A film's job goes on there. But with the client's last
//! socket that pod ends the session, and closes its live stream. So jellypin begins a channel at
//! the new home first.
//!
//! jellypin buffers nothing but playlists.

mod reopening;
mod restart;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderValue, Method, StatusCode, header, response};
use tokio::time::{self, Instant};

use crate::{
    affinity::pins::Kind,
    forward::answer::AnswerBody,
    jellyfin::{
        endpoint::{self, Endpoint},
        playlist::{self, Name, PlaylistSummary},
    },
    pod::PodInstance,
    proxy::{
        dispatch::Dispatcher,
        identify::Identifier,
        migrate::Migrator,
        pod_client::PodClient,
        replay::Replayer,
        request::{
            attempt::Attempt, context::RequestContext, dispatch::Dispatch, refusal::Refusal, saved::SavedRequest,
            select::Decision,
        },
        response::{
            body::{Body, BodyObserver},
            rewriting::{self, BrokeOff, Collected},
        },
        shared_state::SharedState,
        streams::{PlaylistView, RestartRole, Stream},
    },
    sessions::Session,
    shutdown::Shutdown,
};
use restart::StreamRestart;

/// The longest playlist that jellypin buffers, in bytes: some ten thousand segments. A longer one
/// passes as it is.
const LONGEST: usize = 1 << 20;

/// The pause before jellypin requests a segment again.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// One worker's live playlists.
pub(in crate::proxy) struct LiveStreams {
    shared: Arc<SharedState>,
    identifier: Arc<Identifier>,
    dispatcher: Arc<Dispatcher>,
    replayer: Arc<Replayer>,
    pods: Arc<PodClient>,
    migrator: Arc<Migrator>,
    shutdown: Shutdown,
}

impl LiveStreams {
    pub(in crate::proxy) fn new(
        shared: Arc<SharedState>,
        identifier: Arc<Identifier>,
        (dispatcher, pods): (Arc<Dispatcher>, Arc<PodClient>),
        (replayer, migrator): (Arc<Replayer>, Arc<Migrator>),
        shutdown: Shutdown,
    ) -> LiveStreams {
        LiveStreams { shared, identifier, dispatcher, replayer, pods, migrator, shutdown }
    }

    /// The stream of a request for a live playlist, or for a segment of a known one.
    pub(in crate::proxy) fn of_request(&self, ctx: &RequestContext<'_>) -> Option<Arc<Stream>> {
        let streams = &self.shared.streams;
        let stream = match ctx.endpoint {
            Endpoint::AnonymousMedia => streams.of_name(Name::of(ctx.keys.identity.playlist?)?),
            Endpoint::AuthenticatedMedia if is_live_playlist(ctx) => streams.of_request(self.playlist_key(ctx)),
            _ => None,
        };
        stream.filter(|stream| stream.saved_request.pool == ctx.pool_index)
    }

    /// Dispatches a request of a known stream. If its job is gone, jellypin restarts it, and the
    /// request waits.
    ///
    /// # Errors
    /// [`Refusal::Media`] if no answer comes in time. Players take an error for the end, but retry
    /// after a broken connection.
    pub(in crate::proxy) async fn dispatch(
        self: &Arc<Self>,
        stream: &Arc<Stream>,
        dispatch: &mut Dispatch<'_>,
    ) -> Result<Attempt, Refusal> {
        let ctx = dispatch.ctx;
        let end = Instant::now() + self.shared.forward.hold;
        let name = ctx.keys.identity.playlist.and_then(Name::of);
        let mut pause = PAUSE;
        loop {
            if name.is_some_and(|name| !stream.is_named(name)) {
                return self.dispatch_stale_segment(dispatch).await;
            }
            let place = stream.place();
            if !ctx.pool.pool.is_alive(place) {
                if self.restart_stream(stream, place).await {
                    continue;
                }
                // A pod that refuses the client answers a playlist request itself. A segment
                // request only breaks off.
                let attempt =
                    if name.is_some() { Err(Refusal::Media) } else { self.dispatcher.dispatch(dispatch).await };
                return attempt.and_then(missing_as_broken);
            }
            // A pod also sends an unfinished segment that ffmpeg is still writing.
            let is_segment_written =
                name.is_none() || !stream.is_behind() || self.is_segment_written(stream, ctx, end).await;
            if is_segment_written {
                let mut attempt = self.dispatcher.dispatch(dispatch).await?;
                let place = stream.place();
                let is_in_place = PodInstance::of(&attempt.decision.pod) == place;
                let has_moved = self.has_moved(stream, place);
                let is_of_job = name.is_none_or(|name| stream.is_named(name) && !stream.is_behind());
                let is_final = is_in_place && is_of_job && !has_moved;
                if !attempt.is_missing() || is_final {
                    return Ok(attempt);
                }
                // Read the body to its end, so that the connection is kept.
                let _ = rewriting::collect(attempt.answer.body_mut(), LONGEST).await;
                if ctx.pool.pool.is_alive(place) && (name.is_none() || (is_in_place && has_moved)) {
                    // The client lives elsewhere now, and its stream has to follow.
                    self.restart_stream(stream, place).await;
                }
            }
            if self.shutdown.is_stopping() || Instant::now() + pause >= end {
                return Err(Refusal::Media);
            }
            time::sleep(pause).await;
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
        }
    }

    /// Dispatches a request for a segment of a job that its stream has left. Such a job may still
    /// run, and no other pod will ever have its segments.
    async fn dispatch_stale_segment(&self, dispatch: &mut Dispatch<'_>) -> Result<Attempt, Refusal> {
        if !self.still_runs(dispatch.ctx) {
            return Err(Refusal::Media);
        }
        self.dispatcher.dispatch(dispatch).await.and_then(missing_as_broken)
    }

    /// Whether the whole segment exists: the pod's playlist lists it.
    async fn is_segment_written(&self, stream: &Stream, ctx: &RequestContext<'_>, end: Instant) -> bool {
        let file = ctx.path.rsplit('/').next().unwrap_or_default();
        let Some(number) = playlist::number_of(file) else { return true };
        if stream.has_written(number) {
            return true;
        }
        let replayable = self.replayer.of_saved(stream.saved_request.clone());
        let Ok(Ok(replayed)) = time::timeout_at(end, replayable.send()).await else { return false };
        let Some((text, place)) = playlist_of(replayed.attempt).await else { return false };
        if let Some(outline) = outline(&text) {
            stream.record_written(place, &outline);
        }
        stream.has_written(number)
    }

    /// Begins a client's channels at its new home, after it has left a living pod. Returns when
    /// they have begun, or cannot. jellypin tries again when the player finds its playlist missing.
    pub(in crate::proxy) async fn restart_channels(self: &Arc<Self>, viewer: &Arc<Session>, from: PodInstance) {
        let channels = self.shared.streams.channels(viewer, from);
        let left = channels.iter().filter(|stream| self.has_moved(stream, from));
        join_all(left.map(|stream| self.restart_stream(stream, from))).await;
    }

    /// Sends a live playlist to the client, and remembers it. It is never shorter than what the
    /// client has seen.
    pub(in crate::proxy) async fn show_playlist(
        &self,
        ctx: &RequestContext<'_>,
        decision: &Decision,
        answer: &mut response::Parts,
        mut body: AnswerBody,
        learning: Option<Box<dyn BodyObserver>>,
    ) -> Result<Body, BrokeOff> {
        if answer.status != StatusCode::OK || answer.headers.contains_key(header::CONTENT_ENCODING) {
            return Ok(Body::answer(body, learning, None));
        }
        let mut text = match rewriting::collect(&mut body, LONGEST).await? {
            Collected::Whole(text) => text,
            Collected::Longer(early) => return Ok(Body::answer_read_ahead(early, body, None)),
        };
        let Some(mut outline) = outline(&text) else { return Ok(Body::whole(text)) };
        if let Some(mut learning) = learning {
            learning.feed(&text);
            learning.finish();
        }
        let streams = &self.shared.streams;
        let request = self.playlist_key(ctx);
        let mut place = PodInstance::of(&decision.pod);
        let known = streams.of_request(request).filter(|stream| stream.saved_request.pool == ctx.pool_index);
        let stream = match (known, outline.name) {
            (Some(stream), _) => stream,
            (None, Some(name)) => streams.insert(request, saved_request(ctx), &ctx.keys.identity, place, name),
            (None, None) => return Ok(Body::whole(text)),
        };
        if let Some(session) = ctx.session() {
            stream.set_viewer(session);
        }
        let end = Instant::now() + self.shared.forward.hold;
        loop {
            let replayable = match streams.show(&stream, place, &text, &outline) {
                PlaylistView::Unchanged => break,
                PlaylistView::Replaced(shown) => {
                    text = shown;
                    break;
                }
                PlaylistView::NotYet => self.replayer.copy(ctx),
                // The late answer has pinned the stream to the pod that it left.
                PlaylistView::Abandoned => self.replayer.copy(ctx).toward_new_home(),
            };
            time::sleep(LONGEST_PAUSE).await;
            if self.shutdown.is_stopping() {
                return Err(BrokeOff);
            }
            let Ok(replayed) = time::timeout_at(end, replayable.send()).await else { return Err(BrokeOff) };
            if let Some((newer, at)) = playlist_of(replayed.map_err(|_| BrokeOff)?.attempt).await {
                let Some(newer_outline) = self::outline(&newer) else { return Err(BrokeOff) };
                (text, outline, place) = (newer, newer_outline, at);
            }
        }
        answer.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(text.len()));
        Ok(Body::whole(text))
    }

    /// Whether the stream's viewer has left this place for a living pod.
    fn has_moved(&self, stream: &Stream, place: PodInstance) -> bool {
        let pods = self.shared.pools[stream.saved_request.pool].pool.pods();
        let lives = |home: PodInstance| pods.iter().any(|pod| pod.id == home.pod && pod.status().is_alive());
        stream.home().is_some_and(|home| home.pod != place.pod && lives(home))
    }

    /// Whether the job of a segment still runs somewhere.
    fn still_runs(&self, ctx: &RequestContext<'_>) -> bool {
        let name = ctx.keys.identity.playlist.unwrap_or_default();
        self.shared.pins.home(Kind::Playlist, name, |home, _| ctx.pool.pool.is_alive(home)).is_some()
    }

    /// Restarts the job of a place that is gone, or waits for the task that does. Dropping this
    /// does not stop the restart.
    async fn restart_stream(self: &Arc<Self>, stream: &Arc<Stream>, gone: PodInstance) -> bool {
        let mut outcome = match stream.join_restart(gone) {
            RestartRole::Done => return true,
            RestartRole::Follow(outcome) => outcome,
            RestartRole::Lead(tell, outcome) => {
                tokio::spawn(StreamRestart { streams: self.clone(), stream: stream.clone(), from: gone }.run(tell));
                outcome
            }
        };
        // The task that restarts the job may have ended with its worker.
        outcome.wait_for(Option::is_some).await.is_ok_and(|revived| *revived == Some(true))
    }

    fn playlist_key(&self, ctx: &RequestContext<'_>) -> u128 {
        let agent = ctx.head.headers.get(header::USER_AGENT).map_or(&b""[..], |agent| agent.as_bytes());
        let token = ctx.keys.identity.token.as_deref().unwrap_or_default().as_bytes();
        let query = ctx.head.uri.query().unwrap_or_default().as_bytes();
        self.shared.streams.key([ctx.path.as_bytes(), query, agent, token])
    }
}

/// Breaks the connection instead of an error: a player takes an error for the end.
fn missing_as_broken(attempt: Attempt) -> Result<Attempt, Refusal> {
    if attempt.is_missing() { Err(Refusal::Media) } else { Ok(attempt) }
}

/// The request by which a stream began. Its conditions and ranges concerned only the first answer.
fn saved_request(ctx: &RequestContext<'_>) -> SavedRequest {
    let mut saved_request = SavedRequest::new(ctx);
    for name in [header::RANGE, header::IF_RANGE, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE] {
        saved_request.headers().remove(name);
    }
    saved_request
}

/// A playlist that the proxy itself requested, and the pod instance that sent it.
async fn playlist_of(mut attempt: Attempt) -> Option<(Bytes, PodInstance)> {
    let place = PodInstance::of(&attempt.decision.pod);
    if attempt.answer.status() != StatusCode::OK {
        return None;
    }
    match rewriting::collect(attempt.answer.body_mut(), LONGEST).await {
        Ok(Collected::Whole(text)) => Some((text, place)),
        Ok(Collected::Longer(_)) | Err(BrokeOff) => None,
    }
}

fn outline(text: &Bytes) -> Option<PlaylistSummary> {
    PlaylistSummary::of(std::str::from_utf8(text).ok()?)
}

/// Whether this is a request for a live playlist.
pub(in crate::proxy) fn is_live_playlist(ctx: &RequestContext<'_>) -> bool {
    ctx.head.method == Method::GET && endpoint::is_live_playlist(ctx.path)
}
