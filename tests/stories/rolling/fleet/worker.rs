//! One client's work.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fault_tables::client::{Echo, keep_alive};
use http::Method;
use http_body_util::BodyExt;
use jellyfin_sim::{BULK, FILM, bulk_bytes};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Common, Pace};
use crate::stories::world::{Answer, Client, Failed, Socket, Undialled, body_of, elapse};

/// Before a client tries again what failed.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// What does not come within this time is lost to a client, as to every real one.
const GIVES_UP: Duration = Duration::from_secs(60);

/// One thing that a client does all the time.
pub(super) struct Worker {
    pub(super) client: Client,
    pub(super) door: usize,
    pub(super) pace: Pace,
    pub(super) common: Arc<Common>,
}

/// What fails with its proxy.
#[derive(Clone, Copy)]
enum Kind {
    Call,
    Socket,
    Film,
}

impl Worker {
    /// How often the proxy was killed so far.
    fn kills(&self) -> usize {
        self.common.doors.kills(self.door)
    }

    /// Whether what failed just now met a dead proxy, or one that was killed since there had been so many `kills`. If so, it is
    /// counted, and the client calls the next proxy from now on, as through a load balancer.
    async fn met_dead_proxy(&mut self, kind: Kind, kills: usize) -> bool {
        let Some(next) = self.common.doors.past_dead(self.door, kills) else { return false };
        self.common.saw().met_dead_proxy[kind as usize] += 1;
        self.door = next;
        self.client.call_at(self.common.doors.address(next));
        elapse(TRY_AGAIN).await;
        true
    }

    /// Asks until a proxy is there that may answer.
    async fn answer_to(&mut self, kind: Kind, method: Method, path: &str, body: Value) -> Result<Answer, Failed> {
        loop {
            let (mut request, mut text) = (self.client.request(method.clone(), path), String::new());
            if method == Method::POST {
                request = request.header("content-type", "application/json");
                text = body.to_string();
            }
            let kills = self.kills();
            match timeout(GIVES_UP, self.client.send(request, body_of(text))).await.unwrap_or(Err(Failed::NoAnswer)) {
                Err(_) if self.met_dead_proxy(kind, kills).await => {}
                done => return done,
            }
        }
    }

