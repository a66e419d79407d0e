//! Hostile bytes of HTTP/1, as they would come from a hostile client.

use super::{Attack, Outcome, Then, attack::statuses, run_all};

/// An attack that the proxy must answer itself; nothing reaches the pod.
fn refused(name: &'static str, status: u16, bytes: impl Into<Vec<u8>>) -> Attack {
    Attack { name, bytes: bytes.into(), then: Then::Reads, expected: Outcome::Status(status), reaches: Vec::new() }
}

/// One whose connection must end without an answer.
fn ended(name: &'static str, bytes: impl Into<Vec<u8>>) -> Attack {
    Attack { name, bytes: bytes.into(), then: Then::Reads, expected: Outcome::Ended, reaches: Vec::new() }
}

/// One whose body cannot be read on: it is refused, and no pod gets a whole request.
fn breaks_off(name: &'static str, bytes: impl Into<Vec<u8>>) -> Attack {
    Attack { then: Then::BreaksOff, ..refused(name, 400, bytes) }
}

/// One that is odd and yet has one reading only, which reaches the pod.
fn passes(name: &'static str, reaches: &'static str, bytes: impl Into<Vec<u8>>) -> Attack {
    Attack { name, bytes: bytes.into(), then: Then::Reads, expected: Outcome::Status(200), reaches: vec![reaches] }
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")
}

fn with(fields: &str) -> String {
    format!("GET /x HTTP/1.1\r\nHost: h\r\n{fields}\r\n")
}

fn post(fields: &str, body: &str) -> String {
    format!("POST /x HTTP/1.1\r\nHost: h\r\n{fields}\r\n{body}")
}

