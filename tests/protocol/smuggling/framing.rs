//! How long a body is: `Content-Length` and `Transfer-Encoding` in all their forms.

use super::SMUGGLED;

/// Values that are no plain number, or that parsers read in several ways. `LEN` is the length of what follows.
#[rustfmt::skip]
const LENGTHS: [&str; 52] = [
    "", " ", "0", "00", "000000000000000000000000000", "+0", "-0", "0x0", "0x25", "0b0", "0o0", "0,0", "0, 0", "0,LEN", "LEN,0",
    "LEN, LEN", "0;LEN", "0 LEN", "LEN 0", "0\tLEN", "0.0", "0e0", "1e1", "LEN.0", "0_0", "1_0", "\"0\"", "'0'", "0,", ",0", "0,,0",
    "0\x0b", "\x0b0", "\x0c0", "0\0", "\u{660}", "0\u{a0}", "\u{ff10}", "-1", "-LEN", "--0", "+LEN", "infinity", "NaN", "null",
    "true", "18446744073709551616", "18446744073709551615", "9223372036854775808", "4294967296", "LENLEN", "99999999999999999999999",
];

/// Names that some parsers take for `Content-Length`.
#[rustfmt::skip]
const LENGTH_NAMES: [&str; 15] = [
    "content-length", "CONTENT-LENGTH", "Content-Length ", "Content-Length\t", " Content-Length", "\tContent-Length", "Content_Length",
    "Content-Length\x0b", "\x0bContent-Length", "Content-Length\0", "\0Content-Length", "Content Length", "Content-Length:",
    "Content-Length\r", "\u{a0}Content-Length",
];

/// Pairs of `Content-Length`.
#[rustfmt::skip]
const PAIRS: [(&str, &str); 14] = [
    ("0", "0"), ("0", "LEN"), ("LEN", "0"), ("LEN", "LEN"), ("00", "0"), ("0", "+0"), ("+0", "0"), ("LEN", "0LEN"), ("0", ""), ("", "0"),
    ("0", "x"), ("x", "0"), ("0", "-1"), ("LEN", "LEN\0"),
];

/// Values around `chunked`.
#[rustfmt::skip]
const CODINGS: [&str; 58] = [
    "chunked", "Chunked", "CHUNKED", "cHuNkEd", "  chunked", "chunked  ", "\tchunked", "chunked\t", "\x0bchunked", "chunked\x0b",
    "\x0cchunked", "\0chunked", "chunked\0", "\"chunked\"", "'chunked'", "chunked;", "chunked;q=1", "chunked;q=0", "chunked,",
    "chunked, ", ",chunked", ", chunked", "chunked,chunked", "chunked, chunked", "identity", "identity, chunked", "chunked, identity",
    "gzip", "gzip, chunked", "chunked, gzip", "deflate, chunked", "compress", "x", "xchunked", "chunkedx", "chunk", "chun ked",
    "chunked foo", "foo chunked", "chunked\rfoo", "\rchunked", "chunked\r", "chun\u{212a}ed", "\u{a0}chunked", "chunked\u{a0}",
    "trailers", "null", "none", "", "   ", "chunked:", ": chunked", "[chunked]", "chunked=1", "0", "gzip;chunked", "\x7fchunked",
    "chunked\x01",
];

/// Names that some parsers take for `Transfer-Encoding`.
#[rustfmt::skip]
const CODING_NAMES: [&str; 18] = [
    "transfer-encoding", "TRANSFER-ENCODING", "Transfer-Encoding ", "Transfer-Encoding\t", " Transfer-Encoding", "\tTransfer-Encoding",
    "Transfer_Encoding", "Transfer-Encoding\x0b", "\x0bTransfer-Encoding", "Transfer-Encoding\0", "\0Transfer-Encoding",
    "Transfer Encoding", "Transfer-Encoding:", "Transfer-Encoding\r", "Foo: bar\rTransfer-Encoding", "Foo: bar\nTransfer-Encoding",
    "X-Transfer-Encoding", "TE",
];

