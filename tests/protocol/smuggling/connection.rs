//! Fields of the connection: what `Connection` may name, upgrades that open nothing, and requests behind them.

use super::SMUGGLED;

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";
const SETTINGS: &str = "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n";

/// Names that `Connection` takes away, each beside a body whose framing must not go with them.
#[rustfmt::skip]
const NAMED: [&str; 16] = [
    "Content-Length", "content-length", "Transfer-Encoding", "Host", "Authorization", "Cookie", "X-Forwarded-For", "Content-Type", "Connection",
    "close, Content-Length", "keep-alive, Transfer-Encoding", "Content-Length, Transfer-Encoding", "Expect", "\"Content-Length\"",
    "Content-Length;x", "Upgrade, Content-Length",
];

pub(super) fn cases() -> Vec<(String, Vec<u8>)> {
    let mut cases = Vec::new();
    let mut add = |name: String, line: &str, fields: String, body: &str| {
        cases.push((name, format!("{line}\r\nHost: h\r\n{fields}\r\n{body}").into_bytes()));
    };
    let length = format!("Content-Length: {}\r\n", SMUGGLED.len());
    let ended = format!("0\r\n\r\n{SMUGGLED}");
    const POST: &str = "POST /@@@@/x HTTP/1.1";
    for named in NAMED {
        let fields = format!("Connection: {named}\r\n");
        add(format!("Connection: {named}, a length"), POST, format!("{fields}{length}"), SMUGGLED);
        add(format!("Connection: {named}, chunks"), POST, format!("Transfer-Encoding: chunked\r\n{fields}"), &ended);
    }
    for fields in [
        "Connection:\r\n",
        "Connection: ,\r\n",
        "Connection: close\r\nConnection: keep-alive\r\n",
        "Connection: keep-alive, close\r\n",
        "Connection: \0close\r\n",
        "Keep-Alive: timeout=0, max=0\r\n",
        "Proxy-Connection: close\r\n",
        "TE: trailers\r\nConnection: TE\r\n",
        "TE: chunked\r\n",
        "Trailer: Content-Length\r\n",
        "Max-Forwards: 0\r\n",
        "Via: 1.1 a, 1.1 b\r\n",
        "X-HTTP-Method-Override: POST\r\n",
        "X-Original-URL: /@@@@/smuggled\r\n",
    ] {
        add(format!("with {fields:?}"), POST, format!("{fields}Content-Length: 0\r\n"), SMUGGLED);
    }
    let upgrades = [
        ("h2c", format!("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n{SETTINGS}")),
        ("h2c without its settings named", format!("Connection: Upgrade\r\nUpgrade: h2c\r\n{SETTINGS}")),
        ("h2c without settings", "Connection: Upgrade\r\nUpgrade: h2c\r\n".into()),
        ("h2", "Connection: Upgrade\r\nUpgrade: h2\r\n".into()),
        ("TLS", "Connection: Upgrade\r\nUpgrade: TLS/1.2\r\n".into()),
        ("something", "Connection: Upgrade\r\nUpgrade: teleport/1\r\n".into()),
        ("two things", format!("Connection: Upgrade\r\nUpgrade: h2c, websocket\r\n{KEY}{VERSION}")),
        ("two lines", format!("Connection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n{KEY}{VERSION}")),
        ("a WebSocket", format!("Connection: Upgrade\r\nUpgrade: websocket\r\n{KEY}{VERSION}")),
        ("a WebSocket in capitals", format!("Connection: UPGRADE\r\nUpgrade: WEBSOCKET\r\n{KEY}{VERSION}")),
        ("a WebSocket without a key", format!("Connection: Upgrade\r\nUpgrade: websocket\r\n{VERSION}")),
        (
            "a WebSocket of another version",
            format!("Connection: Upgrade\r\nUpgrade: websocket\r\n{KEY}Sec-WebSocket-Version: 1337\r\n"),
        ),
        (
            "a WebSocket of two versions",
            format!("Connection: Upgrade\r\nUpgrade: websocket\r\n{KEY}{VERSION}{VERSION}"),
        ),
        ("a WebSocket that Connection does not name", format!("Upgrade: websocket\r\n{KEY}{VERSION}")),
        ("a WebSocket and close", format!("Connection: Upgrade, close\r\nUpgrade: websocket\r\n{KEY}{VERSION}")),
        ("a WebSocket with a slash", format!("Connection: Upgrade\r\nUpgrade: websocket/13\r\n{KEY}{VERSION}")),
    ];
    for (name, fields) in upgrades {
        for status in ["200", "401", "426"] {
            let line = format!("GET /@@@@/{status} HTTP/1.1");
            add(format!("an upgrade to {name}, answered {status}"), &line, fields.clone(), SMUGGLED);
        }
        add(
            format!("an upgrade to {name}, with a body"),
            "GET /@@@@/x HTTP/1.1",
            format!("{fields}{length}"),
            SMUGGLED,
        );
        let chunked = format!("{fields}Transfer-Encoding: chunked\r\n");
        add(format!("an upgrade to {name}, with chunks"), POST, chunked, &ended);
    }
    cases
}
