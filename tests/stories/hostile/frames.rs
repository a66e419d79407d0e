//! Hostile frames of HTTP/2.

use super::{Attack, Outcome, Then, run_all};
use crate::stories::wire::End;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u32;
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Fields without compression (RFC 7541, 6.2.2), each shorter than 127 bytes.
pub(super) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        block.push(name.len() as u8);
        block.extend(name.bytes());
        block.push(value.len() as u8);
        block.extend(value.bytes());
    }
    block
}

const REQUEST: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":authority", "h"), (":path", "/x")];

/// A request with these fields more.
fn with(more: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[&REQUEST[..], more].concat()))
}

/// A request with other fields altogether.
fn only(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(fields))
}

fn attack(name: &'static str, expected: &'static str, reaches: &[&'static str], frames: Vec<u8>) -> Attack {
    let bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frames].concat();
    Attack { name, bytes, then: Then::Reads, expected: Outcome::Words(expected), reaches: reaches.to_vec() }
}

/// One whose body cannot be read on.
fn breaks_off(name: &'static str, expected: &'static str, frames: Vec<u8>) -> Attack {
    Attack { then: Then::BreaksOff, ..attack(name, expected, &[], frames) }
}

/// Reads frames until a stream or the connection has its end, and tells it in words.
async fn first_end(end: &mut End) -> String {
    let mut status = String::new();
    loop {
        let Some(head) = end.try_bytes(9).await else { return "ended".into() };
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let Some(payload) = end.try_bytes(length).await else { return "ended".into() };
        let code = |at: usize| {
            payload.get(at..at + 4).map_or(0, |four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
        };
        match head[3] {
            HEADERS => status = status_of(&payload),
            RST_STREAM if code(0) == 0 => {}
            RST_STREAM => return format!("RST {}", code(0)),
            // A farewell is followed by what it does not end.
            GOAWAY if code(4) == 0 => {}
            GOAWAY => return format!("GOAWAY {}", code(4)),
            _ => {}
        }
        if matches!(head[3], DATA | HEADERS) && head[4] & END_STREAM != 0 {
            return status;
        }
    }
}

/// The status that a block of fields begins with: of the static table, or a literal with or without Huffman's code.
fn status_of(block: &[u8]) -> String {
    match block {
        [0x88, ..] => "200".into(),
        [0x8c, ..] => "400".into(),
        [0x8d, ..] => "404".into(),
        [0x48, 0x83, 0x68, 0x0d, ..] => "405".into(),
        [0x48, 0x83, 0x69, 0x90, ..] => "431".into(),
        [_, 3, text @ ..] => String::from_utf8_lossy(&text[..3.min(text.len())]).into_owned(),
        other => format!("{:02x?}", &other[..4.min(other.len())]),
    }
}

#[tokio::test]
async fn hostile_frames_end_their_stream_or_their_connection() {
    let x = "GET /x HTTP/1.1";
    let long: Vec<(&str, &str)> =
        vec![("x", "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"); 150];
    let large = {
        let mut frames = frame(HEADERS, END_STREAM, 1, &block(&REQUEST));
        for part in 0..5 {
            frames.extend(frame(CONTINUATION, if part == 4 { END_HEADERS } else { 0 }, 1, &block(&long)));
        }
        frames
    };
    let endless = {
        let mut frames = frame(HEADERS, END_STREAM, 1, &block(&REQUEST));
        for _ in 0..2000 {
            frames.extend(frame(CONTINUATION, 0, 1, &block(&long[..10])));
        }
        frames
    };
    let rapid: Vec<u8> = (0..2000_u32)
        .flat_map(|number| {
            let stream = number * 2 + 1;
            let open = frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&[("x", "y")]));
            [open, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
        })
        .collect();
    let upload = |length: &str, body: &[u8]| {
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "h"),
            (":path", "/x"),
            ("content-length", length),
        ];
        [frame(HEADERS, END_HEADERS, 1, &block(&fields)), frame(DATA, END_STREAM, 1, body)].concat()
    };
    run_all(
        "Frames of HTTP/2",
        vec![
            attack("a good request", "200", &[x], with(&[])),
            attack("Host beside :authority: the authority counts", "200", &[x], with(&[("host", "evil")])),
            attack("a name in upper case", "GOAWAY 1", &[], with(&[("X-Up", "1")])),
            attack("a name with a colon", "GOAWAY 1", &[], with(&[("a:b", "1")])),
            attack("a name with CR and LF", "GOAWAY 1", &[], with(&[("a\r\nb", "1")])),
            attack("a value with CR and LF", "GOAWAY 1", &[], with(&[("a", "1\r\nhost: evil")])),
            attack("Connection", "RST 1", &[], with(&[("connection", "keep-alive")])),
            attack("Transfer-Encoding", "RST 1", &[], with(&[("transfer-encoding", "chunked")])),
            attack("TE with another word than trailers", "RST 1", &[], with(&[("te", "gzip")])),
            attack("no path", "RST 1", &[], only(&REQUEST[..3])),
            attack("no method", "RST 1", &[], only(&REQUEST[1..])),
            attack("two paths", "RST 1", &[], with(&[(":path", "/y")])),
            attack(
                "a pseudo-field after a field",
                "RST 1",
                &[],
                only(&[REQUEST[0], ("a", "b"), REQUEST[1], REQUEST[2], REQUEST[3]]),
            ),
            attack("an unknown pseudo-field", "GOAWAY 1", &[], with(&[(":evil", "1")])),
            attack(
                "a path with a request in it",
                "RST 1",
                &[],
                only(&[REQUEST[0], REQUEST[1], REQUEST[2], (":path", "/x HTTP/1.1\r\nHost: evil\r\n\r\n")]),
            ),
            attack("a path without a slash", "RST 1", &[], only(&[REQUEST[0], REQUEST[1], REQUEST[2], (":path", "x")])),
            attack(
                "a host that is none",
                "400",
                &[],
                only(&[REQUEST[0], REQUEST[1], (":authority", "u@h"), REQUEST[3]]),
            ),
            attack("CONNECT", "405", &[], only(&[(":method", "CONNECT"), (":authority", "h:443")])),
            breaks_off("a longer body than told", "RST 1", upload("2", b"body")),
            breaks_off("a shorter body than told", "RST 1", upload("9", b"body")),
            attack("fields of 70 KiB", "431", &[], large),
            attack("fields without end", "GOAWAY 11", &[], endless),
            attack("streams opened and reset without end", "GOAWAY 11", &[], rapid),
            attack("pings without end", "ended", &[], frame(PING, 0, 0, &[0; 8]).repeat(20_000)),
            attack("DATA on no stream", "GOAWAY 1", &[], frame(DATA, END_STREAM, 1, b"body")),
            attack(
                "HEADERS on an even stream",
                "GOAWAY 1",
                &[],
                frame(HEADERS, END_HEADERS | END_STREAM, 2, &block(&REQUEST)),
            ),
            attack("a frame that is too long", "GOAWAY 6", &[], frame(DATA, 0, 1, &[0; 20_000])),
            attack(
                "a window of more than 2^31",
                "GOAWAY 3",
                &[],
                frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()),
            ),
            attack("SETTINGS of a wrong size", "GOAWAY 1", &[], frame(SETTINGS, 0, 0, &[0; 5])),
            Attack {
                name: "a preface that is broken off",
                bytes: b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec(),
                then: Then::Reads,
                expected: Outcome::Words("ended"),
                reaches: Vec::new(),
            },
        ],
        first_end,
    )
    .await;
}
