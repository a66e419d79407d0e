//! Live HLS goes on after its pod.
//!
//! The segments of a live playlist are files of one pod's job, asked for without a token or a query. When that pod is gone, the
//! playlist is asked for on the pod that the client lives on now, by the request that the client made itself: that begins the
//! job there. A film's job has the same name on every pod, since that is made of what the request says, and its segments come
//! again; a live channel has to be opened first, and its job has a name of its own, so that its list is put behind what
//! the client has seen of the first. Meanwhile segments wait, and no playlist is ever shorter than the one before.
//!
//! A client may also leave a pod that lives. A film's job goes on there; but with the client's last socket that pod ends the
//! session, and closes the live stream that it plays: so a channel is begun at the new home first.
//!
//! Nothing but playlists is gathered.

mod restart;
pub(in crate::proxy) mod streams;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderValue, Method, StatusCode, header, response};
use tokio::time::{self, Instant};

use crate::{
    affinity::pins::Kind,
    forward::{answer::AnswerBody, outbound::ReplayBody},
    jellyfin::{
        endpoint::{self, Endpoint},
        playlist::{self, Name, PlaylistSummary},
    },
    pod::PodInstance,
    proxy::{
        Body, Proxy, RequestContext,
        dispatch::{
            Attempt,
            replay::{ReplayableRequest, SavedRequest},
        },
        learn::BodyLearner,
        request::{
            record::RequestRecord,
            refusal::Refusal,
            select::{Decision, Reason},
        },
        response::rewriting::{self, BrokeOff, Collected},
    },
    sessions::Session,
};
use restart::StreamRestart;
use streams::{PlaylistView, RestartRole, Stream};

/// The longest playlist that is gathered: some ten thousand segments. A longer one passes as it is.
const LONGEST: usize = 1 << 20;

/// The pause before a segment is asked for again.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

impl Proxy {
    /// The stream that a request is about, if it is one for a live playlist or a segment of one that is known.
    pub(in crate::proxy) fn live_stream(&self, ctx: &RequestContext<'_>) -> Option<Arc<Stream>> {
        let streams = &self.shared.streams;
        let stream = match ctx.endpoint {
            Endpoint::AnonymousMedia => streams.of_name(Name::of(ctx.keys.identity.playlist?)?),
            Endpoint::AuthenticatedMedia if ctx.is_live_playlist() => streams.of_request(self.playlist_key(ctx)),
            _ => None,
        };
        stream.filter(|stream| stream.saved_request.pool() == ctx.pool_index)
    }

