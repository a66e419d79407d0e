//! Step 4, rewrite: the request as a pod gets it.

use std::{sync::atomic::Ordering, time::Duration};

use http::{HeaderMap, HeaderValue, Request, Uri, header, response};
use tokio::time;

use crate::{
    affinity::cookie,
    compression::ask_for_either_tag,
    forward::outbound::{ReplayBody, UpstreamBody},
    jellyfin::{
        authorization,
        endpoint::{self, Endpoint, StateReport},
        sync_play,
        translation::{self, NO_TOKEN},
        verdict,
    },
    pod::Pod,
    proxy::{
        request::context::{ClientSession, RequestContext},
        shared_state::SharedState,
    },
    server_id::is_readable_json,
    sessions::Token,
};

/// Builds the request for the pod, with the token that the pod knows.
pub(super) fn upstream_request(
    shared: &SharedState,
    ctx: &RequestContext<'_>,
    replay_body: &ReplayBody,
    pod: &Pod,
    token: Option<&Token>,
) -> Request<UpstreamBody> {
    let mut request = Request::new(replay_body.new_attempt());
    *request.method_mut() = ctx.head.method.clone();
    *request.uri_mut() = current_target(ctx);
    *request.headers_mut() = ctx.head.headers.clone();
    UpstreamBody::wait_if_expected(&mut request);
    if shared.compression.config.is_on {
        ask_for_either_tag(request.headers_mut());
    }
    cookie::strip(request.headers_mut(), &[&shared.cookie.name, cookie::OF_ADMIN]);
    if ctx.is_by_key
        && let Some(key) = shared.api_key_of(pod)
    {
        request.headers_mut().insert(header::AUTHORIZATION, authorization::token_only(key.as_str()));
    }
    translate(&mut request, ctx, token);
    name_play_session(&mut request, shared, ctx, replay_body, pod);
    name_group(&mut request, shared, ctx, replay_body);
    show_own_id(&mut request, shared, ctx, pod);
    request
}

/// The target for the pod: usually the client's own. If a pod may already have started the
/// playback, a progress report replaces the start, which must not happen twice.
fn current_target(ctx: &RequestContext<'_>) -> Uri {
    let uri = &ctx.head.uri;
    let may_be_executed = ctx.may_be_executed.load(Ordering::Relaxed);
    if may_be_executed && endpoint::starts_playback(&ctx.head.method, ctx.path) {
        return endpoint::start_as_progress(uri).unwrap_or_else(|| uri.clone());
    }
    uri.clone()
}

/// Replaces the client's token with the one that the pod knows, and an ended one with [`NO_TOKEN`].
fn translate<B>(request: &mut Request<B>, ctx: &RequestContext<'_>, token: Option<&Token>) {
    let Some(own) = ctx.keys.identity.token.as_deref().or(ctx.keys.identity.hint.as_deref()) else { return };
    let mut uri = request.uri().clone();
    match (&ctx.client_session, token) {
        (ClientSession::Ended, _) => {
            translation::translate(&mut uri, request.headers_mut(), |token| token == own, NO_TOKEN);
        }
        (ClientSession::Known(session), Some(token)) if token.as_str() != own => {
            translation::translate(&mut uri, request.headers_mut(), |other| session.tokens.has(other), token.as_str());
        }
        _ => return,
    }
    *request.uri_mut() = uri;
}

/// Longest time that a report's body is waited for, to learn what it reports on.
const REPORT: Duration = Duration::from_secs(2);

/// Waits for a report's body, which alone names the play session, if any has a new id.
pub(super) async fn await_report(shared: &SharedState, ctx: &RequestContext<'_>, replay_body: &ReplayBody) {
    if !shared.play_sessions.is_empty() && StateReport::of(&ctx.head.method, ctx.path).is_some() {
        let _ = time::timeout(REPORT, replay_body.read_ahead()).await;
    }
}

/// Gives the request's play session a new id at this pod, if the pod says that another pod holds
/// the lease.
pub(super) fn rename_leased(
    shared: &SharedState,
    ctx: &RequestContext<'_>,
    pod: &Pod,
    answer: &response::Parts,
) -> bool {
    if !verdict::is_leased_elsewhere(answer.status, &answer.headers) {
        return false;
    }
    let Some(own) = ctx.keys.identity.play_session.as_deref() else { return false };
    let used = shared.play_sessions.at(own, pod);
    let renamed = shared.play_sessions.rename(own, used.as_deref().unwrap_or(own), pod).is_some();
    if renamed {
        tracing::info!(pod.name = &*pod.name, "a transcode goes on under a new play session");
    }
    renamed
}

