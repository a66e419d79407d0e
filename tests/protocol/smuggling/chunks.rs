//! Chunked bodies: sizes, extensions, ends of lines, trailers.

use super::SMUGGLED;

/// What stands in the place of a chunk's size line of 5 bytes, with its end.
#[rustfmt::skip]
const SIZES: [&str; 50] = [
    "5\r\n", "05\r\n", "0000000000000005\r\n", "00000000000000000000000000000005\r\n", "+5\r\n", "-5\r\n", "0x5\r\n", "0X5\r\n", "5 \r\n",
    " 5\r\n", "\t5\r\n", "5\t\r\n", "5\n", "5\r", "5\r\r\n", "5\n\r\n", "5;\r\n", "5;a\r\n", "5;a=b\r\n", "5; a=b\r\n", "5 ;a\r\n", "5;a=\"b\"\r\n",
    "5;a=\"\r\n\"\r\n", "5;\n", "5;a\n", "5;a\r", "5;a\rb\r\n", "5;a\0\r\n", "5;\x0b\r\n", "5,\r\n", "5_\r\n", "5.0\r\n", "5h\r\n", "5\0\r\n",
    "5\x0b\r\n", "5\u{a0}\r\n", "\u{ff15}\r\n", "\r\n5\r\n", "\n5\r\n", "", "\r\n", ";\r\n", "x\r\n", "ffffffffffffffff\r\n",
    "10000000000000005\r\n", "100000005\r\n", "8000000000000005\r\n", "fffffffffffffffffffff\r\n", "5 5\r\n", "5;a;b;c=\"d;e\";\r\n",
];

/// What stands behind a chunk of 5 bytes.
#[rustfmt::skip]
const ENDS: [&str; 12] = ["\r\n", "\n", "\r", "", "\r\r\n", "\n\r", "x\r\n", " \r\n", "\r\n\r\n", "xx", "\0\0", ";\r\n"];

/// What ends the body, from the last chunk on.
#[rustfmt::skip]
const LAST: [&str; 34] = [
    "0\r\n\r\n", "00\r\n\r\n", "000000000000000000\r\n\r\n", "0\n\n", "0\n\r\n", "0\r\n\n", "0\r\r", "0\r\n\r", "0\r\n\rX", "0 \r\n\r\n", " 0\r\n\r\n",
    "-0\r\n\r\n", "+0\r\n\r\n", "0x0\r\n\r\n", "0;a\r\n\r\n", "0;a=b\r\n\r\n", "0;\n\n", "0;\r\r\n\r\n", "0\r\nX: y\r\n\r\n", "0\r\nX: y\n\n",
    "0\r\nX\r\n\r\n", "0\r\n X: y\r\n\r\n", "0\r\nX : y\r\n\r\n", "0\r\nX: a\r\n b\r\n\r\n", "0\r\nContent-Length: 37\r\n\r\n",
    "0\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\nHost: evil\r\n\r\n", "0\r\nAuthorization: x\r\n\r\n", "0\r\nX: a\rb\r\n\r\n",
    "0\r\nX: a\0b\r\n\r\n", "0\r\n: y\r\n\r\n", "0\r\nGET /@@@@/t HTTP/1.1\r\n\r\n", "0\0\r\n\r\n", "0\x0b\r\n\r\n",
];

pub(super) fn cases() -> Vec<(String, Vec<u8>)> {
    let mut cases = Vec::new();
    let mut add = |name: String, body: String| {
        let head = "POST /@@@@/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        cases.push((name, format!("{head}{body}{SMUGGLED}").into_bytes()));
    };
    for size in SIZES {
        add(format!("a chunk's size {size:?}"), format!("{size}abcde\r\n0\r\n\r\n"));
    }
    for end in ENDS {
        add(format!("a chunk's end {end:?}"), format!("5\r\nabcde{end}0\r\n\r\n"));
    }
    for last in LAST {
        add(format!("the last chunk {last:?}"), format!("5\r\nabcde\r\n{last}"));
    }
    add("a chunk shorter than its size".into(), "9\r\nabcde\r\n0\r\n\r\n".into());
    add("a chunk longer than its size".into(), "2\r\nabcde\r\n0\r\n\r\n".into());
    add("chunks of a byte".into(), "1\r\na\r\n".repeat(40) + "0\r\n\r\n");
    add("a request in a chunk".into(), format!("3e\r\n{SMUGGLED:0<62}\r\n0\r\n\r\n"));
    add("no chunk at all".into(), String::new());
    cases
}
