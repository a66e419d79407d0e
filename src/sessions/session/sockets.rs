//! The sockets of a session, and the pod of each. Joining a SyncPlay group waits for them.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Device, Session};
use crate::pod::PodId;

/// Sockets by number, and the pod that has greeted each; `None` for one that is on its way.
type Places = Vec<(u64, Option<PodId>)>;

/// The open sockets of a session.
#[derive(Debug, Default)]
pub struct Sockets {
    places: watch::Sender<Places>,
    /// The devices of the sockets, with the sockets' numbers.
    dialled: Mutex<Vec<(u64, Device)>>,
    /// The pod that each socket has left last, with the socket's number.
    left: Mutex<Vec<(u64, PodId)>>,
    /// Remote controls that have come over them.
    remote_controls: AtomicU32,
}

/// An open socket of the session's client.
#[derive(Debug)]
pub struct Socket {
    session: Arc<Session>,
    /// Its number among the sockets of this process.
    number: u64,
}

/// A client's socket in its session, once the session is known.
pub type KnownSocket = Arc<OnceLock<Socket>>;

static NUMBERS: AtomicU64 = AtomicU64::new(0);

impl Session {
    /// Registers a socket that is on its way to a pod.
    pub fn register_socket(self: &Arc<Session>) -> Socket {
        self.socket_of(self.device.clone())
    }

    /// The same, for a device that may differ from that of the log-in.
    pub fn socket_of(self: &Arc<Session>, device: Device) -> Socket {
        let socket = Socket { session: self.clone(), number: NUMBERS.fetch_add(1, Ordering::Relaxed) };
        self.sockets.dialled.lock().push((socket.number, device));
        socket.mark_detached();
        socket
    }
}

impl Sockets {
    /// The sockets, and where they are.
    pub fn places(&self) -> watch::Receiver<Places> {
        self.places.subscribe()
    }

    /// Whether this pod has greeted every socket of this process.
    pub fn are_only_at(&self, pod: PodId) -> bool {
        self.places.borrow().iter().all(|(_, at)| *at == Some(pod))
    }

    pub fn is_any(&self) -> bool {
        !self.places.borrow().is_empty()
    }

    /// Whether one of them is at this pod, or was there last. With its end the pod ends the session.
    pub fn know(&self, pod: PodId) -> bool {
        self.places.borrow().iter().any(|(_, at)| *at == Some(pod))
            || self.left.lock().iter().any(|(_, left)| *left == pod)
    }

    /// Whether one of them is on its way to a pod.
    pub fn are_moving(&self) -> bool {
        self.places.borrow().iter().any(|(_, at)| at.is_none())
    }

    /// Counts a remote control that a pod has sent to the client.
    pub fn count_remote_control(&self) {
        self.remote_controls.fetch_add(1, Ordering::Relaxed);
    }

    /// How many remote controls have come over the sockets of this process.
    pub fn remote_controls(&self) -> u32 {
        self.remote_controls.load(Ordering::Relaxed)
    }

    /// Whether one of these devices has a socket.
    pub(super) fn is_any_of(&self, is_meant: impl Fn(&Device) -> bool) -> bool {
        self.dialled.lock().iter().any(|(_, device)| is_meant(device))
    }
}

impl Socket {
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// As what the client has dialled.
    pub fn device(&self) -> Device {
        let dialled = self.session.sockets.dialled.lock();
        let own = dialled.iter().find(|(number, _)| *number == self.number);
        own.map_or_else(|| self.session.device.clone(), |(_, device)| device.clone())
    }

    /// Records that this pod has greeted it.
    pub fn record_greeting(&self, pod: PodId) {
        self.set_pod(Some(pod));
    }

    /// Records that it is on its way to a pod that has not greeted it yet.
    pub fn mark_detached(&self) {
        self.set_pod(None);
    }

    /// Records that the client closed it or is gone. With a device's last socket its pod ends the
    /// session, so nothing plays there any more. A replay to another pod would show a film that
    /// nobody watches.
    pub fn client_has_left(&self) {
        let mut dialled = self.session.sockets.dialled.lock();
        let Some(at) = dialled.iter().position(|(number, _)| *number == self.number) else { return };
        let (_, device) = dialled.remove(at);
        if !dialled.iter().any(|(_, other)| other.is_same_as(&device)) {
            self.session.calls.forget_playing(&device);
        }
    }

    fn set_pod(&self, pod: Option<PodId>) {
        let mut before = None;
        self.session.sockets.places.send_modify(|sockets| {
            before = sockets.iter().find(|(other, _)| *other == self.number).and_then(|(_, at)| *at);
            sockets.retain(|(other, _)| *other != self.number);
            sockets.push((self.number, pod));
        });
        if let Some(left) = before.filter(|before| Some(*before) != pod) {
            let mut all = self.session.sockets.left.lock();
            all.retain(|(other, _)| *other != self.number);
            all.push((self.number, left));
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let Sockets { places, dialled, left, .. } = &self.session.sockets;
        dialled.lock().retain(|(other, _)| *other != self.number);
        left.lock().retain(|(other, _)| *other != self.number);
        places.send_modify(|sockets| sockets.retain(|(other, _)| *other != self.number));
        if !self.session.sockets.is_any() {
            self.session.group.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::sessions::session::{
        ReplayedCall,
        tests::{place, session},
    };

    #[test]
    fn a_socket_knows_the_pod_that_it_is_at_and_the_one_that_it_left_last() {
        let (session, a, b, c) = (Arc::new(session("own")), place("a").pod, place("b").pod, place("c").pod);
        let knows = || [a, b, c].map(|pod| session.sockets.know(pod));
        let socket = session.register_socket();
        assert!(session.sockets.are_moving() && knows() == [false; 3], "no pod has greeted it");
        socket.record_greeting(b);
        assert!(!session.sockets.are_moving() && knows() == [false, true, false]);
        socket.mark_detached();
        assert!(session.sockets.are_moving() && knows() == [false, true, false]);
        socket.record_greeting(c);
        assert_eq!(knows(), [false, true, true]);
        drop(socket);
        assert_eq!(knows(), [false; 3]);
    }

    #[test]
    fn what_a_device_plays_ends_with_its_last_socket_unless_only_the_pod_has_gone() {
        let session = Arc::new(session("own"));
        let tv = Device { id: "tv".into(), ..session.device.clone() };
        let reports = || {
            for reported_by in [session.device.clone(), tv.clone()] {
                let note = ReplayedCall { reported_by: reported_by.clone(), target: "/".into(), body: Bytes::new() };
                session.calls.record_playing(&reported_by, Some(note));
            }
        };
        reports();
        drop(session.register_socket());
        assert_eq!(session.calls.playing().len(), 2, "no pod has taken it");
        let (one, other) = (session.register_socket(), session.register_socket());
        one.client_has_left();
        drop(one);
        assert_eq!(session.calls.playing().len(), 2, "it has another socket");
        other.client_has_left();
        assert_eq!(session.calls.playing().iter().map(|note| &note.reported_by).collect::<Vec<_>>(), [&tv]);
        reports();
        session.socket_of(tv).client_has_left();
        assert_eq!(session.calls.playing().len(), 1);
    }
}
