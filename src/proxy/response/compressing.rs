//! Compresses the answer for a client that asks for it.

use std::{collections::VecDeque, future::poll_fn, pin::Pin, time::Duration};

use http::{Method, StatusCode, Version, response};
use http_body::Body as _;
use tokio::time;

use crate::{
    compression::{Coding, weaken_confirmed_tag},
    jellyfin::endpoint::may_answer_with_token,
    limits::network,
    proxy::{request::context::RequestContext, response::body::Body, shared_state::SharedState},
};

/// How long an answer without a length is waited for, to see whether it is a short one. Pods send
/// their JSON so, and most of it is one packet behind the head.
const GLANCE: Duration = Duration::from_millis(10);

/// The coding that this answer should have.
pub(in crate::proxy) fn coding(
    shared: &SharedState,
    ctx: &RequestContext<'_>,
    head: &mut response::Parts,
) -> Option<Coding> {
    let compression = &shared.compression;
    // To a client of HTTP/1.0 only the length tells a broken answer from a whole one.
    if ctx.head.method != Method::GET || ctx.head.version < Version::HTTP_11 || !compression.config.is_on {
        return None;
    }
    if head.status == StatusCode::NOT_MODIFIED {
        weaken_confirmed_tag(&ctx.head.headers, &mut head.headers);
        return None;
    }
    let coding = compression.coding(&ctx.head.headers, head.status, &mut head.headers)?;
    (compression.config.with_tokens || !may_answer_with_token(ctx.path)).then_some(coding)
}

/// The compressed answer. One that turns out to be short stays as it is.
pub(in crate::proxy) async fn compress(
    shared: &SharedState,
    ctx: &RequestContext<'_>,
    coding: Coding,
    head: &mut response::Parts,
    mut body: Body,
) -> Body {
    let least = shared.compression.config.min_bytes as u64;
    if body.size_hint().lower() < least {
        let (mut early, mut length, mut has_ended) = (VecDeque::new(), 0, body.is_end_stream());
        let glance = async {
            while !has_ended && length < least {
                let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
                let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
                length += data.map_or(0, |data| data.len() as u64);
                has_ended = !matches!(frame, Some(Ok(_))) || body.is_end_stream();
                early.extend(frame);
            }
        };
        // A slow answer is not known to be short.
        let _ = time::timeout(GLANCE, glance).await;
        body = body.with_early(early);
        if has_ended && length < least {
            return body;
        }
    }
    let address = (!ctx.client.trusts(ctx.origin)).then(|| network(ctx.origin));
    match shared.compression.start_encoding(coding, address, &mut head.headers) {
        Some(encoder) => body.encoded(encoder),
        None => body,
    }
}
