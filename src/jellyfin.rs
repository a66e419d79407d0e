//! Who sends a request, and what its path means. Only this module knows Jellyfin's names.
//!
//! All of it is pure: a request's head goes in, borrowed keys come out. [`client`] has the calls that
//! jellypin itself makes.

pub mod authorization;
pub mod body_scanner;
pub mod canonical;
pub mod client;
pub mod device_list;
pub mod endpoint;
pub mod images;
pub mod libraries;
pub mod log_in_name;
pub mod message;
mod path;
pub mod playlist;
mod query;
pub mod session_list;
pub mod settings;
pub mod sync_play;
mod syntax;
pub mod translation;
pub mod user_data;
pub mod verdict;

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, Uri};

use authorization::Authorization;
pub use authorization::Legacy;
use query::Query;

const EMBY_AUTHORIZATION: HeaderName = HeaderName::from_static("x-emby-authorization");
const EMBY_TOKEN: HeaderName = HeaderName::from_static("x-emby-token");
const MEDIABROWSER_TOKEN: HeaderName = HeaderName::from_static("x-mediabrowser-token");

/// What a request tells about its client, borrowed from its head. `affinity` reads the cookie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity<'a> {
    /// The access token or API key that the server would read.
    pub token: Option<Cow<'a, str>>,
    /// A token in a carrier that these pods ignore. Some clients send it there, to endpoints that
    /// demand none. It tells whose request this is, and proves nothing.
    pub hint: Option<Cow<'a, str>>,
    /// The device's id: from the `Authorization` header, else from the query.
    pub device: Option<Cow<'a, str>>,
    /// The query's `PlaySessionId`.
    pub play_session: Option<Cow<'a, str>>,
    /// The query's `LiveStreamId`.
    pub live_stream: Option<Cow<'a, str>>,
    /// The 32 hex digits of a live playlist, from a segment's path, which has no query.
    pub playlist: Option<&'a str>,
    /// The id of the file of a live stream or recording, from its path.
    pub live_file: Option<&'a str>,
}

/// What pods do with `/emby` and `/mediabrowser` before a path. Their version alone decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefixes {
    /// 10.11 and older take one off, in any case.
    Stripped,
    /// 12.0 has no such path.
    Kept,
}

/// The controllers' path.
pub fn controller_path(path: &str, prefixes: Prefixes) -> &str {
    let below = |prefix: &str| {
        let (start, rest) = path.split_at_checked(prefix.len())?;
        (start.eq_ignore_ascii_case(prefix) && rest.starts_with('/')).then_some(rest)
    };
    match prefixes {
        Prefixes::Stripped => below("/emby").or_else(|| below("/mediabrowser")).unwrap_or(path),
        Prefixes::Kept => path,
    }
}

/// Reads the identity from a request's head. `path` is the path below the pool's BaseUrl.
///
/// Order and quirks are the server's (`AuthorizationContext.cs`): the first non-empty carrier
/// decides.
pub fn identify<'a>(uri: &'a Uri, path: &'a str, headers: &'a HeaderMap, legacy: Legacy) -> Identity<'a> {
    let authorization = Authorization::of(headers, legacy);
    let query = Query::parse(uri.query().unwrap_or_default());
    let (playlist, live_file) = endpoint::path_ids(path);
    let header = |name: HeaderName| authorization::text(headers.get(name)?).filter(|value| !value.is_empty());
    let old = || header(EMBY_TOKEN).or_else(|| header(MEDIABROWSER_TOKEN)).map(Cow::Borrowed);
    let token = match legacy {
        Legacy::Accepted => authorization.token.or_else(old).or(query.api_key).or(query.legacy_api_key.clone()),
        Legacy::Ignored => authorization.token.or(query.api_key),
    };
    let hint = if token.is_none() { old().or(query.legacy_api_key) } else { None };
    Identity {
        token,
        hint,
        device: authorization.device_id.or(query.device_id),
        play_session: query.play_session_id,
        live_stream: query.live_stream_id,
        playlist,
        live_file,
    }
}

#[cfg(test)]
mod tests;
