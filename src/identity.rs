//! Who a request is from, and what Jellyfin means by its path: the one room that knows Jellyfin's names.
//!
//! All of it is pure: a request's head goes in, borrowed keys come out.

pub mod authorization;
pub mod endpoint;
mod query;

use std::borrow::Cow;

use http::{HeaderMap, Uri, header};

use authorization::Authorization;
pub use authorization::Legacy;
use query::Query;

/// What a request tells of its client, borrowed from its head. The affinity cookie is `affinity`'s.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Identity<'a> {
    /// The access token or API key that the server would read.
    pub token: Option<Cow<'a, str>>,
    /// The device's id: from the `Authorization` header, else from the query.
    pub device: Option<Cow<'a, str>>,
    /// The query's `PlaySessionId`.
    pub play_session: Option<Cow<'a, str>>,
    /// The query's `LiveStreamId`.
    pub live_stream: Option<Cow<'a, str>>,
    /// The 32 hex digits of a live playlist, from a segment's path, which has no query.
    pub playlist: Option<&'a str>,
    /// The id of a live stream's file, from its path.
    pub live_file: Option<&'a str>,
}

/// Reads the identity off a request's head. `path` is the path below the pool's BaseUrl.
///
/// Order and quirks are the server's own (`AuthorizationContext.cs`): the first carrier that is not empty decides.
pub fn identify<'a>(uri: &'a Uri, path: &'a str, headers: &'a HeaderMap, legacy: Legacy) -> Identity<'a> {
    let authorization = Authorization::of(headers, legacy);
    let query = Query::parse(uri.query().unwrap_or_default());
    let (playlist, live_file) = endpoint::ids_in_path(path);
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).filter(|value| !value.is_empty());
    let token = authorization
        .token
        .or_else(|| legacy.accepted().then(|| header("x-emby-token")).flatten().map(Cow::Borrowed))
        .or_else(|| legacy.accepted().then(|| header("x-mediabrowser-token")).flatten().map(Cow::Borrowed))
        .or(query.api_key)
        .or_else(|| query.legacy_api_key.filter(|_| legacy.accepted()));
    Identity {
        token,
        device: authorization.device_id.or(query.device_id),
        play_session: query.play_session_id,
        live_stream: query.live_stream_id,
        playlist,
        live_file,
    }
}

/// Whether a request looks like a browser's visit of a page.
pub fn is_navigation(headers: &HeaderMap) -> bool {
    let accepts_page = |value: &http::HeaderValue| value.as_bytes().starts_with(b"text/html");
    headers.get(header::ACCEPT).is_some_and(accepts_page)
}

#[cfg(test)]
mod tests;
