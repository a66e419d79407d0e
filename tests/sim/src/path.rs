//! A request's path as Kestrel hands it on: letters decoded, dot segments gone, everything else as it came.
//!
//! Source: `PathDecoder`, `UrlDecoder` and `PathNormalizer` of Kestrel; recording 10.

/// The path that routing sees. `None` where Kestrel refuses the request: a NUL in it.
pub(crate) fn normal_form(raw: &str) -> Option<String> {
    without_dot_segments(&decoded(raw)?)
}

/// Decodes `%XX` once (`UrlDecoder.DecodeInPlace`). An encoded slash stays as it is written, and so does each sequence that is no
/// UTF-8, while the rest is decoded.
fn decoded(raw: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::with_capacity(raw.len()), raw.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        let sequence = encoded_sequence(rest);
        if sequence == [0] {
            return None;
        }
        if sequence.is_empty() {
            bytes.push(first);
            rest = after;
            continue;
        }
        let (written, later) = rest.split_at(sequence.len() * 3);
        match std::str::from_utf8(&sequence) {
            Ok(_) => bytes.extend(sequence),
            Err(_) => bytes.extend(written),
        }
        rest = later;
    }
    String::from_utf8(bytes).ok()
}

/// The encoded bytes that are decoded together: one character, or the beginning of one that does not go on.
fn encoded_sequence(text: &[u8]) -> Vec<u8> {
    let mut sequence = Vec::new();
    while let Some(byte) = text.get(sequence.len() * 3..).and_then(encoded_byte).filter(|byte| *byte != b'/') {
        sequence.push(byte);
        match std::str::from_utf8(&sequence) {
            Ok(_) => return sequence,
            // More may follow.
            Err(error) if error.error_len().is_none() => {}
            Err(_) => {
                // The byte that does not fit is read again.
                if sequence.len() > 1 {
                    sequence.pop();
                }
                return sequence;
            }
        }
    }
    sequence
}

fn encoded_byte(text: &[u8]) -> Option<u8> {
    let digits = text.get(..3)?.strip_prefix(b"%")?;
    let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
    is_hex.then(|| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok())?
}

/// RFC 3986, 5.2.4. An empty segment stays.
fn without_dot_segments(path: &str) -> Option<String> {
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    for (at, segment) in segments.iter().enumerate() {
        let is_last = at + 1 == segments.len();
        match *segment {
            "." if is_last => kept.push(""),
            "." => {}
            ".." => {
                kept.pop();
                if is_last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    Some(format!("/{}", kept.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_recording_10_shows() {
        for (raw, normal) in [
            ("/Users/Me", "/Users/Me"),
            ("/%55sers/Me", "/Users/Me"),
            ("/x/../Users/Me", "/Users/Me"),
            ("/x/%2e%2e/Users/Me", "/Users/Me"),
            ("/Users/./Me", "/Users/Me"),
            ("/Users%2FMe", "/Users%2FMe"),
            ("/Users%252FMe", "/Users%2FMe"),
            ("//Devices", "//Devices"),
            ("/../../Devices", "/Devices"),
            ("/a/..", "/"),
            ("/%ff", "/%ff"),
            ("/%53ystem/Restart/%FF/..", "/System/Restart/"),
            ("/%c0%AF/%55", "/%c0%AF/U"),
            ("/%E2%82%41%e2%82%ac", "/%E2%82A€"),
            ("/%+5", "/%+5"),
        ] {
            assert_eq!(normal_form(raw).as_deref(), Some(normal), "{raw}");
        }
        assert_eq!(normal_form("/a%00b"), None);
    }
}
