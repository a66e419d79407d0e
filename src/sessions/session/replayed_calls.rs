//! What a pod was told of a client, and another pod would not know.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::time::Instant;

use super::{Device, Session, State};

/// The longest report or list of capabilities that is remembered, in bytes.
pub const LONGEST_CALL: usize = 32 * 1024;

/// How long after a player's last report its film counts as running: pods take it for stopped then themselves
/// (`SessionManager.CheckForIdlePlayback`), and Kodi reports every 250 s only.
const REPORTED: Duration = Duration::from_secs(300);

/// Bytes of all notes of one session.
const MOST_OF_ONE: usize = 64 * 1024;

/// Devices of one token whose notes are kept at most: a telephone has cast to so many.
const MOST_DEVICES: usize = 4;

/// A request that is not repeated, to be told again to the next pod: its path and query below the BaseUrl, and its body of JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayedCall {
    /// What the client has said of itself with it. A pod keeps what it is told under that, which is not what the log-in said for
    /// clients that change their device's id afterwards (Android TV, Roku), nor for a receiver that was lent the token of the one that
    /// casts to it.
    pub reported_by: Device,
    pub target: String,
    pub body: Bytes,
}

impl ReplayedCall {
    /// The bytes that it takes.
    pub(in crate::sessions) fn size(&self) -> usize {
        let Device { client, name, id, version } = &self.reported_by;
        self.target.len() + self.body.len() + client.len() + name.len() + id.len() + version.len()
    }
}

impl Device {
    /// Whether a pod takes both for the same (`SessionManager.GetSessionKey`).
    pub fn is_same_as(&self, other: &Device) -> bool {
        self.client == other.client && self.id == other.id
    }

    /// The same, and where it says nothing of itself, what this one says: so a pod fills it up with the row of the token.
    #[must_use]
    pub fn filled_from(self, row: &Device) -> Device {
        let or = |own: String, other: &String| if own.is_empty() { other.clone() } else { own };
        Device {
            client: or(self.client, &row.client),
            name: or(self.name, &row.name),
            id: or(self.id, &row.id),
            version: or(self.version, &row.version),
        }
    }
}

impl Session {
    /// What each device posted last of what it can do.
    pub fn capabilities(&self) -> Vec<ReplayedCall> {
        self.state.lock().capabilities.clone()
    }

    /// Remembers what a device posted. Says whether that is new.
    pub fn record_capabilities(&self, note: ReplayedCall) -> bool {
        let mut state = self.state.lock();
        if state.capabilities.contains(&note) {
            return false;
        }
        state.capabilities.retain(|other| !other.reported_by.is_same_as(&note.reported_by));
        state.capabilities.push(note);
        if state.capabilities.len() > MOST_DEVICES {
            state.capabilities.remove(0);
        }
        self.count_notes(&mut state);
        true
    }

    /// Notes are within the bounds of their session, and of all; what is beyond them goes, the oldest first.
    pub(super) fn count_notes(&self, state: &mut State) {
        loop {
            let bytes = state.capabilities.iter().map(ReplayedCall::size).sum::<usize>()
                + state.playing.iter().map(|(note, _)| note.size()).sum::<usize>();
            if bytes <= MOST_OF_ONE && self.common.room.change(&self.user, state.noted, bytes) {
                state.noted = bytes;
                return;
            }
            if !state.capabilities.is_empty() {
                state.capabilities.remove(0);
            } else if !state.playing.is_empty() {
                state.playing.remove(0);
            } else {
                return;
            }
        }
    }

    /// Remembers what is being played on this device; `None` when nothing is any more.
    pub fn record_playing(&self, reported_by: &Device, note: Option<ReplayedCall>) {
        let mut state = self.state.lock();
        state.playing.retain(|(other, at)| !other.reported_by.is_same_as(reported_by) && at.elapsed() < REPORTED);
        state.playing.extend(note.map(|note| (note, Instant::now())));
        if state.playing.len() > MOST_DEVICES {
            state.playing.remove(0);
        }
        self.count_notes(&mut state);
    }

    /// The last reports of films that run. A player that is gone reports nothing, not even the end. Told to a pod later, its place
    /// would be saved over the one where the film was seen to on another device.
    pub fn playing(&self) -> Vec<ReplayedCall> {
        let state = self.state.lock();
        let runs = state.playing.iter().filter(|(_, at)| at.elapsed() < REPORTED);
        runs.map(|(note, _)| note.clone()).collect()
    }

    pub fn is_playing(&self) -> bool {
        !self.playing().is_empty()
    }

    /// What pods were told of the client last.
    pub fn client_headers(&self) -> HeaderMap {
        self.state.lock().client.clone()
    }

    /// Whether nothing is known of that yet.
    pub fn has_no_client_headers(&self) -> bool {
        self.state.lock().client.is_empty()
    }

    pub fn record_client_headers(&self, client: HeaderMap) {
        self.state.lock().client = client;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let noted = self.state.get_mut().noted;
        self.common.room.change(&self.user, noted, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sessions::session::tests::session;

    #[tokio::test(start_paused = true)]
    async fn a_film_of_which_nothing_was_reported_for_long_runs_no_more() {
        let session = session("own");
        let note = note("sofa");
        session.record_playing(&note.reported_by, Some(note.clone()));
        tokio::time::advance(REPORTED / 2).await;
        assert_eq!(session.playing(), std::slice::from_ref(&note));
        session.record_playing(&note.reported_by, Some(note.clone()));
        tokio::time::advance(REPORTED).await;
        assert_eq!((session.playing().len(), session.is_playing()), (0, false));
    }

    #[test]
    fn each_device_has_its_own_notes_and_there_are_not_many() {
        let session = session("own");
        for id in ["phone", "tv", "phone"] {
            assert!(
                session.record_capabilities(ReplayedCall { target: format!("/{id}"), ..note(id) }) || id == "phone"
            );
            session.record_playing(&note(id).reported_by, Some(note(id)));
        }
        assert_eq!((session.capabilities().len(), session.playing().len()), (2, 2));
        session.record_playing(&note("phone").reported_by, None);
        assert_eq!(session.playing(), [note("tv")]);
        for number in 0..50 {
            session.record_capabilities(note(&number.to_string()));
            session.record_playing(&note(&number.to_string()).reported_by, Some(note(&number.to_string())));
        }
        assert_eq!((session.capabilities().len(), session.playing().len()), (MOST_DEVICES, MOST_DEVICES));
        assert_eq!(session.capabilities().last(), Some(&note("49")));
    }

    #[test]
    fn notes_are_bounded_in_sum_and_their_room_is_given_back() {
        let session = session("own");
        let room = session.common.room.clone();
        let long = |id: &str| ReplayedCall { body: Bytes::from(vec![b'x'; LONGEST_CALL]), ..note(id) };
        for id in ["a", "b", "c"] {
            session.record_capabilities(long(id));
            session.record_playing(&long(id).reported_by, Some(long(id)));
            assert!(room.taken() <= MOST_OF_ONE && room.taken() > LONGEST_CALL, "{}", room.taken());
        }
        assert_eq!(session.playing().last(), Some(&long("c")), "the latest stays");
        drop(session);
        assert_eq!(room.taken(), 0);
    }

    fn note(id: &str) -> ReplayedCall {
        let reported_by = Device { client: "c".into(), name: "n".into(), id: id.into(), version: "1".into() };
        ReplayedCall { reported_by, target: "/Sessions/Playing/Progress".into(), body: Bytes::from_static(b"{}") }
    }
}
