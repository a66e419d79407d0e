//! The sessions of a pool as the sockets share them that listen to their list.
//!
//! One poll fills it for any number of sockets (`proxy/session_lists/polling`). Nothing is polled while
//! nobody listens. The shortest interval of those who listen counts, and a pod's own message that
//! its list has changed causes the next poll.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::{
    jellyfin::{
        message,
        session_list::{self, Row, Rule, Viewer},
    },
    jitter,
};

/// The least time from one poll to the next, whatever clients ask and pods say.
pub const LEAST: Duration = Duration::from_millis(250);

/// The longest: a client may ask for less often.
const MOST: Duration = Duration::from_secs(10);

/// What sockets of one pool share; there is one in a process.
#[derive(Debug, Default)]
pub struct SessionBoard {
    listeners: Mutex<Listeners>,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    hurry: Notify,
}

#[derive(Debug, Default)]
struct Listeners {
    intervals: Vec<(u64, Duration)>,
    next: u64,
    is_polled: bool,
}

/// All sessions of the pool at one moment.
#[derive(Debug)]
pub struct Snapshot {
    rows: Vec<Row>,
    id: u128,
    /// Made once, since all administrators get the same.
    for_administrators: OnceLock<Utf8Bytes>,
}

/// One socket that listens. It stops when this is dropped.
pub struct Listener {
    board: Arc<SessionBoard>,
    number: u64,
    pub snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
}

impl SessionBoard {
    /// Listens at this interval. `poll` begins to fill the board if nobody does yet.
    pub fn listen(self: &Arc<Self>, interval: Duration, poll: impl FnOnce()) -> Listener {
        let mut listeners = self.listeners.lock();
        let number = listeners.next;
        listeners.next += 1;
        listeners.intervals.push((number, interval));
        if !std::mem::replace(&mut listeners.is_polled, true) {
            // What was seen before is long out of date.
            self.clear();
            poll();
        }
        drop(listeners);
        let mut snapshots = self.snapshots.subscribe();
        snapshots.mark_changed();
        Listener { board: self.clone(), number, snapshots }
    }

    /// The shortest interval. `None` if nobody listens any more: the poll has then ended.
    pub fn interval(&self) -> Option<Duration> {
        let mut listeners = self.listeners.lock();
        let least = listeners.intervals.iter().map(|(_, interval)| *interval).min();
        listeners.is_polled = least.is_some();
        least.map(|interval| interval.clamp(LEAST, MOST))
    }

    /// Shows what the pods list now.
    pub fn show(&self, rows: Vec<Row>) {
        self.snapshots.send_if_modified(|snapshot| {
            let is_new = snapshot.as_ref().is_none_or(|before| before.rows != rows);
            if is_new {
                *snapshot = Some(Arc::new(Snapshot::new(rows)));
            }
            is_new
        });
    }

    /// No pod gives its list. The pods' own messages pass meanwhile.
    pub fn clear(&self) {
        self.snapshots.send_replace(None);
    }

    /// Whether the sessions of all pods are known now.
    pub fn is_filled(&self) -> bool {
        self.snapshots.borrow().is_some()
    }

    /// A pod says that its list has changed.
    pub fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Waits for the next time that a pod says so. Cancel safe.
    pub async fn hurried(&self) {
        self.hurry.notified().await;
    }
}

impl Snapshot {
    fn new(rows: Vec<Row>) -> Snapshot {
        Snapshot { rows, id: jitter::number(), for_administrators: OnceLock::new() }
    }

    /// The message with what this viewer may see.
    pub fn message(&self, viewer: &Viewer) -> Utf8Bytes {
        if viewer.is_administrator() {
            return self.for_administrators.get_or_init(|| self.write(viewer)).clone();
        }
        self.write(viewer)
    }

    fn write(&self, viewer: &Viewer) -> Utf8Bytes {
        let rows = self.rows.iter().filter(|row| viewer.may_see(row, Rule::Message));
        let list = session_list::write(rows, viewer);
        // Pods write UTF-8.
        message::session_list(self.id, &String::from_utf8_lossy(&list)).into()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.board.listeners.lock().intervals.retain(|(number, _)| *number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn rows(list: &'static str) -> Vec<Row> {
        session_list::read(&Bytes::from_static(list.as_bytes())).expect("a list")
    }

    #[test]
    fn one_poll_serves_all_who_listen_at_the_shortest_interval_and_ends_with_them() {
        let board = Arc::new(SessionBoard::default());
        let mut polls = 0;
        let slow = board.listen(Duration::from_secs(5), || polls += 1);
        let quick = board.listen(Duration::from_millis(1), || unreachable!("it is polled"));
        assert_eq!((polls, board.interval()), (1, Some(LEAST)));
        drop(quick);
        assert_eq!(board.interval(), Some(Duration::from_secs(5)));
        drop(slow);
        assert_eq!(board.interval(), None);
        let mut again = 0;
        let _later = board.listen(Duration::from_secs(3600), || again += 1);
        assert_eq!((again, board.interval()), (1, Some(MOST)));
    }

    #[test]
    fn what_has_not_changed_is_not_shown_again() {
        let board = Arc::new(SessionBoard::default());
        let mut listener = board.listen(Duration::from_secs(1), || {});
        assert!(listener.snapshots.borrow_and_update().is_none() && !board.is_filled());
        board.show(rows(r#"[{"Id":"a","LastActivityDate":"2026-11-30T10:00:00Z"}]"#));
        assert!(listener.snapshots.has_changed().expect("a board"));
        let first = listener.snapshots.borrow_and_update().clone().expect("a snapshot").message(&Viewer::Key);
        assert!(message::is_session_list(&first));
        board.show(rows(r#"[{"Id":"a","LastActivityDate":"2026-11-30T10:00:00Z"}]"#));
        assert!(!listener.snapshots.has_changed().expect("a board"));
        board.clear();
        assert!(!board.is_filled());
    }
}
