//! Binds the listeners and hands each accepted connection to its worker.
//!
//! A reload may change what an accept loop hands on, and add or end listeners.

mod clear_http;
mod proxy_protocol;

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use http::HeaderValue;
use ipnet::IpNet;
use proxy_protocol::Source;
use rustls::ServerConfig;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    time,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use crate::{
    connection::Server,
    forward::head::Client,
    hand_over,
    limits::{self, Kind, Limits},
    observe::metrics::{Metrics, Rejected},
    proxy::ConnectionPermit,
    shutdown::Shutdown,
    tls,
};

/// Where clients connect.
#[derive(Clone, Debug)]
pub struct Config {
    /// Cleartext sockets: HTTP/1.1, and HTTP/2 by prior knowledge.
    pub http: Vec<SocketAddr>,
    /// TLS sockets; ALPN offers `h2`, `http/1.1` and `http/1.0`.
    pub https: Vec<SocketAddr>,
    /// Load balancers that speak the PROXY protocol. Default none.
    pub proxy_protocol: Vec<IpNet>,
    /// Number of workers, each a runtime on its own thread. Default: the number of cores.
    pub workers: usize,
}

impl Config {
    /// The addresses, cleartext first, and whether each is for TLS.
    pub fn all(&self) -> impl Iterator<Item = (SocketAddr, bool)> {
        let plain = self.http.iter().map(|address| (*address, false));
        plain.chain(self.https.iter().map(|address| (*address, true)))
    }
}

/// An address that cannot be bound.
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

/// Unsent bytes that the kernel buffers for one client; more would only wait for a slow one. At
/// half of it the proxy fetches more, in time for any client faster than its film.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 256 * 1024;

/// Pause after the machine ran out of file handles, so that the accept loop does not spin.
const OUT_OF_HANDLES: Duration = Duration::from_millis(50);

/// Binds every address for every worker, or nothing. Takes the sockets of an address that another
/// process hands over.
///
/// # Errors
/// The first address that cannot be bound, for example because another process listens there.
pub fn bind(config: &Config, handed: &mut hand_over::Sockets) -> Result<Vec<Bound>, BindError> {
    let bound = config.all().map(|(configured, over_tls)| match handed.take(configured, over_tls) {
        Some(sockets) => Bound::handed(configured, over_tls, sockets, config.workers),
        None => bind_all(configured, over_tls, config.workers, false),
    });
    bound.collect()
}

impl Bound {
    /// The sockets of another process, at least one for each worker. All of them are listened to:
    /// each has a queue of its own.
    fn handed(
        configured: SocketAddr,
        over_tls: bool,
        mut sockets: Vec<StdListener>,
        workers: usize,
    ) -> Result<Bound, BindError> {
        let failed = |source| BindError { address: configured, source };
        let address = match sockets.first() {
            Some(first) => first.local_addr().map_err(failed)?,
            None => configured,
        };
        let own = sockets.len();
        while own > 0 && sockets.len() < workers {
            sockets.push(sockets[sockets.len() % own].try_clone().map_err(failed)?);
        }
        sockets.iter().try_for_each(|socket| socket.set_nonblocking(true)).map_err(failed)?;
        Ok(Bound { address, over_tls, sockets })
    }

    /// The same sockets once more: while one copy is open, connections may wait in them.
    ///
    /// # Errors
    /// The machine has no file handle left.
    pub fn copies(&self) -> Result<Vec<StdListener>, BindError> {
        let failed = |source| BindError { address: self.address, source };
        self.sockets.iter().map(|socket| socket.try_clone().map_err(failed)).collect()
    }
}

/// Binds one address. `is_ours`: this process listens on the port already, and may share it.
///
/// # Errors
/// The address cannot be bound.
pub fn bind_all(address: SocketAddr, over_tls: bool, workers: usize, is_ours: bool) -> Result<Bound, BindError> {
    let failed = |source| BindError { address, source };
    if !is_ours {
        // SO_REUSEPORT lets a second proxy share the port unnoticed. A socket without it fails then.
        drop(socket(address, false).map_err(failed)?);
    }
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
        // `[::]` accepts IPv4 too, whatever the machine's default is.
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    // Accepted connections inherit this. A kernel without the option only buffers more.
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_notsent_lowat(UNSENT);
    if reuse_port {
        socket.listen(BACKLOG)?;
    } else {
        // The kernel reports a conflict only if both sockets listen.
        socket.listen(1)?;
    }
    Ok(socket.into())
}

/// Why a connection was closed before its first request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rejection {
    /// Too many are open.
    Connections,
    /// The client speaks cleartext HTTP to a TLS port.
    ClearHttp,
    /// A load balancer does not say who its client is.
    ProxyProtocol,
}

impl Rejection {
    fn as_str(self) -> &'static str {
        match self {
            Rejection::Connections => "connections",
            Rejection::ClearHttp => "clear_http",
            Rejection::ProxyProtocol => "proxy_protocol",
        }
    }
}

/// What an accept loop needs besides its socket.
pub struct Acceptor {
    pub server: Arc<Server>,
    /// What listeners for TLS speak.
    pub tls: Arc<ServerConfig>,
    /// Peers whose forwarding headers the proxy trusts.
    pub trusted: Arc<[IpNet]>,
    /// Peers whose connections begin with a header of the PROXY protocol.
    pub proxy_protocol: Arc<[IpNet]>,
    /// Limits connections and handshakes, shared by all workers.
    pub limits: Arc<Limits>,
    pub metrics: Metrics,
    pub shutdown: Shutdown,
}

