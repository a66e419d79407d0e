//! Clients at work: calls one after the other, a socket, a film each; and what they saw.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::{SinkExt, StreamExt};
use http::Method;
use http_body_util::BodyExt;
use jellyfin_sim::{BULK, FILM, bulk_bytes};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::stories::world::{Answer, Client, Failed, Undialled, body_of, until_within};

/// How fast clients work.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    /// Between two calls, or two messages.
    rest: Duration,
    /// Between two pieces of a film, or two segments.
    piece: Duration,
    /// The least bytes of a piece.
    piece_bytes: usize,
    /// How long a client waits for the echo of a message until it says it again.
    say_again: Duration,
}

impl Pace {
    /// So fast that a story of seconds sees much.
    pub(super) const BRISK: Pace = Pace {
        rest: Duration::from_millis(40),
        piece: Duration::from_millis(200),
        piece_bytes: 1,
        say_again: Duration::from_millis(300),
    };

    /// A real client's: progress is reported each 10 s, a segment is asked for each 3 s, a file is read at 2 Mbit/s.
    pub(super) const REAL: Pace = Pace {
        rest: Duration::from_millis(2500),
        piece: Duration::from_secs(3),
        piece_bytes: 768 << 10,
        say_again: Duration::from_millis(2500),
    };
}

/// What a player has in store: a piece that comes later is a stall. Real players hold more.
const IN_STORE: Duration = Duration::from_secs(5);

/// Before a client tries again what failed.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// How long all clients may take to go on, besides the rests between their calls.
const GOING_ON: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    CallsAndSocket,
    /// A film too: a file for one half of the clients, HLS for the other.
    Everything,
}

pub(super) struct Fleet {
    tasks: JoinSet<()>,
    common: Arc<Common>,
    pace: Pace,
    /// Of each client: answered calls, and answered messages.
    calls: Vec<Arc<AtomicUsize>>,
    messages: Vec<Arc<AtomicUsize>>,
}

struct Common {
    is_over: AtomicBool,
    doors: Vec<Door>,
    saw: Mutex<Saw>,
}

/// A proxy, as clients know it.
struct Door {
    address: SocketAddr,
    /// How often it was killed.
    kills: AtomicUsize,
    is_dead: AtomicBool,
}

/// What all clients saw together.
#[derive(Clone, Default, Debug)]
pub(super) struct Saw {
    calls: usize,
    messages: usize,
    film_bytes: usize,
    segments: usize,
    /// Calls that were answered with 401.
    pub(super) logged_out: usize,
    /// Calls that were answered with any other refusal.
    pub(super) refused: usize,
    /// Calls that were not answered at all.
    pub(super) unanswered: usize,
    closed_sockets: usize,
    /// Handshakes that were refused, or not answered.
    refused_sockets: usize,
    broken_films: usize,
    /// Pieces of a film that came too late for a player with little in store.
    stalls: usize,
    /// What no proxy can help: calls, sockets and films whose proxy was killed, or was dead. They are repeated.
    met_dead_proxy: [usize; 3],
    /// From a call to the end of its answer.
    pub(super) longest_wait: Duration,
    /// From the wish for a piece of a film to the piece.
    longest_stall: Duration,
    /// What failed, and how often.
    failures: BTreeMap<String, usize>,
}

impl Fleet {
    /// Logs so many clients in and lets them work: by turns through the proxies that these clients call.
    pub(super) async fn start(clients: usize, work: Work, pace: Pace, at: &[Client]) -> Fleet {
        let door = |client: &Client| Door {
            address: client.address(),
            kills: AtomicUsize::default(),
            is_dead: AtomicBool::default(),
        };
        let common = Arc::new(Common {
            is_over: AtomicBool::default(),
            doors: at.iter().map(door).collect(),
            saw: Mutex::default(),
        });
        let mut fleet =
            Fleet { tasks: JoinSet::new(), common: common.clone(), pace, calls: Vec::new(), messages: Vec::new() };
        let clients = (0..clients).map(|number| {
            let door = number % at.len();
            let mut client = at[door].twin().without_cookies().device(&format!("device-{number}"));
            async move {
                client.log_in(&format!("user{number}")).await;
                (client, door)
            }
        });
        for (number, (client, door)) in join_all(clients).await.into_iter().enumerate() {
            let (calls, messages) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
            let worker = || Worker { client: client.twin(), door, pace, common: common.clone() };
            fleet.tasks.spawn(worker().call(calls.clone()));
            fleet.tasks.spawn(worker().talk(messages.clone()));
            match work {
                Work::CallsAndSocket => {}
                Work::Everything if number % 2 == 0 => drop(fleet.tasks.spawn(worker().watch_file())),
                Work::Everything => drop(fleet.tasks.spawn(worker().watch_hls())),
            }
            fleet.calls.push(calls);
            fleet.messages.push(messages);
        }
        fleet.until_all_went_on().await;
        fleet
    }

