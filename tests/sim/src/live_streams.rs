//! Live streams opened in the memory of one process.

use std::collections::HashMap;

use crate::identifiers::random_guid;

/// The open streams, by `LiveStreamId`.
#[derive(Debug, Default)]
pub(crate) struct LiveStreams {
    open: HashMap<String, Open>,
}

#[derive(Debug)]
struct Open {
    /// What its file is named by; new at each opening.
    uid: String,
    /// The session that it was opened for.
    session: Option<String>,
}

impl LiveStreams {
    /// Opens a stream, or joins it if it is open; gives the name of its file.
    pub(crate) fn open(&mut self, id: &str, session: Option<String>) -> String {
        let open = self.open.entry(id.to_owned()).or_insert_with(|| Open { uid: random_guid(), session: None });
        open.session = session;
        open.uid.clone()
    }

    pub(crate) fn close(&mut self, id: &str) {
        self.open.remove(id);
    }

    /// The path of an open stream's media source.
    pub(crate) fn path(&self, id: &str) -> Option<String> {
        self.open.get(id).map(|open| format!("/LiveTv/LiveStreamFiles/{}/stream.ts", open.uid))
    }

    pub(crate) fn has_file(&self, uid: &str) -> bool {
        self.open.values().any(|open| open.uid.eq_ignore_ascii_case(uid))
    }

    /// A session's streams are closed with it.
    pub(crate) fn session_ended(&mut self, session: &str) {
        self.open.retain(|_, open| open.session.as_deref() != Some(session));
    }
}
