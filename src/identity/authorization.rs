//! The `Authorization` header, read exactly as the server reads it, quirks included.
//!
//! Source: `Jellyfin.Server.Implementations/Security/AuthorizationContext.cs`, `GetAuthorization` and `GetParts`.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, header};
use memchr::{memchr, memchr3};

use super::query::url_decoded;

/// Whether the pods take the carriers of old: `X-Emby-*`, `X-MediaBrowser-Token`, the scheme `Emby`, `?api_key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Legacy {
    /// 10.11 and older, or 12.0 with `EnableLegacyAuthorization`.
    Accepted,
    /// 12.0 as it comes.
    Ignored,
}

impl Legacy {
    pub fn accepted(self) -> bool {
        self == Legacy::Accepted
    }
}

/// The fields of the header that somebody reads. An empty token counts as none.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Authorization<'a> {
    pub token: Option<Cow<'a, str>>,
    pub device_id: Option<Cow<'a, str>>,
}

impl<'a> Authorization<'a> {
    /// Reads the first `Authorization` line; where it is absent or empty, and the pods take it, `X-Emby-Authorization`.
    pub fn of(headers: &'a HeaderMap, legacy: Legacy) -> Authorization<'a> {
        let line =
            |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).filter(|line| !line.is_empty());
        let own: Option<&str> = line(header::AUTHORIZATION);
        let old = || legacy.accepted().then(|| line(HeaderName::from_static("x-emby-authorization"))).flatten();
        own.or_else(old).map(|line| Authorization::parse(line, legacy)).unwrap_or_default()
    }

    fn parse(line: &'a str, legacy: Legacy) -> Authorization<'a> {
        let Some((scheme, fields)) = line.split_once(' ') else { return Authorization::default() };
        let known =
            scheme.eq_ignore_ascii_case("MediaBrowser") || (legacy.accepted() && scheme.eq_ignore_ascii_case("Emby"));
        if !known {
            return Authorization::default();
        }
        let mut authorization = Authorization::default();
        for_each_field(fields, |key, raw| match key {
            "Token" => authorization.token = Some(value(raw)),
            "DeviceId" => authorization.device_id = Some(value(raw)),
            _ => {}
        });
        let filled = |value: &Cow<'_, str>| !value.is_empty();
        authorization.token = authorization.token.filter(filled);
        authorization.device_id = authorization.device_id.filter(filled);
        authorization
    }
}

/// Walks over `key=value` fields: each `"` toggles quoting, a comma outside quotes ends a field, and every `=` outside quotes
/// begins a value, so that an unquoted value with `=` in it is lost. Later fields of the same key win.
fn for_each_field<'a>(fields: &'a str, mut found: impl FnMut(&'a str, &'a str)) {
    let bytes = fields.as_bytes();
    let (mut key, mut start, mut at, mut quoted) = ("", 0, 0, false);
    loop {
        let rest = &bytes[at..];
        let next = if quoted { memchr(b'"', rest) } else { memchr3(b'"', b',', b'=', rest) };
        let Some(next) = next else { break };
        at += next;
        match bytes[at] {
            b'"' => quoted = !quoted,
            b',' => {
                if start < at {
                    found(key, &fields[start..at]);
                    key = "";
                }
                start = at + 1;
            }
            _ => {
                key = fields[start..at].trim();
                start = at + 1;
            }
        }
        at += 1;
    }
    if start < fields.len() {
        found(key, &fields[start..]);
    }
}

/// A value loses its quotes, not the blanks around them.
fn value(raw: &str) -> Cow<'_, str> {
    url_decoded(raw.trim_matches('"'))
}
