//! Clients at work: calls one after the other, a socket, a film each; and what they saw.

mod saw;
mod worker;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fault_tables::doors::Doors;
use futures_util::future::join_all;
use tokio::task::JoinSet;

use crate::stories::world::{Client, until_within};
pub(super) use saw::Saw;
use worker::Worker;

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

    /// So fast that many clients leave the machine room.
    pub(super) const CALM: Pace = Pace {
        rest: Duration::from_millis(400),
        piece: Duration::from_millis(800),
        piece_bytes: 1,
        say_again: Duration::from_secs(1),
    };

    /// A real client's: progress is reported each 10 s, a segment is asked for each 3 s, a file is read at 2 Mbit/s.
    pub(super) const REAL: Pace = Pace {
        rest: Duration::from_millis(2500),
        piece: Duration::from_secs(3),
        piece_bytes: 768 << 10,
        say_again: Duration::from_millis(2500),
    };

    /// A real client's, with this time between two calls.
    pub(super) const fn of_calls(rest: Duration) -> Pace {
        Pace { rest, ..Pace::REAL }
    }
}

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
    doors: Doors,
    saw: Mutex<Saw>,
}

impl Fleet {
    /// Logs so many clients in and lets them work: by turns through the proxies that these clients call.
    pub(super) async fn start(clients: usize, work: Work, pace: Pace, at: &[Client]) -> Fleet {
        Fleet::start_from(0, clients, work, pace, at).await
    }

    /// The same beside another fleet of so many clients.
    pub(super) async fn start_from(beside: usize, clients: usize, work: Work, pace: Pace, at: &[Client]) -> Fleet {
        let common = Arc::new(Common {
            is_over: AtomicBool::default(),
            doors: Doors::new(at.iter().map(Client::address)),
            saw: Mutex::default(),
        });
        let mut fleet =
            Fleet { tasks: JoinSet::new(), common: common.clone(), pace, calls: Vec::new(), messages: Vec::new() };
        let clients = (beside..beside + clients).map(|number| {
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
        self.common.doors.dies(address);
    }

    /// The proxy at this address serves again.
    pub(super) fn lives(&self, address: SocketAddr) {
        self.common.doors.lives(address);
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
