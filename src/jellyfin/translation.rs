//! Replaces one token by another in every carrier that the server reads, and nowhere else.
//!
//! A client keeps its token for ever, while its pod may know the session by another token.

use http::{HeaderMap, HeaderValue, Uri, header};

use super::{
    EMBY_AUTHORIZATION, EMBY_TOKEN, MEDIABROWSER_TOKEN,
    authorization::{self, text},
    query::url_decoded,
};

/// A token that no pod ever mints.
pub const NO_TOKEN: &str = "00000000000000000000000000000000";

/// Replaces every carried token for which `is_alias` is true by `to`. Skips what it cannot read.
pub fn translate(uri: &mut Uri, headers: &mut HeaderMap, is_alias: impl Fn(&str) -> bool + Copy, to: &str) {
    if let Some(target) = uri.path_and_query().and_then(|target| in_target(target.as_str(), is_alias, to)) {
        // A valid target stays valid with another token in it.
        *uri = target.parse().unwrap_or_else(|_| uri.clone());
    }
    for name in [header::AUTHORIZATION, EMBY_AUTHORIZATION] {
        if let Some(line) = headers.get_mut(name)
            && let Some(changed) = text(line).and_then(|line| in_authorization(line, is_alias, to))
        {
            *line = changed;
        }
    }
    for name in [EMBY_TOKEN, MEDIABROWSER_TOKEN] {
        if let Some(line) = headers.get_mut(name)
            && text(line).is_some_and(is_alias)
            && let Ok(changed) = HeaderValue::from_str(to)
        {
            *line = changed;
        }
    }
}

/// The target with every `ApiKey` and `api_key` changed; `None` if nothing changes.
fn in_target(target: &str, is_alias: impl Fn(&str) -> bool, to: &str) -> Option<String> {
    let (path, query) = target.split_once('?')?;
    let mut changed = false;
    let mut pairs = Vec::new();
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = url_decoded(key);
        let is_carrier = name.eq_ignore_ascii_case("ApiKey") || name.eq_ignore_ascii_case("api_key");
        if is_carrier && is_alias(&url_decoded(value)) {
            changed = true;
            pairs.push(format!("{key}={to}"));
        } else {
            pairs.push(pair.to_owned());
        }
    }
    changed.then(|| format!("{path}?{}", pairs.join("&")))
}

/// The line with every `Token` field changed; `None` if nothing changes.
fn in_authorization(line: &str, is_alias: impl Fn(&str) -> bool, to: &str) -> Option<HeaderValue> {
    let (_, fields) = line.split_once(' ')?;
    let mut changed = line[..line.len() - fields.len()].to_owned();
    let mut copied = 0;
    authorization::for_each_field(fields, |key, raw| {
        if key == "Token" && is_alias(&authorization::value(raw)) {
            // `raw` is a slice of `fields`, so the pointers give its offset.
            let start = raw.as_ptr().addr() - fields.as_ptr().addr();
            changed.push_str(&fields[copied..start]);
            changed.push('"');
            changed.push_str(to);
            changed.push('"');
            copied = start + raw.len();
        }
    });
    if copied == 0 {
        return None;
    }
    changed.push_str(&fields[copied..]);
    HeaderValue::from_bytes(changed.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::jellyfin::{Legacy, identify};

    const OLD: &str = "0123456789abcdef0123456789abcdef";
    const NEW: &str = "fedcba9876543210fedcba9876543210";

    fn translated(target: &str, headers: &[(&'static str, &str)]) -> (String, Vec<String>) {
        let mut uri: Uri = target.parse().expect("a target");
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        }
        translate(&mut uri, &mut map, |token| token == OLD, NEW);
        let lines = map.values().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        (uri.to_string(), lines.collect())
    }

    #[test]
    fn every_carrier_is_translated_and_nothing_else_is_touched() {
        let of = |text: &str| text.replace(OLD, NEW);
        let lines = [
            format!("MediaBrowser Client=\"A, b\", DeviceId=\"{OLD}\", Token=\"{OLD}\", Version=\"1\""),
            format!("mediabrowser Token={OLD}, Client=x"),
            format!("Emby Token=\"{OLD}\", Token=\"{OLD}\""),
            format!("MediaBrowser Device=\"Sofá\", Token=\"{OLD}\""),
        ];
        for line in &lines {
            let (_, changed) = translated("/", &[("authorization", line)]);
            let identity_of = |line: &str| {
                let mut map = HeaderMap::new();
                map.insert("authorization", HeaderValue::from_bytes(line.as_bytes()).expect("a value"));
                identify(&Uri::from_static("/"), "/", &map, Legacy::Accepted).token.map(|token| token.into_owned())
            };
            assert_eq!(identity_of(&changed[0]).as_deref(), Some(NEW), "{line}");
        }
        let (_, device) = translated("/", &[("authorization", &lines[0])]);
        assert!(device[0].contains(&format!("DeviceId=\"{OLD}\"")), "a device of that name is none of our affair");
        let (_, emby) = translated("/", &[("x-emby-token", OLD), ("x-mediabrowser-token", OLD), ("x-other", OLD)]);
        assert_eq!(emby, [NEW, NEW, OLD]);
        let query = format!("/a/{OLD}?apikey={OLD}&x={OLD}&API_KEY={OLD}&y=%41&Tag=a+b");
        let (target, _) = translated(&query, &[]);
        assert_eq!(target, format!("/a/{OLD}?apikey={NEW}&x={OLD}&API_KEY={NEW}&y=%41&Tag=a+b"));
        let foreign = format!("/a?ApiKey={}", of(OLD));
        assert_eq!(translated(&foreign, &[]).0, foreign);
        let (untouched, lines) = translated("/a?b=c", &[("authorization", "Basic abc"), ("x-emby-token", "other")]);
        assert_eq!((untouched.as_str(), lines), ("/a?b=c", vec!["Basic abc".to_owned(), "other".to_owned()]));
    }

    proptest! {
        #[test]
        fn what_the_server_reads_is_the_new_token_and_the_rest_of_the_header_stays(
            before in "[A-Za-z]{1,6}=\"[a-z ,=]{0,8}\"", after in "[A-Za-z]{1,6}=[a-z]{0,8}", blank in "[ ]?"
        ) {
            prop_assume!(!before.starts_with("Token=") && !after.starts_with("Token="));
            let line = format!("MediaBrowser {before},{blank}Token=\"{OLD}\",{blank}{after}");
            let (_, lines) = translated("/", &[("authorization", &line)]);
            prop_assert_eq!(&lines[0], &line.replace(OLD, NEW));
        }
    }
}
