//! Request lines: targets in other forms, blanks, versions, methods.

use super::SMUGGLED;

#[rustfmt::skip]
const LINES: [&str; 56] = [
    "GET http://h/@@@@/x HTTP/1.1", "GET http://evil/@@@@/x HTTP/1.1", "GET HTTP://h/@@@@/x HTTP/1.1", "GET https://h:443/@@@@/x HTTP/1.1",
    "GET http://u:p@h/@@@@/x HTTP/1.1", "GET http:///@@@@/x HTTP/1.1", "GET //@@@@/h/x HTTP/1.1",
    "GET ///@@@@/x HTTP/1.1", "GET h/@@@@/x HTTP/1.1", "GET h:80 HTTP/1.1", "GET @@@@/x HTTP/1.1", "GET * HTTP/1.1", "OPTIONS * HTTP/1.1",
    "CONNECT h:443 HTTP/1.1", "CONNECT /@@@@/x HTTP/1.1", "CONNECT http://h/@@@@/x HTTP/1.1", "TRACE /@@@@/x HTTP/1.1", "GET ftp://h/@@@@/x HTTP/1.1",
    "GET file:///@@@@/x HTTP/1.1", "GET javascript:x HTTP/1.1", "GET ?x HTTP/1.1", "GET # HTTP/1.1", "GET /@@@@/x#y HTTP/1.1",
    "GET /@@@@/x?y z HTTP/1.1", "GET  /@@@@/x HTTP/1.1", "GET /@@@@/x  HTTP/1.1", "GET\t/@@@@/x\tHTTP/1.1", "GET /@@@@/x\tHTTP/1.1", "GET\x0b/@@@@/x HTTP/1.1",
    "GET /@@@@/x HTTP/1.1 ", "GET /@@@@/x HTTP/1.1\t", "GET /@@@@/x HTTP/1.1 HTTP/1.1", "GET /@@@@/x", "GET /@@@@/x ", "/@@@@/x HTTP/1.1", "GET HTTP/1.1",
    "get /@@@@/x HTTP/1.1", "G@T /@@@@/x HTTP/1.1", "GET\0 /@@@@/x HTTP/1.1", "GET /@@@@/\0 HTTP/1.1", "GET /@@@@/\x7f HTTP/1.1", "GET /@@@@/\u{e9} HTTP/1.1",
    "GET /@@@@/%0d%0aX:%20y HTTP/1.1", "GET /@@@@/%00 HTTP/1.1", "GET /@@@@/x%20HTTP/1.1%0d%0aHost:%20h HTTP/1.1", "GET /@@@@/%2e%2e/%2e%2e/x HTTP/1.1",
    "GET /@@@@/x http/1.1", "GET /@@@@/x HTTP/1", "GET /@@@@/x HTTP/01.1", "GET /@@@@/x HTTP/1.01", "GET /@@@@/x HTTP/1.10", "GET /@@@@/x HTTP/11",
    "GET /@@@@/x HTTPS/1.1", "GET /@@@@/x XHTTP/1.1", "GET /@@@@/x HTTP/1.1\r", "GET /@@@@/x HTTP/1.1;x",
];

/// Hosts, each alone.
#[rustfmt::skip]
const HOSTS: [&str; 16] = [
    "", " ", "h:", "h:x", "h:99999", "h/evil", "u@h", "h evil", "h,evil", "h\tevil", "h\0evil", "h\\evil", "h?x", "h#x", "[::1", "h\u{e9}",
];

pub(super) fn cases() -> Vec<(String, Vec<u8>)> {
    let lines = LINES.into_iter().map(|line| {
        (format!("the line {line:?}"), format!("{line}\r\nHost: h\r\nContent-Length: 0\r\n\r\n{SMUGGLED}").into_bytes())
    });
    let hosts = HOSTS.into_iter().map(|host| {
        let head = format!("POST /@@@@/x HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n{SMUGGLED}");
        (format!("Host: {host:?}"), head.into_bytes())
    });
    let old = [
        "GET /@@@@/x\r\n",
        "GET /@@@@/x\n",
        "GET\r\n",
        "PRI * HTTP/2.0\r\n\r\n",
        "PRI /@@@@/x HTTP/1.1\r\nHost: h\r\n\r\n",
    ];
    let old = old.into_iter().map(|line| (format!("the old line {line:?}"), format!("{line}{SMUGGLED}").into_bytes()));
    lines.chain(hosts).chain(old).collect()
}
