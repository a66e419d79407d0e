//! A small service that is not Jellyfin's: it keeps what it gets, and answers as the story tells it.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::{AbortHandle, JoinSet},
};
use tokio_tungstenite::tungstenite::{handshake::derive_accept_key, protocol::Role};

use crate::stories::world::ANY_PORT;

/// A request as the service got it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) method: Method,
    pub(super) target: String,
    pub(super) headers: HeaderMap,
}

impl Seen {
    /// A header's only line, empty if there is none.
    #[track_caller]
    pub(super) fn header(&self, name: &str) -> &str {
        let lines: Vec<_> = self.headers.get_all(name).iter().collect();
        assert!(lines.len() <= 1, "{name}: {lines:?}");
        lines.first().map(|line| line.to_str().expect("text")).unwrap_or_default()
    }
}

type Answering = Arc<dyn Fn(&Seen) -> Response<Bytes> + Send + Sync>;

pub(super) struct Service {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    state: Arc<State>,
    task: AbortHandle,
}

struct State {
    seen: Mutex<Vec<Seen>>,
    /// The status of `/ping`.
    ping: AtomicU16,
    answering: Answering,
}

type Body = BoxBody<Bytes, hyper::Error>;

impl Service {
    /// One that answers with its name.
    pub(super) async fn start(name: &'static str) -> Service {
        Service::answering(name, move |_| Response::new(Bytes::from_static(name.as_bytes()))).await
    }

    /// One that answers so, but for some paths: `/echo` sends the body back as it comes, `/die` breaks the
    /// connection off, `/ping` tells how it is. It speaks WebSocket, and echoes any other protocol.
    pub(super) async fn answering(
        name: &'static str,
        answering: impl Fn(&Seen) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Service {
        let listener = TcpListener::bind(ANY_PORT).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state =
            Arc::new(State { seen: Mutex::default(), ping: AtomicU16::new(200), answering: Arc::new(answering) });
        let task = tokio::spawn(accept(listener, state.clone())).abort_handle();
        Service { name, address, state, task }
    }

    /// Requests to other paths than `/ping`.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    #[track_caller]
    pub(super) fn last(&self) -> Seen {
        self.seen().pop().expect("a request")
    }

    pub(super) fn set_ping(&self, status: u16) {
        self.state.ping.store(status, Ordering::Relaxed);
    }

    /// Ends it with all its connections. Nobody listens at its address any more.
    pub(super) fn kill(&self) {
        self.task.abort();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    // They end with this task.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let state = state.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| answer(state.clone(), request));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
        });
    }
}

async fn answer(state: Arc<State>, mut request: Request<Incoming>) -> Result<Response<Body>, io::Error> {
    let whole = |answer: Response<Bytes>| {
        answer.map(|bytes| Full::new(bytes).map_err(|never: Infallible| match never {}).boxed())
    };
    let path = request.uri().path().to_owned();
    if path == "/ping" {
        let status = StatusCode::from_u16(state.ping.load(Ordering::Relaxed)).expect("a status");
        return Ok(whole(Response::builder().status(status).body(Bytes::new()).expect("an answer")));
    }
    let seen = Seen {
        method: request.method().clone(),
        target: request.uri().to_string(),
        headers: request.headers().clone(),
    };
    state.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen.clone());
    if let Some(protocol) = request.headers().get(header::UPGRADE).cloned() {
        let key = request.headers().get(header::SEC_WEBSOCKET_KEY).cloned();
        let upgraded = hyper::upgrade::on(&mut request);
        let is_socket = key.is_some();
        tokio::spawn(async move {
            let Ok(upgraded) = upgraded.await else { return };
            let stream = TokioIo::new(upgraded);
            if is_socket { echo_messages(stream).await } else { echo_bytes(stream).await }
        });
        let mut answer = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, protocol);
        if let Some(key) = key {
            answer = answer.header(header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes()));
        }
        return Ok(whole(answer.body(Bytes::new()).expect("an answer")));
    }
    match path.as_str() {
        "/echo" => Ok(Response::new(request.into_body().boxed())),
        "/die" => Err(io::Error::other("it dies over the request")),
        _ => Ok(whole((state.answering)(&seen))),
    }
}

async fn echo_messages(stream: TokioIo<hyper::upgrade::Upgraded>) {
    use futures_util::{SinkExt, StreamExt};
    let mut socket = tokio_tungstenite::WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    while let Some(Ok(message)) = socket.next().await {
        if message.is_text() && socket.send(message).await.is_err() {
            return;
        }
    }
}

async fn echo_bytes(mut stream: TokioIo<hyper::upgrade::Upgraded>) {
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
