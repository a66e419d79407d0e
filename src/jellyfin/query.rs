//! Query keys that identify a client, read as ASP.NET does: any case, decoded, repeats by type.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use super::syntax::pieces;

/// The keys that jellypin reads of every request.
pub(super) const KNOWN: [&str; 5] = ["ApiKey", "api_key", "DeviceId", "LiveStreamId", "PlaySessionId"];

/// How the values of a key are read.
enum Kind {
    /// As `Request.Query[…]` gives them.
    Token,
    /// As ASP.NET binds them to a parameter.
    Hint,
}

/// The values found. An empty one counts as none.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query<'a> {
    pub(super) api_key: Option<Cow<'a, str>>,
    pub(super) legacy_api_key: Option<Cow<'a, str>>,
    pub(super) device_id: Option<Cow<'a, str>>,
    pub(super) play_session_id: Option<Cow<'a, str>>,
    pub(super) live_stream_id: Option<Cow<'a, str>>,
}

impl<'a> Query<'a> {
    pub(super) fn parse(query: &'a str) -> Query<'a> {
        let mut found = Query::default();
        // Most queries have nothing to decode, which one look at the whole tells.
        let is_plain = memchr2(b'%', b'+', query.as_bytes()).is_none();
        for (key, value) in pairs(query) {
            let key = if is_plain { Cow::Borrowed(key) } else { url_decoded(key) };
            let Some((place, kind)) = found.place(&key) else { continue };
            *place = match (kind, place.take()) {
                // The server joins the non-empty values of a token key; no pod knows such a token.
                (Kind::Token, Some(first)) if !value.is_empty() => {
                    Some(Cow::Owned(format!("{first},{}", url_decoded(value))))
                }
                (Kind::Token, None) if value.is_empty() => None,
                // Of other keys the first value counts, and an empty one counts as none.
                (_, first) => first.or_else(|| Some(url_decoded(value))),
            };
        }
        let filled = |value: &Cow<'_, str>| !value.is_empty();
        Query {
            device_id: found.device_id.filter(filled),
            play_session_id: found.play_session_id.filter(filled),
            live_stream_id: found.live_stream_id.filter(filled),
            ..found
        }
    }

    fn place(&mut self, key: &str) -> Option<(&mut Option<Cow<'a, str>>, Kind)> {
        // The length rules out most keys of a long HLS query.
        match key.len() {
            6 if key.eq_ignore_ascii_case("ApiKey") => Some((&mut self.api_key, Kind::Token)),
            7 if key.eq_ignore_ascii_case("api_key") => Some((&mut self.legacy_api_key, Kind::Token)),
            8 if key.eq_ignore_ascii_case("DeviceId") => Some((&mut self.device_id, Kind::Hint)),
            12 if key.eq_ignore_ascii_case("LiveStreamId") => Some((&mut self.live_stream_id, Kind::Hint)),
            13 if key.eq_ignore_ascii_case("PlaySessionId") => Some((&mut self.play_session_id, Kind::Hint)),
            _ => None,
        }
    }
}

/// Keys and values as they are written. A key without a `=` has an empty value.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    pieces(query, b'&').map(|pair| match memchr(b'=', pair.as_bytes()) {
        Some(at) => (&pair[..at], &pair[at + 1..]),
        None => (pair, ""),
    })
}

/// Every non-empty value of a key, whose name may be in any case.
pub(super) fn all(query: &str, key: &str) -> Vec<String> {
    let wanted = pairs(query).filter(|(name, value)| !value.is_empty() && url_decoded(name).eq_ignore_ascii_case(key));
    wanted.map(|(_, value)| url_decoded(value).into_owned()).collect()
}

/// The decoded key, if it may be a known one: no known key is longer.
pub(super) fn decoded_key(key: &str) -> Option<Cow<'_, str>> {
    let may_be = key.len() <= 13 || key.contains('%');
    may_be.then(|| url_decoded(key))
}

/// `%XX` and `+` decoded, as `WebUtility.UrlDecode` does it. Borrows where nothing is encoded.
pub(super) fn url_decoded(raw: &str) -> Cow<'_, str> {
    if memchr2(b'%', b'+', raw.as_bytes()).is_none() {
        return Cow::Borrowed(raw);
    }
    let blanks = raw.replace('+', " ");
    Cow::Owned(percent_encoding::percent_decode_str(&blanks).decode_utf8_lossy().into_owned())
}
