//! The sessions of a pool as the sockets share them that listen to their list.

use std::sync::OnceLock;

use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::board::Board;
use crate::{
    jellyfin::{
        message,
        session_list::{self, Row, Rule, Viewer},
    },
    jitter,
};

/// `proxy/session_lists/polling` fills it.
pub type SessionBoard = Board<Snapshot>;

/// All sessions of the pool at one moment.
#[derive(Debug)]
pub struct Snapshot {
    rows: Vec<Row>,
    id: u128,
    /// Made once, since all administrators get the same.
    for_administrators: OnceLock<Utf8Bytes>,
}

impl PartialEq for Snapshot {
    fn eq(&self, other: &Snapshot) -> bool {
        self.rows == other.rows
    }
}

impl Snapshot {
    pub fn new(rows: Vec<Row>) -> Snapshot {
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

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use bytes::Bytes;

    use super::*;

    fn rows(list: &'static str) -> Snapshot {
        Snapshot::new(session_list::read(&Bytes::from_static(list.as_bytes())).expect("a list"))
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
