//! One poll of all pods' sessions for any number of sockets that listen to the list.
//!
//! Nothing is polled while nobody listens. The shortest interval of those who listen counts, and a
//! pod's own message that its list has changed causes the next poll.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::{self, Instant},
};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::SessionLists;
use crate::{
    jellyfin::{
        message,
        session_list::{self, Row, Rule, Viewer},
    },
    jitter,
};

/// The least time from one poll to the next, whatever clients ask and pods say.
const LEAST: Duration = Duration::from_millis(250);

/// The longest: a client may ask for less often.
const MOST: Duration = Duration::from_secs(10);

/// What sockets of one pool share; there is one in a process.
#[derive(Debug, Default)]
pub(in crate::proxy) struct SessionBoard {
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
pub(in crate::proxy) struct Snapshot {
    rows: Vec<Row>,
    id: u128,
    /// Made once, since all administrators get the same.
    for_administrators: OnceLock<Utf8Bytes>,
}

/// One socket that listens. It stops when this is dropped.
pub(in crate::proxy) struct Listener {
    board: Arc<SessionBoard>,
    number: u64,
    pub(in crate::proxy) snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
}

impl SessionBoard {
    /// A pod says that its list has changed.
    pub(in crate::proxy) fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Whether the sessions of all pods are known now.
    pub(super) fn is_filled(&self) -> bool {
        self.snapshots.borrow().is_some()
    }

    fn show(&self, rows: Vec<Row>) {
        self.snapshots.send_if_modified(|snapshot| {
            let is_new = snapshot.as_ref().is_none_or(|before| before.rows != rows);
            if is_new {
                *snapshot = Some(Arc::new(Snapshot::new(rows)));
            }
            is_new
        });
    }

    /// The shortest interval. `None` if nobody listens any more: the poll has then ended.
    fn interval(&self) -> Option<Duration> {
        let mut listeners = self.listeners.lock();
        let least = listeners.intervals.iter().map(|(_, interval)| *interval).min();
        listeners.is_polled = least.is_some();
        least.map(|interval| interval.clamp(LEAST, MOST))
    }
}

impl SessionLists {
    /// Listens to all sessions of a pool.
    pub(in crate::proxy) fn listen(self: &Arc<Self>, pool: usize, interval: Duration) -> Listener {
        let board = self.shared.pools[pool].session_board.clone();
        let mut listeners = board.listeners.lock();
        let number = listeners.next;
        listeners.next += 1;
        listeners.intervals.push((number, interval));
        if !std::mem::replace(&mut listeners.is_polled, true) {
            // What was seen before is long out of date.
            board.snapshots.send_replace(None);
            tokio::spawn(self.shutdown.track(self.clone().poll(pool)));
        }
        drop(listeners);
        let snapshots = board.snapshots.subscribe();
        Listener { board, number, snapshots }
    }

    async fn poll(self: Arc<Self>, pool: usize) {
        let pool = &self.shared.pools[pool];
        let board = &pool.session_board;
        while let Some(interval) = board.interval() {
            let began = Instant::now();
            match self.of_all(pool).await {
                Some(rows) => board.show(rows),
                // The pods' own messages pass meanwhile.
                None => drop(board.snapshots.send_replace(None)),
            }
            tokio::select! {
                () = time::sleep_until(began + interval) => {}
                () = board.hurry.notified() => time::sleep_until(began + LEAST).await,
                () = self.shutdown.stopping() => return,
            }
        }
    }
}

impl Snapshot {
    fn new(rows: Vec<Row>) -> Snapshot {
        Snapshot { rows, id: jitter::number(), for_administrators: OnceLock::new() }
    }

    /// The message with what this viewer may see.
    pub(super) fn message(&self, viewer: &Viewer) -> Utf8Bytes {
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
