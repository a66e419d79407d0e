//! A pod with nothing behind it, as lean as a hyper server can be: the far end of every load.
//!
//! It looks ready to a health check and accepts every token; all else that a request says is ignored, but
//! for a few query parameters. Its answers carry [`POD_HEADER`], so that a client sees who served it.
//!
//! | request | answer |
//! |---|---|
//! | `/health` | `Healthy`; while starting `Degraded`, as Jellyfin does |
//! | `/System/Info/Public` | the id that all pods share; with `--own-ids` one made of the name |
//! | `/_loadtest/counts` | what it has counted, see [`Counts`] |
//! | `/_loadtest/sink` | the number of bytes sent to it; `?stall_ms=N` stops reading for that long after the first MiB |
//! | anything else | `?bytes=N` bytes, else `--bytes` |

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use clap::Args;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, spawn_local};

use crate::Verdict;

/// Names the pod that made an answer.
pub(crate) const POD_HEADER: &str = "x-loadtest-pod";

/// A stalling sink reads this much before it stops.
const READ_BEFORE_STALL: u64 = 1024 * 1024;

#[derive(Args)]
pub(crate) struct Arguments {
    /// An address to listen on; given again, one more pod in the same process
    #[arg(long, required = true)]
    listen: Vec<SocketAddr>,
    /// The pod's name, one letter; further pods take the letters that follow
    #[arg(long, default_value_t = 'a')]
    name: char,
    /// Bytes of an ordinary answer
    #[arg(long, default_value_t = 1024)]
    bytes: u64,
    /// For how long after its start a pod is not ready
    #[arg(long, default_value_t = 0)]
    starting_ms: u64,
    /// Each pod reports a server id of its own
    #[arg(long)]
    own_ids: bool,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Verdict> {
    let mut pods = JoinSet::new();
    for (name, address) in (arguments.name..).zip(&arguments.listen) {
        let listener = TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?;
        let id = if arguments.own_ids { u32::from(name) } else { 0 };
        let pod = Pod {
            name,
            id: format!("{id:032x}"),
            header: HeaderValue::from_str(&name.to_string())?,
            ready_at: Instant::now() + Duration::from_millis(arguments.starting_ms),
            bytes: arguments.bytes,
            pattern: Bytes::from(vec![b'.'; 64 * 1024]),
            counts: RefCell::new(Counts::default()),
        };
        pods.spawn_local(serve(Rc::new(pod), listener));
    }
    while let Some(ended) = pods.join_next().await {
        ended??;
    }
    Ok(Verdict::Passed)
}

/// What a pod has counted since its start.
#[derive(Default)]
struct Counts {
    /// Requests but for probes.
    requests: u64,
    /// Of these, how many came before it was ready.
    early: u64,
    /// Probes: `/health` and `/System/Info/Public`.
    probes: u64,
    /// Bytes of bodies that it has handed to the kernel or is about to.
    bytes_out: Rc<Cell<u64>>,
    /// Bytes of bodies that it has read.
    bytes_in: u64,
}

struct Pod {
    name: char,
    /// The server's id that it reports.
    id: String,
    header: HeaderValue,
    ready_at: Instant,
    bytes: u64,
    pattern: Bytes,
    counts: RefCell<Counts>,
}

async fn serve(pod: Rc<Pod>, listener: TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        spawn_local(connection(pod.clone(), stream));
    }
}

/// How a token begins that no pod knows. All others are known.
pub(crate) const UNKNOWN_TOKEN: &str = "ffffffffffffffff";

/// Whether the token is unknown, or it is a log-in: no password is right.
fn is_refused(request: &Request<Incoming>) -> bool {
    let presents_unknown = |value: &HeaderValue| value.to_str().is_ok_and(|value| value.contains(UNKNOWN_TOKEN));
    request.uri().path() == "/Users/AuthenticateByName"
        || request.headers().get(AUTHORIZATION).is_some_and(presents_unknown)
}

