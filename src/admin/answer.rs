//! The forms of answer that the admin listener gives.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use serde::Serialize;

/// An answer, whole or as a stream.
pub(super) type Answer = Response<BoxBody<Bytes, Infallible>>;

/// What pages may load and do: their own files, and nothing of any other host.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

pub(super) fn text(status: StatusCode, text: impl Into<String>) -> Answer {
    let mut answer = whole("text/plain; charset=utf-8", text.into());
    *answer.status_mut() = status;
    answer
}

pub(super) fn json<T: Serialize>(page: &T) -> Answer {
    match serde_json::to_vec_pretty(page) {
        Ok(page) => whole("application/json", page),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "The page could not be written.\n"),
    }
}

/// A whole body of this kind.
pub(super) fn whole(kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()).boxed());
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// Sends a browser to another page of this listener.
pub(super) fn see_other(path: &'static str) -> Answer {
    let mut answer = text(StatusCode::SEE_OTHER, "");
    answer.headers_mut().insert(header::LOCATION, HeaderValue::from_static(path));
    answer
}

/// Forbids browsers to keep an answer, to guess its kind, and to let other pages or hosts use it.
pub(super) fn protect(headers: &mut HeaderMap) {
    let rules = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in rules {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
