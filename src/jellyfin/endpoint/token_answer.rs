//! Answers that may carry a token, a key or a secret (`DevicesController`, `ApiKeyController`,
//! `QuickConnectController`, `MediaInfoController`, `SystemController`).

use super::{is, segments};

/// Whether the answer to a GET of this path may carry a token beside what the request says. Logs
/// repeat the addresses of requests; what is to be played has an address with the token.
pub fn may_answer_with_token(path: &str) -> bool {
    let mut segments = segments(path);
    let (first, second, third) = (segments.next(), segments.next(), segments.next());
    let [first, second, third] = [first, second, third].map(Option::unwrap_or_default);
    ["Auth", "Devices", "QuickConnect", "sso", "SSOViews"].iter().any(|name| is(first, name))
        || (is(first, "Items") && is(third, "PlaybackInfo"))
        || (is(first, "System") && is(second, "Logs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_with_tokens_are_known_in_any_case() {
        for path in [
            "/Auth/Keys",
            "/devices",
            "/Devices/Info",
            "/QuickConnect/Connect",
            "/Items/1/PlaybackInfo",
            "/items/1/playbackinfo/",
            "/System/Logs/Log",
            "/sso/OID/redirect/x",
        ] {
            assert!(may_answer_with_token(path), "{path}");
        }
        for path in ["/", "/Items", "/Items/1", "/Users/1/Items/Latest", "/web/main.js", "/System/Info", "/Sessions"] {
            assert!(!may_answer_with_token(path), "{path}");
        }
    }
}