    pub(super) async fn call(mut self, answered: Arc<AtomicUsize>) {
        for turn in 0.. {
            if self.common.is_over() {
                return;
            }
            let (method, path) = match turn % 4 {
                0 => (Method::GET, "/Users/Me"),
                1 => (Method::GET, "/Items?limit=1"),
                2 => (Method::GET, "/System/Info"),
                _ => (Method::POST, "/Sessions/Playing/Progress"),
            };
            let began = Instant::now();
            let answer =
                self.answer_to(Kind::Call, method.clone(), path, json!({"ItemId": FILM, "PositionTicks": 10})).await;
            {
                let mut saw = self.common.saw();
                saw.longest_wait = saw.longest_wait.max(began.elapsed());
                if saw.takes(&format!("{method} {path}"), &answer) {
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            }
            elapse(self.pace.rest).await;
        }
    }

    /// Says `KeepAlive` and waits for its echo, again and again; dials again when the socket ends.
    pub(super) async fn talk(mut self, answered: Arc<AtomicUsize>) {
        let path = format!("/socket?ApiKey={}", self.client.token.as_deref().expect("a token"));
        while !self.common.is_over() {
            let kills = self.kills();
            match self.client.dial_socket(&path).await {
                Ok(socket) => {
                    self.talk_through(socket, &answered).await;
                    if !self.common.is_over() && !self.met_dead_proxy(Kind::Socket, kills).await {
                        self.common.saw().closed_sockets += 1;
                    }
                }
                Err(Undialled::Refused(status)) => {
                    let mut saw = self.common.saw();
                    saw.refused_sockets += 1;
                    *saw.failures.entry(format!("socket: {status}")).or_default() += 1;
                }
                Err(_) if self.met_dead_proxy(Kind::Socket, kills).await => {}
                Err(Undialled::NoAnswer) => self.common.saw().refused_sockets += 1,
            }
            elapse(TRY_AGAIN).await;
        }
    }

    /// Ends with the socket, or with the work.
    async fn talk_through(&self, mut socket: Socket, answered: &AtomicUsize) {
        while !self.common.is_over() {
            match keep_alive(&mut socket, self.pace.say_again).await {
                Echo::Lost => continue,
                Echo::SocketEnded => return,
                Echo::Came => {}
            }
            answered.fetch_add(1, Ordering::Relaxed);
            elapse(self.pace.rest).await;
        }
    }

    /// Takes a file at a player's pace, byte for byte.
    pub(super) async fn watch_file(mut self) {
        let mut at = 0;
        while !self.common.is_over() {
            let kills = self.kills();
            if self.read_from(&mut at).await {
                at = 0;
            } else if !self.common.is_over() && !self.met_dead_proxy(Kind::Film, kills).await {
                self.common.saw().broken_films += 1;
                elapse(TRY_AGAIN).await;
            }
        }
    }

    /// Reads the file from here on. Whether it came to its end.
    async fn read_from(&mut self, at: &mut u64) -> bool {
        let request = self.client.request(Method::GET, &format!("/Videos/{BULK}/stream?static=true"));
        let request = if *at == 0 { request } else { request.header("range", format!("bytes={at}-")) };
        let Ok(answer) = self.client.open(request, body_of("")).await else { return false };
        if answer.status() != if *at == 0 { 200 } else { 206 } {
            *self.common.saw().failures.entry(format!("film: {}", answer.status())).or_default() += 1;
            return false;
        }
        let mut body = answer.into_body();
        while !self.common.is_over() {
            let (began, mut bytes) = (Instant::now(), 0);
            while bytes < self.pace.piece_bytes {
                let frame = match timeout(GIVES_UP, body.frame()).await {
                    Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
                    Ok(None) => return true,
                    Ok(Some(Err(_))) | Err(_) => return false,
                };
                assert!(bulk_bytes(*at, frame.len()) == frame, "wrong bytes at {at}");
                *at += frame.len() as u64;
                bytes += frame.len();
            }
            self.common.saw().came("file", began.elapsed()).film_bytes += bytes;
            elapse(self.pace.piece).await;
        }
        false
    }

    /// Takes a film's segments, one after the other, as a transcode.
    pub(super) async fn watch_hls(mut self) {
        while !self.common.is_over() {
            if !self.play_hls().await {
                self.common.saw().broken_films += 1;
                elapse(TRY_AGAIN).await;
            }
        }
    }

    /// Whether it played to the end of the film, or of the work.
    async fn play_hls(&mut self) -> bool {
        let profile = json!({"TranscodingProfiles": [{"Type": "Video", "Protocol": "hls", "Container": "ts"}]});
        let path = format!("/Items/{FILM}/PlaybackInfo");
        let body = json!({"DeviceProfile": profile, "EnableDirectPlay": false});
        let Some(info) = self.fetch(Method::POST, &path, body).await else { return false };
        let info = info.json();
        let url = info["MediaSources"][0]["TranscodingUrl"].as_str().expect("a URL").to_owned();
        let report = json!({"ItemId": FILM, "PlaySessionId": info["PlaySessionId"], "PositionTicks": 0});
        if self.fetch(Method::POST, "/Sessions/Playing", report.clone()).await.is_none() {
            return false;
        }
        let Some(master) = self.fetch(Method::GET, &url, Value::Null).await else { return false };
        let folder = &url[..=url.find("master").expect("a name") - 1];
        let variant = master.text().lines().find(|line| line.starts_with("main")).expect("a variant");
        let Some(main) = self.fetch(Method::GET, &format!("{folder}{variant}"), Value::Null).await else {
            return false;
        };
        for segment in main.text().lines().filter(|line| !line.starts_with('#')) {
            if self.common.is_over() {
                return true;
            }
            let began = Instant::now();
            let Some(segment) = self.fetch(Method::GET, &format!("{folder}{segment}"), Value::Null).await else {
                return false;
            };
            assert!(segment.body.len() > 1000, "a whole segment");
            self.common.saw().came("segment", began.elapsed()).segments += 1;
            elapse(self.pace.piece).await;
        }
        self.fetch(Method::POST, "/Sessions/Playing/Stopped", report).await.is_some()
    }

    async fn fetch(&mut self, method: Method, path: &str, body: Value) -> Option<Answer> {
        let answer = self.answer_to(Kind::Film, method.clone(), path, body).await;
        let what = format!("{method} {}", path.split('?').next().unwrap_or_default());
        self.common.saw().takes(&what, &answer).then(|| answer.ok())?
    }
}
