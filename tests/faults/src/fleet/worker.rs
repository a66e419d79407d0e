//! One thing that a client does all the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::Method;
use http_body_util::BodyExt;
use jellyfin_sim::{BULK, FILM, bulk_bytes};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Common, lock};
use crate::client::{Answer, Client, Echo, Failed, GIVES_UP, Socket, Undialled, elapse, keep_alive};

/// Before a client tries again what failed.
const TRY_AGAIN: Duration = Duration::from_millis(300);

/// How often a player asks for a segment until it gives the film up.
const TRIES: usize = 4;

/// How long a client waits for the echo of a message until it says it again.
const SAY_AGAIN: Duration = Duration::from_millis(1500);

pub(super) struct Worker {
    pub(super) client: Client,
    pub(super) door: usize,
    pub(super) common: Arc<Common>,
    pub(super) done: Arc<AtomicUsize>,
}

impl Worker {
    fn is_over(&self) -> bool {
        self.common.is_over.load(Ordering::Relaxed)
    }

    fn record_done(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
        self.common.went_on.notify_waiters();
    }

    fn kills(&self) -> usize {
        self.common.doors.kills(self.door)
    }

    /// Whether what failed just now met a dead proxy, or one that was killed since there had been so many `kills`. If so, the client
    /// calls the next proxy from now on, as through a load balancer.
    async fn met_dead_proxy(&mut self, kills: usize) -> bool {
        let Some(next) = self.common.doors.past_dead(self.door, kills) else { return false };
        lock(&self.common.saw).met_dead_proxy += 1;
        self.door = next;
        self.client.call_at(self.common.doors.address(next));
        elapse(TRY_AGAIN).await;
        true
    }

    /// Asks until a proxy is there that may answer, and says what came of it. A client that is logged out logs in again.
    async fn answer_to(&mut self, method: Method, path: &str, body: Value) -> Option<Answer> {
        let what = format!("{method} {}", path.split('?').next().unwrap_or_default());
        loop {
            let (kills, began, token) = (self.kills(), Instant::now(), self.client.person.token());
            let answer = self.client.send(method.clone(), path, body.clone()).await;
            let why = match answer {
                Ok(answer) if answer.status < 400 => {
                    lock(&self.common.saw).record_good(began.elapsed());
                    return Some(answer);
                }
                Err(_) if self.met_dead_proxy(kills).await => continue,
                Ok(answer) => answer.status.to_string(),
                Err(Failed::NoConnection) => "no connection".to_owned(),
                Err(Failed::NoAnswer) => "no answer".to_owned(),
                Err(Failed::Cut) => "broken off".to_owned(),
                Err(Failed::TooLate) => format!("nothing for {} s", GIVES_UP.as_secs()),
            };
            let is_logged_out = why == "401";
            {
                let mut saw = lock(&self.common.saw);
                match () {
                    // Another connection of this client has logged in again meanwhile.
                    () if is_logged_out && self.client.person.token() != token => {}
                    () if is_logged_out => saw.log_outs += 1,
                    () if method == Method::GET => saw.failed += 1,
                    () => saw.failed_posts += 1,
                }
                saw.record_bad(format!("{what}: {why}"));
            }
            if is_logged_out
                && self.client.person.token() == token
                && let Ok(token) = self.client.log_in().await
            {
                lock(&self.common.tokens).insert(token);
            }
            return None;
        }
    }

    pub(super) async fn call(mut self) {
        for turn in 0.. {
            if self.is_over() {
                return;
            }
            let (method, path, body) = match turn % 4 {
                0 => (Method::GET, "/Users/Me", Value::Null),
                1 => (Method::GET, "/Items?limit=1", Value::Null),
                2 => (Method::GET, "/System/Info", Value::Null),
                _ => (Method::POST, "/Sessions/Playing/Progress", json!({"ItemId": FILM, "PositionTicks": 10})),
            };
            match self.answer_to(method, path, body).await {
                Some(_) => self.record_done(),
                None => elapse(TRY_AGAIN).await,
            }
            elapse(self.common.pace.rest).await;
        }
    }

    /// Says `KeepAlive` and waits for its echo, again and again; dials again when the socket ends.
    pub(super) async fn talk(mut self) {
        while !self.is_over() {
            let kills = self.kills();
            match self.client.socket().await {
                Ok(socket) => {
                    self.talk_through(socket).await;
                    if !self.is_over() && !self.met_dead_proxy(kills).await {
                        let mut saw = lock(&self.common.saw);
                        saw.closed_sockets += 1;
                        saw.record_bad("socket: closed".to_owned());
                    }
                }
                Err(_) if self.met_dead_proxy(kills).await => {}
                Err(undialled) => {
                    let mut saw = lock(&self.common.saw);
                    saw.refused_sockets += 1;
                    saw.record_bad(match undialled {
                        Undialled::Refused(status) => format!("socket: {}", status.as_u16()),
                        Undialled::NoAnswer => "socket: no answer".to_owned(),
                    });
                }
            }
            elapse(TRY_AGAIN).await;
        }
    }