/// Puts in the id by which the pod knows the play session: in the query, or in a report's body.
fn name_play_session(
    request: &mut Request<UpstreamBody>,
    shared: &SharedState,
    ctx: &RequestContext<'_>,
    replay_body: &ReplayBody,
    pod: &Pod,
) {
    if shared.play_sessions.is_empty() || endpoint::is_computed_playlist(ctx.path) {
        return;
    }
    if let Some(own) = ctx.keys.identity.play_session.as_deref()
        && let Some(id) = shared.play_sessions.at(own, pod)
        && let Some(query) = request.uri().query()
        && let Some(query) = endpoint::query_replaced(query, "PlaySessionId", own, &id)
        && let Ok(target) = format!("{}?{query}", request.uri().path()).parse()
    {
        *request.uri_mut() = target;
    }
    if StateReport::of(&ctx.head.method, ctx.path).is_some()
        && !ctx.head.headers.contains_key(header::CONTENT_ENCODING)
        && let Some(body) = replay_body.replayable()
        && let Some(own) = endpoint::reported_play_session(&body)
        && let Some(id) = shared.play_sessions.at(&own, pod)
        && let Ok(text) = std::str::from_utf8(&body)
    {
        replace_body(request, text.replace(&format!("\"{own}\""), &format!("\"{id}\"")));
    }
}

/// Puts in the id by which the pod knows a SyncPlay group: in the path, or in the body of a join.
fn name_group(
    request: &mut Request<UpstreamBody>,
    shared: &SharedState,
    ctx: &RequestContext<'_>,
    replay_body: &ReplayBody,
) {
    if ctx.endpoint != Endpoint::SyncPlay || !shared.groups.any_moved() {
        return;
    }
    request_unencoded(request.headers_mut());
    let id_of = |shown: &str| shared.groups.id_at_pod(&ctx.pool.pool.name, &sync_play::plain(shown));
    if let Some((path, shown)) = request.uri().path().rsplit_once('/')
        && let Some(id) = id_of(shown)
        && let Ok(target) = format!("{path}/{id}{}", query_of(request.uri())).parse()
    {
        *request.uri_mut() = target;
    }
    if endpoint::is_join(ctx.path)
        && !ctx.head.headers.contains_key(header::CONTENT_ENCODING)
        && let Some(body) = replay_body.replayable()
        && let Some(shown) = sync_play::group_to_join(&body)
        && let Some(id) = id_of(&shown)
        && let Ok(text) = std::str::from_utf8(&body)
    {
        replace_body(request, text.replace(&shown, &sync_play::dashed(&id)));
    }
}

fn query_of(uri: &Uri) -> String {
    uri.query().map_or(String::new(), |query| format!("?{query}"))
}

fn replace_body(request: &mut Request<UpstreamBody>, text: String) {
    let headers = request.headers_mut();
    headers.remove(header::TRANSFER_ENCODING);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(text.len()));
    *request.body_mut() = UpstreamBody::from_bytes(text.into());
}

/// Puts in the pod's own id, if it has one, and asks for a readable answer.
fn show_own_id(request: &mut Request<UpstreamBody>, shared: &SharedState, ctx: &RequestContext<'_>, pod: &Pod) {
    let id_rewriter = ctx.pool.shown_server.id_rewriter(pod);
    let shows_groups = ctx.endpoint == Endpoint::SyncPlay && !shared.groups.is_empty();
    if shows_groups || ctx.contains_address() || ctx.is_to_be_merged() || (id_rewriter.is_some() && may_get_json(ctx)) {
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

fn may_get_json(ctx: &RequestContext<'_>) -> bool {
    let is_web_client_file = || ctx.endpoint == Endpoint::Open && endpoint::is_web_client_file(ctx.path);
    !ctx.endpoint.is_media() && !is_web_client_file()
}

/// Asks for an uncompressed answer, since a compressed one cannot be rewritten. Adds no field if
/// there is none: pods compress only for clients that ask.
fn request_unencoded(headers: &mut HeaderMap) {
    if headers.contains_key(header::ACCEPT_ENCODING) {
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
}
