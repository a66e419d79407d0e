//! The sockets of a session, and the pod of each. Joining a SyncPlay group waits for them.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::watch;

use super::{Device, Session};
use crate::pod::PodId;

/// Sockets by number, and the pod that has greeted each; `None` for one that is on its way.
pub(super) type Sockets = Vec<(u64, Option<PodId>)>;

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
        self.state.lock().dialled.push((socket.number, device));
        socket.mark_detached();
        socket
    }

    /// The sockets of the session, and where they are.
    pub fn sockets(&self) -> watch::Receiver<Sockets> {
        self.sockets.subscribe()
    }

    /// Whether this pod has greeted every socket of this process.
    pub fn has_sockets_only_at(&self, pod: PodId) -> bool {
        self.sockets.borrow().iter().all(|(_, at)| *at == Some(pod))
    }

    pub fn has_sockets(&self) -> bool {
        !self.sockets.borrow().is_empty()
    }
}

impl Socket {
    pub fn session(&self) -> &Arc<Session> {
        &self.session
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
        let mut state = self.session.state.lock();
        let Some(at) = state.dialled.iter().position(|(number, _)| *number == self.number) else { return };
        let (_, device) = state.dialled.remove(at);
        if !state.dialled.iter().any(|(_, other)| other.is_same_as(&device)) {
            state.playing.retain(|(note, _)| !note.reported_by.is_same_as(&device));
        }
    }

    fn set_pod(&self, pod: Option<PodId>) {
        self.session.sockets.send_modify(|sockets| {
            sockets.retain(|(other, _)| *other != self.number);
            sockets.push((self.number, pod));
        });
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.session.state.lock().dialled.retain(|(other, _)| *other != self.number);
        self.session.sockets.send_modify(|sockets| sockets.retain(|(other, _)| *other != self.number));
        if !self.session.has_sockets() {
            self.session.clear_group();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::sessions::session::{ReplayedCall, tests::session};

    #[test]
    fn what_a_device_plays_ends_with_its_last_socket_unless_only_the_pod_has_gone() {
        let session = Arc::new(session("own"));
        let tv = Device { id: "tv".into(), ..session.device.clone() };
        let reports = || {
            for reported_by in [session.device.clone(), tv.clone()] {
                let note = ReplayedCall { reported_by: reported_by.clone(), target: "/".into(), body: Bytes::new() };
                session.record_playing(&reported_by, Some(note));
            }
        };
        reports();
        drop(session.register_socket());
        assert_eq!(session.playing().len(), 2, "no pod has taken it");
        let (one, other) = (session.register_socket(), session.register_socket());
        one.client_has_left();
        drop(one);
        assert_eq!(session.playing().len(), 2, "it has another socket");
        other.client_has_left();
        assert_eq!(session.playing().iter().map(|note| &note.reported_by).collect::<Vec<_>>(), [&tv]);
        reports();
        session.socket_of(tv).client_has_left();
        assert_eq!(session.playing().len(), 1);
    }
}
