//! The requests and sockets that a pod has in progress.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

use super::Pod;

/// Sockets that are pinged at once to see whether their pod lives.
const CALLED_SOCKETS: usize = 3;

/// What a pod has in progress for clients.
#[derive(Default)]
pub struct Load {
    requests: AtomicUsize,
    sockets: AtomicUsize,
    /// Asks sockets to show whether the pod lives.
    socket_call: Notify,
}

impl Load {
    /// Requests and sockets in progress.
    pub fn total(&self) -> usize {
        self.requests() + self.sockets()
    }

    /// Requests in progress.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// Open sockets.
    pub fn sockets(&self) -> usize {
        self.sockets.load(Ordering::Relaxed)
    }

    /// Has some of the sockets pinged, another time others: a pong shows that the pod lives.
    pub fn call_sockets(&self) {
        (0..self.sockets().min(CALLED_SOCKETS)).for_each(|_| self.socket_call.notify_one());
    }

    /// Waits until this socket is to be pinged. Cancel safe.
    pub async fn await_socket_call(&self) {
        self.socket_call.notified().await;
    }
}

/// Counts a request or socket in progress until it is dropped.
#[derive(Debug)]
pub struct LoadGuard {
    pod: Arc<Pod>,
    is_socket: bool,
}

impl LoadGuard {
    /// Counts a request at this pod.
    pub fn of_request(pod: &Arc<Pod>) -> LoadGuard {
        pod.load.requests.fetch_add(1, Ordering::Relaxed);
        LoadGuard { pod: pod.clone(), is_socket: false }
    }

    /// Counts a socket at this pod.
    pub fn of_socket(pod: &Arc<Pod>) -> LoadGuard {
        pod.load.sockets.fetch_add(1, Ordering::Relaxed);
        LoadGuard { pod: pod.clone(), is_socket: true }
    }

    pub fn pod(&self) -> &Arc<Pod> {
        &self.pod
    }
}

impl Drop for LoadGuard {
    fn drop(&mut self) {
        let load = &self.pod.load;
        let count = if self.is_socket { &load.sockets } else { &load.requests };
        count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::tests::pod;

    #[test]
    fn a_dropped_guard_no_longer_counts() {
        let pod = pod("a");
        let (request, socket) = (LoadGuard::of_request(&pod), LoadGuard::of_socket(&pod));
        assert_eq!((pod.load.total(), pod.load.requests(), pod.load.sockets()), (2, 1, 1));
        drop(socket);
        assert_eq!((pod.load.total(), pod.load.requests(), pod.load.sockets()), (1, 1, 0));
        drop(request);
        assert_eq!(pod.load.total(), 0);
    }
}
