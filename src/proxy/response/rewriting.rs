//! Makes all pods look like one server. Rewrites a pod's own id and address in requests to pods and
//! in answers to clients.

use std::{collections::VecDeque, future::poll_fn, pin::Pin};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header, response};
use http_body::{Body as _, Frame};

use crate::{
    forward::{answer::AnswerBody, head, outbound::UpstreamBody},
    jellyfin::endpoint::{self, Endpoint},
    pod::Pod,
    proxy::{Body, Proxy, RequestContext, learn::BodyLearner},
    server_id::{BodyRewriter, IdRewriter, address, is_readable_json},
};

/// The longest answer to search for the server's address, in bytes. Real ones have less than 3 KiB.
const LONGEST: usize = 64 * 1024;

/// The pod broke off its answer while it was being collected.
pub(in crate::proxy) struct BrokeOff;

/// A collected answer: whole, or what was read of one that is too long.
pub(in crate::proxy) enum Collected {
    Whole(Bytes),
    Longer(VecDeque<Frame<Bytes>>),
}

impl Proxy {
    /// 8. Rewrites the answer for the client: JSON gets the shown id, and the proxy's own address
    ///    in place of the pod's.
    pub(in crate::proxy) async fn rewrite_for_client(
        &self,
        ctx: &RequestContext<'_>,
        answer: &mut response::Parts,
        body: AnswerBody,
        learning: Option<Box<BodyLearner>>,
    ) -> Result<Body, BrokeOff> {
        if body.is_end_stream() || !is_readable_json(&answer.headers) {
            return Ok(Body::answer(body, learning, None));
        }
        let id_rewriter = ctx.pool.shown_server.id_rewriter(body.pod()).filter(|_| !ctx.endpoint.is_media());
        if answer.status == StatusCode::OK && ctx.contains_address() {
            // Boxed: this path is rare, and would make every request's future larger.
            return Box::pin(self.with_own_address(ctx, answer, body, id_rewriter)).await;
        }
        Ok(Body::answer(body, learning, rewriting(id_rewriter)))
    }

    async fn with_own_address(
        &self,
        ctx: &RequestContext<'_>,
        answer: &mut response::Parts,
        body: AnswerBody,
        id_rewriter: Option<IdRewriter>,
    ) -> Result<Body, BrokeOff> {
        let (headers, client) = (&ctx.head.headers, ctx.client);
        let is_https = head::is_https(headers, client);
        let host = head::requested_host(headers, client);
        let public_url = self.shared.shown_server.public_url.as_deref();
        let address = address::of(public_url, is_https, host, &ctx.pool.pool.base_path);
        let Some(address) = address.filter(|_| body.size_hint().lower() <= LONGEST as u64) else {
            return Ok(Body::answer(body, None, rewriting(id_rewriter)));
        };
        let mut body = body;
        let json = match collect(&mut body, LONGEST).await? {
            Collected::Whole(json) => json,
            Collected::Longer(early) => return Ok(Body::answer_read_ahead(early, body, rewriting(id_rewriter))),
        };
        let json = match id_rewriter {
            Some(id_rewriter) => id_rewriter.whole_to_client(json),
            None => json,
        };
        let json = address::replace(&json, &address).map_or(json, Bytes::from);
        answer.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(json.len()));
        Ok(Body::whole(json))
    }
}

impl RequestContext<'_> {
    /// 4. Rewrites the request for a pod with an id of its own: puts in that id, and asks for a
    ///    readable answer.
    pub(in crate::proxy) fn rewrite_for_pod(&self, pod: &Pod, request: &mut Request<UpstreamBody>) {
        let id_rewriter = self.pool.shown_server.id_rewriter(pod);
        if self.contains_address() || self.is_to_be_merged() || (id_rewriter.is_some() && self.may_get_json()) {
            request_unencoded(request.headers_mut());
        }
        let Some(id_rewriter) = id_rewriter else { return };
        if let Some(target) = id_rewriter.target_to_pod(request.uri()) {
            *request.uri_mut() = target;
        }
        if is_readable_json(request.headers()) {
            request.body_mut().rewrite(id_rewriter.to_pod());
        }
    }

    pub(in crate::proxy) fn contains_address(&self) -> bool {
        matches!(self.endpoint, Endpoint::LogoutTrigger | Endpoint::Open)
            && self.head.method == Method::GET
            && endpoint::contains_address(self.path)
    }

    /// The pod's answer, with the shown id.
    pub(in crate::proxy) fn show(&self, body: AnswerBody) -> Body {
        let id_rewriter = self.pool.shown_server.id_rewriter(body.pod());
        Body::answer(body, None, rewriting(id_rewriter))
    }

    /// The same for an answer whose `early` frames were read ahead.
    pub(in crate::proxy) fn show_read_ahead(&self, early: VecDeque<Frame<Bytes>>, body: AnswerBody) -> Body {
        let id_rewriter = self.pool.shown_server.id_rewriter(body.pod());
        Body::answer_read_ahead(early, body, rewriting(id_rewriter))
    }

    /// Whether the answer is merged with those of other pods.
    fn is_to_be_merged(&self) -> bool {
        self.endpoint == Endpoint::SessionList && self.pool.pool.pods().len() > 1
    }

    fn may_get_json(&self) -> bool {
        let is_web_client_file = || self.endpoint == Endpoint::Open && endpoint::is_web_client_file(self.path);
        !self.endpoint.is_media() && !is_web_client_file()
    }
}

fn rewriting(id_rewriter: Option<IdRewriter>) -> Option<Box<BodyRewriter>> {
    id_rewriter.map(|id_rewriter| Box::new(id_rewriter.to_client()))
}

/// Asks for an uncompressed answer, since a compressed one cannot be rewritten. Adds no field if
/// there is none: pods compress only for clients that ask.
fn request_unencoded(headers: &mut HeaderMap) {
    if headers.contains_key(header::ACCEPT_ENCODING) {
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
}

/// Collects an answer of at most `most` bytes.
pub(in crate::proxy) async fn collect(body: &mut AnswerBody, most: usize) -> Result<Collected, BrokeOff> {
    let (mut frames, mut length) = (VecDeque::new(), 0);
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
        let frame = frame.map_err(|_| BrokeOff)?;
        length += frame.data_ref().map_or(0, Bytes::len);
        frames.push_back(frame);
        if length > most {
            return Ok(Collected::Longer(frames));
        }
    }
    let mut whole = BytesMut::with_capacity(length);
    frames.iter().filter_map(Frame::data_ref).for_each(|data| whole.extend_from_slice(data));
    Ok(Collected::Whole(whole.freeze()))
}
