//! Where a token is read from a request, and how the `Authorization` header is taken apart.
//!
//! Kept to the letter of Jellyfin's `AuthorizationContext`, oddities included: they are what a proxy has to agree with.

use std::collections::HashMap;

use http::HeaderMap;
use percent_encoding::percent_decode_str;

use crate::query::Query;

/// What a request says about its token and its client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) token: Option<String>,
    pub(crate) client: Option<String>,
    pub(crate) device: Option<String>,
    pub(crate) device_id: Option<String>,
    pub(crate) version: Option<String>,
}

impl Credentials {
    /// Reads the carriers in their order: the first that is not empty decides. The switch `legacy` opens scheme `Emby`,
    /// `X-Emby-Authorization`, `X-Emby-Token`, `X-MediaBrowser-Token` and `api_key`.
    pub(crate) fn read(headers: &HeaderMap, query: &Query, legacy: bool) -> Credentials {
        let mut fields = fields(headers, legacy);
        let mut take = |key: &str| fields.remove(key).filter(|value| !value.is_empty());
        let in_header = |name: &str| text(headers, name).filter(|value| legacy && !value.is_empty());
        let in_query = |name: &str| query.joined(name);
        Credentials {
            token: take("Token")
                .or_else(|| in_header("X-Emby-Token").map(str::to_owned))
                .or_else(|| in_header("X-MediaBrowser-Token").map(str::to_owned))
                .or_else(|| in_query("ApiKey"))
                .or_else(|| if legacy { in_query("api_key") } else { None }),
            client: take("Client"),
            device: take("Device"),
            device_id: take("DeviceId"),
            version: take("Version"),
        }
    }
}

/// The fields of `Authorization`, or of `X-Emby-Authorization` where the former is absent or empty.
fn fields(headers: &HeaderMap, legacy: bool) -> HashMap<String, String> {
    let mut header = text(headers, "Authorization").unwrap_or_default();
    if header.is_empty() && legacy {
        header = text(headers, "X-Emby-Authorization").unwrap_or_default();
    }
    let Some((scheme, rest)) = header.split_once(' ') else {
        return HashMap::new();
    };
    if scheme.eq_ignore_ascii_case("MediaBrowser") || (legacy && scheme.eq_ignore_ascii_case("Emby")) {
        parts(rest)
    } else {
        HashMap::new()
    }
}

/// `key=value` pairs between commas. A comma inside quotes is data, every quote toggles, keys are trimmed and
/// case-sensitive, the last of equal keys wins, and an unquoted value must not hold a second `=`.
fn parts(text: &str) -> HashMap<String, String> {
    let mut found = HashMap::new();
    let mut key = String::new();
    let mut start = 0;
    let mut quoted = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => {
                keep(&mut found, &mut key, &text[start..at]);
                start = at + 1;
            }
            '=' if !quoted => {
                key = text[start..at].trim().to_owned();
                start = at + 1;
            }
            _ => {}
        }
    }
    keep(&mut found, &mut key, &text[start..]);
    found
}

fn keep(found: &mut HashMap<String, String>, key: &mut String, value: &str) {
    if !key.is_empty() {
        found.insert(std::mem::take(key), url_decoded(value.trim_matches('"')));
    }
}

/// .NET's `WebUtility.UrlDecode`: `%XX`, and `+` for a blank.
pub(crate) fn url_decoded(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

/// The first line of a header; one that is no text counts as absent.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(headers: &[(&'static str, &str)], query: &str, legacy: bool) -> Option<String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap_or_else(|error| panic!("{value}: {error}")));
        }
        Credentials::read(&map, &Query::parse(query), legacy).token
    }

    fn of_header(value: &str) -> Option<String> {
        token(&[("authorization", value)], "", false)
    }

    #[test]
    fn the_scheme_is_read_in_any_case_and_keys_are_not() {
        assert_eq!(of_header("mediabrowser Token=\"t\"").as_deref(), Some("t"));
        assert_eq!(of_header("MediaBrowser token=\"t\""), None);
        assert_eq!(of_header("Bearer t"), None);
        assert_eq!(of_header("MediaBrowser"), None);
    }

    #[test]
    fn quotes_blanks_and_equal_signs_are_read_as_jellyfin_reads_them() {
        assert_eq!(of_header("MediaBrowser DeviceId=d1, Token=t, Client=Story").as_deref(), Some("t"));
        assert_eq!(of_header("MediaBrowser Client=\"a, b\", Token=\"t\"").as_deref(), Some("t"));
        assert_eq!(of_header("MediaBrowser Token=\"a\", Token=\"t\"").as_deref(), Some("t"));
        assert_eq!(of_header("MediaBrowser Token = \"t\"").as_deref(), Some(" \"t"));
        assert_eq!(of_header("MediaBrowser Token=\"t\" , Client=x").as_deref(), Some("t\" "));
        assert_eq!(of_header("MediaBrowser Token=\"a%20b+c\"").as_deref(), Some("a b c"));
        assert_eq!(of_header("MediaBrowser Token=\"abc==\"").as_deref(), Some("abc=="));
        assert_eq!(of_header("MediaBrowser Token=abc=, Client=x"), None);
    }

    #[test]
    fn an_empty_token_leaves_the_query_to_decide() {
        let empty = [("authorization", "MediaBrowser Client=\"x\", Token=\"\"")];
        assert_eq!(token(&empty, "ApiKey=q", false).as_deref(), Some("q"));
        let other = [("authorization", "MediaBrowser Token=\"h\"")];
        assert_eq!(token(&other, "ApiKey=q", false).as_deref(), Some("h"));
        assert_eq!(token(&[("authorization", "Basic abc")], "apikey=q", false).as_deref(), Some("q"));
        assert_eq!(token(&[], "ApiKey=q&ApiKey=q", false).as_deref(), Some("q,q"));
    }

    #[test]
    fn legacy_carriers_count_only_with_the_switch() {
        let cases: [(&[(&'static str, &str)], &str); 5] = [
            (&[("x-emby-token", "t")], ""),
            (&[("x-mediabrowser-token", "t")], ""),
            (&[("x-emby-authorization", "MediaBrowser Token=\"t\"")], ""),
            (&[("authorization", "Emby Token=\"t\"")], ""),
            (&[], "api_key=t"),
        ];
        for (headers, query) in cases {
            assert_eq!(token(headers, query, false), None, "{headers:?} {query}");
            assert_eq!(token(headers, query, true).as_deref(), Some("t"), "{headers:?} {query}");
        }
        let hidden = [("authorization", "Basic x"), ("x-emby-authorization", "MediaBrowser Token=\"t\"")];
        assert_eq!(token(&hidden, "", true), None);
        let not_hidden = [("authorization", "Basic x"), ("x-emby-token", "t")];
        assert_eq!(token(&not_hidden, "", true).as_deref(), Some("t"));
    }
}