#[tokio::test]
async fn smuggled_requests_reach_nobody() {
    const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    let after = |body: &str| format!("{body}{SMUGGLED}");
    run_all(
        "Request smuggling",
        vec![
            // RFC 9112, 6.3: the chunks count, and the connection ends after the answer.
            passes(
                "Content-Length and chunked",
                "POST /x HTTP/1.1",
                post(&format!("Content-Length: 5\r\n{chunked}"), &after("0\r\n\r\n")),
            ),
            passes(
                "chunked and Content-Length",
                "POST /x HTTP/1.1",
                post(&format!("{chunked}Content-Length: 5\r\n"), &after("0\r\n\r\n")),
            ),
            refused(
                "two Content-Lengths that differ",
                400,
                post("Content-Length: 0\r\nContent-Length: 37\r\n", SMUGGLED),
            ),
            refused("a list of Content-Lengths that differ", 400, post("Content-Length: 0, 37\r\n", SMUGGLED)),
            refused("Content-Length: -1", 400, post("Content-Length: -1\r\n", SMUGGLED)),
            refused("Content-Length: +4", 400, post("Content-Length: +4\r\n", SMUGGLED)),
            refused("Content-Length: 0x4", 400, post("Content-Length: 0x4\r\n", SMUGGLED)),
            refused("Content-Length: 4 4", 400, post("Content-Length: 4 4\r\n", SMUGGLED)),
            refused("an empty Content-Length", 400, post("Content-Length:\r\n", SMUGGLED)),
            refused("Content-Length: 2^64", 400, post("Content-Length: 18446744073709551616\r\n", SMUGGLED)),
            refused("Content-Length: 2^64 - 1", 431, post("Content-Length: 18446744073709551615\r\n", SMUGGLED)),
            refused("gzip, chunked", 400, post("Transfer-Encoding: gzip, chunked\r\n", &after("0\r\n\r\n"))),
            refused("chunked, gzip", 400, post("Transfer-Encoding: chunked, gzip\r\n", &after("0\r\n\r\n"))),
            refused("chunked, chunked", 400, post("Transfer-Encoding: chunked, chunked\r\n", &after("0\r\n\r\n"))),
            refused("chunked twice", 400, post(&format!("{chunked}{chunked}"), &after("0\r\n\r\n"))),
            refused("identity", 400, post("Transfer-Encoding: identity\r\nContent-Length: 0\r\n", SMUGGLED)),
            refused("xchunked", 400, post("Transfer-Encoding: xchunked\r\n", &after("0\r\n\r\n"))),
            refused(
                "chunked with a vertical tab",
                400,
                post("Transfer-Encoding: \x0bchunked\r\n", &after("0\r\n\r\n")),
            ),
            refused("an empty Transfer-Encoding", 400, post("Transfer-Encoding:\r\nContent-Length: 0\r\n", SMUGGLED)),
            refused(
                "Transfer-Encoding in a folded line",
                400,
                post("Transfer-Encoding:\r\n chunked\r\n", &after("0\r\n\r\n")),
            ),
            refused("another field folded", 400, post("X: a\r\n b\r\nContent-Length: 0\r\n", "")),
            refused("a blank before the colon", 400, post("Transfer-Encoding : chunked\r\n", &after("0\r\n\r\n"))),
            refused("a field without a colon", 400, post("Nonsense\r\n", "")),
            refused("a field without a name", 400, post(": x\r\n", "")),
            refused("a blank before the first field", 400, "GET /x HTTP/1.1\r\n Host: h\r\n\r\n"),
            refused(
                "chunked in HTTP/1.0",
                400,
                format!("POST /x HTTP/1.0\r\nHost: h\r\n{chunked}\r\n0\r\n\r\n{SMUGGLED}"),
            ),
            refused("a bare CR in a value", 400, post("X: a\rTransfer-Encoding: chunked\r\nContent-Length: 0\r\n", "")),
            refused("NUL in a value", 400, post("X: a\0b\r\n", "")),
            refused("NUL in a name", 400, post("X\0: a\r\n", "")),
            breaks_off("a chunk's size that is none", post(chunked, "x\r\n\r\n")),
            breaks_off("a chunk's size of 2^64", post(chunked, "10000000000000000\r\n")),
            breaks_off("a chunk's size with a sign", post(chunked, "+0\r\n\r\n")),
            breaks_off("a chunk's size with 0x", post(chunked, "0x0\r\n\r\n")),
            breaks_off("a chunk's size and a bare LF", post(chunked, &after("0\n\n"))),
            breaks_off("a chunk longer than its size", post(chunked, &after("2\r\nabc\r\n0\r\n\r\n"))),
            breaks_off("an endless chunk extension", post(chunked, &format!("0;{}", "x".repeat(200_000)))),
            breaks_off("endless trailers", post(chunked, &format!("0\r\n{}", "X-T: y\r\n".repeat(50_000)))),
            Attack {
                name: "a body on GET is a body, not a request",
                bytes: format!("{}{SMUGGLED}", with(&format!("Content-Length: {}\r\n", SMUGGLED.len()))).into(),
                then: Then::Reads,
                expected: Outcome::Status(200),
                reaches: vec!["GET /x HTTP/1.1 [GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n]"],
            },
        ],
        statuses,
    )
    .await;
}

