//! Live streams opened, and recordings under way, in the memory of one process.

use std::collections::{HashMap, HashSet};

use crate::identifiers::random_guid;

/// The open streams, by `LiveStreamId`.
#[derive(Debug, Default)]
pub(crate) struct LiveStreams {
    open: HashMap<String, Open>,
    recordings: HashSet<String>,
}

#[derive(Debug)]
struct Open {
    /// What its file is named by; new at each opening.
    uid: String,
    /// The media source that it was opened from.
    source: String,
    /// The session that it was last opened for.
    session: Option<String>,
    /// Each opening counts one, and each end takes one away (`ILiveStream.ConsumerCount`).
    consumers: usize,
}

impl LiveStreams {
    /// Opens a stream of a media source, or joins it if it is open.
    pub(crate) fn open(&mut self, id: &str, source: &str, session: Option<String>) {
        let new = || Open { uid: random_guid(), source: source.to_owned(), session: None, consumers: 0 };
        let open = self.open.entry(id.to_owned()).or_insert_with(new);
        open.session = session;
        open.consumers += 1;
    }

    pub(crate) fn close(&mut self, id: &str) {
        if let Some(open) = self.open.get_mut(id) {
            open.consumers -= 1;
        }
        self.open.retain(|_, open| open.consumers > 0);
    }

    /// The path of an open stream's media source.
    pub(crate) fn path(&self, id: &str) -> Option<String> {
        self.open.get(id).map(|open| format!("/LiveTv/LiveStreamFiles/{}/stream.ts", open.uid))
    }

    /// The id of an open stream's media source.
    pub(crate) fn source(&self, id: &str) -> Option<String> {
        self.open.get(id).map(|open| open.source.clone())
    }

    pub(crate) fn has_file(&self, uid: &str) -> bool {
        self.open.values().any(|open| open.uid.eq_ignore_ascii_case(uid))
    }

    /// A session's streams are closed with it.
    pub(crate) fn session_ended(&mut self, session: &str) {
        for open in self.open.values_mut().filter(|open| open.session.as_deref() == Some(session)) {
            open.consumers -= 1;
            open.session = None;
        }
        self.open.retain(|_, open| open.consumers > 0);
    }

    /// Begins a recording under this id.
    pub(crate) fn record(&mut self, id: &str) {
        self.recordings.insert(id.to_owned());
    }

    pub(crate) fn is_recording(&self, id: &str) -> bool {
        self.recordings.contains(id)
    }
}
