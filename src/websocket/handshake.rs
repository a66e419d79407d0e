//! The opening handshake (RFC 6455, 4): which requests ask for a WebSocket, and whether a pod's
//! answer opens one. Pure.

use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version, header, response};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeKind {
    /// An ordinary answer.
    Answer,
    /// A WebSocket.
    Socket,
    /// A WebSocket, but not in the way the standard requires.
    Malformed(&'static str),
}

/// Reads what a request asks for. It ignores an `Upgrade` to anything else, as the standard allows.
pub fn asked<B>(request: &Request<B>) -> UpgradeKind {
    let headers = request.headers();
    if !headers.contains_key(header::UPGRADE) {
        return UpgradeKind::Answer;
    }
    if !is_upgrade(headers) || !has_token(headers, header::UPGRADE, "websocket") || request.version() > Version::HTTP_11
    {
        return UpgradeKind::Answer;
    }
    if request.version() < Version::HTTP_11 {
        return UpgradeKind::Malformed("a WebSocket is asked for with HTTP/1.1");
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map(|key| key.as_bytes().trim_ascii());
    let is_twice = |name| headers.get_all(name).iter().nth(1).is_some();
    let has_body = headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0")
        || headers.contains_key(header::TRANSFER_ENCODING);
    match key {
        _ if request.method() != Method::GET => UpgradeKind::Malformed("a WebSocket is asked for with GET"),
        // The pod would take the first bytes of the socket for the body.
        _ if has_body => UpgradeKind::Malformed("a WebSocket is asked for without a body"),
        _ if is_twice(header::SEC_WEBSOCKET_KEY) => UpgradeKind::Malformed("more than one Sec-WebSocket-Key"),
        _ if is_twice(header::SEC_WEBSOCKET_VERSION) => UpgradeKind::Malformed("more than one Sec-WebSocket-Version"),
        None => UpgradeKind::Malformed("Sec-WebSocket-Key is missing"),
        // 16 bytes in base64.
        Some(key) if key.len() != 24 => UpgradeKind::Malformed("Sec-WebSocket-Key is not 16 bytes in base64"),
        Some(_) if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") => {
            UpgradeKind::Malformed("Sec-WebSocket-Version is not 13")
        }
        Some(_) => UpgradeKind::Socket,
    }
}

/// Puts the handshake's fields back into a request or a 101, from which they were removed as
/// hop-by-hop. Removes extensions: the proxy negotiates none.
pub fn restore(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.remove(header::SEC_WEBSOCKET_EXTENSIONS);
}

/// Whether the pod's answer opens the socket that the client requested with this key.
pub fn is_opened(answer: &response::Parts, key: Option<&HeaderValue>) -> bool {
    let accept = answer.headers.get(header::SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
    answer.status == StatusCode::SWITCHING_PROTOCOLS
        && has_token(&answer.headers, header::UPGRADE, "websocket")
        && accept.is_some()
        && accept == key.map(|key| derive_accept_key(key.as_bytes().trim_ascii()).into_bytes()).as_deref()
}

/// Whether `Connection` says that `Upgrade` is meant.
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    has_token(headers, header::CONNECTION, "upgrade")
}

fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    let lines = headers.get_all(name).into_iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .any(|close_pod| close_pod.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(change: impl FnOnce(&mut Request<()>)) -> Request<()> {
        let mut request = Request::get("/socket")
            .header("connection", "keep-alive, Upgrade")
            .header("upgrade", "WebSocket")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-version", "13")
            .body(())
            .expect("a request");
        change(&mut request);
        request
    }

    #[test]
    fn a_socket_is_a_genuine_handshake_and_nothing_else() {
        assert_eq!(asked(&request(|_| ())), UpgradeKind::Socket);
        assert_eq!(asked(&request(|r| drop(r.headers_mut().remove("upgrade")))), UpgradeKind::Answer);
        assert_eq!(
            asked(&request(|r| drop(r.headers_mut().insert("upgrade", HeaderValue::from_static("h2c"))))),
            UpgradeKind::Answer
        );
        assert_eq!(asked(&request(|r| drop(r.headers_mut().remove("connection")))), UpgradeKind::Answer);
        assert_eq!(asked(&request(|r| *r.version_mut() = Version::HTTP_2)), UpgradeKind::Answer);
        let malformed = |change: fn(&mut Request<()>)| matches!(asked(&request(change)), UpgradeKind::Malformed(_));
        assert!(malformed(|r| drop(r.headers_mut().remove("sec-websocket-key"))));
        assert!(malformed(|r| drop(r.headers_mut().insert("sec-websocket-key", HeaderValue::from_static("x")))));
        assert!(malformed(|r| drop(r.headers_mut().insert("sec-websocket-version", HeaderValue::from_static("8")))));
        assert!(malformed(|r| *r.version_mut() = Version::HTTP_10));
        assert!(malformed(|r| *r.method_mut() = Method::POST));
        assert!(malformed(|r| drop(r.headers_mut().insert("content-length", HeaderValue::from_static("4")))));
        assert!(malformed(|r| drop(r.headers_mut().insert("transfer-encoding", HeaderValue::from_static("chunked")))));
        assert!(malformed(|r| {
            r.headers_mut().append("sec-websocket-key", HeaderValue::from_static("AAAAAAAAAAAAAAAAAAAAAA=="));
        }));
        assert_eq!(
            asked(&request(|r| drop(r.headers_mut().insert("content-length", HeaderValue::from_static("0"))))),
            UpgradeKind::Socket
        );
    }

    #[test]
    fn only_the_right_answer_to_the_key_opens_a_socket() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        let answer = |status: u16, accept: &str| {
            let answer = http::Response::builder()
                .status(status)
                .header("upgrade", "websocket")
                .header("sec-websocket-accept", accept);
            answer.body(()).expect("an answer").into_parts().0
        };
        assert!(is_opened(&answer(101, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), Some(&key)));
        assert!(!is_opened(&answer(101, "wrong"), Some(&key)));
        assert!(!is_opened(&answer(200, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), Some(&key)));
        assert!(!is_opened(&answer(101, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), None));
    }
}