    /// Waits until each client has had two more answers, and its socket two.
    pub(super) async fn until_all_went_on(&self) {
        let now = || self.calls.iter().chain(&self.messages).map(|count| count.load(Ordering::Relaxed));
        let before: Vec<usize> = now().collect();
        let bound = GOING_ON + 4 * self.pace.rest;
        until_within(bound, "every client works on", || now().zip(&before).all(|(now, before)| now >= before + 2))
            .await;
    }

    /// The proxy at this address is about to be killed.
    pub(super) fn dies(&self, address: SocketAddr) {
        let door = self.common.door(address);
        door.is_dead.store(true, Ordering::SeqCst);
        door.kills.fetch_add(1, Ordering::SeqCst);
    }

    /// The proxy at this address serves again.
    pub(super) fn lives(&self, address: SocketAddr) {
        self.common.door(address).is_dead.store(false, Ordering::SeqCst);
    }

    /// Ends the work.
    pub(super) async fn stop(self) -> Saw {
        self.common.is_over.store(true, Ordering::Relaxed);
        self.tasks.join_all().await;
        let mut saw = self.common.saw();
        let sum = |counts: &[Arc<AtomicUsize>]| counts.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        (saw.calls, saw.messages) = (sum(&self.calls), sum(&self.messages));
        saw.clone()
    }
}

impl Common {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn door(&self, address: SocketAddr) -> &Door {
        self.doors.iter().find(|door| door.address == address).expect("a proxy of the fleet")
    }

    fn saw(&self) -> std::sync::MutexGuard<'_, Saw> {
        self.saw.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One thing that a client does all the time.
struct Worker {
    client: Client,
    door: usize,
    pace: Pace,
    common: Arc<Common>,
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
        self.common.doors[self.door].kills.load(Ordering::SeqCst)
    }

    /// Whether what failed just now met a dead proxy, or one that was killed since there had been so many `kills`. If so, it is
    /// counted, and the client calls the next proxy from now on, as through a load balancer.
    async fn met_dead_proxy(&mut self, kind: Kind, kills: usize) -> bool {
        let is_dead = self.common.doors[self.door].is_dead.load(Ordering::SeqCst);
        if !is_dead && self.kills() == kills {
            return false;
        }
        self.common.saw().met_dead_proxy[kind as usize] += 1;
        self.door = (self.door + 1) % self.common.doors.len();
        self.client.call_at(self.common.doors[self.door].address);
        sleep(TRY_AGAIN).await;
        true
    }

    /// Asks until a proxy is there that may answer.
    async fn ask(&mut self, kind: Kind, method: Method, path: &str, body: Value) -> Result<Answer, Failed> {
        loop {
            let (mut request, mut text) = (self.client.request(method.clone(), path), String::new());
            if method == Method::POST {
                request = request.header("content-type", "application/json");
                text = body.to_string();
            }
            let kills = self.kills();
            match self.client.send(request, body_of(text)).await {
                Err(_) if self.met_dead_proxy(kind, kills).await => {}
                done => return done,
            }
        }
    }

    async fn call(mut self, answered: Arc<AtomicUsize>) {
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
            let answer = self.ask(Kind::Call, method.clone(), path, json!({"ItemId": FILM, "PositionTicks": 10})).await;
            {
                let mut saw = self.common.saw();
                saw.longest_wait = saw.longest_wait.max(began.elapsed());
                if saw.takes(&format!("{method} {path}"), &answer) {
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            }
            sleep(self.pace.rest).await;
        }
    }

