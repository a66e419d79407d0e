//! Headers that no route may change.

use http::HeaderName;

/// Fields that frame a message, or by which jellypin and pods know who somebody is.
const KEPT: [&str; 28] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-emby-authorization",
    "x-emby-token",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-mediabrowser-token",
    "x-real-ip",
];

pub(super) fn is_kept(name: &HeaderName) -> bool {
    KEPT.contains(&name.as_str()) || name.as_str().starts_with("sec-websocket-")
}
