//! The canonical form of a request: the pod gets exactly what jellypin has read.
//!
//! Kestrel decodes a path and removes its dot segments before routing. ASP.NET reads query keys
//! decoded and in any case, by the type that they bind to. jellypin reads a request that it acts
//! upon in that form, and sends it on in it. It refuses a request that two parsers could read in
//! two ways. It passes on unchanged what it does not act upon. Players get no errors from the
//! proxy: their ambiguous requests pass too, and the pod answers.
//!
//! Source: Kestrel's `PathDecoder`, Jellyfin's `UrlDecodeQueryFeature`; jellyfin-on-the-wire.md,
//! VI.1.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header, request};
use memchr::memchr2;
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

pub use super::path::{below_base, decoded_path};
use super::{
    EMBY_AUTHORIZATION, EMBY_TOKEN, MEDIABROWSER_TOKEN, Prefixes, controller_path,
    endpoint::{self, Endpoint, Keys},
    query::{KNOWN, decoded_key, pairs},
    syntax::{is_id, pieces},
};

/// Why a request has no single reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ambiguity {
    /// Two slashes in a row: no route of Jellyfin's matches them, other servers ignore them.
    EmptySegment,
    /// `%2F` or `%25` in a path: parsers decode it once, twice or not at all.
    EncodedSlash,
    /// A path or a value that does not decode to text.
    NoText,
    /// This query key occurs more than once.
    DoubledKey(&'static str),
    /// The query's only key contains a `=`, so Jellyfin reads the key as a query.
    EncodedQuery,
    /// A user's id in a form other than 32 hex digits, with or without dashes.
    UserId,
    /// A header that is not UTF-8.
    Header,
    /// `Connection` names a header that carries a token.
    HiddenToken,
}

impl Ambiguity {
    /// The label of the kind of ambiguity, from a closed set.
    pub fn as_str(self) -> &'static str {
        match self {
            Ambiguity::EmptySegment => "empty_segment",
            Ambiguity::EncodedSlash => "encoded_slash",
            Ambiguity::NoText => "no_text",
            Ambiguity::DoubledKey(_) => "doubled_key",
            Ambiguity::EncodedQuery => "encoded_query",
            Ambiguity::UserId => "user_id",
            Ambiguity::Header => "header_not_utf8",
            Ambiguity::HiddenToken => "hidden_token",
        }
    }

    /// The message to the client, which names the part at fault.
    pub fn describe(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Ambiguity::EmptySegment => "the path has an empty segment",
            Ambiguity::EncodedSlash => "the path has an encoded slash or percent sign",
            Ambiguity::NoText => "the path or the query is not UTF-8",
            Ambiguity::DoubledKey(key) => return Cow::Owned(format!("the query key {key} stands twice")),
            Ambiguity::EncodedQuery => "the query is encoded as a whole",
            Ambiguity::UserId => "the user id is not 32 hex digits, with or without dashes",
            Ambiguity::Header => "a header is not UTF-8",
            Ambiguity::HiddenToken => "Connection names a header that carries a token",
        })
    }
}

/// Brings the head of a request that jellypin acts upon into its canonical form. Path and query
/// become what jellypin has read; each token header keeps one line. `base` is the pool's BaseUrl.
/// Returns what the request asks for.
///
/// # Errors
/// If the request could be read in two ways.
pub fn canonicalize(
    head: &mut request::Parts,
    base: &str,
    prefixes: Prefixes,
    is_upgrade: bool,
) -> Result<Endpoint, Ambiguity> {
    let raw = head.uri.path();
    let decoded = decoded_path(raw);
    let path = controller_path(below_base(base, decoded.as_deref().unwrap_or(raw)), prefixes);
    let endpoint = Endpoint::of(&head.method, path);
    if !endpoint.is_acted_upon() && !is_upgrade {
        return Ok(endpoint);
    }
    let canonical = canonical_path(decoded.as_ref(), path, base);
    keep_first_token_lines(&mut head.headers);
    if endpoint.is_media() {
        // The pod reads its keys as jellypin does, and an error from the proxy would end the film.
        if let Ok(Some(path)) = canonical {
            head.uri = with_path(&head.uri, &path);
        }
        return Ok(endpoint);
    }
    if !head.headers.values().all(is_text) {
        return Err(Ambiguity::Header);
    }
    if hides_token(&head.headers) {
        return Err(Ambiguity::HiddenToken);
    }
    if !is_upgrade && let Some(path) = canonical? {
        head.uri = with_path(&head.uri, &path);
    }
    let path = controller_path(below_base(base, head.uri.path()), prefixes);
    if endpoint::user_in_path(&head.method, path).is_some_and(|user| !is_id(user)) {
        return Err(Ambiguity::UserId);
    }
    if let Some(query) = head.uri.query()
        && let Some(query) = canonical_query(query, endpoint::keys_of(&head.method, endpoint, path))?
    {
        let target = format!("{}?{query}", head.uri.path());
        head.uri = target.parse().map_err(|_| Ambiguity::NoText)?;
    }
    Ok(endpoint)
}

