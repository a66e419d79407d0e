//! Clients at work: calls one after the other, a socket, a film each; and what they saw.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::{SinkExt, StreamExt};
use http::Method;
use http_body_util::BodyExt;
use jellyfin_sim::{BULK, FILM, bulk_bytes};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::stories::world::{Client, Failed, body_of, until};

/// Between two calls or two messages.
const REST: Duration = Duration::from_millis(40);

/// Between two pieces of a film.
const PIECE: Duration = Duration::from_millis(200);

/// How long a client waits for the echo of a message.
const SAY_AGAIN: Duration = Duration::from_millis(300);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    CallsAndSocket,
    /// A film too.
    Everything,
}

pub(super) struct Fleet {
    tasks: JoinSet<()>,
    common: Arc<Common>,
    /// Of each client: answered calls, and answered messages.
    calls: Vec<Arc<AtomicUsize>>,
    messages: Vec<Arc<AtomicUsize>>,
}

#[derive(Default)]
struct Common {
    is_over: AtomicBool,
    saw: Mutex<Saw>,
}

/// What all clients saw together.
#[derive(Clone, Default, Debug)]
pub(super) struct Saw {
    calls: usize,
    messages: usize,
    film_bytes: usize,
    /// Calls that were answered with 401.
    pub(super) logged_out: usize,
    /// Calls that were answered with any other refusal.
    pub(super) refused: usize,
    /// Calls that were not answered at all.
    unanswered: usize,
    closed_sockets: usize,
    broken_films: usize,
    /// From a call to the end of its answer.
    pub(super) longest_wait: Duration,
    /// From the wish for a piece of a film to the piece.
    longest_stall: Duration,
    /// What failed, and how often.
    failures: BTreeMap<String, usize>,
}

impl Fleet {
    /// Logs so many clients in and lets them work.
    pub(super) async fn start(clients: usize, work: Work, new: impl Fn() -> Client) -> Fleet {
        let common = Arc::new(Common::default());
        let mut fleet =
            Fleet { tasks: JoinSet::new(), common: common.clone(), calls: Vec::new(), messages: Vec::new() };
        let clients = (0..clients).map(|number| {
            let mut client = new().without_cookies().device(&format!("device {number}"));
            async move {
                client.log_in(&format!("user{number}")).await;
                client
            }
        });
        for client in join_all(clients).await {
            let (calls, messages) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
            fleet.tasks.spawn(call(client.twin(), common.clone(), calls.clone()));
            fleet.tasks.spawn(talk(client.twin(), common.clone(), messages.clone()));
            if work == Work::Everything {
                fleet.tasks.spawn(watch(client, common.clone()));
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
        until("every client works on", || now().zip(&before).all(|(now, before)| now >= before + 2)).await;
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

    fn saw(&self) -> std::sync::MutexGuard<'_, Saw> {
        self.saw.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn call(mut client: Client, common: Arc<Common>, answered: Arc<AtomicUsize>) {
    for turn in 0.. {
        if common.is_over() {
            return;
        }
        let (method, path) = match turn % 4 {
            0 => (Method::GET, "/Users/Me"),
            1 => (Method::GET, "/Items?limit=1"),
            2 => (Method::GET, "/System/Info"),
            _ => (Method::POST, "/Sessions/Playing/Progress"),
        };
        let mut request = client.request(method.clone(), path);
        let mut body = String::new();
        if method == Method::POST {
            request = request.header("content-type", "application/json");
            body = json!({"ItemId": FILM, "PositionTicks": 10}).to_string();
        }
        let began = Instant::now();
        let answer = client.send(request, body_of(body)).await;
        let took = began.elapsed();
        {
            let mut saw = common.saw();
            saw.longest_wait = saw.longest_wait.max(took);
            match answer {
                Ok(answer) if answer.status < 400 => _ = answered.fetch_add(1, Ordering::Relaxed),
                Ok(answer) => {
                    if answer.status == 401 {
                        saw.logged_out += 1
                    } else {
                        saw.refused += 1
                    }
                    *saw.failures.entry(format!("{method} {path}: {}", answer.status)).or_default() += 1;
                }
                Err(failed) => {
                    saw.unanswered += 1;
                    *saw.failures.entry(format!("{method} {path}: {}", name_of(&failed))).or_default() += 1;
                }
            }
        }
        sleep(REST).await;
    }
}

fn name_of(failed: &Failed) -> &'static str {
    match failed {
        Failed::Connect(_) => "no connection",
        Failed::NoAnswer => "no answer",
        Failed::Cut { .. } => "broken off",
    }
}

/// Says `KeepAlive` and waits for its echo, again and again; dials anew when the socket ends.
async fn talk(mut client: Client, common: Arc<Common>, answered: Arc<AtomicUsize>) {
    let path = format!("/socket?ApiKey={}", client.token.as_deref().expect("a token"));
    while !common.is_over() {
        // Nobody listens for a moment where the proxy itself is restarted.
        let Some(mut socket) = client.dial_socket(&path).await else {
            sleep(REST).await;
            continue;
        };
        while !common.is_over() {
            if socket.send(Message::text(r#"{"MessageType":"KeepAlive"}"#)).await.is_err() {
                break;
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
            let Ok(is_open) = timeout(SAY_AGAIN, echo).await else { continue };
            if !is_open {
                break;
            }
            answered.fetch_add(1, Ordering::Relaxed);
            sleep(REST).await;
        }
        if !common.is_over() {
            common.saw().closed_sockets += 1;
        }
    }
}

/// Takes a film at a player's pace, byte for byte.
async fn watch(mut client: Client, common: Arc<Common>) {
    while !common.is_over() {
        let request = client.request(Method::GET, &format!("/Videos/{BULK}/stream?static=true"));
        let mut at = 0;
        let whole = match client.open(request, body_of("")).await {
            Ok(answer) if answer.status() == 200 => {
                let mut body = answer.into_body();
                loop {
                    if common.is_over() {
                        return;
                    }
                    let began = Instant::now();
                    let frame = body.frame().await;
                    let took = began.elapsed();
                    let Some(Ok(frame)) = frame else { break frame.is_none() };
                    let data = frame.into_data().unwrap_or_default();
                    assert!(bulk_bytes(at, data.len()) == data, "wrong bytes at {at}");
                    at += data.len() as u64;
                    {
                        let mut saw = common.saw();
                        saw.film_bytes += data.len();
                        saw.longest_stall = saw.longest_stall.max(took);
                    }
                    sleep(PIECE).await;
                }
            }
            _ => false,
        };
        if !whole {
            common.saw().broken_films += 1;
            sleep(REST).await;
        }
    }
}

impl Saw {
    #[track_caller]
    pub(super) fn must_be_nothing(&self) {
        let failed = [self.logged_out, self.refused, self.unanswered, self.closed_sockets, self.broken_films];
        assert_eq!(failed, [0; 5], "{self}");
    }
}

impl fmt::Display for Saw {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} calls and {} messages answered, {} MiB of films; logged out {}, refused {}, unanswered {}, closed sockets \
             {}, broken films {}, longest wait {:?}, longest stall {:?}, {:?}",
            self.calls,
            self.messages,
            self.film_bytes >> 20,
            self.logged_out,
            self.refused,
            self.unanswered,
            self.closed_sockets,
            self.broken_films,
            self.longest_wait,
            self.longest_stall,
            self.failures,
        )
    }
}
