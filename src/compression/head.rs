//! Which answers may be compressed, and how their heads change. Pure.

use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::coding::Coding;

/// Whether an answer is text that a client gets whole, in a form that the proxy may change.
pub(super) fn is_compressible(asked: &HeaderMap, status: StatusCode, answer: &HeaderMap) -> bool {
    // The type rules out most answers.
    if !is_text(answer) {
        return false;
    }
    let is_whole = !asked.contains_key(header::RANGE) && !answer.contains_key(header::CONTENT_RANGE);
    let has_body = !status.is_informational()
        && ![
            StatusCode::NO_CONTENT,
            StatusCode::RESET_CONTENT,
            StatusCode::PARTIAL_CONTENT,
            StatusCode::NOT_MODIFIED,
            StatusCode::SWITCHING_PROTOCOLS,
        ]
        .contains(&status);
    let is_plain = answer
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"));
    has_body && is_whole && is_plain && !forbids_change(answer)
}

/// The types that ASP.NET compresses, and other text. Streams of events are not: each has to leave
/// at once, and lasts for hours. Playlists are not: they repeat the request's token and query.
fn is_text(answer: &HeaderMap) -> bool {
    let kind = answer.get(header::CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let after = |start: &str| {
        let (found, rest) = kind.split_at_checked(start.len())?;
        found.eq_ignore_ascii_case(start.as_bytes()).then_some(rest)
    };
    if let Some(text) = after("text/") {
        return !text.eq_ignore_ascii_case(b"event-stream");
    }
    let Some(of_application) = after("application/") else { return false };
    let is = |name: &str| of_application.eq_ignore_ascii_case(name.as_bytes());
    let ends = |end: &str| {
        let from = of_application.len().checked_sub(end.len());
        from.is_some_and(|from| of_application[from..].eq_ignore_ascii_case(end.as_bytes()))
    };
    let is_known = ["json", "javascript", "x-javascript", "xml", "wasm"].into_iter().any(is);
    is_known || ends("+json") || ends("+xml")
}

fn forbids_change(answer: &HeaderMap) -> bool {
    let lines = answer.get_all(header::CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|part| part.trim().eq_ignore_ascii_case("no-transform"))
}

/// The length that the answer announces.
pub(super) fn length(answer: &HeaderMap) -> Option<u64> {
    answer.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Tells caches that the answer depends on `Accept-Encoding`.
pub(super) fn vary(answer: &mut HeaderMap) {
    let lines = answer.get_all(header::VARY).iter().filter_map(|line| line.to_str().ok());
    let mut names = lines.flat_map(|line| line.split(',')).map(str::trim);
    if !names.any(|name| name == "*" || name.eq_ignore_ascii_case("accept-encoding")) {
        answer.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

/// Makes the head that of a compressed answer. Its bytes are others, so that lengths, byte ranges
/// and the strong tag are the pod's no more.
pub(super) fn show(answer: &mut HeaderMap, coding: Coding) {
    answer.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    answer.remove(header::CONTENT_LENGTH);
    answer.remove(header::ACCEPT_RANGES);
    answer.remove("content-md5");
    weaken_tag(answer);
}

fn weaken_tag(answer: &mut HeaderMap) {
    let Some(tag) = answer.get(header::ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/")) else { return };
    if let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()) {
        answer.insert(header::ETAG, weak);
    }
}

/// Asks for the strong form of each weak tag as well. ASP.NET compares tags of its files strongly,
/// so that a client with a weakened tag would get the whole file each time.
pub fn ask_for_either_tag(asked: &mut HeaderMap) {
    let Some(tags) = asked.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok()) else { return };
    let strong: Vec<&str> = tags.split(',').filter_map(|tag| tag.trim().strip_prefix("W/")).collect();
    if strong.is_empty() {
        return;
    }
    if let Ok(both) = HeaderValue::try_from(format!("{tags}, {}", strong.join(", "))) {
        asked.insert(header::IF_NONE_MATCH, both);
    }
}

/// Gives a 304 the weak tag that the client asked with: it has the compressed form.
pub fn weaken_confirmed_tag(asked: &HeaderMap, answer: &mut HeaderMap) {
    let (Some(tags), Some(tag)) = (asked.get(header::IF_NONE_MATCH), answer.get(header::ETAG)) else { return };
    let weak = [b"W/", tag.as_bytes()].concat();
    if tags.as_bytes().split(|byte| *byte == b',').any(|known| known.trim_ascii() == weak) {
        weaken_tag(answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn only_whole_plain_text_is_compressed() {
        let none: &[(&str, &str)] = &[];
        for (kind, expected) in [
            ("application/json; charset=utf-8", true),
            ("application/json; profile=\"CamelCase\"", true),
            ("application/problem+json", true),
            ("text/html", true),
            ("Text/JavaScript", true),
            ("text/vtt", true),
            ("application/wasm", true),
            ("text/event-stream", false),
            ("image/svg+xml", false),
            ("image/jpeg", false),
            ("video/mp4", false),
            ("application/vnd.apple.mpegurl", false),
            ("application/x-mpegURL", false),
            ("application/octet-stream", false),
            ("", false),
        ] {
            let answer = headers(&[("content-type", kind)]);
            assert_eq!(is_compressible(&headers(none), StatusCode::OK, &answer), expected, "{kind}");
        }
        let json = ("content-type", "application/json");
        let is = |asked: &[_], status: u16, fields: &[_]| {
            let status = StatusCode::from_u16(status).expect("a status");
            is_compressible(&headers(asked), status, &headers(&[&[json], fields].concat()))
        };
        assert!(is(none, 404, &[]) && is(none, 200, &[("content-encoding", "identity")]));
        assert!(!is(none, 200, &[("content-encoding", "gzip")]));
        assert!(!is(none, 200, &[("cache-control", "public, No-Transform")]));
        assert!(!is(&[("range", "bytes=0-9")], 200, none) && !is(none, 206, none));
        assert!(!is(none, 204, none) && !is(none, 304, none));
        assert!(!is(none, 416, &[("content-range", "bytes */9")]));
    }

    #[test]
    fn the_head_of_a_compressed_answer_tells_of_its_own_bytes() {
        let mut answer = headers(&[
            ("content-length", "2000"),
            ("etag", "\"a\""),
            ("accept-ranges", "bytes"),
            ("vary", "Origin"),
            ("last-modified", "Sun, 01 Nov 2026 10:00:00 GMT"),
        ]);
        vary(&mut answer);
        vary(&mut answer);
        show(&mut answer, Coding::Brotli);
        assert_eq!((answer["content-encoding"].as_bytes(), answer["etag"].as_bytes()), (&b"br"[..], &b"W/\"a\""[..]));
        assert_eq!(answer.get_all("vary").iter().collect::<Vec<_>>(), ["Origin", "Accept-Encoding"]);
        assert!(!answer.contains_key("content-length") && !answer.contains_key("accept-ranges"));
        assert!(answer.contains_key("last-modified"));
        show(&mut answer, Coding::Gzip);
        assert_eq!(answer["etag"], "W/\"a\"");
        let mut any = headers(&[("vary", "*")]);
        vary(&mut any);
        assert_eq!(any.get_all("vary").iter().count(), 1);
    }

    #[test]
    fn a_weakened_tag_still_saves_the_answer() {
        let mut asked = headers(&[("if-none-match", "W/\"a\", \"b\"")]);
        ask_for_either_tag(&mut asked);
        assert_eq!(asked["if-none-match"], "W/\"a\", \"b\", \"a\"");
        for unchanged in ["\"a\"", "*", ""] {
            let mut asked = headers(&[("if-none-match", unchanged)]);
            ask_for_either_tag(&mut asked);
            assert_eq!(asked["if-none-match"], unchanged);
        }
        for (tag, expected) in [("\"a\"", "W/\"a\""), ("\"b\"", "\"b\""), ("W/\"a\"", "W/\"a\"")] {
            let mut answer = headers(&[("etag", tag)]);
            weaken_confirmed_tag(&asked, &mut answer);
            assert_eq!(answer["etag"], expected);
        }
    }
}
