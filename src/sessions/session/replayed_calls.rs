//! What a client sent to one pod, and another pod would not know.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Device, room::Share};

/// The longest report or list of capabilities that jellypin remembers, in bytes.
pub const LONGEST_CALL: usize = 32 * 1024;

/// How long after a player's last report its film counts as running. Pods take it for stopped then,
/// too (`SessionManager.CheckForIdlePlayback`). Kodi reports only every 250 s.
const REPORTED: Duration = Duration::from_secs(300);

/// Bytes of all replayed calls of one session.
const MOST_OF_ONE: usize = 64 * 1024;

/// Devices of one token whose calls are kept at most. A phone may have cast to that many.
const MOST_DEVICES: usize = 4;

/// A request that the client does not repeat, so jellypin replays it to the next pod. Kept are its
/// path and query below the BaseUrl, and its JSON body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayedCall {
    /// What the client said of itself with the call. A pod keeps the call under that. It differs
    /// from the log-in if a client changes its device's id afterwards (Android TV, Roku). It also
    /// differs for a receiver that uses the token of the device casting to it.
    pub reported_by: Device,
    pub target: String,
    pub body: Bytes,
}

impl ReplayedCall {
    /// Its size in bytes.
    pub(in crate::sessions) fn size(&self) -> usize {
        self.target.len() + self.body.len() + size_of_device(&self.reported_by)
    }
}

fn size_of_device(device: &Device) -> usize {
    let Device { client, name, id, version } = device;
    client.len() + name.len() + id.len() + version.len()
}

/// What a session's client sent, and jellypin replays.
#[derive(Debug)]
pub struct ReplayedCalls(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Each device's last `POST /Sessions/Capabilities` or `/Full`.
    capabilities: Vec<ReplayedCall>,
    /// What each device plays.
    playing: Vec<Playing>,
    /// The room that both take.
    share: Share,
    /// The client's address and program, as last sent to pods.
    client: HeaderMap,
}

/// A device's last report of what it plays, and when it came.
#[derive(Debug)]
struct Playing {
    reported_by: Device,
    /// `None` if the report was too long to keep.
    call: Option<ReplayedCall>,
    at: Instant,
}

impl ReplayedCalls {
    /// With what was kept of the capabilities.
    pub(super) fn new(share: Share, capabilities: Vec<ReplayedCall>) -> ReplayedCalls {
        let mut state = State { capabilities, playing: Vec::new(), share, client: HeaderMap::new() };
        state.shrink();
        ReplayedCalls(Mutex::new(state))
    }

    /// Each device's last posted capabilities.
    pub fn capabilities(&self) -> Vec<ReplayedCall> {
        self.0.lock().capabilities.clone()
    }

    /// Remembers the capabilities that a device posted. Says whether they are new.
    pub fn record_capabilities(&self, call: ReplayedCall) -> bool {
        let mut state = self.0.lock();
        if state.capabilities.contains(&call) {
            return false;
        }
        state.capabilities.retain(|other| !other.reported_by.is_same_as(&call.reported_by));
        state.capabilities.push(call);
        if state.capabilities.len() > MOST_DEVICES {
            state.capabilities.remove(0);
        }
        state.shrink();
        true
    }

    /// Remembers that this device plays, and its report unless that is too long to keep.
    pub fn record_playing(&self, reported_by: &Device, call: Option<ReplayedCall>) {
        let mut state = self.0.lock();
        state.playing.retain(|other| !other.reported_by.is_same_as(reported_by) && other.goes_on());
        state.playing.push(Playing { reported_by: reported_by.clone(), call, at: Instant::now() });
        if state.playing.len() > MOST_DEVICES {
            state.playing.remove(0);
        }
        state.shrink();
    }

    /// The last reports of running films. A player that is gone does not even report the end. A
    /// late replay would overwrite the position that the user has reached on another device.
    pub fn playing(&self) -> Vec<ReplayedCall> {
        let state = self.0.lock();
        state.playing.iter().filter(|playing| playing.goes_on()).filter_map(|playing| playing.call.clone()).collect()
    }

    pub fn is_playing(&self) -> bool {
        self.0.lock().playing.iter().any(Playing::goes_on)
    }

    /// The client's address and program, as last sent to pods.
    pub fn client_headers(&self) -> HeaderMap {
        self.0.lock().client.clone()
    }

    /// Whether those are still unknown.
    pub fn has_no_client_headers(&self) -> bool {
        self.0.lock().client.is_empty()
    }

    pub fn record_client_headers(&self, client: HeaderMap) {
        self.0.lock().client = client;
    }

    /// Whether one of these devices posted capabilities.
    pub(super) fn is_any_of(&self, is_meant: impl Fn(&Device) -> bool) -> bool {
        self.0.lock().capabilities.iter().any(|told| is_meant(&told.reported_by))
    }

