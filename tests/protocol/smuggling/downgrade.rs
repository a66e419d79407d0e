//! Requests of HTTP/2 that would be several in HTTP/1.

use super::SMUGGLED;
use crate::protocol::{
    frames::{
        DATA, END_HEADERS, END_STREAM, Field, Frame, GOAWAY, HEADERS, RST_STREAM, block, frame, get, greeting, request,
    },
    wire::{Answer, Wire},
};

const INJECTED: &str = "x HTTP/1.1\r\nHost: h\r\n\r\nGET /@@@@/smuggled HTTP/1.1\r\nHost: h\r\n\r\n";

#[rustfmt::skip]
const PATHS: [&str; 23] = [
    "/@@@@/ ", "/@@@@/\r\n", "/@@@@/\n", "/@@@@/\r", "/@@@@/\0", "/@@@@/\t", "/@@@@/x HTTP/1.1\r\nX: y", "/@@@@/x HTTP/1.1", "x", "", "*", "http://h/@@@@/x",
    "#", "/@@@@/x#y", "/@@@@/\x7f", "/@@@@/\u{e9}", "//@@@@/x", "/@@@@/../x", "/@@@@/%0d%0aX:%20y", " /@@@@/x", "\r\n/@@@@/x", "/@@@@/<x>",
    "/@@@@/\x0b",
];

#[rustfmt::skip]
const METHODS: [&str; 14] = [
    "GET /@@@@/smuggled HTTP/1.1\r\nHost: h\r\n\r\nGET", "GET ", " GET", "G\0T", "", "get", "CONNECT", "TRACE", "GET\r\n", "GET\tX", "G:T", "GET\n", "PRI", "G\u{e9}T",
];

#[rustfmt::skip]
const AUTHORITIES: [&str; 14] = [
    "h\r\nX: y", "h ", " h", "h/evil", "u@h", "h:80:80", "h\0", "", "h,evil", "h\nX: y", "h\r", "h?x", "h#x", "\u{e9}",
];

const SCHEMES: [&str; 7] = ["http\r\nX: y", "ftp", "", "http://h/", "https", "http ", "h\0"];

#[rustfmt::skip]
const VALUES: [&str; 13] = [
    "1\r\nTransfer-Encoding: chunked", "1\nX: y", "1\rX: y", "1\0", "1\r\n\r\nGET /@@@@/smuggled HTTP/1.1\r\nHost: h\r\n\r\n", " 1", "1 ", "\t1", "1\x7f",
    "1\x01", "", "1\r\n 2", "\u{e9}",
];

#[rustfmt::skip]
const NAMES: [&str; 18] = [
    "x\r\ny: z", "x\ny", "x\ry", "x:y", "x y", "x\0", "x\t", "X-Up", "", "x(", " x", "x ", "transfer-encoding ", "transfer-encoding: chunked\r\nx", "\u{e9}",
    "content-length:", "host\r\n", "x:",
];

#[rustfmt::skip]
const FIELDS: [Field<'static>; 26] = [
    ("connection", "close"), ("connection", "content-length"), ("keep-alive", "timeout=5"), ("proxy-connection", "close"),
    ("transfer-encoding", "chunked"), ("transfer-encoding", "identity"), ("transfer-encoding", "\0chunked"), ("transfer-encoding", ""),
    ("upgrade", "h2c"), ("upgrade", "websocket"), ("te", "gzip"), ("te", "trailers"), ("te", "trailers, chunked"), ("host", "evil"), ("host", "h"),
    ("http2-settings", "AAMAAABk"), (":path", "/@@@@/y"), (":method", "POST"), (":authority", "evil"), (":scheme", "https"), (":status", "200"),
    (":protocol", "websocket"), (":evil", "1"), ("expect", "100-continue"), ("content-length", "5"), ("content-length", "-1"),
];

#[rustfmt::skip]
const LENGTHS: [(&[&str], &str); 18] = [
    (&["0"], "body!"), (&["5"], "body"), (&["5"], "body!!"), (&["5, 5"], "body!"), (&["5", "5"], "body!"), (&["5", "6"], "body!"), (&["6", "5"], "body!"),
    (&["+5"], "body!"), (&["0x5"], "body!"), (&[" 5"], "body!"), (&["5 "], "body!"), (&[""], "body!"), (&["-1"], "body!"), (&["x"], "body!"),
    (&["18446744073709551616"], "body!"), (&["05"], "body!"), (&["5\r\nX: y"], "body!"), (&["18446744073709551615"], "body!"),
];

const TRAILERS: [Field<'static>; 8] = [
    ("content-length", "5"),
    ("transfer-encoding", "chunked"),
    (":path", "/@@@@/y"),
    ("x", "1\r\nX: y"),
    ("x\r\ny", "1"),
    ("host", "evil"),
    ("authorization", "x"),
    ("x", "y"),
];

