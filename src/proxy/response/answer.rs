//! The whole answer for the client. The request's record ends with its body.

use http::{HeaderMap, HeaderName, Response, StatusCode, Version, header, response};

use super::body::Body;
use crate::{
    forward::{PodCloses, head},
    proxy::{
        request::{
            record::{RequestRecord, server_timing},
            refusal::Refusal,
        },
        unread::{Answerer, Unread},
    },
};

/// Sending no answer is better than any: the caller must break off the connection.
#[derive(Debug, thiserror::Error)]
#[error("the exchange was broken off")]
pub struct Aborted;

/// A pod's answer, or one that the proxy has made of several.
pub(in crate::proxy) fn answer(record: Box<RequestRecord>, mut head: response::Parts, body: Body) -> Response<Body> {
    // Each connection sets its own version.
    head.version = Version::HTTP_11;
    tell_waits(&record, &mut head.headers);
    change_by_route(&record, &mut head.headers);
    let closes = head.extensions.remove::<PodCloses>().is_some();
    let answered_by = || match body.is_own() {
        true => Answerer::Proxy,
        false if closes => Answerer::PodThatCloses,
        false => Answerer::Pod,
    };
    if let Some(unread) = Unread::of(&record.replay_body, answered_by) {
        head.extensions.insert(unread);
    }
    Response::from_parts(head, body.with_record(record))
}

/// The status of all pods together, in place of the client's pod's whole answer.
pub(in crate::proxy) fn answer_of_all_pods(
    mut record: Box<RequestRecord>,
    mut head: response::Parts,
    status: StatusCode,
) -> Response<Body> {
    head.status = status;
    record.set_status(status.as_u16());
    strip(&mut head.headers);
    answer(record, head, Body::empty())
}

/// The proxy's own answer, or [`Aborted`] if the refusal has none.
pub(in crate::proxy) fn refuse(mut record: Box<RequestRecord>, refusal: Refusal) -> Result<Response<Body>, Aborted> {
    record.record_refusal(refusal);
    let mut response = refusal.response().ok_or(Aborted)?.map(Body::whole);
    // The proxy has waited for this body already; it must not wait again.
    let is_silent = refusal == Refusal::ClientSilent;
    let answered_by = || if is_silent { Answerer::PodThatCloses } else { Answerer::Proxy };
    if let Some(unread) = Unread::of(&record.replay_body, answered_by) {
        response.extensions_mut().insert(unread);
    }
    tell_waits(&record, response.headers_mut());
    change_by_route(&record, response.headers_mut());
    record.set_status(response.status().as_u16());
    record.bytes_out = http_body::Body::size_hint(response.body()).lower();
    Ok(response)
}

fn tell_waits(record: &RequestRecord, headers: &mut HeaderMap) {
    if let Some(timing) = server_timing(record) {
        headers.append(HeaderName::from_static("server-timing"), timing);
    }
}

/// Changes what the operator wants changed in answers of the request's route.
fn change_by_route(record: &RequestRecord, headers: &mut HeaderMap) {
    if let Some(rules) = &record.rules {
        rules.response.apply(headers);
    }
}

/// Removes the fields that describe the pod's own body, for an answer with another one.
pub(in crate::proxy) fn strip(headers: &mut HeaderMap) {
    head::to_client(headers);
    for name in [header::CONTENT_LENGTH, header::CONTENT_TYPE, header::CONTENT_ENCODING, header::TRANSFER_ENCODING] {
        headers.remove(name);
    }
}