/// The decoded path in canonical form, BaseUrl included; `None` if it is that already. `path` is what
/// controllers see of it.
fn canonical_path(decoded: Option<&Cow<'_, str>>, path: &str, base: &str) -> Result<Option<String>, Ambiguity> {
    let decoded = decoded.ok_or(Ambiguity::NoText)?;
    let inner = path.strip_suffix('/').unwrap_or(path);
    if pieces(inner, b'/').skip(1).any(str::is_empty) {
        return Err(Ambiguity::EmptySegment);
    }
    if path.contains('%') {
        let is_text = percent_decode_str(path).decode_utf8().is_ok();
        return Err(if is_text { Ambiguity::EncodedSlash } else { Ambiguity::NoText });
    }
    let below = below_base(base, decoded);
    if matches!(decoded, Cow::Borrowed(_)) && path.len() == below.len() {
        return Ok(None);
    }
    let base = &decoded[..decoded.len() - below.len()];
    Ok(Some(format!("{base}{}", utf8_percent_encode(path, IN_PATH))))
}

/// Characters to percent-encode in a path (RFC 3986, 3.3).
const IN_PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

fn with_path(uri: &Uri, path: &str) -> Uri {
    let query = uri.query().map_or(String::new(), |query| format!("?{query}"));
    // A percent-encoded path makes a valid target.
    format!("{path}{query}").parse().unwrap_or_else(|_| uri.clone())
}

/// The query with each known key once and written plainly; `None` if it already is.
fn canonical_query(query: &str, keys: Keys) -> Result<Option<String>, Ambiguity> {
    let mut seen: u32 = 0;
    // Most queries have nothing to decode, which one look at the whole tells.
    let is_encoded = !is_unencoded(query);
    let mut is_plain = true;
    let known = |key: &str| {
        let key = if is_encoded { decoded_key(key)? } else { Cow::Borrowed(key) };
        let all = KNOWN.iter().chain(keys.single).chain(keys.list);
        all.enumerate().find(|(_, known)| known.eq_ignore_ascii_case(&key)).map(|(at, known)| (at, *known))
    };
    for (key, value) in pairs(query) {
        is_plain &= !is_encoded || is_unencoded(key);
        let Some((at, name)) = known(key) else { continue };
        let bit = 1 << at;
        if seen & bit != 0 && !keys.list.contains(&name) {
            return Err(Ambiguity::DoubledKey(name));
        }
        seen |= bit;
        let value = text_of(value)?;
        if name == "userId" && !value.is_empty() && !is_id(&value) {
            return Err(Ambiguity::UserId);
        }
    }
    if is_plain {
        return Ok(None);
    }
    if pairs(query).any(|(key, value)| value.is_empty() && text_of(key).is_ok_and(|key| key.contains('='))) {
        return Err(Ambiguity::EncodedQuery);
    }
    let mut canonical = String::with_capacity(query.len());
    for (key, value) in pairs(query) {
        if !canonical.is_empty() {
            canonical.push('&');
        }
        match known(key) {
            Some((_, name)) => {
                let value = text_of(value)?;
                canonical.extend([name, "="]);
                canonical.extend(utf8_percent_encode(&value, NON_ALPHANUMERIC));
            }
            None if value.is_empty() => canonical.push_str(key),
            None => canonical.extend([key, "=", value]),
        }
    }
    Ok(Some(canonical))
}

fn is_unencoded(raw: &str) -> bool {
    memchr2(b'%', b'+', raw.as_bytes()).is_none()
}

/// A key or value, decoded.
fn text_of(raw: &str) -> Result<Cow<'_, str>, Ambiguity> {
    if is_unencoded(raw) {
        return Ok(Cow::Borrowed(raw));
    }
    let blanks = raw.replace('+', " ");
    let decoded = percent_decode_str(&blanks).decode_utf8().map_err(|_| Ambiguity::NoText)?;
    Ok(Cow::Owned(decoded.into_owned()))
}

/// The headers that can carry a token.
static CARRIERS: [HeaderName; 4] = [header::AUTHORIZATION, EMBY_AUTHORIZATION, EMBY_TOKEN, MEDIABROWSER_TOKEN];

/// The server and jellypin read only the first line of each, so later lines go no further.
fn keep_first_token_lines(headers: &mut HeaderMap) {
    // In nearly every request no header name occurs twice.
    if headers.len() == headers.keys_len() {
        return;
    }
    for name in &CARRIERS {
        if headers.get_all(name).iter().nth(1).is_some()
            && let Some(first) = headers.get(name).cloned()
        {
            headers.insert(name, first);
        }
    }
}

fn is_text(value: &HeaderValue) -> bool {
    value.as_bytes().is_ascii() || std::str::from_utf8(value.as_bytes()).is_ok()
}

/// The proxy drops headers that `Connection` names: the pod would not see what jellypin has read.
fn hides_token(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::CONNECTION).iter();
    let unusual = lines.filter(|line| !line.as_bytes().eq_ignore_ascii_case(b"keep-alive"));
    let mut named = unusual.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    named.any(|name| CARRIERS.iter().any(|carrier| name.trim_ascii().eq_ignore_ascii_case(carrier.as_str().as_bytes())))
}

#[cfg(test)]
mod tests;
