//! Sockets in: binds the listeners and hands each accepted connection to its worker.

mod clear_http;

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::Arc,
    time::Duration,
};

use http::HeaderValue;
use ipnet::IpNet;
use rustls::ServerConfig;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    time,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    connection::Server,
    forward::head::Client,
    limits::{self, Kind, Limits},
    observe::metrics::{Metrics, Rejected},
    proxy::ConnectionPermit,
    shutdown::Shutdown,
};

/// Where clients come in.
#[derive(Clone, Debug)]
pub struct Config {
    /// Cleartext sockets: HTTP/1.1, and HTTP/2 by prior knowledge.
    pub http: Vec<SocketAddr>,
    /// TLS sockets; ALPN offers `h2`, `http/1.1` and `http/1.0`.
    pub https: Vec<SocketAddr>,
    /// Number of workers, each a runtime on a thread of its own. Default: the number of cores.
    pub workers: usize,
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    pub address: SocketAddr,
    pub source: io::Error,
}

/// The sockets of one address, one for each worker.
pub struct Bound {
    pub address: SocketAddr,
    pub over_tls: bool,
    pub sockets: Vec<StdListener>,
}

/// Connections that the kernel accepts before the worker does.
const BACKLOG: i32 = 4096;

/// Bytes that the kernel takes for a client beyond what is on its way to it, so that a slow one is not sent megabytes that
/// only wait here. At half of it more is fetched, in time for any client that is faster than its film.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 256 * 1024;

/// Pause after the machine ran out of file handles, so that the accept loop does not spin.
const OUT_OF_HANDLES: Duration = Duration::from_millis(50);

/// Binds every address for every worker, or nothing.
///
/// # Errors
/// The first address that cannot be bound; a process that listens there already is one reason.
pub fn bind(config: &Config) -> Result<Vec<Bound>, BindError> {
    let plain = config.http.iter().map(|address| (*address, false));
    let tls = config.https.iter().map(|address| (*address, true));
    plain.chain(tls).map(|(address, over_tls)| bind_all(address, over_tls, config.workers)).collect()
}

fn bind_all(address: SocketAddr, over_tls: bool, workers: usize) -> Result<Bound, BindError> {
    let failed = |source| BindError { address, source };
    // SO_REUSEPORT would let a second proxy share the port unseen: a socket without it asks whether the port is free.
    drop(socket(address, false).map_err(failed)?);
    let first = socket(address, true).map_err(failed)?;
    let bound = first.local_addr().map_err(failed)?;
    let mut sockets = vec![first];
    for _ in 1..workers {
        sockets.push(socket(bound, true).map_err(failed)?);
    }
    Ok(Bound { address: bound, over_tls, sockets })
}

fn socket(address: SocketAddr, reuse_port: bool) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // `[::]` takes IPv4 too, whatever the machine's default is.
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    // Accepted connections inherit it. A kernel that does not know it buffers more, and nothing else.
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_notsent_lowat(UNSENT);
    if reuse_port {
        socket.listen(BACKLOG)?;
    } else {
        // Only a listening socket meets another one that listens.
        socket.listen(1)?;
    }
    Ok(socket.into())
}

/// What an accept loop needs besides its socket.
#[derive(Clone)]
pub struct Acceptor {
    pub server: Arc<Server>,
    /// Set where TLS is spoken.
    pub tls: Option<Arc<ServerConfig>>,
    /// Peers whose word about their clients counts.
    pub trusted: Arc<[IpNet]>,
    /// How many connections and handshakes there may be, shared by all workers.
    pub limits: Arc<Limits>,
    pub metrics: Metrics,
    pub shutdown: Shutdown,
}

/// Accepts connections until the shutdown.
pub async fn accept(listener: TcpListener, acceptor: Acceptor) {
    loop {
        let (stream, peer) = tokio::select! {
            () = acceptor.shutdown.stopping() => return,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    if is_of_one_connection(&error) {
                        continue;
                    }
                    tracing::warn!(%error, "cannot accept connections");
                    time::sleep(OUT_OF_HANDLES).await;
                    continue;
                }
            },
        };
        let client = acceptor.client(peer);
        match acceptor.limits.take(Kind::Connections, client.in_use.as_ref()) {
            Ok(permit) => drop(tokio::spawn(acceptor.shutdown.track(acceptor.clone().admit(stream, client, permit)))),
            // Dropping the stream closes it: the client learns at once that there is no room.
            Err(_) => {
                acceptor.metrics.rejected.get_or_create(&Rejected { why: "connections" }).inc();
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

impl Acceptor {
    async fn admit(self, stream: TcpStream, client: Client, permit: limits::Permit) {
        let permit: ConnectionPermit = Arc::new((permit, OpenConnection::count(&self.metrics)));
        // Answers go out at once. A peer that is gone already is found by the first read.
        let _ = stream.set_nodelay(true);
        match &self.tls {
            None => self.server.serve(stream, client, permit).await,
            Some(tls) => {
                let Ok(under_way) = self.limits.take(Kind::Handshakes, client.in_use.as_ref()) else { return };
                let handshake = async {
                    if clear_http::is_spoken(&stream).await {
                        self.metrics.rejected.get_or_create(&Rejected { why: "clear_http" }).inc();
                        clear_http::refuse(stream).await;
                        return None;
                    }
                    TlsAcceptor::from(tls.clone()).accept(stream).await.ok()
                };
                // A peer that cannot finish a handshake in time is no client; scanners make many of them.
                let shaken = time::timeout(self.server.handshake_timeout(), handshake).await;
                drop(under_way);
                if let Ok(Some(stream)) = shaken {
                    self.server.serve(stream, client, permit).await;
                }
            }
        }
    }

    fn client(&self, peer: SocketAddr) -> Client {
        let address = peer.ip().to_canonical();
        let is_trusted = self.trusted.iter().any(|net| net.contains(&address));
        Client {
            address,
            in_use: (!is_trusted).then(|| self.limits.address(address)),
            // An address's text is always a header value.
            address_text: HeaderValue::try_from(address.to_string()).unwrap_or(HeaderValue::from_static("unknown")),
            over_tls: self.tls.is_some(),
            trusted: self.trusted.clone(),
            is_trusted,
        }
    }
}

/// Counts an open connection until it is dropped.
struct OpenConnection(Metrics);

impl OpenConnection {
    fn count(metrics: &Metrics) -> OpenConnection {
        metrics.connections.inc();
        OpenConnection(metrics.clone())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections.dec();
    }
}
