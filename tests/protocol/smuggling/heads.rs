//! Heads with lines that parsers end, join, or read in their own ways.

use super::SMUGGLED;

/// What stands behind `Host: h` and its end of line, up to the empty line.
#[rustfmt::skip]
const FIELDS: [&str; 56] = [
    "X: a\r\n b\r\n", "X: a\r\n\tb\r\n", "X: a\n b\r\n", "X:\r\n b\r\n", " X: a\r\n", "\tX: a\r\n", "X: a\r\n \r\n", "X: a\r\n\x0bb\r\n", "X: a\rb\r\n",
    "X: a\r\r\n", "\rX: a\r\n", "X\r: a\r\n", "X:\ra\r\n", "X: a\nY: b\r\n", "X: a\n\r\n", "X: a\0b\r\n", "X\0: a\r\n", "\0X: a\r\n", "X: \0\r\n",
    "X : a\r\n", "X\t: a\r\n", "X a\r\n", "X\r\n", ": a\r\n", ":\r\n", "X: \x01\r\n", "X: \x7f\r\n", "X: \x1b[31m\r\n", "X\x7f: a\r\n", "X\u{e9}: a\r\n",
    "X(: a\r\n", "X@: a\r\n", "X,Y: a\r\n", "X;Y: a\r\n", "X=Y: a\r\n", "\"X\": a\r\n", "[X]: a\r\n", "X/Y: a\r\n", "X: \u{e9}\r\n", "X: a\u{2028}b\r\n",
    "Host: evil\r\n", "Host : evil\r\n", " Host: evil\r\n", "host: h\r\n", "Host\0: evil\r\n", "Hos\u{212a}: evil\r\n",
    "X: a\r\nX: b\r\nX: c\r\n", "Content-Type: a\r\nContent-Type: b\r\n", "X: a\r\n\r", "HTTP/1.1 200 OK\r\n", "GET /@@@@/y HTTP/1.1\r\n",
    "GET /@@@@/y HTTP/1.1\r\nHost: h\r\n", "\n", "\rGET /@@@@/y HTTP/1.1\r\n", "X: \r\n\n", "X: \u{d}\u{a}\r",
];

/// Whole beginnings, with whatever ends their lines.
#[rustfmt::skip]
const WHOLE: [(&str, &str); 18] = [
    ("LF ends all lines", "POST /@@@@/x HTTP/1.1\nHost: h\nContent-Length: 0\n\n"),
    ("LF ends the request line", "POST /@@@@/x HTTP/1.1\nHost: h\r\nContent-Length: 0\r\n\r\n"),
    ("LF ends the head", "POST /@@@@/x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\n"),
    ("LF ends a field", "POST /@@@@/x HTTP/1.1\r\nHost: h\nContent-Length: 0\r\n\r\n"),
    ("CR ends all lines", "POST /@@@@/x HTTP/1.1\rHost: h\rContent-Length: 0\r\r"),
    ("CR ends the request line", "POST /@@@@/x HTTP/1.1\rHost: h\r\nContent-Length: 0\r\n\r\n"),
    ("CR, CR, LF end lines", "POST /@@@@/x HTTP/1.1\r\r\nHost: h\r\r\nContent-Length: 0\r\r\n\r\r\n"),
    ("LF, CR end lines", "POST /@@@@/x HTTP/1.1\n\rHost: h\n\rContent-Length: 0\n\r\n\r"),
    ("empty lines before it", "\r\n\r\n\r\nPOST /@@@@/x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"),
    ("empty lines of LF before it", "\n\n\nPOST /@@@@/x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"),
    ("a blank before it", " POST /@@@@/x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"),
    ("a NUL before it", "\0POST /@@@@/x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"),
    ("a CR before it", "\rPOST /@@@@/x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"),
    ("a byte order mark before it", "\u{feff}POST /@@@@/x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"),
    ("an answer before it", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nPOST /@@@@/x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"),
    ("a blank line in the head", "POST /@@@@/x HTTP/1.1\r\nHost: h\r\n \r\nContent-Length: 0\r\n\r\n"),
    ("Host behind the length", "POST /@@@@/x HTTP/1.1\r\nContent-Length: 0\r\nHost: h\r\n\r\n"),
    ("no Host", "POST /@@@@/x HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
];

pub(super) fn cases() -> Vec<(String, Vec<u8>)> {
    let fields = FIELDS.into_iter().map(|fields| {
        let head = format!("POST /@@@@/x HTTP/1.1\r\nHost: h\r\n{fields}Content-Length: 0\r\n\r\n{SMUGGLED}");
        (format!("fields {fields:?}"), head.into_bytes())
    });
    let behind = FIELDS.into_iter().take(28).map(|fields| {
        let length = SMUGGLED.len();
        let head = format!("POST /@@@@/x HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n{fields}\r\n{SMUGGLED}");
        (format!("a length, then fields {fields:?}"), head.into_bytes())
    });
    let whole = WHOLE.into_iter().map(|(name, head)| (name.to_owned(), format!("{head}{SMUGGLED}").into_bytes()));
    fields.chain(behind).chain(whole).collect()
}
