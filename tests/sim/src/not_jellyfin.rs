//! Paths below `/_sim/` that no Jellyfin has: sinks and echoes for the tests of a proxy's own plumbing.
//!
//! - `/_sim/sink` reads a body of any size and answers `{"bytes": n, "sha256": "…"}`.
//! - `/_sim/echo` streams the body back chunked, and its trailers if there are any.
//! - `/_sim/status/{code}` answers that status with an empty body; `?body=…` gives it one.
//! - `/_sim/headers` answers the request's headers as a list of pairs, and its method and target.

use std::io;

use http::{Request, StatusCode};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::body::Incoming;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::answer::Answer;
use crate::identifiers::hex;
use crate::query::Query;

/// Answers a request below `/_sim/`.
pub(crate) async fn answer(request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let answer = match path.split_once("/_sim/").map_or("", |(_, name)| name) {
        "sink" => sink(request.into_body()).await,
        "echo" => echo(request),
        "headers" => headers(&request),
        other => match other.strip_prefix("status/").and_then(|code| code.parse().ok()) {
            Some(code) => status(&request, code),
            None => Answer::empty(StatusCode::NOT_FOUND),
        },
    };
    answer.with("x-not-jellyfin", "jellyfin-sim")
}

async fn sink(mut body: Incoming) -> Answer {
    let mut bytes = 0;
    let mut hash = Sha256::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Answer::empty(StatusCode::BAD_REQUEST);
        };
        if let Some(data) = frame.data_ref() {
            bytes += data.len();
            hash.update(data);
        }
    }
    Answer::json(&json!({"bytes": bytes, "sha256": hex(&hash.finalize())}))
}

fn echo(request: Request<Incoming>) -> Answer {
    let named = request.headers().get("trailer").and_then(|names| names.to_str().ok()).map(str::to_owned);
    // A body of known length would be sent back with it; as a stream it goes chunked, and trailers can follow. Only
    // those that are announced are sent, and only to a client that says `TE: trailers`.
    let frames = BodyStream::new(request.into_body().map_err(io::Error::other));
    let answer = Answer::stream("application/octet-stream", BodyExt::boxed_unsync(StreamBody::new(frames)));
    match named {
        Some(names) => answer.with("trailer", &names),
        None => answer,
    }
}

fn headers(request: &Request<Incoming>) -> Answer {
    let pairs =
        request.headers().iter().map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]));
    Answer::json(&json!({
        "method": request.method().as_str(),
        "target": request.uri().to_string(),
        "headers": pairs.collect::<Vec<Value>>(),
    }))
}

fn status(request: &Request<Incoming>, code: u16) -> Answer {
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_REQUEST);
    match Query::parse(request.uri().query().unwrap_or_default()).get("body") {
        Some(body) => Answer::text(status, "text/plain", body),
        None => Answer::empty(status),
    }
}
