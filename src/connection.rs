//! One client connection, from its first byte to its end.

mod lingering;

use std::{
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Version, header};
use http_body::{Frame, SizeHint};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use lingering::{Clean, Lingering};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    time::{self, Instant},
};

use crate::{
    forward::head::Client,
    proxy::{Aborted, Body, Proxy, Seat, Unread},
    shutdown::Shutdown,
};

/// What a client connection may take.
#[derive(Clone, Debug)]
pub struct Config {
    /// Longest time for the TLS handshake and for the first request's head. Default 30 s.
    pub header_timeout: Duration,
    /// Longest time that a kept connection waits for its next request. Default 120 s.
    pub idle_timeout: Duration,
    /// Size of a request's head in bytes; a larger one is answered with 431. Default 40 KiB.
    pub max_header_bytes: usize,
    /// Number of header fields of a request; more are answered with 431. Default 100.
    pub max_headers: usize,
}

/// How often a peer on HTTP/2 is asked whether it is still there, and how long it may take to say so.
const HTTP2_PING: Duration = Duration::from_secs(30);
const HTTP2_PONG: Duration = Duration::from_secs(20);

/// Speaks HTTP on connections of clients; one for each worker.
pub struct Server {
    http: auto::Builder<TokioExecutor>,
    config: Config,
    proxy: Arc<Proxy>,
    shutdown: Shutdown,
}

impl Server {
    pub fn new(config: Config, proxy: Arc<Proxy>, shutdown: Shutdown) -> Server {
        let mut http = auto::Builder::new(TokioExecutor::new());
        // No read timeout of hyper's: its timer would be made anew for each request. `Watch` has one for the connection.
        http.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(config.max_header_bytes.max(8192));
        if config.max_headers != 100 {
            // Only where it differs from hyper's own default, which needs no memory of its own.
            http.http1().max_headers(config.max_headers);
        }
        http.http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(HTTP2_PING)
            .keep_alive_timeout(HTTP2_PONG)
            .max_header_list_size(config.max_header_bytes.try_into().unwrap_or(u32::MAX));
        Server { http, config, proxy, shutdown }
    }

    /// Longest time for a TLS handshake.
    pub fn handshake_timeout(&self) -> Duration {
        self.config.header_timeout
    }

    /// Serves a connection until it ends, is idle for too long, or the proxy stops. Whoever opens a WebSocket over it keeps its seat.
    pub async fn serve(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        client: Client,
        seat: Seat,
    ) {
        let watch = Arc::new(Watch::new());
        let client = Arc::new(client);
        let service = service_fn(|mut request: Request<Incoming>| {
            if request.headers().contains_key(header::UPGRADE) {
                request.extensions_mut().insert(seat.clone());
            }
            let (proxy, client, under_way) = (self.proxy.clone(), client.clone(), watch.begin());
            let is_http1 = request.version() <= Version::HTTP_11;
            let is_asked_for = request.headers().contains_key(header::EXPECT);
            async move {
                // Here, and not in a future around both: what each request has is moved about with every such layer.
                let answer: Result<Response<Body>, Aborted> = if proxy.may_end_sessions(&request) {
                    proxy.handle_to_its_end(request, client).await
                } else {
                    proxy.handle(request, &client).await
                };
                let mut answer = answer?;
                let unread = answer.extensions_mut().remove::<Unread>().filter(|_| is_http1);
                let is_read = match unread {
                    None => true,
                    Some(unread) => Box::pin(unread.settle(is_asked_for, answer.headers_mut())).await,
                };
                under_way.0.is_clean.store(is_read, Ordering::Relaxed);
                Ok::<_, Aborted>(answer.map(|body| UnderWay { body, _until: under_way }))
            }
        });
        let stream = TokioIo::new(Lingering::new(stream, watch.clone()));
        let mut connection = pin!(self.http.serve_connection_with_upgrades(stream, service));
        let mut is_ending = false;
        loop {
            tokio::select! {
                // How a client ends its connection is its own affair; the access line says how its requests ended.
                _ = &mut connection => return,
                () = self.shutdown.stopping(), if !is_ending => {}
                () = watch.is_idle(&self.config), if !is_ending => {
                    if !watch.has_served() {
                        return;
                    }
                }
            }
            is_ending = true;
            connection.as_mut().graceful_shutdown();
        }
    }
}

/// Closes a stream that was answered before all of it was read, so that the client reads the answer.
pub async fn close_in_stages(stream: impl AsyncRead + AsyncWrite + Unpin) {
    // How a client ends its connection is its own affair.
    let _ = Lingering::new(stream, Arc::new(Watch::new())).shutdown().await;
}

/// What is under way on a connection, and since when nothing is.
struct Watch {
    began: Instant,
    under_way: AtomicUsize,
    served: AtomicU64,
    /// Milliseconds after `began`.
    idle_since: AtomicU64,
    /// All that was read was whole requests.
    is_clean: AtomicBool,
}

impl Clean for Arc<Watch> {
    fn flag(&self) -> &AtomicBool {
        &self.is_clean
    }
}

/// One request under way, until its answer's last byte.
struct Until(Arc<Watch>);

impl Watch {
    fn new() -> Watch {
        Watch {
            began: Instant::now(),
            under_way: AtomicUsize::new(0),
            served: AtomicU64::new(0),
            idle_since: AtomicU64::new(0),
            is_clean: AtomicBool::new(false),
        }
    }

    fn begin(self: &Arc<Self>) -> Until {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        self.served.fetch_add(1, Ordering::Relaxed);
        Until(self.clone())
    }

    fn has_served(&self) -> bool {
        self.served.load(Ordering::Relaxed) > 0
    }

    /// Ends when nothing was under way for too long. One timer for the connection's whole life, whatever goes over it.
    async fn is_idle(&self, config: &Config) {
        loop {
            let limit = if self.has_served() { config.idle_timeout } else { config.header_timeout };
            let end = self.began + Duration::from_millis(self.idle_since.load(Ordering::Relaxed)) + limit;
            let is_busy = self.under_way.load(Ordering::Relaxed) > 0;
            if !is_busy && end <= Instant::now() {
                return;
            }
            time::sleep_until(if is_busy { Instant::now() + limit } else { end }).await;
        }
    }
}

impl Drop for Until {
    fn drop(&mut self) {
        self.0.idle_since.store(self.0.began.elapsed().as_millis() as u64, Ordering::Relaxed);
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer's body that keeps its request under way until it is dropped.
struct UnderWay {
    body: Body,
    _until: Until,
}

impl http_body::Body for UnderWay {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
