//! How much a request matters where its pod has too much to do.

use crate::{jellyfin::endpoint::Need, pod::Urgency, proxy::request::context::RequestContext};

/// How urgent the request is where its pod has too much to do.
pub(super) fn urgency(ctx: &RequestContext<'_>) -> Urgency {
    match Need::of(ctx.endpoint, &ctx.head.method, ctx.path) {
        Need::Playing => Urgency::Playing,
        Need::Page => Urgency::Interactive,
        Need::Picture => Urgency::Background,
    }
}
