//! One server to the eye: what a pod is asked and what a client is told, where a pod's own id or address would show.

use std::{collections::VecDeque, future::poll_fn, pin::Pin};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header, response};
use http_body::{Body as _, Frame};

use super::{Asking, Body, Proxy, learning::Learning};
use crate::{
    facade::{Guise, Rewriting, address, is_readable_json},
    forward::{answer::AnswerBody, head, outbound::Outbound},
    identity::endpoint::{self, Endpoint},
    pod::Pod,
};

/// The longest answer that is looked through for the server's address. Real ones have less than 3 KiB.
const LONGEST: usize = 64 * 1024;

/// The pod broke its answer off while it was gathered.
pub(super) struct Broken;

/// An answer that is gathered: whole, or so much of it that it is no more.
pub(super) enum Gathered {
    Whole(Bytes),
    Longer(VecDeque<Frame<Bytes>>),
}

impl Proxy {
    /// 8. The answer as the client gets it: JSON with the shown id, and with the proxy's own address where it tells one.
    pub(super) async fn for_client(
        &self,
        asking: &Asking<'_>,
        answer: &mut response::Parts,
        body: AnswerBody,
        learning: Option<Box<Learning>>,
    ) -> Result<Body, Broken> {
        if body.is_end_stream() || !is_readable_json(&answer.headers) {
            return Ok(Body::answer(body, learning, None));
        }
        let guise = asking.pool.facade.guise(body.pod()).filter(|_| !asking.endpoint.is_media());
        if answer.status == StatusCode::OK && asking.tells_address() {
            // Boxed, for it is seldom used, and every request's future would be the larger for it.
            return Box::pin(self.with_own_address(asking, answer, body, guise)).await;
        }
        Ok(Body::answer(body, learning, rewriting(guise)))
    }

    async fn with_own_address(
        &self,
        asking: &Asking<'_>,
        answer: &mut response::Parts,
        body: AnswerBody,
        guise: Option<Guise>,
    ) -> Result<Body, Broken> {
        let (headers, client) = (&asking.head.headers, asking.client);
        let is_https = head::came_over_tls(headers, client);
        let host = head::called_host(headers, client);
        let public_url = self.site.facade.public_url.as_deref();
        let address = address::of(public_url, is_https, host, &asking.pool.pool.base_path);
        let Some(address) = address.filter(|_| body.size_hint().lower() <= LONGEST as u64) else {
            return Ok(Body::answer(body, None, rewriting(guise)));
        };
        let mut body = body;
        let json = match gather(&mut body, LONGEST).await? {
            Gathered::Whole(json) => json,
            Gathered::Longer(early) => return Ok(Body::begun(early, body, rewriting(guise))),
        };
        let json = match guise {
            Some(guise) => guise.whole_to_client(json),
            None => json,
        };
        let json = address::replace(&json, &address).map_or(json, Bytes::from);
        answer.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(json.len()));
        Ok(Body::whole(json))
    }
}

impl Asking<'_> {
    /// 4. The request as a pod gets it that has an id of its own: by that id, and so that its answer can be read.
    pub(super) fn for_pod(&self, pod: &Pod, request: &mut Request<Outbound>) {
        let guise = self.pool.facade.guise(pod);
        if self.tells_address() || (guise.is_some() && self.may_get_json()) {
            ask_unencoded(request.headers_mut());
        }
        let Some(guise) = guise else { return };
        if let Some(target) = guise.target_to_pod(request.uri()) {
            *request.uri_mut() = target;
        }
        if is_readable_json(request.headers()) {
            request.body_mut().rewrite(guise.to_pod());
        }
    }

    pub(super) fn tells_address(&self) -> bool {
        matches!(self.endpoint, Endpoint::Vital | Endpoint::Open)
            && self.head.method == Method::GET
            && endpoint::tells_address(self.path)
    }

    fn may_get_json(&self) -> bool {
        let is_of_web_client = || self.endpoint == Endpoint::Open && endpoint::is_of_web_client(self.path);
        !self.endpoint.is_media() && !is_of_web_client()
    }
}

fn rewriting(guise: Option<Guise>) -> Option<Box<Rewriting>> {
    guise.map(|guise| Box::new(guise.to_client()))
}

/// What is compressed cannot be rewritten. A field that is not there is left out: pods compress for nobody who has not asked.
fn ask_unencoded(headers: &mut HeaderMap) {
    if headers.contains_key(header::ACCEPT_ENCODING) {
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
}

/// Gathers an answer of at most so many bytes.
pub(super) async fn gather(body: &mut AnswerBody, most: usize) -> Result<Gathered, Broken> {
    let (mut frames, mut length) = (VecDeque::new(), 0);
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
        let frame = frame.map_err(|_| Broken)?;
        length += frame.data_ref().map_or(0, Bytes::len);
        frames.push_back(frame);
        if length > most {
            return Ok(Gathered::Longer(frames));
        }
    }
    let mut whole = BytesMut::with_capacity(length);
    frames.iter().filter_map(Frame::data_ref).for_each(|data| whole.extend_from_slice(data));
    Ok(Gathered::Whole(whole.freeze()))
}
