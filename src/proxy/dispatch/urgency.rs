//! How much a request matters where its pod has too much to do.

use crate::{jellyfin::endpoint::Purpose, pod::Urgency, proxy::request::context::RequestContext};

/// How urgent the request is where its pod has too much to do.
pub(super) fn urgency(ctx: &RequestContext<'_>) -> Urgency {
    match Purpose::of(ctx.endpoint, &ctx.head.method, ctx.path) {
        Purpose::Playing => Urgency::Playing,
        Purpose::Page => Urgency::Interactive,
        Purpose::Picture => Urgency::Background,
    }
}
