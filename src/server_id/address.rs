//! The server's address as a pod reports it (`LocalAddress` in `/System/Info` and
//! `/System/Info/Public`). Clients that learn it would bypass the proxy, so jellypin sends its own.
//! Pure.

use std::ops::Range;

use memchr::memmem;

/// The address to send to a client: the configured one, else the one that the client called. `None`
/// if the client called no usable one.
pub fn of(public_url: Option<&str>, is_https: bool, host: Option<&str>, base_path: &str) -> Option<String> {
    if let Some(url) = public_url {
        return Some(url.to_owned());
    }
    let host = host.filter(|host| !host.is_empty() && is_host(host.as_bytes()))?;
    Some(format!("{}://{host}{base_path}", if is_https { "https" } else { "http" }))
}

/// Whether a text is empty or has only characters of hosts and ports. None of them ends a header, a
/// URL or a JSON string.
pub fn is_host(text: &[u8]) -> bool {
    text.iter().all(|byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']' | b'%' | b'~')
    })
}

/// The object with this address in place of its own; `None` if it has none. Every other byte stays.
pub fn replace(json: &[u8], address: &str) -> Option<Vec<u8>> {
    let value = find(json)?;
    // An address needs no escapes in JSON.
    Some([&json[..value.start], b"\"", address.as_bytes(), b"\"", &json[value.end..]].concat())
}

/// Finds the value of `LocalAddress`: a string or `null`. The set-up server writes `localAddress`.
fn find(json: &[u8]) -> Option<Range<usize>> {
    const NAME: &[u8] = b"ocalAddress\"";
    let is_name = |at: &usize| at.checked_sub(2).is_some_and(|from| matches!(&json[from..*at], b"\"L" | b"\"l"));
    memmem::find_iter(json, NAME).filter(is_name).find_map(|at| {
        let colon = skip_blanks(json, at + NAME.len());
        // A string value of the same text has no colon behind it.
        let from = skip_blanks(json, colon + usize::from(json.get(colon) == Some(&b':')));
        let rest = json.get(from..).filter(|_| from > colon)?;
        let length = match rest {
            [b'"', ..] => string_length(rest)?,
            [b'n', b'u', b'l', b'l', ..] => 4,
            _ => return None,
        };
        Some(from..from + length)
    })
}

fn skip_blanks(json: &[u8], from: usize) -> usize {
    let blanks = json.iter().skip(from).take_while(|byte| byte.is_ascii_whitespace()).count();
    from + blanks
}

/// The length of the string at the beginning of `text`, quotes included.
fn string_length(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn replaced(json: &str) -> Option<String> {
        replace(json.as_bytes(), "https://media.example.org/jf").map(|json| String::from_utf8(json).expect("a text"))
    }

    #[test]
    fn the_configured_address_counts_before_what_was_called() {
        let called = |is_https, host| of(None, is_https, Some(host), "/jf");
        assert_eq!(called(true, "media.example.org"), Some("https://media.example.org/jf".into()));
        assert_eq!(called(false, "[::1]:8096"), Some("http://[::1]:8096/jf".into()));
        assert_eq!((called(false, ""), called(false, "a\"b"), called(false, "a/b")), (None, None, None));
        assert_eq!(of(Some("https://x"), false, Some("y"), "/jf"), Some("https://x".into()));
        assert_eq!(of(None, false, None, ""), None);
    }

    #[test]
    fn the_address_is_replaced_in_both_casings_and_nothing_else() {
        let pairs = [
            (
                r#"{"LocalAddress":"http://10.0.0.1:8096","Id":"x"}"#,
                r#"{"LocalAddress":"https://media.example.org/jf","Id":"x"}"#,
            ),
            (
                r#"{"a":1,"localAddress" : "http:\u002F\"x\\"}"#,
                r#"{"a":1,"localAddress" : "https://media.example.org/jf"}"#,
            ),
            (r#"{"LocalAddress":null}"#, r#"{"LocalAddress":"https://media.example.org/jf"}"#),
            (
                r#"{"a":"LocalAddress","LocalAddress":""}"#,
                r#"{"a":"LocalAddress","LocalAddress":"https://media.example.org/jf"}"#,
            ),
        ];
        for (json, expected) in pairs {
            assert_eq!(replaced(json).as_deref(), Some(expected));
        }
        for json in [
            "",
            "{}",
            r#"{"RelocalAddress":"x"}"#,
            r#"{"LocalAddress":1}"#,
            r#"{"LocalAddress":"x"#,
            r#""LocalAddress""#,
        ] {
            assert_eq!(replaced(json), None, "{json}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[\"\\\\:lLnu ]{0,12}(LocalAddress\")?[\"\\\\:lLnu ]{0,12}") {
            let _ = replaced(&text);
        }
    }
}
