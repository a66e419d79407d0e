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

mod revival;
pub(super) mod streams;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderValue, Method, StatusCode, header, response};
use tokio::time::{self, Instant};

use super::{
    Asking, Body, Proxy,
    again::{Again, Question},
    decide::{Decision, Reason},
    exchange::Exchange,
    face::{self, Broken, Gathered},
    learning::Learning,
    offer::Offered,
    reply::Refusal,
};
use crate::{
    affinity::pins::Kind,
    carryover::Session,
    forward::{answer::AnswerBody, outbound::Source},
    identity::{
        endpoint,
        endpoint::Endpoint,
        playlist::{self, Name, Outline},
    },
    pod::Place,
};
use revival::Revival;
use streams::{Part, Shown, Stream};

/// The longest playlist that is gathered: some ten thousand segments. A longer one passes as it is.
const LONGEST: usize = 1 << 20;

/// The pause before a segment is asked for again.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

impl Proxy {
    /// The stream that a request is about, if it is one for a live playlist or a segment of one that is known.
    pub(super) fn stream(&self, asking: &Asking<'_>) -> Option<Arc<Stream>> {
        let streams = &self.site.streams;
        let stream = match asking.endpoint {
            Endpoint::AnonymousMedia => streams.of_name(Name::of(asking.keys.identity.playlist?)?),
            Endpoint::DemandingMedia if asking.is_live_playlist() => streams.of_request(self.key(asking)),
            _ => None,
        };
        stream.filter(|stream| stream.question.pool() == asking.pool_index)
    }

