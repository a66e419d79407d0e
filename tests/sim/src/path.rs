//! A request's path as Kestrel hands it on: letters decoded, dot segments gone, everything else as it came.
//!
//! Source: `PathDecoder`, `UrlDecoder` and `PathNormalizer` of Kestrel; recording 10.

/// The path that routing sees. `None` where Kestrel refuses the request: a NUL in it.
pub(crate) fn normal_form(raw: &str) -> Option<String> {
    without_dot_segments(&decoded(raw)?)
}

/// Decodes `%XX` once. An encoded slash stays as it is written, and so do bytes that are no UTF-8.
fn decoded(raw: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::with_capacity(raw.len()), raw.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        match encoded_byte(rest) {
            Some(0) => return None,
            Some(byte) if byte != b'/' => {
                bytes.push(byte);
                rest = &rest[3..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    Some(String::from_utf8(bytes).unwrap_or_else(|_| raw.to_owned()))
}

fn encoded_byte(text: &[u8]) -> Option<u8> {
    let digits = text.get(..3)?.strip_prefix(b"%")?;
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
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
        ] {
            assert_eq!(normal_form(raw).as_deref(), Some(normal), "{raw}");
        }
        assert_eq!(normal_form("/a%00b"), None);
    }
}
