//! A request's path as Kestrel and Jellyfin's controllers see it.

use std::borrow::Cow;

use memchr::memchr2;
/// A path as Kestrel passes it on. It decodes `%XX` once, but not a slash, and removes dot
/// segments. Empty segments stay, and so do encoded bytes that are not UTF-8.
/// `None` for a NUL, which Kestrel refuses.
pub fn decoded_path(raw: &str) -> Option<Cow<'_, str>> {
    // Nearly every path needs no decoding.
    if memchr2(b'%', b'.', raw.as_bytes()).is_none() || (!raw.contains('%') && !raw.contains("/.")) {
        return Some(Cow::Borrowed(raw));
    }
    let mut decoded = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('%') {
        decoded.push_str(&rest[..at]);
        let (bytes, encoded) = leading_triplets(&rest[at..]);
        if bytes.is_empty() {
            decoded.push('%');
            rest = &rest[at + 1..];
            continue;
        }
        push_text(&mut decoded, &bytes, encoded);
        rest = &rest[at + encoded.len()..];
    }
    decoded.push_str(rest);
    if decoded.contains('\0') {
        return None;
    }
    Some(Cow::Owned(without_dot_segments(decoded)))
}

/// The bytes of the `%XX` that the text begins with, one after the other, and how they are written.
/// A slash ends them.
fn leading_triplets(text: &str) -> (Vec<u8>, &str) {
    let mut bytes = Vec::new();
    for triplet in text.as_bytes().chunks_exact(3) {
        let [b'%', high, low] = *triplet else { break };
        let digit = |digit: u8| char::from(digit).to_digit(16);
        let (Some(high), Some(low)) = (digit(high), digit(low)) else { break };
        let Some(byte) = u8::try_from(high * 16 + low).ok().filter(|byte| *byte != b'/') else { break };
        bytes.push(byte);
    }
    let encoded = &text[..bytes.len() * 3];
    (bytes, encoded)
}

/// What of the bytes is text, and the others as they are written.
fn push_text(decoded: &mut String, bytes: &[u8], mut encoded: &str) {
    for chunk in bytes.utf8_chunks() {
        decoded.push_str(chunk.valid());
        let (_, invalid) = encoded.split_at(chunk.valid().len() * 3);
        let (kept, later) = invalid.split_at(chunk.invalid().len() * 3);
        decoded.push_str(kept);
        encoded = later;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_decoded_as_kestrel_does_it() {
        for (raw, decoded) in [
            ("/Users/Me", "/Users/Me"),
            ("/%55sers/M%65", "/Users/Me"),
            ("/%C3%A4/%e2%82%ac", "/ä/€"),
            ("/x/%2e%2e/Users/./Me", "/Users/Me"),
            ("/Users%2FMe%2fx", "/Users%2FMe%2fx"),
            ("/Users%252FMe", "/Users%2FMe"),
            ("/%", "/%"),
            ("/%5", "/%5"),
            ("/%5x%55", "/%5xU"),
            ("/%+5%%55", "/%+5%U"),
            ("/%ä%55", "/%äU"),
            // What is no UTF-8 stays, and hides nothing.
            ("/%53ystem/Restart/%FF/..", "/System/Restart/"),
            ("/%53ystem/%FF/../Restart", "/System/Restart"),
            ("/%C0%AF/%55", "/%C0%AF/U"),
            ("/%E2%82%41", "/%E2%82A"),
            ("/%e2%82/%ac", "/%e2%82/%ac"),
            ("/%e2%82%2F", "/%e2%82%2F"),
            ("/%ED%A0%80%55", "/%ED%A0%80U"),
            ("/%41%ff%42", "/A%ffB"),
        ] {
            assert_eq!(decoded_path(raw).as_deref(), Some(decoded), "{raw}");
        }
        assert_eq!(decoded_path("/a%00b"), None);
        assert_eq!(decoded_path("/a%00/../b"), None);
    }
}