pub(super) fn cases() -> Vec<(String, Vec<u8>)> {
    let mut cases = Vec::new();
    let mut only = |name: String, fields: &[Field<'_>]| {
        cases.push((name, frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(fields))));
    };
    let base = request("GET", "/@@@@/x");
    for path in PATHS {
        only(format!("h2: :path {path:?}"), &request("GET", path));
    }
    only("h2: :path with a request in it".into(), &request("GET", &format!("/@@@@/{INJECTED}")));
    for method in METHODS {
        only(format!("h2: :method {method:?}"), &request(method, "/@@@@/x"));
    }
    for authority in AUTHORITIES {
        only(format!("h2: :authority {authority:?}"), &[base[0], base[1], (":authority", authority), base[3]]);
    }
    for scheme in SCHEMES {
        only(format!("h2: :scheme {scheme:?}"), &[base[0], (":scheme", scheme), base[2], base[3]]);
    }
    for value in VALUES {
        only(format!("h2: a value {value:?}"), &[&base[..], &[("x-a", value)]].concat());
    }
    for name in NAMES {
        only(format!("h2: a name {name:?}"), &[&base[..], &[(name, "1")]].concat());
    }
    for (name, value) in FIELDS {
        only(format!("h2: {name}: {value:?}"), &[&base[..], &[(name, value)]].concat());
        only(format!("h2: {name}: {value:?} first"), &[&[(name, value)], &base[..]].concat());
    }
    for missing in 0..4 {
        let mut fields = base.to_vec();
        let (name, _) = fields.remove(missing);
        only(format!("h2: no {name}"), &fields);
    }
    for (lengths, body) in LENGTHS {
        let lengths: Vec<Field<'_>> = lengths.iter().map(|length| ("content-length", *length)).collect();
        cases.push((format!("h2: {lengths:?} and {body:?}"), post(&request("POST", "/@@@@/x"), &lengths, body, None)));
    }
    for method in ["POST", "GET", "HEAD", "DELETE"] {
        let length = SMUGGLED.len().to_string();
        let known = [("content-length", &*length)];
        let base = request(method, "/@@@@/x");
        cases.push((format!("h2: {method} with a request for a body"), post(&base, &known, SMUGGLED, None)));
        cases.push((format!("h2: {method} with a body of no length"), post(&base, &[], SMUGGLED, None)));
        let chunked = format!("0\r\n\r\n{SMUGGLED}");
        cases.push((format!("h2: {method} with a body in chunks"), post(&base, &[], &chunked, None)));
    }
    for trailer in TRAILERS {
        let frames = post(&request("POST", "/@@@@/x"), &[], "body!", Some(trailer));
        cases.push((format!("h2: a trailer {trailer:?}"), frames));
    }
    cases
}

fn post(base: &[Field<'_>], more: &[Field<'_>], body: &str, trailer: Option<Field<'_>>) -> Vec<u8> {
    let ends = if trailer.is_none() { END_STREAM } else { 0 };
    let mut frames = frame(HEADERS, END_HEADERS, 1, &block(&[base, more].concat()));
    frames.extend(frame(DATA, ends, 1, body.as_bytes()));
    if let Some(trailer) = trailer {
        frames.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[trailer])));
    }
    frames
}

/// Sends the frames with a canary behind them, and reads to the ends of both; gives the answers and all in words.
pub(super) async fn exchange(wire: &mut Wire, frames: &[u8], tag: &str) -> (Vec<Answer>, String) {
    wire.send(&[&greeting(), frames, &get(3, &format!("/{tag}/canary"))].concat()).await;
    let (mut answers, mut words, mut ended) = (Vec::new(), String::new(), 0);
    let (mut status, mut body) = ([0; 4], [const { Vec::new() }; 4]);
    while ended < 2 {
        let Some(frame) = Frame::read(wire).await else { break };
        let stream = frame.stream as usize % 4;
        match frame.kind {
            HEADERS if status[stream] == 0 => status[stream] = frame.status(),
            DATA => body[stream].extend_from_slice(&frame.payload),
            RST_STREAM if frame.number(0) != 0 => {
                ended += 1;
                if stream == 1 {
                    words = format!("stream error {}", frame.number(0));
                }
            }
            GOAWAY if frame.number(4) != 0 => words = format!("connection error {}", frame.number(4)),
            _ => {}
        }
        if frame.ends_stream() {
            ended += 1;
            let text = String::from_utf8_lossy(&std::mem::take(&mut body[stream])).into_owned();
            if stream == 1 {
                let from = if text.ends_with("HTTP/1.1") { "the pod" } else { "jellypin" };
                words = format!("{}, from {from}", status[1]);
            }
            answers.push(Answer { status: status[stream], body: text });
        }
    }
    (answers, words)
}