    /// Says `KeepAlive` and waits for its echo, again and again; dials anew when the socket ends.
    async fn talk(mut self, answered: Arc<AtomicUsize>) {
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
            sleep(TRY_AGAIN).await;
        }
    }

    /// Ends with the socket, or with the work.
    async fn talk_through(&self, mut socket: crate::stories::world::Socket, answered: &AtomicUsize) {
        while !self.common.is_over() {
            if socket.send(Message::text(r#"{"MessageType":"KeepAlive"}"#)).await.is_err() {
                return;
            }
            let echo = async {
                while let Some(Ok(message)) = socket.next().await {
                    if message.to_text().is_ok_and(|text| text.contains("\"KeepAlive\"")) {
                        return true;
                    }
                }
                false
            };
            // What a pod took with it to its grave is said again.
            let Ok(is_open) = timeout(self.pace.say_again, echo).await else { continue };
            if !is_open {
                return;
            }
            answered.fetch_add(1, Ordering::Relaxed);
            sleep(self.pace.rest).await;
        }
    }

    /// Takes a file at a player's pace, byte for byte.
    async fn watch_file(mut self) {
        let mut at = 0;
        while !self.common.is_over() {
            let kills = self.kills();
            if self.read_from(&mut at).await {
                at = 0;
            } else if !self.common.is_over() && !self.met_dead_proxy(Kind::Film, kills).await {
                self.common.saw().broken_films += 1;
                sleep(TRY_AGAIN).await;
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
                let frame = match body.frame().await {
                    Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                    broken => return broken.is_none(),
                };
                assert!(bulk_bytes(*at, frame.len()) == frame, "wrong bytes at {at}");
                *at += frame.len() as u64;
                bytes += frame.len();
            }
            self.common.saw().came("file", began.elapsed()).film_bytes += bytes;
            sleep(self.pace.piece).await;
        }
        false
    }

    /// Takes a film's segments, one after the other, as a transcode.
    async fn watch_hls(mut self) {
        while !self.common.is_over() {
            if !self.play_hls().await {
                self.common.saw().broken_films += 1;
                sleep(TRY_AGAIN).await;
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
            sleep(self.pace.piece).await;
        }
        self.fetch(Method::POST, "/Sessions/Playing/Stopped", report).await.is_some()
    }

    async fn fetch(&mut self, method: Method, path: &str, body: Value) -> Option<Answer> {
        let answer = self.ask(Kind::Film, method.clone(), path, body).await;
        let what = format!("{method} {}", path.split('?').next().unwrap_or_default());
        self.common.saw().takes(&what, &answer).then(|| answer.ok())?
    }
}

fn name_of(failed: &Failed) -> &'static str {
    match failed {
        Failed::Connect(_) => "no connection",
        Failed::NoAnswer => "no answer",
        Failed::Cut { .. } => "broken off",
    }
}

impl Saw {
    /// Takes in what came of a call. Whether it is good.
    fn takes(&mut self, what: &str, answer: &Result<Answer, Failed>) -> bool {
        let failure = match answer {
            Ok(answer) if answer.status < 400 => return true,
            Ok(answer) => {
                *if answer.status == 401 { &mut self.logged_out } else { &mut self.refused } += 1;
                answer.status.to_string()
            }
            Err(failed) => {
                self.unanswered += 1;
                name_of(failed).to_owned()
            }
        };
        *self.failures.entry(format!("{what}: {failure}")).or_default() += 1;
        false
    }

    /// A piece of a film came after this time.
    fn came(&mut self, what: &str, after: Duration) -> &mut Saw {
        if after > IN_STORE {
            self.stalls += 1;
            *self.failures.entry(format!("{what}: late by {} s", after.as_secs())).or_default() += 1;
        }
        self.longest_stall = self.longest_stall.max(after);
        self
    }

    #[track_caller]
    pub(super) fn must_be_nothing(&self) {
        let calls = [self.logged_out, self.refused, self.unanswered];
        let rest = [self.closed_sockets, self.refused_sockets, self.broken_films, self.stalls];
        assert_eq!((calls, rest), ([0; 3], [0; 4]), "{self}");
    }
}

impl fmt::Display for Saw {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [calls, sockets, films] = self.met_dead_proxy;
        write!(
            formatter,
            "{} calls and {} messages answered, {} MiB of files, {} segments; logged out {}, refused {}, unanswered {}, \
             closed sockets {}, refused sockets {}, broken films {}, stalls {}; met a dead proxy and repeated: {calls} \
             calls, {sockets} sockets, {films} films; longest wait {:?}, longest wait for a piece of a film {:?}, {:?}",
            self.calls,
            self.messages,
            self.film_bytes >> 20,
            self.segments,
            self.logged_out,
            self.refused,
            self.unanswered,
            self.closed_sockets,
            self.refused_sockets,
            self.broken_films,
            self.stalls,
            self.longest_wait,
            self.longest_stall,
            self.failures,
        )
    }
}