    /// Ends with the socket, with the work, or when nothing comes any more.
    async fn talk_through(&self, mut socket: Socket) {
        let mut asked = Instant::now();
        while !self.is_over() && asked.elapsed() < GIVES_UP {
            match keep_alive(&mut socket, SAY_AGAIN).await {
                Echo::Lost => continue,
                Echo::SocketEnded => return,
                Echo::Came => {}
            }
            lock(&self.common.saw).record_good(asked.elapsed());
            self.record_done();
            elapse(self.common.pace.rest).await;
            asked = Instant::now();
        }
    }

    fn record_broken_film(&self, what: &str) {
        let mut saw = lock(&self.common.saw);
        saw.broken_films += 1;
        saw.record_bad(format!("film: {what}"));
    }

    /// Takes a file at a player's pace.
    pub(super) async fn watch_file(mut self) {
        let (mut at, mut wished) = (0, Instant::now());
        while !self.is_over() {
            let kills = self.kills();
            let ended = self.read_from(&mut at, &mut wished).await;
            if let Err(what) = ended
                && !self.is_over()
                && !self.met_dead_proxy(kills).await
            {
                self.record_broken_film(&what);
                elapse(TRY_AGAIN).await;
            }
        }
    }

    /// Reads the file from here on.
    async fn read_from(&mut self, at: &mut u64, wished: &mut Instant) -> Result<(), String> {
        let path = format!("/Videos/{BULK}/stream?static=true");
        let opened = timeout(GIVES_UP, self.client.open(Method::GET, &path, &Value::Null, Some(*at))).await;
        let answer = opened.map_err(|_| "no answer")?.map_err(|failed| format!("{failed:?}"))?;
        if answer.status().as_u16() != if *at == 0 { 200 } else { 206 } {
            return Err(answer.status().as_u16().to_string());
        }
        let mut body = answer.into_body();
        loop {
            let mut bytes = 0;
            while bytes < self.common.pace.piece_bytes {
                let frame = match timeout(GIVES_UP, body.frame()).await {
                    Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
                    Ok(None) => return Ok(()),
                    Ok(Some(Err(_))) => return Err("broken off".to_owned()),
                    Err(_) => return Err("nothing comes".to_owned()),
                };
                let length = frame.len().min(64);
                assert!(bulk_bytes(*at, length) == frame[..length], "wrong bytes at {at}");
                *at += frame.len() as u64;
                bytes += frame.len();
            }
            lock(&self.common.saw).record_piece(wished.elapsed());
            self.record_done();
            if self.is_over() {
                return Ok(());
            }
            elapse(self.common.pace.piece).await;
            *wished = Instant::now();
        }
    }

    /// Takes a film's segments, one after the other, as a transcode.
    pub(super) async fn watch_hls(mut self) {
        let mut wished = Instant::now();
        while !self.is_over() {
            if self.play_hls(&mut wished).await.is_none() && !self.is_over() {
                self.record_broken_film("given up");
                elapse(TRY_AGAIN).await;
            }
        }
    }

    /// Plays to the end of the film, or of the work.
    async fn play_hls(&mut self, wished: &mut Instant) -> Option<()> {
        let profile = json!({"TranscodingProfiles": [{"Type": "Video", "Protocol": "hls", "Container": "ts"}]});
        let path = format!("/Items/{FILM}/PlaybackInfo");
        let body = json!({"DeviceProfile": profile, "EnableDirectPlay": false});
        let info = self.answer_to(Method::POST, &path, body).await?.json();
        let url = info["MediaSources"][0]["TranscodingUrl"].as_str()?.to_owned();
        let report = json!({"ItemId": FILM, "PlaySessionId": info["PlaySessionId"], "PositionTicks": 0});
        self.answer_to(Method::POST, "/Sessions/Playing", report.clone()).await?;
        let master = self.answer_to(Method::GET, &url, Value::Null).await?.text();
        let folder = &url[..url.find("master")?];
        let variant = master.lines().find(|line| line.starts_with("main"))?;
        let main = self.answer_to(Method::GET, &format!("{folder}{variant}"), Value::Null).await?.text();
        for segment in main.lines().filter(|line| !line.starts_with('#')) {
            let mut tries = 0;
            while self.answer_to(Method::GET, &format!("{folder}{segment}"), Value::Null).await.is_none() {
                tries += 1;
                if tries == TRIES {
                    return None;
                }
                elapse(TRY_AGAIN).await;
            }
            lock(&self.common.saw).record_piece(wished.elapsed());
            self.record_done();
            if self.is_over() {
                return Some(());
            }
            elapse(self.common.pace.piece).await;
            *wished = Instant::now();
        }
        self.answer_to(Method::POST, "/Sessions/Playing/Stopped", report).await.map(|_| ())
    }
}
