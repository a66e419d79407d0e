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

/// A request that is not repeated, to be told again to the next pod: its path and query below the BaseUrl, and its body of JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub target: String,
    pub body: Bytes,
}

impl Session {
    /// What the client posted last of what it can do.
    pub fn capabilities(&self) -> Option<Note> {
        self.state.lock().capabilities.clone()
    }

    /// Remembers what the client posted. Says whether that is new.
    pub fn note_capabilities(&self, note: Note) -> bool {
        let mut state = self.state.lock();
        let is_new = state.capabilities.as_ref() != Some(&note);
        state.capabilities = Some(note);
        is_new
    }

    /// Remembers what is being played; `None` when nothing is any more.
    pub fn note_playing(&self, note: Option<Note>) {
        self.state.lock().playing = note.map(|note| (note, Instant::now()));
    }

    /// The last report of a film that runs: players report every ten seconds or so, and one that is gone reports nothing, not even
    /// the end. Told to a pod later, its place would be saved over the one where the film was seen to on another device.
    pub fn playing(&self) -> Option<Note> {
        let state = self.state.lock();
        state.playing.as_ref().filter(|(_, at)| at.elapsed() < REPORTED).map(|(note, _)| note.clone())
    }

    pub fn is_playing(&self) -> bool {
        self.playing().is_some()
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

#[cfg(test)]
mod tests {
    use super::{super::tests::session, *};

    #[tokio::test(start_paused = true)]
    async fn a_film_of_which_nothing_was_reported_for_long_runs_no_more() {
        let session = session("own");
        let note = Note { target: "/Sessions/Playing/Progress".into(), body: Bytes::from_static(b"{}") };
        session.note_playing(Some(note.clone()));
        tokio::time::advance(REPORTED / 2).await;
        assert_eq!(session.playing(), Some(note.clone()));
        session.note_playing(Some(note));
        tokio::time::advance(REPORTED).await;
        assert_eq!((session.playing(), session.is_playing()), (None, false));
    }
}
