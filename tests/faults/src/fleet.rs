//! Clients at work: calls one after the other, a socket, a film each.

mod saw;
mod worker;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::task::JoinSet;

use crate::client::{Client, Person};
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

/// How long all clients may take to go on, in seconds.
const GOING_ON: Duration = Duration::from_secs(40);

pub struct Fleet {
    tasks: JoinSet<()>,
    common: Arc<Common>,
    /// What each worker has brought to a good end so far.
    done: Vec<Arc<AtomicUsize>>,
}

struct Common {
    is_over: AtomicBool,
    doors: Vec<Door>,
    pace: Pace,
    saw: Mutex<Saw>,
    tokens: Mutex<BTreeSet<String>>,
}

/// A proxy, as clients know it.
struct Door {
    address: SocketAddr,
    /// How often it was killed.
    kills: AtomicUsize,
    is_dead: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fleet {
    /// Logs so many clients in, and lets them work by turns through these proxies.
    pub async fn start(clients: usize, pace: Pace, doors: &[SocketAddr]) -> Fleet {
        let door = |address: &SocketAddr| Door {
            address: *address,
            kills: AtomicUsize::default(),
            is_dead: AtomicBool::default(),
        };
        let common = Arc::new(Common {
            is_over: AtomicBool::default(),
            doors: doors.iter().map(door).collect(),
            pace,
            saw: Mutex::default(),
            tokens: Mutex::default(),
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
                let client = Client::new(common.doors[door].address, person.clone());
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
        let end = Instant::now() + GOING_ON;
        while stuck() > 0 {
            if Instant::now() > end {
                return Err(stuck());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Forgets what was seen so far: something begins now.
    pub fn look_anew(&self) {
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
        if let Some(door) = self.common.doors.iter().find(|door| door.address == address) {
            door.is_dead.store(true, Ordering::SeqCst);
            door.kills.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// The proxy at this address serves again.
    pub fn lives(&self, address: SocketAddr) {
        if let Some(door) = self.common.doors.iter().find(|door| door.address == address) {
            door.is_dead.store(false, Ordering::SeqCst);
        }
    }

    /// Ends the work.
    pub async fn stop(mut self) {
        self.common.is_over.store(true, Ordering::Relaxed);
        self.tasks.shutdown().await;
    }
}
