//! Live HLS goes on after its pod.
//!
//! The segments of a live playlist are files of one pod's job, asked for without a token or a query. When that pod is gone, the
//! playlist is asked for on the pod that the client lives on now, by the request that the client made itself: that begins the
//! job there. A film's job has the same name on every pod, since that is made of what the request says, and its segments come
//! again; a live channel has to be opened first, and its job has a name of its own, so that its list is put behind what
//! the client has seen of the first. Meanwhile segments wait, and no playlist is ever shorter than the one before.
//!
//! Nothing but playlists is gathered.

pub(super) mod streams;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, response};
use tokio::{
    sync::watch,
    time::{self, Instant},
};

use super::{
    Asking, Body, Proxy,
    again::{Again, Question},
    call::Call,
    decide::Decision,
    exchange::Exchange,
    face::{self, Broken, Gathered},
    learning::Learning,
    offer::Offered,
    reply::Refusal,
};
use crate::{
    affinity::pins::{Home, Kind},
    carryover::{Token, session::Place},
    forward::{answer::AnswerBody, outbound::Source},
    identity::{
        authorization, endpoint,
        endpoint::Endpoint,
        playlist::{Name, Outline},
    },
    pod::Pod,
};
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
            let place = stream.place();
            let is_of_past = name.is_some_and(|name| !stream.is_named(name));
            if is_of_past && !self.still_runs(asking) {
                // No pod has it any more, and none will.
                return Err(Refusal::Media);
            }
            if !is_of_past && !self.is_there(asking, place) && !self.revive(stream, place).await {
                // Whoever refuses the client says so itself, but not to who asks for a segment.
                let offered =
                    if name.is_some() { Err(Refusal::Media) } else { self.offer(asking, source, exchange).await };
                return offered
                    .and_then(|offered| if is_missing(&offered) { Err(Refusal::Media) } else { Ok(offered) });
            }
            let mut offered = self.offer(asking, source, exchange).await?;
            let place = stream.place();
            let is_at_home = Place::of(&offered.decision.pod) == place;
            let is_final = match name {
                Some(name) if !stream.is_named(name) => self.still_runs(asking),
                Some(_) => is_at_home && !stream.is_behind(),
                None => is_at_home,
            };
            if !is_missing(&offered) || is_final {
                return Ok(offered);
            }
            // Read to its end, so that the connection is kept.
            let _ = face::gather(offered.answer.body_mut(), LONGEST).await;
            if name.is_none() && self.is_there(asking, place) {
                // The client lives elsewhere now, and so will its stream.
                self.revive(stream, place).await;
            }
            if self.shutdown.is_stopping() || Instant::now() + pause >= end {
                return Err(Refusal::Media);
            }
            time::sleep(pause).await;
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
        }
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
            (None, Some(name)) => streams.begin(request, question(asking), place, name),
            (None, None) => return Ok(Body::whole(text)),
        };
        let end = Instant::now() + self.site.forward.hold;
        let again = Again::of(self, asking);
        loop {
            match streams.show(&stream, place, &text, &outline) {
                Shown::Same => break,
                Shown::Other(shown) => {
                    text = shown;
                    break;
                }
                Shown::Later => {}
            }
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

    /// Whether a pod is alive in this life.
    fn is_there(&self, asking: &Asking<'_>, place: Place) -> bool {
        let pods = asking.pool.pool.pods();
        pods.iter().any(|pod| pod.id == place.pod && pod.status().is_alive() && pod.status().epoch == place.epoch)
    }

    /// Whether the job that a segment belongs to runs somewhere still.
    fn still_runs(&self, asking: &Asking<'_>) -> bool {
        let is_alive = |home: Home| self.is_there(asking, Place { pod: home.pod, epoch: home.epoch });
        let name = asking.keys.identity.playlist.unwrap_or_default();
        self.site.pins.home(Kind::Playlist, name, |home, _| is_alive(home)).is_some()
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
    pub(super) fn is_live_playlist(&self) -> bool {
        self.endpoint == Endpoint::DemandingMedia
            && self.head.method == Method::GET
            && endpoint::is_live_playlist(self.path)
    }
}

/// A job that is begun anew.
struct Revival {
    proxy: Arc<Proxy>,
    stream: Arc<Stream>,
    from: Place,
}

impl Revival {
    async fn run(self, tell: watch::Sender<Option<bool>>) {
        let began = Instant::now();
        let revived = self.revive().await;
        tell.send_replace(Some(revived.is_ok()));
        let pods = self.pods();
        let name = |place: Place| pods.iter().find(|pod| pod.id == place.pod).map(|pod| pod.name.clone());
        let (from, duration_ms) = (name(self.from).unwrap_or_default(), began.elapsed().as_millis() as u64);
        match revived {
            Ok(to) => {
                let to = name(to).unwrap_or_default();
                tracing::info!(from = &*from, to = &*to, duration_ms, "live stream goes on");
            }
            Err(why) => tracing::warn!(from = &*from, why, duration_ms, "live stream does not go on"),
        }
    }

    async fn revive(&self) -> Result<Place, &'static str> {
        let end = Instant::now() + self.proxy.site.forward.hold;
        let again = Again::by(&self.proxy, self.stream.question.clone());
        let mut was_opened = false;
        loop {
            match time::timeout_at(end, again.ask()).await {
                Err(_) => return Err("no pod answered in time"),
                Ok(Err(refusal)) if !refusal.may_pass() => return Err(refusal.name()),
                Ok(Err(_)) => {}
                Ok(Ok(asked)) => {
                    let status = asked.offered.answer.status();
                    if status == StatusCode::OK {
                        if let Some((text, place)) = playlist_of(asked.offered).await {
                            self.begun(&text, place);
                            return Ok(place);
                        }
                    } else if status == StatusCode::NOT_FOUND {
                        if self.open(asked.offered).await? && !std::mem::replace(&mut was_opened, true) {
                            continue;
                        }
                    } else if status.is_client_error() {
                        return Err("the pod refuses the client");
                    }
                }
            }
            if self.proxy.shutdown.is_stopping() || Instant::now() + LONGEST_PAUSE >= end {
                return Err("it did not begin in time");
            }
            time::sleep(LONGEST_PAUSE).await;
        }
    }

    fn begun(&self, text: &Bytes, place: Place) {
        let name = outline(text).and_then(|outline| outline.name);
        self.proxy.site.streams.settle(&self.stream, place, name);
        if let Some(digits) = name.map(Name::digits) {
            let home = Home { pod: place.pod, epoch: place.epoch };
            self.proxy.site.pins.learn(Kind::Playlist, &digits, home);
        }
    }

    /// Opens the live stream on a pod that has it not open. Says whether the pod has done it.
    async fn open(&self, mut offered: Offered) -> Result<bool, &'static str> {
        let _ = face::gather(offered.answer.body_mut(), LONGEST).await;
        let Some((target, client, token, base_path)) = self.opening(&offered) else {
            return Err("the pod does not know the item");
        };
        let authorization = Some(authorization::token_only(token.as_str()));
        let body = Bytes::from_static(b"{}");
        let call = Call { method: Method::POST, target: &target, client: &client, authorization, body };
        match self.proxy.call(&offered.decision.pod, &base_path, call).await {
            Ok(reply) if reply.status.is_success() => return Ok(true),
            Ok(reply) => tracing::debug!(status = reply.status.as_u16(), "a live stream was not opened"),
            // A tuner may take longer than the call: the next request for the playlist tells.
            Err(failure) => tracing::debug!(cause = failure.cause.name(), "a live stream was not opened"),
        }
        Ok(false)
    }

    fn opening(&self, offered: &Offered) -> Option<(String, HeaderMap, Token, Arc<str>)> {
        let question = &self.stream.question;
        let pool = &self.proxy.site.pools[question.pool()];
        question.as_asked(&self.proxy, |asking| {
            let target = endpoint::opening_of(asking.path, asking.head.uri.query().unwrap_or_default())?;
            let own = asking.keys.identity.token.as_deref()?;
            let token = offered.token.clone().unwrap_or_else(|| Token::new(own));
            Some((target, super::call::on_behalf_of(asking), token, pool.pool.base_path.clone()))
        })
    }

    fn pods(&self) -> Vec<Arc<Pod>> {
        self.proxy.site.pools[self.stream.question.pool()].pool.pods().to_vec()
    }
}

/// Whether the pod has not what it is asked for: 404 on every pod that was recorded, and by its source 500 in some of 10.11.
fn is_missing(offered: &Offered) -> bool {
    let status = offered.answer.status();
    status == StatusCode::NOT_FOUND || status.is_server_error()
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
