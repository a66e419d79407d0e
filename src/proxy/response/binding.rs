//! Step 8, bind: the cookie that keeps a client with its pod.

use http::{HeaderMap, Method, header};

use crate::{
    affinity::cookie::Cookies,
    forward::head,
    jellyfin::endpoint::Endpoint,
    proxy::{
        request::{context::RequestContext, select::Decision},
        shared_state::SharedState,
    },
};

/// Adds `Set-Cookie` if the binding changed, but never to an answer that a cache may share.
pub(in crate::proxy) fn bind(
    headers: &mut HeaderMap,
    cookies: &Cookies,
    ctx: &RequestContext<'_>,
    decision: &Decision,
) {
    let is_bound = ctx.keys.cookie.is_some_and(|named| named.pod == decision.pod.id && named.is_current);
    if is_bound || ctx.head.method == Method::OPTIONS || is_public(headers) {
        return;
    }
    if let Some(value) = cookies.bind(decision.pod.id, head::is_https(&ctx.head.headers, ctx.client)) {
        headers.append(header::SET_COOKIE, value);
    }
}

/// Whether the answer says nothing of where the client lives: any pod, the leader,
/// or the pod of another session gives it.
pub(in crate::proxy) fn binds_nobody(shared: &SharedState, ctx: &RequestContext<'_>) -> bool {
    use Endpoint::{AnonymousMedia, Clock, QuickConnect, RemoteControl, SignOn};
    let is_anybodys = matches!(ctx.endpoint, AnonymousMedia | Clock | QuickConnect | RemoteControl | SignOn);
    is_anybodys || (ctx.endpoint != Endpoint::LogIn && shared.is_leaders(ctx.path))
}

fn is_public(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::CACHE_CONTROL).into_iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .any(|part| part.trim_ascii().eq_ignore_ascii_case(b"public"))
}