    /// Forgets what this device plays.
    pub fn forget_playing(&self, device: &Device) {
        let mut state = self.0.lock();
        state.playing.retain(|playing| !playing.reported_by.is_same_as(device));
        state.shrink();
    }

    /// Takes the capabilities of another replica's later copy.
    pub(super) fn adopt_capabilities(&self, theirs: &ReplayedCalls) {
        let capabilities = theirs.capabilities();
        let mut state = self.0.lock();
        state.capabilities = capabilities;
        state.shrink();
    }

    pub(super) fn clear(&self) {
        let mut state = self.0.lock();
        state.capabilities.clear();
        state.playing.clear();
        state.shrink();
    }
}

impl Playing {
    fn goes_on(&self) -> bool {
        self.at.elapsed() < REPORTED
    }

    fn size(&self) -> usize {
        self.call.as_ref().map_or_else(|| size_of_device(&self.reported_by), ReplayedCall::size)
    }
}

impl State {
    /// Keeps the calls within the bounds of the session and of all. Drops the oldest first.
    fn shrink(&mut self) {
        loop {
            let bytes = self.capabilities.iter().map(ReplayedCall::size).sum::<usize>()
                + self.playing.iter().map(Playing::size).sum::<usize>();
            if bytes <= MOST_OF_ONE && self.share.set(bytes) {
                return;
            }
            if !self.capabilities.is_empty() {
                self.capabilities.remove(0);
            } else if !self.playing.is_empty() {
                self.playing.remove(0);
            } else {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sessions::session::Room;

    fn calls(room: &Room) -> ReplayedCalls {
        ReplayedCalls::new(room.share("u1"), Vec::new())
    }

    #[tokio::test(start_paused = true)]
    async fn a_film_of_which_nothing_was_reported_for_long_runs_no_more() {
        let calls = calls(&Room::default());
        let call = call("sofa");
        calls.record_playing(&call.reported_by, Some(call.clone()));
        tokio::time::advance(REPORTED / 2).await;
        assert_eq!(calls.playing(), std::slice::from_ref(&call));
        calls.record_playing(&call.reported_by, Some(call.clone()));
        tokio::time::advance(REPORTED).await;
        assert_eq!((calls.playing().len(), calls.is_playing()), (0, false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_film_runs_though_its_report_is_too_long_to_keep() {
        let room = Room::default();
        let calls = calls(&room);
        let device = call("sofa").reported_by;
        calls.record_playing(&device, Some(call("sofa")));
        calls.record_playing(&device, None);
        assert_eq!((calls.playing().len(), calls.is_playing()), (0, true), "what it played before is not replayed");
        tokio::time::advance(REPORTED).await;
        assert!(!calls.is_playing());
        calls.record_playing(&device, None);
        calls.forget_playing(&device);
        assert_eq!((calls.is_playing(), room.taken()), (false, 0));
    }

    #[test]
    fn each_device_has_its_own_notes_and_there_are_not_many() {
        let calls = calls(&Room::default());
        for id in ["phone", "tv", "phone"] {
            assert!(calls.record_capabilities(ReplayedCall { target: format!("/{id}"), ..call(id) }) || id == "phone");
            calls.record_playing(&call(id).reported_by, Some(call(id)));
        }
        assert_eq!((calls.capabilities().len(), calls.playing().len()), (2, 2));
        calls.forget_playing(&call("phone").reported_by);
        assert_eq!(calls.playing(), [call("tv")]);
        for number in 0..50 {
            calls.record_capabilities(call(&number.to_string()));
            calls.record_playing(&call(&number.to_string()).reported_by, Some(call(&number.to_string())));
        }
        assert_eq!((calls.capabilities().len(), calls.playing().len()), (MOST_DEVICES, MOST_DEVICES));
        assert_eq!(calls.capabilities().last(), Some(&call("49")));
    }

    #[test]
    fn notes_are_bounded_in_sum_and_their_room_is_given_back() {
        let room = Room::default();
        let calls = calls(&room);
        let long = |id: &str| ReplayedCall { body: Bytes::from(vec![b'x'; LONGEST_CALL]), ..call(id) };
        for id in ["a", "b", "c"] {
            calls.record_capabilities(long(id));
            calls.record_playing(&long(id).reported_by, Some(long(id)));
            assert!(room.taken() <= MOST_OF_ONE && room.taken() > LONGEST_CALL, "{}", room.taken());
        }
        assert_eq!(calls.playing().last(), Some(&long("c")), "the latest stays");
        drop(calls);
        assert_eq!(room.taken(), 0);
    }

    fn call(id: &str) -> ReplayedCall {
        let reported_by = Device { client: "c".into(), name: "n".into(), id: id.into(), version: "1".into() };
        ReplayedCall { reported_by, target: "/Sessions/Playing/Progress".into(), body: Bytes::from_static(b"{}") }
    }
}
