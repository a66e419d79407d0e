//! The connection over which a prober asks, and one question over it.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinHandle};

use crate::{
    health::{is_for_want_of_a_name_server, is_out_of_handles},
    hop,
};

/// False alarms after which the prober ignores the end of a connection: this pod ends idle ones.
pub(super) const FALSE_ALARMS: u32 = 3;

const USER_AGENT: &str = concat!("jellypin/", env!("CARGO_PKG_VERSION"));

/// The longest answer to a probe that the prober reads.
const LONGEST_ANSWER: usize = 64 * 1024;

/// What came of a question.
pub(super) struct Asked {
    pub(super) result: Result<(ProbeConnection, StatusCode, bool, Bytes), ProbeFailure>,
    /// Whether the kept connection turned out to have ended.
    pub(super) line_ended: bool,
}

/// Asks over the kept connection, or over a fresh one.
pub(super) async fn ask(authority: Arc<str>, path: String, kept: Option<ProbeConnection>) -> Asked {
    let mut line_ended = false;
    if let Some(connection) = kept {
        // The pod may have just ended the kept connection: only a fresh one tells more.
        if !connection.requests.is_closed()
            && let Ok(answer) = send_probe(connection, &authority, &path).await
        {
            return Asked { result: Ok(answer), line_ended };
        }
        line_ended = true;
    }
    let result = match connect(&authority).await {
        Ok(connection) => send_probe(connection, &authority, &path).await,
        Err(failure) => Err(failure),
    };
    Asked { result, line_ended }
}

async fn send_probe(
    mut connection: ProbeConnection,
    authority: &str,
    path: &str,
) -> Result<(ProbeConnection, StatusCode, bool, Bytes), ProbeFailure> {
    let request = Request::get(path)
        .header(header::HOST, authority)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::VIA, hop::mark())
        .body(Empty::new())
        .map_err(|_| ProbeFailure::Broken)?;
    let (head, body) = connection.requests.send_request(request).await.map_err(|_| ProbeFailure::Broken)?.into_parts();
    let body = Limited::new(body, LONGEST_ANSWER).collect().await.map_err(|_| ProbeFailure::Broken)?.to_bytes();
    let is_page = head.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    Ok((connection, head.status, is_page, body))
}

/// A kept connection, and the task that drives it.
pub(super) struct ProbeConnection {
    requests: SendRequest<Empty<Bytes>>,
    driver: JoinHandle<()>,
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
    Broken,
}

async fn connect(authority: &str) -> Result<ProbeConnection, ProbeFailure> {
    let stream = TcpStream::connect(authority).await.map_err(|error| match error {
        _ if is_out_of_handles(&error) => ProbeFailure::Unasked,
        _ if is_for_want_of_a_name_server(&error) => ProbeFailure::Broken,
        _ => ProbeFailure::Refused,
    })?;
    let (requests, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|_| ProbeFailure::Broken)?;
    let driver = tokio::spawn(async move {
        // The sender's side gets the error of the connection.
        let _ = connection.await;
    });
    Ok(ProbeConnection { requests, driver })
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