async fn connection(pod: Rc<Pod>, stream: TcpStream) {
    let service = service_fn(move |request| {
        let pod = pod.clone();
        async move { Ok::<_, Infallible>(pod.answer(request).await) }
    });
    // A peer that leaves in the middle is a thing that load tests do on purpose.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

impl Pod {
    async fn answer(&self, request: Request<Incoming>) -> Response<Repeated> {
        let ready = Instant::now() >= self.ready_at;
        match request.uri().path() {
            "/health" => {
                self.counts.borrow_mut().probes += 1;
                self.text("text/plain", if ready { "Healthy" } else { "Degraded" })
            }
            "/System/Info/Public" => {
                self.counts.borrow_mut().probes += 1;
                if ready { self.text("application/json; charset=utf-8", &self.public_info()) } else { self.starting() }
            }
            "/_loadtest/counts" => self.text("application/json", &self.counted()),
            path => {
                let sink = path == "/_loadtest/sink";
                self.counts.borrow_mut().requests += 1;
                if !ready {
                    self.counts.borrow_mut().early += 1;
                    return self.starting();
                }
                if is_refused(&request) {
                    return self.unauthorized();
                }
                if sink { self.sink(request).await } else { self.plain(request.uri().query()) }
            }
        }
    }

    fn plain(&self, query: Option<&str>) -> Response<Repeated> {
        let length = parameter(query, "bytes").unwrap_or(self.bytes);
        let body = Repeated {
            pattern: self.pattern.clone(),
            remaining: length,
            handed_out: self.counts.borrow().bytes_out.clone(),
        };
        self.response("application/json; charset=utf-8", body)
    }

    async fn sink(&self, request: Request<Incoming>) -> Response<Repeated> {
        let mut stall = parameter(request.uri().query(), "stall_ms").map(Duration::from_millis);
        let mut received = 0;
        let mut body = request.into_body();
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len) as u64;
            received += length;
            self.counts.borrow_mut().bytes_in += length;
            if received >= READ_BEFORE_STALL
                && let Some(length) = stall.take()
            {
                tokio::time::sleep(length).await;
            }
        }
        self.text("application/json", &format!("{{\"bytes\":{received}}}"))
    }

    /// What a Jellyfin that is not up yet answers to anything but a health check.
    fn starting(&self) -> Response<Repeated> {
        let mut response = self.text("text/html", "<p>The server is starting.</p>");
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("005"));
        response
    }

    /// What Jellyfin answers to a token that it does not know, and to a wrong password.
    fn unauthorized(&self) -> Response<Repeated> {
        let mut response = self.text("text/plain", "");
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        response
    }

    fn text(&self, content_type: &'static str, text: &str) -> Response<Repeated> {
        let pattern = Bytes::copy_from_slice(text.as_bytes());
        let remaining = pattern.len() as u64;
        self.response(content_type, Repeated { pattern, remaining, handed_out: Rc::default() })
    }

    fn response(&self, content_type: &'static str, body: Repeated) -> Response<Repeated> {
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(HeaderName::from_static(POD_HEADER), self.header.clone());
        response
    }

    fn public_info(&self) -> String {
        let Pod { name, id, .. } = self;
        format!(
            "{{\"LocalAddress\":\"\",\"ServerName\":\"{name}\",\"Version\":\"12.0.0\",\"ProductName\":\"Jellyfin Server\",\
             \"OperatingSystem\":\"\",\"Id\":\"{id}\",\"StartupWizardCompleted\":true}}"
        )
    }

    fn counted(&self) -> String {
        let Counts { requests, early, probes, bytes_out, bytes_in } = &*self.counts.borrow();
        let bytes_out = bytes_out.get();
        format!(
            "{{\"requests\":{requests},\"early\":{early},\"probes\":{probes},\"bytes_out\":{bytes_out},\
             \"bytes_in\":{bytes_in}}}"
        )
    }
}

fn parameter(query: Option<&str>, name: &str) -> Option<u64> {
    let value = query?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    value.parse().ok()
}

/// A body of known length that shows one piece of memory again and again.
struct Repeated {
    pattern: Bytes,
    remaining: u64,
    handed_out: Rc<Cell<u64>>,
}

impl Body for Repeated {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.remaining == 0 {
            return Poll::Ready(None);
        }
        let length = self.pattern.len().min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
        self.remaining -= length as u64;
        self.handed_out.set(self.handed_out.get() + length as u64);
        Poll::Ready(Some(Ok(Frame::data(self.pattern.slice(..length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_found_by_its_whole_name() {
        assert_eq!(parameter(Some("limit=1&bytes=20"), "bytes"), Some(20));
        assert_eq!(parameter(Some("megabytes=20"), "bytes"), None);
        assert_eq!(parameter(Some("bytes=many"), "bytes"), None);
        assert_eq!(parameter(None, "bytes"), None);
    }

    #[tokio::test]
    async fn a_repeated_body_is_as_long_as_it_says() {
        let handed_out = Rc::new(Cell::new(0));
        let pattern = Bytes::from_static(b"0123456789");
        let body = Repeated { pattern, remaining: 25, handed_out: handed_out.clone() };
        assert_eq!(body.size_hint().exact(), Some(25));
        let bytes = body.collect().await.expect("it cannot fail").to_bytes();
        assert_eq!(&bytes[..], b"0123456789012345678901234");
        assert_eq!(handed_out.get(), 25);
    }
}
