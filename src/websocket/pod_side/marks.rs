//! Records what the pieces of long messages were.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicUsize, Ordering},
};

use parking_lot::Mutex;

/// Which messages are pieces, by their number among all data messages. One task uses both ends.
#[derive(Debug, Default)]
pub(in crate::websocket) struct Marks {
    /// Avoids the lock while there are no pieces, which is nearly always.
    count: AtomicUsize,
    marks: Mutex<VecDeque<(u64, Mark)>>,
}

/// A piece of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::websocket) struct Mark {
    /// Set on the message's first piece: whether it is a text.
    pub(in crate::websocket) begins: Option<bool>,
    pub(in crate::websocket) is_last: bool,
}

impl Marks {
    pub(super) fn set(&self, number: u64, mark: Mark) {
        self.marks.lock().push_back((number, mark));
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// The mark of the message with this number; `None` if it is a whole message.
    pub(in crate::websocket) fn take(&self, number: u64) -> Option<Mark> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut marks = self.marks.lock();
        if marks.front()?.0 != number {
            return None;
        }
        self.count.fetch_sub(1, Ordering::Relaxed);
        marks.pop_front().map(|(_, mark)| mark)
    }
}
