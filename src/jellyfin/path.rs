//! A request's path as Kestrel and Jellyfin's controllers see it.

use std::borrow::Cow;

use memchr::memchr2;
use percent_encoding::percent_decode_str;

/// A path as Kestrel passes it on. It decodes `%XX` once, but not a slash, and removes dot
/// segments. Empty segments stay.
/// `None` for a NUL or for bytes that are not UTF-8.
pub fn decoded_path(raw: &str) -> Option<Cow<'_, str>> {
    // Nearly every path needs no decoding.
    if memchr2(b'%', b'.', raw.as_bytes()).is_none() || (!raw.contains('%') && !raw.contains("/.")) {
        return Some(Cow::Borrowed(raw));
    }
    let mut decoded = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('%') {
        let (before, encoded) = rest.split_at(at);
        decoded.extend_from_slice(before.as_bytes());
        let is_slash = encoded.get(1..3).is_some_and(|digits| digits.eq_ignore_ascii_case("2f"));
        let end = encoded.char_indices().nth(3).map_or(encoded.len(), |(at, _)| at);
        let (triplet, after) = encoded.split_at(end);
        if is_slash {
            decoded.extend_from_slice(triplet.as_bytes());
        } else {
            decoded.extend(percent_decode_str(triplet));
        }
        rest = after;
    }
    decoded.extend_from_slice(rest.as_bytes());
    let decoded = String::from_utf8(decoded).ok()?;
    if decoded.contains('\0') {
        return None;
    }
    Some(Cow::Owned(without_dot_segments(decoded)))
}

/// RFC 3986, 5.2.4.
fn without_dot_segments(path: String) -> String {
    if !path.contains("/.") {
        return path;
    }
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_open = false;
    for segment in path.split('/').skip(1) {
        ends_open = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    if ends_open {
        kept.push("");
    }
    format!("/{}", kept.join("/"))
}

/// The path below the BaseUrl, as Jellyfin's controllers see it.
pub fn below_base<'a>(base: &str, path: &'a str) -> &'a str {
    match path.split_at_checked(base.len()) {
        Some((start, rest)) if start.eq_ignore_ascii_case(base) && (rest.is_empty() || rest.starts_with('/')) => rest,
        _ => path,
    }
}
