//! A pod's life: its status as one word, who waits for a change of it, and its announced end.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{sync::watch, time};

use super::{Epoch, State, Status};

/// Time between two checks whether a pod that is down still answers its probes.
const LOOK: Duration = Duration::from_millis(500);

/// What is known of whether a pod lives. Readers on the request path load one word.
pub struct Life {
    status: AtomicU64,
    changes: watch::Sender<Status>,
    /// When its state last changed, in milliseconds of Unix time.
    since_ms: AtomicU64,
    answers_probes: AtomicBool,
    is_over: AtomicBool,
}

impl Life {
    pub(super) fn new() -> Life {
        Life {
            status: AtomicU64::new(Status::UNKNOWN.to_word()),
            changes: watch::Sender::new(Status::UNKNOWN),
            since_ms: AtomicU64::new(unix_ms()),
            answers_probes: AtomicBool::new(true),
            is_over: AtomicBool::new(false),
        }
    }

    pub(super) fn status(&self) -> Status {
        Status::from_word(self.status.load(Ordering::Acquire))
    }

    /// Changes the status in one step. Returns the status before and after.
    pub fn change(&self, to: impl FnOnce(Status) -> Status) -> (Status, Status) {
        let mut before = Status::UNKNOWN;
        let mut after = before;
        // The watch channel's lock puts writers in one order; readers on the request path only load
        // the word.
        self.changes.send_if_modified(|seen| {
            before = *seen;
            after = to(before);
            *seen = after;
            if before.state != after.state {
                self.since_ms.store(unix_ms(), Ordering::Relaxed);
            }
            self.status.store(after.to_word(), Ordering::Release);
            before != after
        });
        (before, after)
    }

    /// When its state last changed, for people to read.
    pub fn since(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.since_ms.load(Ordering::Relaxed))
    }

    /// Reports every change of the status.
    pub fn changes(&self) -> watch::Receiver<Status> {
        self.changes.subscribe()
    }

    /// For a part whose changes are reported together with those of the status.
    pub(super) fn reporter(&self) -> watch::Sender<Status> {
        self.changes.clone()
    }

    /// Ends when the pod is down and either refuses connections or does not answer its probes. A
    /// pod that reports that it is unhealthy, such as without its database, lives and may still
    /// answer. A pod that announced its end may still answer the requests it has. Cancel safe.
    pub async fn await_down(&self) {
        loop {
            self.until(|status| status.state == State::Down && !self.is_over()).await;
            if !self.status().accepts || !self.answers_probes.load(Ordering::Relaxed) {
                return;
            }
            let ended = self.until(|status| status.state != State::Down || !status.accepts);
            // A pod that falls silent changes no status, so this looks again.
            let _ = time::timeout(LOOK, ended).await;
        }
    }

    /// Ends when the pod is not down. Cancel safe.
    pub async fn await_return(&self) {
        self.until(|status| status.state != State::Down).await;
    }

    /// Ends when the pod is down and takes no connections. Cancel safe.
    pub async fn await_unreachable(&self) {
        self.until(|status| status.state == State::Down && !status.accepts).await;
    }

    async fn until(&self, holds: impl Fn(&Status) -> bool) {
        let mut changes = self.changes();
        // The sender lives as long as `self`, so only the status can end the wait.
        let _ = changes.wait_for(holds).await;
    }

    /// Records whether the pod answered its last probe, however late, healthy or not.
    pub fn set_answers_probes(&self, answers: bool) {
        self.answers_probes.store(answers, Ordering::Relaxed);
    }

    /// Whether the pod answered its last probe, or says that it starts.
    pub fn answers(&self) -> bool {
        self.status().state == State::Starting || self.answers_probes.load(Ordering::Relaxed)
    }

    /// Whether the pod's present process announced its end: it takes no new request and no new
    /// socket. This holds until the prober sees that the process has ended.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// A socket of epoch `of` received the pod's farewell; `None` stands for the present epoch.
    /// Returns the status before and after, if that is news. A late farewell says nothing about the
    /// next epoch.
    pub fn record_farewell(&self, of: Option<Epoch>) -> Option<(Status, Status)> {
        let mut is_news = false;
        let changed = self.change(|status| {
            is_news = status.state != State::Starting
                && status.accepts
                && !self.is_over()
                && of.is_none_or(|epoch| epoch == status.epoch);
            if !is_news {
                return status;
            }
            // A reader that sees the new status must see this too.
            self.is_over.store(true, Ordering::Release);
            Status { state: State::Down, ..status }
        });
        is_news.then_some(changed)
    }

    /// The process that announced its end has ended.
    pub fn record_end(&self) {
        if self.is_over.swap(false, Ordering::AcqRel) {
            self.changes.send_modify(|_| {});
        }
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_farewell_ends_the_life_that_says_it_and_no_other() {
        let life = Life::new();
        let ready = |epoch| life.change(|_| Status { state: State::Ready, accepts: true, epoch: Epoch(epoch) });
        ready(1);
        assert!(life.record_farewell(Some(Epoch(1))).is_some() && life.is_over());
        assert_eq!(life.status(), Status { state: State::Down, accepts: true, epoch: Epoch(1) });
        assert!(life.record_farewell(Some(Epoch(1))).is_none(), "its other sockets receive it too");
        life.record_end();
        ready(2);
        assert!(life.record_farewell(Some(Epoch(1))).is_none() && !life.is_over(), "one that comes late");
        assert!(life.record_farewell(None).is_some(), "one of a socket that was opened while it started");
    }
}
