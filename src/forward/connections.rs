//! One worker's kept connections to pods.

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::TcpStream,
    task::AbortHandle,
    time::{Instant, Sleep, sleep},
};

use super::{outbound::UpstreamBody, pod_stream::PodStream};
use crate::pod::{Pod, PodId, TransportStream};

/// How long what was sent to a pod may stay unacknowledged, or a quiet connection unanswered, before
/// the connection counts as lost. Kernels acknowledge for programs that are slow, or hang.
const UNACKNOWLEDGED: Duration = Duration::from_secs(15);

/// How long a connection is quiet until the pod's kernel is asked whether it is still there.
const QUIET: Duration = Duration::from_secs(5);

/// Sets a fresh connection to a pod up. What cannot be set is as the system has it.
pub(super) fn set_up(stream: &TcpStream, receive_buffer: usize) {
    let socket = SockRef::from(stream);
    // Small requests must not wait for the peer's acknowledgement. A closed socket fails later.
    let _ = socket.set_tcp_nodelay(true);
    // For each film that a client reads at its own pace, the kernel's buffer would grow to
    // megabytes. Some hundred of them strain the memory that the machine has for TCP.
    let _ = socket.set_recv_buffer_size(receive_buffer);
    // A machine without power, or a gateway that has forgotten a connection, sends nothing. The
    // request would wait for its answer as long as one that the pod works on.
    let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(QUIET).with_interval(QUIET));
}

/// Bytes of an answer that are read ahead of the client.
const READ_BUFFER: usize = 128 * 1024;

#[derive(Debug)]
pub(super) struct Connections {
    /// Locked for the length of a push or a pop, and only by this worker.
    kept: Mutex<HashMap<PodId, VecDeque<IdleConnection>, ahash::RandomState>>,
    most: usize,
    idle: Duration,
}

#[derive(Debug)]
struct IdleConnection {
    requests: SendRequest<UpstreamBody>,
    timer: Pin<Box<Sleep>>,
    driver: AbortHandle,
    since: Instant,
    transport: u32,
}

/// A connection for one request. It closes, unless [`PooledConnection::return_to_pool`] keeps it.
#[derive(Debug)]
pub(super) struct PooledConnection {
    pub(super) requests: SendRequest<UpstreamBody>,
    /// For the time of an answer: to set a timer again costs a fraction of a new one.
    pub(super) timer: Pin<Box<Sleep>>,
    pod: PodId,
    /// The number of the way in which it was made.
    transport: u32,
    home: Arc<Connections>,
    driver: AbortHandle,
    last: Option<Last>,
}

/// Closes a connection when it is dropped.
#[derive(Debug)]
struct Last(AbortHandle);

impl Drop for Last {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connections {
    pub(super) fn new(most: usize, idle: Duration) -> Connections {
        Connections { kept: Mutex::default(), most, idle }
    }

    /// The kept connection that was used last, if one is still open.
    pub(super) fn take(self: &Arc<Self>, pod: &Pod) -> Option<PooledConnection> {
        let mut kept = self.kept.lock();
        let of_pod = kept.get_mut(&pod.id)?;
        while let Some(IdleConnection { requests, timer, driver, since, transport }) = of_pod.pop_back() {
            if requests.is_ready() && since.elapsed() < self.idle && transport == pod.transport.number() {
                let home = self.clone();
                return Some(PooledConnection { requests, timer, pod: pod.id, transport, home, driver, last: None });
            }
        }
        None
    }

    /// Makes a connection from a fresh stream.
    pub(super) async fn open(
        self: &Arc<Self>,
        (pod, transport): (PodId, u32),
        stream: TransportStream,
    ) -> hyper::Result<PooledConnection> {
        self.close_idle();
        let (requests, connection) =
            http1::Builder::new().max_buf_size(READ_BUFFER).handshake(TokioIo::new(PodStream::new(stream))).await?;
        let driver = tokio::spawn(async move {
            // The waiting caller learns how it ends, or `take` finds it closed.
            let _ = connection.with_upgrades().await;
        });
        let timer = Box::pin(sleep(Duration::ZERO));
        let (home, driver) = (self.clone(), driver.abort_handle());
        Ok(PooledConnection { requests, timer, pod, transport, home, driver, last: None })
    }

    /// Closes connections unused for too long, of all pods: no request takes those of removed pods.
    fn close_idle(&self) {
        let now = Instant::now();
        self.kept.lock().retain(|_, of_pod| {
            of_pod.retain(|kept| !self.is_old(kept, now));
            !of_pod.is_empty()
        });
    }

    fn is_old(&self, kept: &IdleConnection, now: Instant) -> bool {
        kept.requests.is_closed() || now.duration_since(kept.since) >= self.idle
    }

    fn keep(&self, lease: PooledConnection) {
        let PooledConnection { requests, timer, pod, transport, driver, .. } = lease;
        let now = Instant::now();
        let mut kept = self.kept.lock();
        let of_pod = kept.entry(pod).or_default();
        while of_pod.front().is_some_and(|kept| self.is_old(kept, now)) || of_pod.len() >= self.most.max(1) {
            of_pod.pop_front();
        }
        if self.most > 0 {
            of_pod.push_back(IdleConnection { requests, timer, driver, since: now, transport });
        }
    }
}

impl PooledConnection {
    /// Makes this request the connection's last: the pod still expects a body that will not come.
    pub(super) fn end_with_answer(&mut self) {
        self.last = Some(Last(self.driver.clone()));
    }

    /// The answer is complete: keeps the connection for the next request.
    pub(super) fn return_to_pool(mut self) {
        if self.last.is_some() {
            return;
        }
        if self.requests.is_ready() {
            self.home.clone().keep(self);
        } else if !self.requests.is_closed() {
            // The answer came before the request's last byte, which still occupies the connection.
            tokio::spawn(async move {
                if self.requests.ready().await.is_ok() {
                    self.home.clone().keep(self);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::AsyncReadExt,
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::pod::PodConfig;

    #[tokio::test]
    async fn a_connection_to_a_pod_that_nobody_asks_any_more_is_not_kept_for_ever() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let pod = |name: &str| {
            Pod::new(
                &"pool".into(),
                &PodConfig { name: name.into(), authority: address.to_string(), ..Default::default() },
            )
            .id
        };
        let connections = Arc::new(Connections::new(4, Duration::from_millis(1)));
        let open = async |pod| {
            let stream = TcpStream::connect(address).await.expect("a connection");
            connections.open((pod, 0), TransportStream::Clear(stream)).await.expect("a connection")
        };
        let mut connection_lease = open(pod("gone")).await;
        connection_lease.requests.ready().await.expect("it is open");
        connection_lease.return_to_pool();
        let (mut of_gone, _) = listener.accept().await.expect("a connection");
        while connections.kept.lock().values().flatten().any(|kept| kept.since.elapsed() < connections.idle) {
            tokio::task::yield_now().await;
        }
        let _lease = open(pod("here")).await;
        assert_eq!(of_gone.read(&mut [0]).await.expect("the end"), 0);
        assert!(connections.kept.lock().is_empty());
    }
}