pub(super) fn cases() -> Vec<(String, Vec<u8>)> {
    let mut cases = Vec::new();
    let mut add = |name: String, line: &str, fields: &str, body: &str| {
        let length = body.len().to_string();
        let fields = fields.replace("LEN", &length);
        cases.push((name, format!("{line}\r\nHost: h\r\n{fields}\r\n{body}").into_bytes()));
    };
    const POST: &str = "POST /@@@@/x HTTP/1.1";
    let ended = format!("0\r\n\r\n{SMUGGLED}");
    for value in LENGTHS {
        add(format!("Content-Length: {value:?}"), POST, &format!("Content-Length: {value}\r\n"), SMUGGLED);
    }
    for name in LENGTH_NAMES {
        add(format!("{name:?} as Content-Length"), POST, &format!("{name}: LEN\r\n"), SMUGGLED);
        add(
            format!("{name:?} beside Content-Length: 0"),
            POST,
            &format!("Content-Length: 0\r\n{name}: LEN\r\n"),
            SMUGGLED,
        );
    }
    for (one, other) in PAIRS {
        let fields = format!("Content-Length: {one}\r\nX: y\r\ncontent-length: {other}\r\n");
        add(format!("Content-Length: {one:?} and {other:?}"), POST, &fields, SMUGGLED);
    }
    for value in CODINGS {
        let coding = format!("Transfer-Encoding: {value}\r\n");
        add(format!("Transfer-Encoding: {value:?}"), POST, &coding, &ended);
        add(format!("Content-Length: all and {value:?}"), POST, &format!("Content-Length: LEN\r\n{coding}"), &ended);
        add(format!("{value:?} and Content-Length: 5"), POST, &format!("{coding}Content-Length: 5\r\n"), &ended);
    }
    for name in CODING_NAMES {
        let coding = format!("{name}: chunked\r\n");
        add(format!("{name:?} as Transfer-Encoding"), POST, &coding, &ended);
        add(format!("{name:?} beside Content-Length"), POST, &format!("Content-Length: LEN\r\n{coding}"), &ended);
    }
    for (one, other) in [
        ("chunked", "chunked"),
        ("chunked", "x"),
        ("x", "chunked"),
        ("identity", "chunked"),
        ("chunked", ""),
        ("", "chunked"),
    ] {
        let fields = format!("Transfer-Encoding: {one}\r\nTransfer-encoding: {other}\r\n");
        add(format!("Transfer-Encoding: {one:?} and {other:?}"), POST, &fields, &ended);
    }
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "PUT", "BREW"] {
        let line = format!("{method} /@@@@/x HTTP/1.1");
        add(format!("{method} with a body"), &line, "Content-Length: LEN\r\n", SMUGGLED);
        add(format!("{method} with chunks"), &line, "Transfer-Encoding: chunked\r\n", &ended);
        add(format!("{method} with neither"), &line, "", SMUGGLED);
    }
    for (version, fields) in [
        ("1.0", "Transfer-Encoding: chunked\r\n"),
        ("1.0", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"),
        ("1.0", "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: LEN\r\n"),
        ("1.0", "Connection: keep-alive\r\nContent-Length: 5\r\n"),
        ("1.0", "Connection: keep-alive\r\n"),
        ("0.9", "Content-Length: 0\r\n"),
        ("1.2", "Content-Length: 0\r\n"),
        ("2.0", "Content-Length: 0\r\n"),
    ] {
        add(format!("HTTP/{version} with {fields:?}"), &format!("POST /@@@@/x HTTP/{version}"), fields, &ended);
    }
    for (name, expect) in [
        ("Expect with a length", "Expect: 100-continue\r\nContent-Length: 0\r\n"),
        ("Expect with chunks", "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n"),
        ("another Expect", "Expect: 200-ok\r\nContent-Length: 5\r\n"),
        ("two Expects", "Expect: 100-continue\r\nExpect: x\r\nContent-Length: 5\r\n"),
        ("Expect with a sign", "Expect: y100-continue\r\nContent-Length: 5\r\n"),
        ("Expect on an old version", "Expect:\r\nContent-Length: 5\r\n"),
    ] {
        add(name.into(), POST, expect, &ended);
    }
    cases
}
