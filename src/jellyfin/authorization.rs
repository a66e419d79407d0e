//! The `Authorization` header, read exactly as the server reads it, quirks included.
//!
//! Source: `Jellyfin.Server.Implementations/Security/AuthorizationContext.cs`, `GetAuthorization`
//! and `GetParts`.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use memchr::memchr;
use percent_encoding::NON_ALPHANUMERIC;

use super::{EMBY_AUTHORIZATION, EMBY_TOKEN, MEDIABROWSER_TOKEN, query::url_decoded};

/// Whether the pods accept the legacy carriers: `X-Emby-*`, `X-MediaBrowser-Token`, the scheme
/// `Emby`, `?api_key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Legacy {
    /// 10.11 and older, or 12.0 with `EnableLegacyAuthorization`.
    Accepted,
    /// 12.0 with its default settings.
    Ignored,
}

impl Legacy {
    pub fn accepted(self) -> bool {
        self == Legacy::Accepted
    }
}

/// The header's fields that jellypin reads. An empty token counts as none.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Authorization<'a> {
    pub token: Option<Cow<'a, str>>,
    pub device_id: Option<Cow<'a, str>>,
}

impl<'a> Authorization<'a> {
    /// Reads the first `Authorization` line. If it is absent or empty, and the pods accept it,
    /// reads `X-Emby-Authorization`.
    pub fn of(headers: &'a HeaderMap, legacy: Legacy) -> Authorization<'a> {
        let Some(fields) = fields(headers, legacy) else { return Authorization::default() };
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

/// What a client says about itself: the four fields that the server demands of a log-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub client: String,
    /// The device's name.
    pub name: String,
    pub id: String,
    pub version: String,
}

impl Device {
    /// Reads the header; `None` if one of the four is missing.
    pub fn of(headers: &HeaderMap, legacy: Legacy) -> Option<Device> {
        Some(Device::claimed(headers, legacy)).filter(Device::is_complete)
    }

    /// Reads the header. A missing field stays empty: the pod takes it from the token's row.
    pub fn claimed(headers: &HeaderMap, legacy: Legacy) -> Device {
        let (mut client, mut name, mut id, mut version) = Default::default();
        for_each_field(fields(headers, legacy).unwrap_or_default(), |key, raw| match key {
            "Client" => client = value(raw).into_owned(),
            "Device" => name = value(raw).into_owned(),
            "DeviceId" => id = value(raw).into_owned(),
            "Version" => version = value(raw).into_owned(),
            _ => {}
        });
        Device { client, name, id, version }
    }

    /// Whether all four fields are present.
    pub fn is_complete(&self) -> bool {
        [&self.client, &self.name, &self.id, &self.version].iter().all(|field| !field.is_empty())
    }

    /// Whether a pod takes both for the same device (`SessionManager.GetSessionKey`).
    pub fn is_same_as(&self, other: &Device) -> bool {
        self.client == other.client && self.id == other.id
    }

    /// Fills empty fields from the row of the token, as a pod does.
    #[must_use]
    pub fn filled_from(self, row: &Device) -> Device {
        let or = |own: String, other: &String| if own.is_empty() { other.clone() } else { own };
        Device {
            client: or(self.client, &row.client),
            name: or(self.name, &row.name),
            id: or(self.id, &row.id),
            version: or(self.version, &row.version),
        }
    }

    /// The header that carries these four fields and this token.
    pub fn header(&self, token: Option<&str>) -> HeaderValue {
        let encoded = |text: &str| percent_encoding::utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let mut line = format!(
            "MediaBrowser Client=\"{}\", Device=\"{}\", DeviceId=\"{}\", Version=\"{}\"",
            encoded(&self.client),
            encoded(&self.name),
            encoded(&self.id),
            encoded(&self.version)
        );
        if let Some(token) = token {
            line.push_str(&format!(", Token=\"{}\"", encoded(token)));
        }
        // The encoded line is plain ASCII.
        let mut value = HeaderValue::from_str(&line).unwrap_or_else(|_| HeaderValue::from_static(""));
        value.set_sensitive(token.is_some());
        value
    }
}

/// A header that carries only a token.
pub fn token_only(token: &str) -> HeaderValue {
    let line = format!("MediaBrowser Token=\"{}\"", percent_encoding::utf8_percent_encode(token, NON_ALPHANUMERIC));
    // The encoded line is plain ASCII.
    let mut value = HeaderValue::from_str(&line).unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// Removes every header that can carry a token.
pub fn remove(headers: &mut HeaderMap) {
    for name in [header::AUTHORIZATION, EMBY_AUTHORIZATION, EMBY_TOKEN, MEDIABROWSER_TOKEN] {
        headers.remove(name);
    }
}

/// A header's value as text. Pods read UTF-8, and some clients send it unencoded.
pub(super) fn text(value: &HeaderValue) -> Option<&str> {
    std::str::from_utf8(value.as_bytes()).ok()
}

/// The fields of the first `Authorization` line. If it is absent or empty, and the pods accept it,
/// the fields of `X-Emby-Authorization`.
fn fields(headers: &HeaderMap, legacy: Legacy) -> Option<&str> {
    let line = |name: HeaderName| text(headers.get(name)?).filter(|line| !line.is_empty());
    let old = || legacy.accepted().then(|| line(HeaderName::from_static("x-emby-authorization"))).flatten();
    let (scheme, fields) = line(header::AUTHORIZATION).or_else(old)?.split_once(' ')?;
    let known =
        scheme.eq_ignore_ascii_case("MediaBrowser") || (legacy.accepted() && scheme.eq_ignore_ascii_case("Emby"));
    known.then_some(fields)
}

/// Walks over `key=value` fields. Each `"` toggles quoting; a comma outside quotes ends a field.
/// Every `=` outside quotes begins a value, so an unquoted value with `=` in it is lost. Later
/// fields of the same key win.
pub(super) fn for_each_field<'a>(fields: &'a str, mut found: impl FnMut(&'a str, &'a str)) {
    let bytes = fields.as_bytes();
    let (mut key, mut start, mut at) = ("", 0, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            // Up to the closing quote nothing has a meaning.
            b'"' => at = memchr(b'"', &bytes[at + 1..]).map_or(bytes.len(), |more| at + 1 + more),
            b',' => {
                if start < at {
                    found(key, &fields[start..at]);
                    key = "";
                }
                start = at + 1;
            }
            b'=' => {
                key = trimmed(&fields[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    if start < fields.len() {
        found(key, &fields[start..]);
    }
}

/// Without the white space around it. That of ASCII, which is all that keys have, is found faster.
fn trimmed(key: &str) -> &str {
    let key = key.trim_ascii();
    if key.is_ascii() { key } else { key.trim() }
}

/// Strips a value's quotes, but not the blanks around them.
pub(super) fn value(raw: &str) -> Cow<'_, str> {
    let is_quote = |byte: &u8| *byte == b'"';
    let before = raw.bytes().take_while(|byte| is_quote(byte)).count();
    let behind = raw[before..].bytes().rev().take_while(|byte| is_quote(byte)).count();
    url_decoded(&raw[before..raw.len() - behind])
}