#[tokio::test]
async fn ambiguous_requests_are_refused() {
    let hosts = |hosts: &[&str]| {
        let lines: String = hosts.iter().map(|host| format!("Host: {host}\r\n")).collect();
        format!("GET /x HTTP/1.1\r\n{lines}\r\n")
    };
    run_all(
        "Odd requests",
        vec![
            refused("no Host", 400, hosts(&[])),
            refused("two Hosts", 400, hosts(&["h", "evil"])),
            refused("two equal Hosts", 400, hosts(&["h", "h"])),
            refused("a Host with a slash", 400, hosts(&["h/evil"])),
            refused("a Host with a user", 400, hosts(&["user@h"])),
            refused("a Host with a blank", 400, hosts(&["h evil"])),
            refused("a Host with a comma", 400, hosts(&["h,evil"])),
            refused("a Host with bytes that are no ASCII", 400, b"GET /x HTTP/1.1\r\nHost: h\xff\r\n\r\n"),
            passes(
                "absolute form: its host counts",
                "GET /x HTTP/1.1",
                "GET http://other/x HTTP/1.1\r\nHost: h\r\n\r\n",
            ),
            refused("absolute form with a user", 400, "GET http://u:p@h/x HTTP/1.1\r\nHost: h\r\n\r\n"),
            refused("absolute form without a host", 400, "GET http:///x HTTP/1.1\r\nHost: h\r\n\r\n"),
            refused("CONNECT", 405, "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n"),
            refused("TRACE", 405, "TRACE /x HTTP/1.1\r\nHost: h\r\nCookie: secret=1\r\n\r\n"),
            refused("OPTIONS *", 400, "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n"),
            refused("GET *", 400, "GET * HTTP/1.1\r\nHost: h\r\n\r\n"),
            refused("a target without a slash", 400, get("x")),
            passes("an unknown method", "BREW /x HTTP/1.1", "BREW /x HTTP/1.1\r\nHost: h\r\n\r\n"),
            refused("a method with a control character", 400, "GE\x01T /x HTTP/1.1\r\nHost: h\r\n\r\n"),
            refused("HTTP/0.9", 400, "GET /x\r\n\r\n"),
            refused("HTTP/3.0", 400, "GET /x HTTP/3.0\r\nHost: h\r\n\r\n"),
            refused("HTTP/2.0 in a request line", 400, "GET /x HTTP/2.0\r\nHost: h\r\n\r\n"),
            refused("HTTP/1.2", 400, "GET /x HTTP/1.2\r\nHost: h\r\n\r\n"),
            refused("two blanks in the request line", 400, "GET  /x HTTP/1.1\r\nHost: h\r\n\r\n"),
            refused("a target with a blank", 400, get("/x y")),
            refused("a target with a NUL", 400, get("/x\0y")),
            refused("a target with a bare CR", 400, get("/x\ry")),
            refused("a target with <", 400, get("/<x>")),
            passes("path with //", "GET //x//y HTTP/1.1", get("//x//y")),
            passes("path with /../", "GET /a/../../etc/passwd HTTP/1.1", get("/a/../../etc/passwd")),
            passes("path with %00", "GET /a%00b HTTP/1.1", get("/a%00b")),
            passes("path with a backslash", "GET /a\\..\\b HTTP/1.1", get("/a\\..\\b")),
            passes("path with CR and LF encoded", "GET /a%0d%0aX:%20y HTTP/1.1", get("/a%0d%0aX:%20y")),
            passes("a fragment is no part of a target", "GET /x HTTP/1.1", get("/x#/evil")),
            passes(
                "a forged X-Forwarded-For",
                "GET /x HTTP/1.1",
                with("X-Forwarded-For: 127.0.0.1\r\nForwarded: for=1\r\n"),
            ),
            passes("lines ended by LF alone", "GET /x HTTP/1.1", "GET /x HTTP/1.1\nHost: h\n\n"),
            passes("empty lines before the request", "GET /x HTTP/1.1", format!("\r\n\r\n{}", get("/x"))),
        ],
        statuses,
    )
    .await;
}