/// What accept loops use now. A reload replaces it.
pub type CurrentAcceptor = Arc<ArcSwap<Acceptor>>;

/// Accepts connections until the shutdown, or until the listener ends. A listener that ends takes
/// the connections that the kernel has already accepted.
pub async fn accept(listener: TcpListener, current: CurrentAcceptor, over_tls: bool, ends: CancellationToken) {
    let shutdown = current.load().shutdown.clone();
    loop {
        let accepted = tokio::select! {
            () = shutdown.stopping() => return,
            () = ends.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => take(&current, stream, peer, over_tls),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                time::sleep(OUT_OF_HANDLES).await;
            }
        }
    }
    // The runtime may not have heard of all that wait, so the socket itself is asked.
    let Ok(listener) = listener.into_std() else { return };
    while let Ok((stream, peer)) = listener.accept() {
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            take(&current, stream, peer, over_tls);
        }
    }
}

/// Serves a connection in a task of its own. A load balancer says first whose it is.
fn take(current: &CurrentAcceptor, stream: TcpStream, peer: SocketAddr, over_tls: bool) {
    let acceptor = current.load_full();
    if acceptor.proxy_protocol.is_empty() || !is_in(&acceptor.proxy_protocol, peer) {
        serve(acceptor, stream, peer, over_tls, None);
    } else {
        // It counts while it says nothing. Whose it is, and so for which address, comes later.
        let Ok(counted) = acceptor.limits.take(Kind::Connections, None) else {
            return acceptor.reject(Rejection::Connections);
        };
        let shutdown = acceptor.shutdown.clone();
        drop(tokio::spawn(shutdown.track(ask_balancer(acceptor, stream, peer, over_tls, counted))));
    }
}

/// Serves a connection if the limits allow it. `counted`: it counts already, but for no address.
fn serve(
    acceptor: Arc<Acceptor>,
    stream: TcpStream,
    peer: SocketAddr,
    over_tls: bool,
    counted: Option<limits::Permit>,
) {
    let client = acceptor.client(peer, over_tls);
    let permit = match counted {
        Some(counted) => counted.charge(client.in_use.as_ref()),
        None => acceptor.limits.take(Kind::Connections, client.in_use.as_ref()),
    };
    match permit {
        Ok(permit) => {
            let shutdown = acceptor.shutdown.clone();
            drop(tokio::spawn(shutdown.track(acceptor.admit(stream, client, permit, over_tls))));
        }
        // Dropping the stream closes it, so the client learns at once that the proxy is full.
        Err(_) => acceptor.reject(Rejection::Connections),
    }
}

async fn ask_balancer(
    acceptor: Arc<Acceptor>,
    mut stream: TcpStream,
    peer: SocketAddr,
    over_tls: bool,
    counted: limits::Permit,
) {
    let source = tokio::select! {
        source = time::timeout(acceptor.server.handshake_timeout(), proxy_protocol::source(&mut stream)) => source,
        () = acceptor.shutdown.stopping() => return,
    };
    match source {
        Ok(Some(Source::Client(client))) => serve(acceptor, stream, client, over_tls, Some(counted)),
        Ok(Some(Source::Peer)) => serve(acceptor, stream, peer, over_tls, Some(counted)),
        Ok(None) | Err(_) => acceptor.reject(Rejection::ProxyProtocol),
    }
}

fn is_in(networks: &[IpNet], peer: SocketAddr) -> bool {
    let address = peer.ip().to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

impl Acceptor {
    async fn admit(self: Arc<Self>, stream: TcpStream, client: Client, permit: limits::Permit, over_tls: bool) {
        let permit: ConnectionPermit = Arc::new((permit, OpenConnection::count(&self.metrics)));
        // No delay: answers leave at once. If the peer is gone, the first read shows it.
        let _ = stream.set_nodelay(true);
        match over_tls {
            false => self.server.serve(stream, client, permit).await,
            // Boxed: what TLS needs would make every connection's future larger.
            true => Box::pin(self.serve_tls(stream, client, permit)).await,
        }
    }

    async fn serve_tls(&self, stream: TcpStream, client: Client, permit: ConnectionPermit) {
        let Ok(under_way) = self.limits.take(Kind::Handshakes, client.in_use.as_ref()) else { return };
        let handshake = async {
            if clear_http::is_spoken(&stream).await {
                self.reject(Rejection::ClearHttp);
                clear_http::refuse(stream).await;
                return None;
            }
            TlsAcceptor::from(self.tls.clone()).accept(stream).await.ok()
        };
        // A failed or late handshake is no client worth a log entry: scanners make many.
        let shaken = time::timeout(self.server.handshake_timeout(), handshake).await;
        drop(under_way);
        // An authority has seen the answer to its question, and has no request.
        let is_client = |stream: &TlsStream<TcpStream>| stream.get_ref().1.alpn_protocol() != Some(tls::ACME);
        if let Ok(Some(stream)) = shaken
            && is_client(&stream)
        {
            self.server.serve(stream, client, permit).await;
        }
    }

    fn reject(&self, why: Rejection) {
        self.metrics.rejected.get_or_create(&Rejected { why: why.as_str() }).inc();
    }

    fn client(&self, peer: SocketAddr, over_tls: bool) -> Client {
        let address = peer.ip().to_canonical();
        let is_trusted = is_in(&self.trusted, peer);
        Client {
            address,
            in_use: (!is_trusted).then(|| self.limits.address(address)),
            // An address's text is always a header value.
            address_text: HeaderValue::try_from(address.to_string()).unwrap_or(HeaderValue::from_static("unknown")),
            over_tls,
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
