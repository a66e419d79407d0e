//! One client connection, from its first byte to its end.

mod frames;
mod idle_watch;
mod illegal_target;
mod lingering;

use std::{
    future,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use http::{HeaderValue, Request, StatusCode, Version, header};
use http_body::{Frame, SizeHint};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use idle_watch::{IdleWatch, RequestGuard};
use illegal_target::Explained;
use lingering::Lingering;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::{
    forward::head::Client,
    limits::{Kind, Permit},
    proxy::{Aborted, Body, ConnectionPermit, Proxy, Unread},
    shutdown::Shutdown,
};

/// Limits of a client connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Longest time for the TLS handshake and for the first request's head. Default 30 s.
    pub header_timeout: Duration,
    /// Longest time that an idle connection waits for its next request. Default 120 s.
    pub idle_timeout: Duration,
    /// Longest time that an answer waits for its client to read on. Default 1 h: players pause.
    pub stall_timeout: Duration,
    /// Concurrent streams on an HTTP/2 connection. Default 100.
    pub http2_streams: u32,
    /// Size of a request's head in bytes. The proxy answers a larger one with 431. Default 40 KiB.
    pub max_header_bytes: usize,
    /// `Strict-Transport-Security` of answers over TLS. Default: none.
    pub hsts: Option<HeaderValue>,
    /// Number of header fields of a request. The proxy answers more with 431. Default 100.
    pub max_headers: usize,
}

/// How often the proxy pings an HTTP/2 peer, and how long the peer may take to answer.
const HTTP2_PING: Duration = Duration::from_secs(30);
const HTTP2_PONG: Duration = Duration::from_secs(20);

/// Streams that an HTTP/2 peer may reset before they are accepted, and those that the proxy may
/// reset for the peer's errors, before the connection ends. h2's own: 20 and 1024.
const HTTP2_RESETS: usize = 20;
const HTTP2_MISTAKES: usize = 128;

/// Bytes of an answer buffered in memory for one HTTP/2 stream.
const HTTP2_SEND_BUFFER: usize = 256 * 1024;

/// A worker's request path, as of the latest configuration.
pub type CurrentProxy = Arc<ArcSwap<Proxy>>;

/// Speaks HTTP on client connections; one for each worker. A connection keeps the settings that it
/// began with, and each of its requests takes the current request path.
pub struct Server {
    http: auto::Builder<TokioExecutor>,
    config: Config,
    proxy: CurrentProxy,
    shutdown: Shutdown,
}

impl Server {
    pub fn new(config: Config, proxy: CurrentProxy, shutdown: Shutdown) -> Server {
        let mut http = auto::Builder::new(TokioExecutor::new());
        // hyper would make a read timer for each request. `IdleWatch` has one for the connection.
        http.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(config.max_header_bytes.max(8192));
        if config.max_headers != 100 {
            // Only set if it differs from hyper's default, which needs no extra memory.
            http.http1().max_headers(config.max_headers);
        }
        http.http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(HTTP2_PING)
            .keep_alive_timeout(HTTP2_PONG)
            .max_concurrent_streams(config.http2_streams)
            .max_pending_accept_reset_streams(HTTP2_RESETS)
            .max_local_error_reset_streams(HTTP2_MISTAKES)
            .max_send_buf_size(HTTP2_SEND_BUFFER)
            .max_header_list_size(config.max_header_bytes.try_into().unwrap_or(u32::MAX));
        Server { http, config, proxy, shutdown }
    }

    pub fn handshake_timeout(&self) -> Duration {
        self.config.header_timeout
    }