#[tokio::test]
async fn too_large_and_too_slow_requests_end() {
    let long = |count: usize| "x".repeat(count);
    run_all(
        "Too large, too slow",
        vec![
            refused("a field of 70 KiB", 431, with(&format!("X: {}\r\n", long(70 << 10)))),
            refused("a cookie of 1 MiB", 431, with(&format!("Cookie: a={}\r\n", long(1 << 20)))),
            refused("200 fields", 431, with(&"X: y\r\n".repeat(200))),
            refused("40 cookies of 4 KiB", 431, with(&format!("Cookie: a={}\r\n", long(4 << 10)).repeat(40))),
            refused("a target of 70 KiB", 431, get(&format!("/{}", long(70 << 10)))),
            passes(
                "six thousand small cookies",
                "GET /x HTTP/1.1",
                with(&format!("Cookie: {}\r\n", "a=b; ".repeat(6_000))),
            ),
            refused("twenty thousand small cookies", 431, with(&format!("Cookie: {}\r\n", "a=b; ".repeat(20_000)))),
            refused("a target of 9 KiB", 414, get(&format!("/{}", long(9 << 10)))),
            ended("a request line that never comes", ""),
            ended("half a request line", "GET /x HT"),
            ended("a head that never ends", "GET /x HTTP/1.1\r\nHost: h\r\nX: "),
            ended("empty lines and nothing else", "\r\n\r\n\r\n"),
            Attack {
                name: "half a body, then away",
                bytes: post("Content-Length: 10\r\n", "half").into(),
                then: Then::Leaves,
                expected: Outcome::Nothing,
                reaches: vec!["POST /x HTTP/1.1, unfinished"],
            },
            Attack {
                name: "half a chunked body, then away",
                bytes: post("Transfer-Encoding: chunked\r\n", "a\r\nhalf").into(),
                then: Then::Leaves,
                expected: Outcome::Nothing,
                reaches: vec!["POST /x HTTP/1.1, unfinished"],
            },
            Attack {
                name: "half a body, then silence on its side",
                bytes: post("Content-Length: 10\r\n", "half").into(),
                then: Then::Finishes,
                expected: Outcome::Ended,
                reaches: vec!["POST /x HTTP/1.1, unfinished"],
            },
            refused("TLS on the cleartext port", 400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03junk\r\n\r\n"),
            refused("random bytes", 400, b"\xde\xad\xbe\xef\x00\x01\x02\r\n\r\n"),
            refused("SSH", 400, "SSH-2.0-OpenSSH_9.9\r\n\r\n"),
            refused(
                "the PROXY protocol",
                400,
                "PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nGET /x HTTP/1.1\r\nHost: h\r\n\r\n",
            ),
        ],
        statuses,
    )
    .await;
}

#[tokio::test]
async fn false_upgrades_open_no_tunnel() {
    const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";
    let asks = |fields: &str| with(&format!("{UPGRADE}{fields}"));
    run_all(
        "Upgrades",
        vec![
            refused("without a key", 400, asks(VERSION)),
            refused("with a short key", 400, asks(&format!("Sec-WebSocket-Key: abc\r\n{VERSION}"))),
            refused("with two keys", 400, asks(&format!("{KEY}{KEY}{VERSION}"))),
            refused("without a version", 400, asks(KEY)),
            refused("with another version", 400, asks(&format!("{KEY}Sec-WebSocket-Version: 8\r\n"))),
            refused("by POST", 400, post(&format!("{UPGRADE}{KEY}{VERSION}Content-Length: 0\r\n"), "")),
            refused("with a body", 400, format!("{}body", asks(&format!("{KEY}{VERSION}Content-Length: 4\r\n")))),
            refused("with a chunked body", 400, format!("{}0\r\n\r\n", asks(&format!("{KEY}{VERSION}Transfer-Encoding: chunked\r\n")))),
            passes("to h2c", "GET /x HTTP/1.1", with("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n")),
            passes("to something unknown", "GET /x HTTP/1.1", with("Connection: Upgrade\r\nUpgrade: teleport/1\r\n")),
            passes("that Connection does not name", "GET /x HTTP/1.1", with(&format!("Upgrade: websocket\r\n{KEY}{VERSION}"))),
            refused("in HTTP/1.0", 400, format!("GET /x HTTP/1.0\r\nHost: h\r\n{UPGRADE}{KEY}{VERSION}\r\n")),
            passes("that the pod answers with 200", "GET /x HTTP/1.1", asks(&format!("{KEY}{VERSION}"))),
            Attack {
                name: "that the pod answers with 200, a request behind it",
                bytes: format!("{}{}", asks(&format!("{KEY}{VERSION}")), get("/behind")).into(),
                then: Then::Reads,
                expected: Outcome::Words("200, 200"),
                reaches: vec!["GET /x HTTP/1.1", "GET /behind HTTP/1.1"],
            },
        ],
        statuses,
    )
    .await;
}
