//! The connection over which a prober asks, and one question over it.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinHandle, time::Instant};

use crate::{
    health::{is_for_want_of_a_name_server, is_out_of_handles, is_unreachable},
    hop,
    pod::{self, HandshakeError, Pod},
};

/// False alarms after which the prober ignores the end of a connection: this pod ends idle ones.
pub(super) const FALSE_ALARMS: u32 = 3;

const USER_AGENT: &str = concat!("jellypin/", env!("CARGO_PKG_VERSION"));

/// The longest answer to a probe that the prober reads.
const LONGEST_ANSWER: usize = 64 * 1024;

/// Longest time for a TLS handshake. Silence ends a probe long before.
const HANDSHAKE: Duration = Duration::from_secs(60);

/// What came of a question.
pub(super) struct Asked {
    pub(super) result: Result<(ProbeConnection, StatusCode, bool, Bytes), ProbeFailure>,
    /// Whether the kept connection turned out to have ended.
    pub(super) line_ended: bool,
}

/// Probes over the kept connection, or over a fresh one.
pub(super) async fn probe_once(pod: Arc<Pod>, path: String, kept: Option<ProbeConnection>) -> Asked {
    let mut line_ended = false;
    // One that was made in another way says nothing of the present one.
    if let Some(connection) = kept.filter(|kept| kept.transport == pod.transport.number()) {
        // The pod may have just ended the kept connection: only a fresh one tells more.
        if !connection.requests.is_closed()
            && let Ok(answer) = send_probe(connection, &pod, &path).await
        {
            return Asked { result: Ok(answer), line_ended };
        }
        line_ended = true;
    }
    let result = match connect(&pod).await {
        Ok(connection) => send_probe(connection, &pod, &path).await,
        Err(failure) => Err(failure),
    };
    Asked { result, line_ended }
}

async fn send_probe(
    mut connection: ProbeConnection,
    pod: &Pod,
    path: &str,
) -> Result<(ProbeConnection, StatusCode, bool, Bytes), ProbeFailure> {
    let request = request(pod, path)?;
    let (head, body) = connection.requests.send_request(request).await.map_err(|_| ProbeFailure::Broken)?.into_parts();
    let body = Limited::new(body, LONGEST_ANSWER).collect().await.map_err(|_| ProbeFailure::Broken)?.to_bytes();
    let is_page = head.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    Ok((connection, head.status, is_page, body))
}

/// What a pod that is not Jellyfin's answers to a path, over a connection of its own. The body is left
/// alone.
pub(super) async fn status_of(pod: &Pod, path: &str) -> Result<StatusCode, ProbeFailure> {
    let mut connection = connect(pod).await?;
    let answered = connection.requests.send_request(request(pod, path)?).await;
    answered.map(|answered| answered.status()).map_err(|_| ProbeFailure::Broken)
}

fn request(pod: &Pod, path: &str) -> Result<Request<Empty<Bytes>>, ProbeFailure> {
    let host = pod.transport.host().map_or_else(|| HeaderValue::from_str(&pod.authority), Ok);
    let request = Request::get(path)
        .header(header::HOST, host.map_err(|_| ProbeFailure::Broken)?)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::VIA, hop::mark());
    request.body(Empty::new()).map_err(|_| ProbeFailure::Broken)
}

/// A kept connection, and the task that drives it.
pub(super) struct ProbeConnection {
    requests: SendRequest<Empty<Bytes>>,
    driver: JoinHandle<()>,
    /// The number of the way in which it was made.
    transport: u32,
}

impl Drop for ProbeConnection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

pub(super) enum ProbeFailure {
    /// No file handle was free for a connection.
    Unasked,
    Refused,
    /// No way leads to its machine.
    Unreachable,
    Broken,
    /// [`crate::pod::Transport::trouble`] says why.
    Untrusted,
}

pub(super) async fn connect(pod: &Pod) -> Result<ProbeConnection, ProbeFailure> {
    let transport = pod.transport.number();
    let stream = TcpStream::connect(&*pod.authority).await.map_err(|error| match error {
        _ if is_out_of_handles(&error) => ProbeFailure::Unasked,
        _ if is_for_want_of_a_name_server(&error) => ProbeFailure::Broken,
        _ if is_unreachable(&error) => ProbeFailure::Unreachable,
        _ => ProbeFailure::Refused,
    })?;
    let stream = pod::secure(pod, stream, HANDSHAKE).await.map_err(|error| match error {
        HandshakeError::Untrusted => ProbeFailure::Untrusted,
        HandshakeError::TimedOut | HandshakeError::Broken => ProbeFailure::Broken,
    })?;
    let (requests, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|_| ProbeFailure::Broken)?;
    let driver = tokio::spawn(async move {
        // The sender's side gets the error of the connection.
        let _ = connection.await;
    });
    Ok(ProbeConnection { requests, driver, transport })
}

/// A question that needs no database, and until when its answer is in time.
pub(super) type Ping<F> = (Pin<Box<F>>, Instant);

/// Waits for the answer. Returns whether it came in time, or `None` if none came.
pub(super) async fn pinged<F: Future<Output = Asked>>(ping: &mut Option<Ping<F>>) -> Option<bool> {
    let (question, in_time) = ping.as_mut()?;
    let answered = question.await;
    answered.result.ok().map(|_| Instant::now() <= *in_time)
}

/// Ends when the kept connection ends; never if there is none.
pub(super) async fn ended(connection: &mut Option<ProbeConnection>) {
    match connection {
        Some(connection) => {
            let _ = (&mut connection.driver).await;
        }
        None => std::future::pending().await,
    }
}