    /// Serves a connection until it ends, is idle for too long, or the proxy stops. A WebSocket
    /// opened over it keeps the connection's permit.
    pub async fn serve(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        client: Client,
        connection: ConnectionPermit,
    ) {
        let watch = Arc::new(IdleWatch::new());
        let client = Arc::new(client);
        let service = service_fn(|mut request: Request<Incoming>| {
            let proxy = self.proxy.load_full();
            let permit = match proxy.admission.admit(&request, &client) {
                Ok((permit, socket)) => {
                    if let Some(socket) = socket {
                        let both: ConnectionPermit = Arc::new((connection.clone(), socket));
                        request.extensions_mut().insert(both);
                    }
                    Some(permit)
                }
                Err(exceeded) => {
                    request.extensions_mut().insert(exceeded);
                    None
                }
            };
            let (client, under_way) = (client.clone(), watch.start_request());
            let is_http1 = request.version() <= Version::HTTP_11;
            if !is_http1 {
                watch.is_http2.store(true, Ordering::Relaxed);
            }
            let shutdown = self.shutdown.clone();
            let hsts = self.config.hsts.clone().filter(|_| client.over_tls);
            let is_asked_for = request.headers().contains_key(header::EXPECT);
            async move {
                // Branch here: each wrapping future would move the request's state once more.
                let (mut answer, permit) = if proxy.admission.must_finish(&request) {
                    // A client that leaves drops this future. The request goes on, and still counts.
                    proxy.handle_detached(request, client, permit).await?
                } else {
                    (proxy.answer(request, &client).await?, permit)
                };
                if let Some(hsts) = hsts {
                    answer.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, hsts);
                }
                let unread = answer.extensions_mut().remove::<Unread>().filter(|_| is_http1);
                let is_read = match unread {
                    None => true,
                    Some(unread) => Box::pin(unread.read_or_close(is_asked_for, answer.headers_mut())).await,
                };
                // The client's next request is for the process that has taken this one's place.
                if is_http1 && shutdown.is_leaving() && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                under_way.watch.is_clean.store(is_read, Ordering::Relaxed);
                under_way.is_clients_turn(true);
                let under_way = |body| TrackedBody { body, until: under_way, pieces: 0, _permit: permit };
                Ok::<_, Aborted>(answer.map(under_way))
            }
        });
        let (proxy, of) = (self.proxy.clone(), client.clone());
        let flood = move || proxy.load().admission.exceeded(Kind::Frames, &of);
        let stream = frames::Counted::new(stream, !client.is_trusted, flood);
        let stream = Explained::new(Lingering::new(stream, watch.clone()), watch.clone());
        let stream = TokioIo::new(stream);
        let mut connection = pin!(self.http.serve_connection_with_upgrades(stream, service));
        let (mut is_ending, mut is_leaving) = (false, false);
        loop {
            // It has a waker of its own: it is looked at when one of its causes has come, and not
            // each time that the connection goes on.
            let mut cause = FuturesUnordered::from_iter([self.cause_to_end(&watch, &client, is_ending, is_leaving)]);
            let cause = tokio::select! {
                biased;
                // Clients may close as they like. The access line says how the requests ended.
                _ = &mut connection => return,
                Some(cause) = cause.next() => cause,
            };
            match cause {
                Cause::Stopping => {}
                // HTTP/2 has words for it. An HTTP/1.1 client learns it from its next answer: to
                // close here could meet a request that is on its way.
                Cause::Leaving => {
                    is_leaving = true;
                    if !watch.is_http2.load(Ordering::Relaxed) {
                        continue;
                    }
                }
                Cause::Stalled => {
                    self.proxy.load().admission.exceeded(Kind::Stalls, &client);
                    return;
                }
                Cause::Idle if !watch.has_served() => return,
                Cause::Idle => {}
            }
            is_ending = true;
            connection.as_mut().graceful_shutdown();
        }
    }

    /// Waits for a cause to end a connection that the client keeps.
    async fn cause_to_end(&self, watch: &IdleWatch, client: &Client, is_ending: bool, is_leaving: bool) -> Cause {
        tokio::select! {
            () = self.shutdown.stopping(), if !is_ending => Cause::Stopping,
            () = self.shutdown.leaving(), if !is_ending && !is_leaving => Cause::Leaving,
            // A trusted peer carries many clients and has its own time-outs.
            () = watch.is_stalled(&self.config), if !client.is_trusted => Cause::Stalled,
            () = watch.is_idle(&self.config), if !is_ending => Cause::Idle,
            else => future::pending().await,
        }
    }
}

/// Why the proxy ends a connection.
enum Cause {
    Stopping,
    /// Another process has taken this one's place.
    Leaving,
    /// The client does not read its answer.
    Stalled,
    Idle,
}

/// Closes a stream that was answered but not fully read, so that the answer arrives.
pub async fn close_in_stages(stream: impl AsyncRead + AsyncWrite + Unpin) {
    // Clients may close as they like.
    let _ = Lingering::new(stream, Arc::new(IdleWatch::new())).shutdown().await;
}

/// An answer's body that keeps its request in progress until it is dropped.
struct TrackedBody {
    body: Body,
    until: RequestGuard,
    /// Pieces taken so far.
    pieces: u32,
    _permit: Option<Permit>,
}

impl http_body::Body for TrackedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Pending => self.until.is_our_turn(),
            // The last piece ends the request, which is not waited for any more.
            Poll::Ready(_) if self.body.is_end_stream() => {}
            Poll::Ready(_) => {
                self.pieces = self.pieces.saturating_add(1);
                self.until.is_clients_turn(self.pieces == 1);
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
