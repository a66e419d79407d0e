//! What the sockets of a pool share that listen to the same thing, such as the list of sessions.
//!
//! One poll fills a board for any number of sockets. Nothing is polled while nobody listens. The
//! shortest interval of those who listen counts, and a pod's own message that something has changed
//! causes the next poll.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

/// The least time from one poll to the next, whatever clients ask and pods say.
pub const LEAST: Duration = Duration::from_millis(250);

/// The longest: a client may ask for less often.
const MOST: Duration = Duration::from_secs(10);

/// What sockets of one pool share; there is one in a process.
#[derive(Debug)]
pub struct Board<T> {
    readers: Mutex<Readers>,
    snapshots: watch::Sender<Option<Arc<T>>>,
    hurry: Notify,
}

#[derive(Debug, Default)]
struct Readers {
    intervals: Vec<(u64, Duration)>,
    next: u64,
    is_polled: bool,
}

/// One socket that listens. It stops when this is dropped.
pub struct BoardReader<T> {
    board: Arc<Board<T>>,
    number: u64,
    pub snapshots: watch::Receiver<Option<Arc<T>>>,
}

impl<T> Default for Board<T> {
    fn default() -> Board<T> {
        Board { readers: Mutex::default(), snapshots: watch::Sender::new(None), hurry: Notify::new() }
    }
}

impl<T: PartialEq> Board<T> {
    /// Listens at this interval. `poll` begins to fill the board if nobody does yet.
    pub fn listen(self: &Arc<Self>, interval: Duration, poll: impl FnOnce()) -> BoardReader<T> {
        let mut readers = self.readers.lock();
        let number = readers.next;
        readers.next += 1;
        readers.intervals.push((number, interval));
        if !std::mem::replace(&mut readers.is_polled, true) {
            // What was seen before is long out of date.
            self.clear();
            poll();
        }
        drop(readers);
        let mut snapshots = self.snapshots.subscribe();
        snapshots.mark_changed();
        BoardReader { board: self.clone(), number, snapshots }
    }

    /// The shortest interval. `None` if nobody listens any more: the poll has then ended.
    pub fn interval(&self) -> Option<Duration> {
        let mut readers = self.readers.lock();
        let least = readers.intervals.iter().map(|(_, interval)| *interval).min();
        readers.is_polled = least.is_some();
        least.map(|interval| interval.clamp(LEAST, MOST))
    }

    /// Shows what there is now.
    pub fn show(&self, now: T) {
        self.snapshots.send_if_modified(|snapshot| {
            let is_new = snapshot.as_ref().is_none_or(|before| **before != now);
            if is_new {
                *snapshot = Some(Arc::new(now));
            }
            is_new
        });
    }

    /// No pod answers. The pods' own messages pass meanwhile.
    pub fn clear(&self) {
        self.snapshots.send_replace(None);
    }

    /// Whether it is known what there is now.
    pub fn is_filled(&self) -> bool {
        self.snapshots.borrow().is_some()
    }

    /// A pod says that something has changed.
    pub fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Waits for the next time that a pod says so. Cancel safe.
    pub async fn hurried(&self) {
        self.hurry.notified().await;
    }
}

impl<T> Drop for BoardReader<T> {
    fn drop(&mut self) {
        self.board.readers.lock().intervals.retain(|(number, _)| *number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_poll_serves_all_who_listen_at_the_shortest_interval_and_ends_with_them() {
        let board = Arc::new(Board::<u8>::default());
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
}
