//! What a pod was told of a client, and another pod would not know.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::time::Instant;

use super::Session;

/// The longest report or list of capabilities that is remembered, in bytes.
pub const LONGEST_NOTE: usize = 32 * 1024;

/// How long after a player's last report its film counts as running.
const REPORTED: Duration = Duration::from_secs(60);

/// What a pod knows of a client by requests that are not repeated: told again to the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// `POST /Sessions/Capabilities` or `/Full`.
    pub capabilities: Option<Note>,
    /// The last report of what is being played.
    pub playing: Option<Note>,
}

/// A request to be told again: its path and query below the BaseUrl, and its body of JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub target: String,
    pub body: Bytes,
}

impl Session {
    pub fn notes(&self) -> Notes {
        self.state.lock().notes.clone()
    }

    /// Remembers what the client posted. Says whether that is new.
    pub fn note_capabilities(&self, note: Note) -> bool {
        let mut state = self.state.lock();
        let is_new = state.notes.capabilities.as_ref() != Some(&note);
        state.notes.capabilities = Some(note);
        is_new
    }

    /// Remembers what is being played; `None` when nothing is any more.
    pub fn note_playing(&self, note: Option<Note>) {
        let mut state = self.state.lock();
        state.played = note.is_some().then(Instant::now);
        state.notes.playing = note;
    }

    /// Whether a film runs: players report every ten seconds or so, and one that is gone reports nothing.
    pub fn is_playing(&self) -> bool {
        self.state.lock().played.is_some_and(|at| at.elapsed() < REPORTED)
    }

    /// What pods were told of the client last.
    pub fn client(&self) -> HeaderMap {
        self.state.lock().client.clone()
    }

    /// Whether nothing is known of that yet.
    pub fn is_faceless(&self) -> bool {
        self.state.lock().client.is_empty()
    }

    pub fn note_client(&self, client: HeaderMap) {
        self.state.lock().client = client;
    }
}