    /// Offers a request of a known stream. Where its job is gone it is begun anew, and the request waits for it.
    ///
    /// # Errors
    /// [`Refusal::Media`] where it does not come: players take an error for the end, and a broken connection for a reason to ask
    /// again.
    pub(in crate::proxy) async fn dispatch_live(
        self: &Arc<Self>,
        stream: &Arc<Stream>,
        ctx: &RequestContext<'_>,
        replay_body: &ReplayBody,
        record: &mut RequestRecord,
    ) -> Result<Attempt, Refusal> {
        let end = Instant::now() + self.shared.forward.hold;
        let name = ctx.keys.identity.playlist.and_then(Name::of);
        let mut pause = PAUSE;
        loop {
            if name.is_some_and(|name| !stream.is_named(name)) {
                return self.dispatch_stale_segment(ctx, replay_body, record).await;
            }
            let place = stream.place();
            if !ctx.pool.pool.is_alive(place) {
                if self.restart_stream(stream, place).await {
                    continue;
                }
                // Whoever refuses the client says so itself, but not to who asks for a segment.
                let attempt =
                    if name.is_some() { Err(Refusal::Media) } else { self.dispatch(ctx, replay_body, record).await };
                return attempt.and_then(missing_as_broken);
            }
            // What ffmpeg is writing is there already, and would be sent as it is.
            let is_segment_written =
                name.is_none() || !stream.is_behind() || self.is_segment_written(stream, ctx, end).await;
            if is_segment_written {
                let mut attempt = self.dispatch(ctx, replay_body, record).await?;
                let place = stream.place();
                let is_in_place = PodInstance::of(&attempt.decision.pod) == place;
                let has_moved = self.has_moved(stream, place);
                let is_of_job = name.is_none_or(|name| stream.is_named(name) && !stream.is_behind());
                let is_final = is_in_place && is_of_job && !has_moved;
                if !attempt.is_missing() || is_final {
                    return Ok(attempt);
                }
                // Read to its end, so that the connection is kept.
                let _ = rewriting::collect(attempt.answer.body_mut(), LONGEST).await;
                if ctx.pool.pool.is_alive(place) && (name.is_none() || (is_in_place && has_moved)) {
                    // The client lives elsewhere now, and so will its stream.
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

    /// Offers a request for a segment of a job that its stream has left: such a job may run still, and no other pod will ever have it.
    async fn dispatch_stale_segment(
        self: &Arc<Self>,
        ctx: &RequestContext<'_>,
        replay_body: &ReplayBody,
        record: &mut RequestRecord,
    ) -> Result<Attempt, Refusal> {
        if !self.still_runs(ctx) {
            return Err(Refusal::Media);
        }
        self.dispatch(ctx, replay_body, record).await.and_then(missing_as_broken)
    }

    /// Whether the whole of this segment is there: the pod's playlist lists it.
    async fn is_segment_written(self: &Arc<Self>, stream: &Stream, ctx: &RequestContext<'_>, end: Instant) -> bool {
        let file = ctx.path.rsplit('/').next().unwrap_or_default();
        let Some(number) = playlist::number_of(file) else { return true };
        if stream.has_written(number) {
            return true;
        }
        let replayable = ReplayableRequest::from_saved(self, stream.saved_request.clone());
        let Ok(Ok(replayed)) = time::timeout_at(end, replayable.send()).await else { return false };
        let Some((text, place)) = playlist_of(replayed.attempt).await else { return false };
        if let Some(outline) = outline(&text) {
            stream.record_written(place, &outline);
        }
        stream.has_written(number)
    }

    /// A segment of live HLS, of which only the pod with the job has anything. Where this process does not know which that is, having
    /// just started or being one of several, each is asked.
    pub(in crate::proxy) fn may_be_other_pods_job(&self, ctx: &RequestContext<'_>, attempt: &Attempt) -> bool {
        ctx.is_live_segment()
            && attempt.decision.reason != Reason::Playlist
            && attempt.is_missing()
            && self.shared.budget.try_spend(ctx.origin, Instant::now())
    }

    /// The channels of a client that has left a living pod are begun where it lives now. Ends when they are, or cannot be: another
    /// attempt is made when the player finds its playlist missing.
    pub(in crate::proxy) async fn restart_channels(self: &Arc<Self>, viewer: &Arc<Session>, from: PodInstance) {
        let channels = self.shared.streams.channels(viewer, from);
        let left = channels.iter().filter(|stream| self.has_moved(stream, from));
        join_all(left.map(|stream| self.restart_stream(stream, from))).await;
    }

    /// A live playlist on its way to the client, which is remembered, and never shorter than what the client has seen.
    pub(in crate::proxy) async fn show_playlist(
        self: &Arc<Self>,
        ctx: &RequestContext<'_>,
        decision: &Decision,
        answer: &mut response::Parts,
        mut body: AnswerBody,
        learning: Option<Box<BodyLearner>>,
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
        let known = streams.of_request(request).filter(|stream| stream.saved_request.pool() == ctx.pool_index);
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
                PlaylistView::NotYet => ReplayableRequest::new(self, ctx),
                // What came late has taught that it runs there.
                PlaylistView::Abandoned => ReplayableRequest::new(self, ctx).toward_new_home(),
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

    /// Whether the stream's viewer has left this place for a pod that lives.
    fn has_moved(&self, stream: &Stream, place: PodInstance) -> bool {
        let pods = self.shared.pools[stream.saved_request.pool()].pool.pods();
        let lives = |home: PodInstance| pods.iter().any(|pod| pod.id == home.pod && pod.status().is_alive());
        stream.home().is_some_and(|home| home.pod != place.pod && lives(home))
    }

    /// Whether the job that a segment belongs to runs somewhere still.
    fn still_runs(&self, ctx: &RequestContext<'_>) -> bool {
        let name = ctx.keys.identity.playlist.unwrap_or_default();
        self.shared.pins.home(Kind::Playlist, name, |home, _| ctx.pool.pool.is_alive(home)).is_some()
    }

    /// Begins the job of a place that is gone anew, or waits for whoever does. It goes on when this is dropped.
    async fn restart_stream(self: &Arc<Self>, stream: &Arc<Stream>, gone: PodInstance) -> bool {
        let mut outcome = match stream.join_restart(gone) {
            RestartRole::Done => return true,
            RestartRole::Follow(outcome) => outcome,
            RestartRole::Lead(tell, outcome) => {
                tokio::spawn(StreamRestart { proxy: self.clone(), stream: stream.clone(), from: gone }.run(tell));
                outcome
            }
        };
        // Whoever did it may have ended with its worker.
        outcome.wait_for(Option::is_some).await.is_ok_and(|revived| *revived == Some(true))
    }

    fn playlist_key(&self, ctx: &RequestContext<'_>) -> u128 {
        let agent = ctx.head.headers.get(header::USER_AGENT).map_or(&b""[..], |agent| agent.as_bytes());
        let token = ctx.keys.identity.token.as_deref().unwrap_or_default().as_bytes();
        let query = ctx.head.uri.query().unwrap_or_default().as_bytes();
        self.shared.streams.key([ctx.path.as_bytes(), query, agent, token])
    }
}

impl RequestContext<'_> {
    pub(in crate::proxy) fn is_live_segment(&self) -> bool {
        self.endpoint == Endpoint::AnonymousMedia && self.keys.identity.playlist.is_some()
    }

    pub(in crate::proxy) fn is_live_playlist(&self) -> bool {
        self.endpoint == Endpoint::AuthenticatedMedia
            && self.head.method == Method::GET
            && endpoint::is_live_playlist(self.path)
    }
}

impl Attempt {
    /// Whether the pod has not what it is asked for: 404 on every pod that was recorded, and by its source 500 in some of 10.11.
    fn is_missing(&self) -> bool {
        let status = self.answer.status();
        status == StatusCode::NOT_FOUND || status.is_server_error()
    }
}

/// A player takes an error for the end.
fn missing_as_broken(attempt: Attempt) -> Result<Attempt, Refusal> {
    if attempt.is_missing() { Err(Refusal::Media) } else { Ok(attempt) }
}

/// The request by which a stream began. Conditions and ranges were the first answer's affair.
fn saved_request(ctx: &RequestContext<'_>) -> SavedRequest {
    let mut saved_request = SavedRequest::new(ctx);
    for name in [header::RANGE, header::IF_RANGE, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE] {
        saved_request.headers().remove(name);
    }
    saved_request
}

/// A playlist that was asked for by the proxy, and where it comes from.
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