    /// Offers a request of a known stream. Where its job is gone it is begun anew, and the request waits for it.
    ///
    /// # Errors
    /// [`Refusal::Media`] where it does not come: players take an error for the end, and a broken connection for a reason to ask
    /// again.
    pub(super) async fn offer_stream(
        self: &Arc<Self>,
        stream: &Arc<Stream>,
        asking: &Asking<'_>,
        source: &Source,
        exchange: &mut Exchange,
    ) -> Result<Offered, Refusal> {
        let end = Instant::now() + self.site.forward.hold;
        let name = asking.keys.identity.playlist.and_then(Name::of);
        let mut pause = PAUSE;
        loop {
            if name.is_some_and(|name| !stream.is_named(name)) {
                return self.offer_past(asking, source, exchange).await;
            }
            let place = stream.place();
            if !asking.pool.pool.is_alive(place) {
                if self.revive(stream, place).await {
                    continue;
                }
                // Whoever refuses the client says so itself, but not to who asks for a segment.
                let offered =
                    if name.is_some() { Err(Refusal::Media) } else { self.offer(asking, source, exchange).await };
                return offered.and_then(or_broken);
            }
            // What ffmpeg is writing is there already, and would be sent as it is.
            let is_made = name.is_none() || !stream.is_behind() || self.is_made(stream, asking, end).await;
            if is_made {
                let mut offered = self.offer(asking, source, exchange).await?;
                let place = stream.place();
                let is_in_place = Place::of(&offered.decision.pod) == place;
                let has_moved = self.has_moved(stream, place);
                let is_of_job = name.is_none_or(|name| stream.is_named(name) && !stream.is_behind());
                let is_final = is_in_place && is_of_job && !has_moved;
                if !offered.is_missing() || is_final {
                    return Ok(offered);
                }
                // Read to its end, so that the connection is kept.
                let _ = face::gather(offered.answer.body_mut(), LONGEST).await;
                if asking.pool.pool.is_alive(place) && (name.is_none() || (is_in_place && has_moved)) {
                    // The client lives elsewhere now, and so will its stream.
                    self.revive(stream, place).await;
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
    async fn offer_past(
        self: &Arc<Self>,
        asking: &Asking<'_>,
        source: &Source,
        exchange: &mut Exchange,
    ) -> Result<Offered, Refusal> {
        if !self.still_runs(asking) {
            return Err(Refusal::Media);
        }
        self.offer(asking, source, exchange).await.and_then(or_broken)
    }

    /// Whether the whole of this segment is there: the pod's playlist lists it.
    async fn is_made(self: &Arc<Self>, stream: &Stream, asking: &Asking<'_>, end: Instant) -> bool {
        let file = asking.path.rsplit('/').next().unwrap_or_default();
        let Some(number) = playlist::number_of(file) else { return true };
        if stream.has_made(number) {
            return true;
        }
        let again = Again::by(self, stream.question.clone());
        let Ok(Ok(asked)) = time::timeout_at(end, again.ask()).await else { return false };
        let Some((text, place)) = playlist_of(asked.offered).await else { return false };
        if let Some(outline) = outline(&text) {
            stream.note_made(place, &outline);
        }
        stream.has_made(number)
    }

    /// A segment of live HLS, of which only the pod with the job has anything. Where this process does not know which that is, having
    /// just started or being one of several, each is asked.
    pub(super) fn may_run_elsewhere(&self, asking: &Asking<'_>, offered: &Offered) -> bool {
        asking.is_live_segment()
            && offered.decision.reason != Reason::Playlist
            && offered.is_missing()
            && self.site.budget.spend(asking.origin, Instant::now())
    }

    /// The channels of a client that has left a living pod are begun where it lives now. Ends when they are, or cannot be: another
    /// attempt is made when the player finds its playlist missing.
    pub(super) async fn bring_channels(self: &Arc<Self>, viewer: &Arc<Session>, from: Place) {
        let channels = self.site.streams.channels(viewer, from);
        let left = channels.iter().filter(|stream| self.has_moved(stream, from));
        join_all(left.map(|stream| self.revive(stream, from))).await;
    }

    /// A live playlist on its way to the client, which is remembered, and never shorter than what the client has seen.
    pub(super) async fn show_playlist(
        self: &Arc<Self>,
        asking: &Asking<'_>,
        decision: &Decision,
        answer: &mut response::Parts,
        mut body: AnswerBody,
        learning: Option<Box<Learning>>,
    ) -> Result<Body, Broken> {
        if answer.status != StatusCode::OK || answer.headers.contains_key(header::CONTENT_ENCODING) {
            return Ok(Body::answer(body, learning, None));
        }
        let mut text = match face::gather(&mut body, LONGEST).await? {
            Gathered::Whole(text) => text,
            Gathered::Longer(early) => return Ok(Body::begun(early, body, None)),
        };
        let Some(mut outline) = outline(&text) else { return Ok(Body::whole(text)) };
        if let Some(mut learning) = learning {
            learning.hear(&text);
            learning.end();
        }
        let streams = &self.site.streams;
        let request = self.key(asking);
        let mut place = Place::of(&decision.pod);
        let known = streams.of_request(request).filter(|stream| stream.question.pool() == asking.pool_index);
        let stream = match (known, outline.name) {
            (Some(stream), _) => stream,
            (None, Some(name)) => streams.begin(request, question(asking), &asking.keys.identity, place, name),
            (None, None) => return Ok(Body::whole(text)),
        };
        if let Some(session) = asking.session() {
            stream.is_watched_by(session);
        }
        let end = Instant::now() + self.site.forward.hold;
        loop {
            let again = match streams.show(&stream, place, &text, &outline) {
                Shown::Same => break,
                Shown::Other(shown) => {
                    text = shown;
                    break;
                }
                Shown::Later => Again::of(self, asking),
                // What came late has taught that it runs there.
                Shown::Left => Again::of(self, asking).at_home(),
            };
            time::sleep(LONGEST_PAUSE).await;
            if self.shutdown.is_stopping() {
                return Err(Broken);
            }
            let Ok(asked) = time::timeout_at(end, again.ask()).await else { return Err(Broken) };
            if let Some((newer, at)) = playlist_of(asked.map_err(|_| Broken)?.offered).await {
                let Some(newer_outline) = self::outline(&newer) else { return Err(Broken) };
                (text, outline, place) = (newer, newer_outline, at);
            }
        }
        answer.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(text.len()));
        Ok(Body::whole(text))
    }

    /// Whether the stream's viewer has left this place for a pod that lives.
    fn has_moved(&self, stream: &Stream, place: Place) -> bool {
        let pods = self.site.pools[stream.question.pool()].pool.pods();
        let lives = |home: Place| pods.iter().any(|pod| pod.id == home.pod && pod.status().is_alive());
        stream.home().is_some_and(|home| home.pod != place.pod && lives(home))
    }

    /// Whether the job that a segment belongs to runs somewhere still.
    fn still_runs(&self, asking: &Asking<'_>) -> bool {
        let name = asking.keys.identity.playlist.unwrap_or_default();
        self.site.pins.home(Kind::Playlist, name, |home, _| asking.pool.pool.is_alive(home)).is_some()
    }

    /// Begins the job of a place that is gone anew, or waits for whoever does. It goes on when this is dropped.
    async fn revive(self: &Arc<Self>, stream: &Arc<Stream>, gone: Place) -> bool {
        let mut outcome = match stream.revive(gone) {
            Part::Done => return true,
            Part::Follow(outcome) => outcome,
            Part::Lead(tell, outcome) => {
                tokio::spawn(Revival { proxy: self.clone(), stream: stream.clone(), from: gone }.run(tell));
                outcome
            }
        };
        // Whoever did it may have ended with its worker.
        outcome.wait_for(Option::is_some).await.is_ok_and(|revived| *revived == Some(true))
    }

    fn key(&self, asking: &Asking<'_>) -> u128 {
        let agent = asking.head.headers.get(header::USER_AGENT).map_or(&b""[..], |agent| agent.as_bytes());
        let token = asking.keys.identity.token.as_deref().unwrap_or_default().as_bytes();
        let query = asking.head.uri.query().unwrap_or_default().as_bytes();
        self.site.streams.key([asking.path.as_bytes(), query, agent, token])
    }
}

impl Asking<'_> {
    pub(super) fn is_live_segment(&self) -> bool {
        self.endpoint == Endpoint::AnonymousMedia && self.keys.identity.playlist.is_some()
    }

    pub(super) fn is_live_playlist(&self) -> bool {
        self.endpoint == Endpoint::DemandingMedia
            && self.head.method == Method::GET
            && endpoint::is_live_playlist(self.path)
    }
}

impl Offered {
    /// Whether the pod has not what it is asked for: 404 on every pod that was recorded, and by its source 500 in some of 10.11.
    fn is_missing(&self) -> bool {
        let status = self.answer.status();
        status == StatusCode::NOT_FOUND || status.is_server_error()
    }
}

/// A player takes an error for the end.
fn or_broken(offered: Offered) -> Result<Offered, Refusal> {
    if offered.is_missing() { Err(Refusal::Media) } else { Ok(offered) }
}

/// The request by which a stream began. Conditions and ranges were the first answer's affair.
fn question(asking: &Asking<'_>) -> Question {
    let mut question = Question::of(asking);
    for name in [header::RANGE, header::IF_RANGE, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE] {
        question.headers().remove(name);
    }
    question
}

/// A playlist that was asked for by the proxy, and where it comes from.
async fn playlist_of(mut offered: Offered) -> Option<(Bytes, Place)> {
    let place = Place::of(&offered.decision.pod);
    if offered.answer.status() != StatusCode::OK {
        return None;
    }
    match face::gather(offered.answer.body_mut(), LONGEST).await {
        Ok(Gathered::Whole(text)) => Some((text, place)),
        Ok(Gathered::Longer(_)) | Err(Broken) => None,
    }
}

fn outline(text: &Bytes) -> Option<Outline> {
    Outline::of(std::str::from_utf8(text).ok()?)
}
