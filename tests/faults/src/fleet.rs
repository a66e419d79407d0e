//! Clients at work: calls one after the other, a socket, a film each.

mod saw;
mod worker;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::client::{Client, Person};
use crate::doors::Doors;
pub use saw::Saw;
use worker::Worker;

/// How fast clients work.
#[derive(Clone, Copy)]
pub struct Pace {
    /// Between two calls, or two messages.
    pub rest: Duration,
    /// Between two pieces of a film.
    pub piece: Duration,
    pub piece_bytes: usize,
}

impl Pace {
    pub const CALM: Pace =
        Pace { rest: Duration::from_millis(500), piece: Duration::from_millis(800), piece_bytes: 64 * 1024 };
}

/// How long all clients may take to go on.
const GOING_ON: Duration = Duration::from_secs(40);

pub struct Fleet {
    tasks: JoinSet<()>,
    common: Arc<Common>,
    /// What each worker has brought to a good end so far.
    done: Vec<Arc<AtomicUsize>>,
}

struct Common {
    is_over: AtomicBool,
    doors: Doors,
    pace: Pace,
    saw: Mutex<Saw>,
    tokens: Mutex<BTreeSet<String>>,
    /// Some worker has brought something to a good end.
    went_on: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fleet {
    /// Logs so many clients in, and lets them work by turns through these proxies.
    pub async fn start(clients: usize, pace: Pace, doors: &[SocketAddr]) -> Fleet {
        let common = Arc::new(Common {
            is_over: AtomicBool::default(),
            doors: Doors::new(doors.iter().copied()),
            pace,
            saw: Mutex::default(),
            tokens: Mutex::default(),
            went_on: Notify::new(),
        });
        let mut fleet = Fleet { tasks: JoinSet::new(), common: common.clone(), done: Vec::new() };
        let people = (0..clients).map(|number| {
            let (person, door) = (Person::numbered(number, &format!("device-{number}")), number % doors.len());
            let mut client = Client::new(doors[door], person.clone());
            async move {
                let token = client.log_in().await.unwrap_or_else(|why| panic!("no log-in: {why:?}"));
                (person, door, token)
            }
        });
        for (number, (person, door, token)) in join_all(people).await.into_iter().enumerate() {
            lock(&common.tokens).insert(token);
            for task in 0..3 {
                let done = Arc::<AtomicUsize>::default();
                let client = Client::new(common.doors.address(door), person.clone());
                let worker = Worker { client, door, common: common.clone(), done: done.clone() };
                match (task, number % 2) {
                    (0, _) => fleet.tasks.spawn(worker.call()),
                    (1, _) => fleet.tasks.spawn(worker.talk()),
                    (_, 0) => fleet.tasks.spawn(worker.watch_file()),
                    _ => fleet.tasks.spawn(worker.watch_hls()),
                };
                fleet.done.push(done);
            }
        }
        fleet.until_all_went_on().await.unwrap_or_else(|stuck| panic!("{stuck} do not begin: {}", fleet.saw()));
        fleet
    }

    /// Waits until each client has had two more answers, messages and pieces of its film; else tells how many have not.
    pub async fn until_all_went_on(&self) -> Result<(), usize> {
        let before: Vec<usize> = self.done.iter().map(|done| done.load(Ordering::Relaxed)).collect();
        let stuck = || {
            let now = self.done.iter().map(|done| done.load(Ordering::Relaxed));
            now.zip(&before).filter(|(now, before)| *now < **before + 2).count()
        };
        let all = async {
            loop {
                let went_on = self.common.went_on.notified();
                tokio::pin!(went_on);
                went_on.as_mut().enable();
                if stuck() == 0 {
                    return;
                }
                went_on.await;
            }
        };
        timeout(GOING_ON, all).await.map_err(|_| stuck())
    }

    /// Forgets what was seen so far: something begins now.
    pub fn forget_seen(&self) {
        *lock(&self.common.saw) = Saw::default();
    }

    pub fn saw(&self) -> Saw {
        lock(&self.common.saw).clone()
    }

    /// Remembers a token that must stand in no file.
    pub fn record_token(&self, token: &str) {
        lock(&self.common.tokens).insert(token.to_owned());
    }

    pub fn tokens(&self) -> BTreeSet<String> {
        lock(&self.common.tokens).clone()
    }

    /// The proxy at this address is about to be killed.
    pub fn dies(&self, address: SocketAddr) {
        self.common.doors.dies(address);
    }

    /// The proxy at this address serves again.
    pub fn lives(&self, address: SocketAddr) {
        self.common.doors.lives(address);
    }

    /// Ends the work.
    pub async fn stop(mut self) {
        self.common.is_over.store(true, Ordering::Relaxed);
        self.tasks.shutdown().await;
    }
}
