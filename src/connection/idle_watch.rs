//! What is in progress on a connection, and since when it is idle or its client does not read.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{self, Instant};

use super::{Config, lingering::Clean};

/// What is in progress on a connection, and since when it is idle.
pub(super) struct IdleWatch {
    began: Instant,
    under_way: AtomicUsize,
    served: AtomicU64,
    pub(super) is_http2: AtomicBool,
    /// Milliseconds after `began`.
    idle_since: AtomicU64,
    /// Everything read so far was whole requests.
    pub(super) is_clean: AtomicBool,
    /// The answers in progress. Only this connection's tasks lock it, each time for one entry.
    answers: Mutex<Answers>,
}

/// A reusable place for each request in progress.
#[derive(Default)]
struct Answers {
    places: Vec<Turn>,
    free: Vec<usize>,
}

/// Who must act for an answer to go on.
#[derive(Clone, Copy)]
enum Turn {
    /// The proxy, or its pod.
    Ours,
    /// The client must read what is ready since `since`. `has_taken`: it has read a piece before.
    Clients { since: Instant, has_taken: bool },
}

impl Clean for Arc<IdleWatch> {
    fn flag(&self) -> &AtomicBool {
        &self.is_clean
    }
}

/// One request in progress, until its answer's last byte.
pub(super) struct RequestGuard {
    pub(super) watch: Arc<IdleWatch>,
    place: usize,
}

impl IdleWatch {
    pub(super) fn new() -> IdleWatch {
        IdleWatch {
            began: Instant::now(),
            under_way: AtomicUsize::new(0),
            served: AtomicU64::new(0),
            is_http2: AtomicBool::new(false),
            idle_since: AtomicU64::new(0),
            is_clean: AtomicBool::new(false),
            answers: Mutex::default(),
        }
    }

    pub(super) fn start_request(self: &Arc<Self>) -> RequestGuard {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        self.served.fetch_add(1, Ordering::Relaxed);
        let mut answers = self.answers.lock();
        let place = answers.free.pop().unwrap_or(answers.places.len());
        if place == answers.places.len() {
            answers.places.push(Turn::Ours);
        }
        RequestGuard { watch: self.clone(), place }
    }

    /// Ends when a client has not read an answer for too long. A client that never took a second
    /// piece has no window open. It gets only the time of one that never sends a request.
    pub(super) async fn is_stalled(&self, config: &Config) {
        let patience =
            |has_taken| if has_taken { config.stall_timeout } else { config.header_timeout.min(config.stall_timeout) };
        loop {
            let now = Instant::now();
            // An answer that begins to wait after this look cannot be due before `next`.
            let mut next = now + patience(false);
            for turn in &self.answers.lock().places {
                let Turn::Clients { since, has_taken } = *turn else { continue };
                let end = since + patience(has_taken);
                if end <= now {
                    return;
                }
                next = next.min(end);
            }
            time::sleep_until(next).await;
        }
    }

    pub(super) fn has_served(&self) -> bool {
        self.served.load(Ordering::Relaxed) > 0
    }

    /// Ends when the connection was idle for too long. One timer serves all its requests.
    pub(super) async fn is_idle(&self, config: &Config) {
        loop {
            let limit = if self.has_served() { config.idle_timeout } else { config.header_timeout };
            let end = self.began + Duration::from_millis(self.idle_since.load(Ordering::Relaxed)) + limit;
            let is_busy = self.under_way.load(Ordering::Relaxed) > 0;
            if !is_busy && end <= Instant::now() {
                return;
            }
            time::sleep_until(if is_busy { Instant::now() + limit } else { end }).await;
        }
    }
}

impl RequestGuard {
    /// From now on the answer waits for its client, until its pod is slower.
    pub(super) fn is_clients_turn(&self, is_first: bool) {
        let turn = Turn::Clients { since: Instant::now(), has_taken: !is_first };
        self.watch.answers.lock().places[self.place] = turn;
    }

    pub(super) fn is_our_turn(&self) {
        self.watch.answers.lock().places[self.place] = Turn::Ours;
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let watch = &self.watch;
        {
            let mut answers = watch.answers.lock();
            answers.places[self.place] = Turn::Ours;
            answers.free.push(self.place);
        }
        watch.idle_since.store(watch.began.elapsed().as_millis() as u64, Ordering::Relaxed);
        watch.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}
