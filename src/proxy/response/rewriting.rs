//! Makes all pods look like one server: rewrites a pod's own id and address in answers to clients.

use std::{collections::VecDeque, future::poll_fn, pin::Pin};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode, header, response};
use http_body::{Body as _, Frame};

use crate::{
    forward::{answer::AnswerBody, head},
    jellyfin::endpoint::Endpoint,
    proxy::{
        request::context::RequestContext,
        response::body::{Body, BodyObserver},
        shared_state::SharedState,
    },
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

/// Rewrites the answer for the client: JSON gets the shown id, and the proxy's own address in
/// place of the pod's.
pub(in crate::proxy) async fn rewrite_for_client(
    shared: &SharedState,
    ctx: &RequestContext<'_>,
    answer: &mut response::Parts,
    body: AnswerBody,
    learning: Option<Box<dyn BodyObserver>>,
) -> Result<Body, BrokeOff> {
    let id_rewriter = ctx.pool.shown_server.id_rewriter(body.pod()).filter(|_| !ctx.endpoint.is_media());
    let has_address = answer.status == StatusCode::OK && ctx.contains_address();
    let has_groups = ctx.endpoint == Endpoint::SyncPlay && shared.groups.any_moved();
    // Where nothing is to be rewritten, what the body is does not matter.
    let is_rewritten = id_rewriter.is_some() || has_address || has_groups;
    if !is_rewritten || body.is_end_stream() || !is_readable_json(&answer.headers) {
        return Ok(Body::answer(body, learning, None));
    }
    if has_address {
        // Boxed: this path is rare, and would make every request's future larger.
        return Box::pin(with_own_address(shared, ctx, answer, body, id_rewriter)).await;
    }
    if has_groups {
        return Box::pin(with_shown_groups(shared, ctx, answer, body, id_rewriter)).await;
    }
    Ok(Body::answer(body, learning, rewriting(id_rewriter)))
}

/// A list of SyncPlay groups, or one of them, with the ids by which clients know them.
async fn with_shown_groups(
    shared: &SharedState,
    ctx: &RequestContext<'_>,
    answer: &mut response::Parts,
    mut body: AnswerBody,
    id_rewriter: Option<IdRewriter>,
) -> Result<Body, BrokeOff> {
    let json = match collect(&mut body, LONGEST).await? {
        Collected::Whole(json) => json,
        Collected::Longer(early) => return Ok(Body::answer_read_ahead(early, body, rewriting(id_rewriter))),
    };
    let pool = &ctx.pool.pool.name;
    let shown = std::str::from_utf8(&json).ok().and_then(|text| shared.groups.with_shown_ids(pool, text));
    let json = shown.map_or(json, Bytes::from);
    answer.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(json.len()));
    Ok(Body::whole(json))
}

async fn with_own_address(
    shared: &SharedState,
    ctx: &RequestContext<'_>,
    answer: &mut response::Parts,
    body: AnswerBody,
    id_rewriter: Option<IdRewriter>,
) -> Result<Body, BrokeOff> {
    let (headers, client) = (&ctx.head.headers, ctx.client);
    let is_https = head::is_https(headers, client);
    let host = head::requested_host(headers, client);
    let public_url = shared.shown_server.public_url.as_deref();
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

/// The pod's answer, with the shown id.
pub(in crate::proxy) fn shown(ctx: &RequestContext<'_>, body: AnswerBody) -> Body {
    let id_rewriter = ctx.pool.shown_server.id_rewriter(body.pod());
    Body::answer(body, None, rewriting(id_rewriter))
}

/// The same for an answer whose `early` frames were read ahead.
pub(in crate::proxy) fn shown_read_ahead(
    ctx: &RequestContext<'_>,
    early: VecDeque<Frame<Bytes>>,
    body: AnswerBody,
) -> Body {
    let id_rewriter = ctx.pool.shown_server.id_rewriter(body.pod());
    Body::answer_read_ahead(early, body, rewriting(id_rewriter))
}

fn rewriting(id_rewriter: Option<IdRewriter>) -> Option<Box<BodyRewriter>> {
    id_rewriter.map(|id_rewriter| Box::new(id_rewriter.to_client()))
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
