//! Alice on one of her devices: what she and her app do in an evening.

use std::{net::SocketAddr, time::Duration};

use http::{HeaderMap, Method, header};
use jellyfin_sim::FILM;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{
    client::{Client, Record},
    socket::{Dial, Event, Socket},
};

/// What a client keeps and how it opens its socket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Keeps cookies, and opens its socket with the token in the address.
    Browser,
    /// Keeps none, and opens its socket with the token in a header.
    Television,
}

pub(crate) struct Viewer {
    kind: Kind,
    client: Client,
    socket: Socket,
    film: Option<Film>,
    log_ins: Vec<Instant>,
}

/// A film that plays: its segments, and the next one to fetch.
struct Film {
    play_session: String,
    segments: Vec<String>,
    next: usize,
}

impl Viewer {
    pub(crate) fn new(kind: Kind, address: SocketAddr) -> Viewer {
        let client = match kind {
            Kind::Browser => Client::new(address, "demo-browser", true),
            Kind::Television => Client::new(address, "demo-tv", false),
        };
        Viewer { kind, client, socket: Socket::new(address), film: None, log_ins: Vec::new() }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self.kind {
            Kind::Browser => "browser",
            Kind::Television => "TV app",
        }
    }

    pub(crate) fn device(&self) -> &'static str {
        self.client.device()
    }

    pub(crate) fn token(&self) -> Option<&str> {
        self.client.token()
    }

    /// The requests that ended since a moment.
    pub(crate) fn requests_since(&self, moment: Instant) -> impl Iterator<Item = &Record> {
        self.client.records.iter().filter(move |record| record.ended >= moment)
    }

    pub(crate) fn log_ins_since(&self, moment: Instant) -> usize {
        self.log_ins.iter().filter(|at| **at >= moment).count()
    }

    pub(crate) fn socket_since(&self, moment: Instant) -> Vec<(Instant, Event)> {
        self.socket.events_since(moment)
    }

    pub(crate) fn has_film(&self) -> bool {
        self.film.is_some() && self.client.records.last().is_some_and(|last| (200..400).contains(&last.status))
    }

    /// Opens the app, signs in, looks around and starts the film.
    pub(crate) async fn arrive(&mut self) {
        if self.kind == Kind::Browser {
            self.client.fetch("/web/index.html").await;
        }
        self.client.call(Method::GET, "/System/Info/Public", None).await;
        self.sign_in().await;
        for target in ["/Users/Me", "/UserViews", "/Items?limit=50", "/UserItems/Resume"] {
            self.client.call(Method::GET, target, None).await;
        }
        self.client.fetch(&format!("/Items/{FILM}/Images/Primary?maxWidth=300")).await;
        self.open_film(0).await;
        self.socket.until_open().await;
    }

    /// Plays on: a segment for each step, and every third time a report of where the film is.
    pub(crate) async fn watch(&mut self, steps: u32, pace: Duration) {
        let mut ticks = interval(pace);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for step in 0..steps {
            ticks.tick().await;
            self.fetch_segment().await;
            if step % 3 == 2 {
                self.report("/Sessions/Playing/Progress").await;
            }
        }
    }

    /// Waits a moment for a socket that was lost.
    pub(crate) async fn wait_for_socket(&mut self) {
        self.socket.until_open().await;
    }

    /// Stops the film and signs out.
    pub(crate) async fn leave(mut self) {
        self.report("/Sessions/Playing/Stopped").await;
        self.client.call(Method::POST, "/Sessions/Logout", None).await;
    }

    async fn sign_in(&mut self) -> bool {
        self.client.set_token(None);
        let who = json!({"Username": "alice", "Pw": "alice-pw"});
        let answer = self.client.call(Method::POST, "/Users/AuthenticateByName", Some(who)).await;
        let Some(token) = answer.json()["AccessToken"].as_str().map(str::to_owned) else { return false };
        self.client.set_token(Some(token.clone()));
        self.log_ins.push(Instant::now());
        self.socket.open(match self.kind {
            Kind::Browser => Dial { target: format!("/socket?ApiKey={token}"), headers: self.cookies() },
            Kind::Television => Dial { target: "/socket".to_owned(), headers: self.client.authorization() },
        });
        true
    }

    fn cookies(&self) -> HeaderMap {
        let cookies = self.client.cookies().and_then(|cookies| cookies.parse().ok());
        cookies.map(|cookies| HeaderMap::from_iter([(header::COOKIE, cookies)])).unwrap_or_default()
    }

    /// Asks how the film is to be played, and reads the playlists down to the segments.
    async fn open_film(&mut self, next: usize) {
        self.film = None;
        let profile = json!({"DeviceProfile": {
            "DirectPlayProfiles": [],
            "TranscodingProfiles": [{"Type": "Video", "Container": "ts", "Protocol": "hls", "VideoCodec": "h264"}],
        }});
        let info = self.client.call(Method::POST, &format!("/Items/{FILM}/PlaybackInfo"), Some(profile)).await.json();
        let (Some(master), Some(play_session)) =
            (info["MediaSources"][0]["TranscodingUrl"].as_str(), info["PlaySessionId"].as_str())
        else {
            return;
        };
        let Some(variant) = self.entries(master).await.into_iter().next() else { return };
        let segments = self.entries(&variant).await;
        if segments.is_empty() {
            return;
        }
        self.film = Some(Film { play_session: play_session.to_owned(), segments, next });
        self.report("/Sessions/Playing").await;
    }

    /// The addresses in a playlist.
    async fn entries(&mut self, playlist: &str) -> Vec<String> {
        let path = playlist.split('?').next().unwrap_or_default();
        let folder = &path[..path.rfind('/').map_or(0, |slash| slash + 1)];
        let answer = self.client.fetch(playlist).await;
        if !answer.is_good() {
            return Vec::new();
        }
        answer.text().lines().filter(|line| !line.starts_with('#')).map(|line| format!("{folder}{line}")).collect()
    }

    /// The next segment. Where the session is refused, Alice signs in again and the player asks once more.
    async fn fetch_segment(&mut self) {
        for is_last in [false, true] {
            let Some(film) = &mut self.film else { return self.start_over(0).await };
            let (next, target) = (film.next, film.segments[film.next % film.segments.len()].clone());
            match self.client.fetch(&target).await.status {
                200..=399 => film.next += 1,
                401 | 403 if !is_last => {
                    self.start_over(next).await;
                    continue;
                }
                // A player asks again at its next turn.
                _ => {}
            }
            return;
        }
    }

    /// What Alice does when her app has lost its session: she signs in again and goes on where the film was.
    async fn start_over(&mut self, next: usize) {
        if self.sign_in().await {
            self.open_film(next).await;
        }
    }

    async fn report(&mut self, target: &str) {
        let Some(film) = &self.film else { return };
        let next = film.next;
        let position = next as u64 * 30_000_000;
        let report = json!({"ItemId": FILM, "PlaySessionId": film.play_session, "PositionTicks": position});
        let answer = self.client.call(Method::POST, target, Some(report)).await;
        if matches!(answer.status, 401 | 403) {
            // `start_over` reports too, but with a token that was minted a moment ago.
            Box::pin(self.start_over(next)).await;
        }
    }
}
