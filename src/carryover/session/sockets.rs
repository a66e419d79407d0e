//! The sockets of a session, and where each is: who joins a SyncPlay group waits for them.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::watch;

use super::Session;
use crate::pod::PodId;

/// Sockets by number, and the pod that has each and has greeted it; `None` for one that is on its way.
pub(super) type Sockets = Vec<(u64, Option<PodId>)>;

/// A socket of the session's client, as long as it lasts.
#[derive(Debug)]
pub struct Socket {
    session: Arc<Session>,
    /// Its number among the sockets of this process.
    number: u64,
}

static NUMBERS: AtomicU64 = AtomicU64::new(0);

impl Session {
    /// A socket that is on its way to a pod.
    pub fn socket(self: &Arc<Session>) -> Socket {
        let socket = Socket { session: self.clone(), number: NUMBERS.fetch_add(1, Ordering::Relaxed) };
        socket.leaves();
        socket
    }

    /// The sockets of the session, and where they are.
    pub fn sockets(&self) -> watch::Receiver<Sockets> {
        self.sockets.subscribe()
    }

    pub(in crate::carryover) fn has_sockets(&self) -> bool {
        !self.sockets.borrow().is_empty()
    }
}

impl Socket {
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// This pod has greeted it.
    pub fn greeted(&self, pod: PodId) {
        self.is_at(Some(pod));
    }

    /// It is on its way to a pod that has not greeted it yet.
    pub fn leaves(&self) {
        self.is_at(None);
    }

    fn is_at(&self, pod: Option<PodId>) {
        self.session.sockets.send_modify(|sockets| {
            sockets.retain(|(other, _)| *other != self.number);
            sockets.push((self.number, pod));
        });
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.session.sockets.send_modify(|sockets| sockets.retain(|(other, _)| *other != self.number));
        if !self.session.has_sockets() {
            self.session.has_no_socket();
        }
    }
}
