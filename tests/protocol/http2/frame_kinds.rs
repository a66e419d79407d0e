//! Frames: their sizes, paddings, flags, and the order in which they may come.

use super::{Case, FRAME_SIZE, Must, PROTOCOL, STREAM_CLOSED, case, later};
use crate::protocol::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PADDED, PING, PRIORITY, RST_STREAM, block, frame, get,
    request,
};

/// A kind of frame that nobody knows.
const UNKNOWN: u8 = 0x16;

pub(super) fn cases() -> Vec<Case> {
    let x = || get(1, "/h2");
    let fields = block(&request("GET", "/h2"));
    let open = || frame(HEADERS, END_HEADERS, 1, &block(&request("POST", "/h2")));
    let begun = |flags: u8| frame(HEADERS, flags, 1, &fields);
    let more = |flags: u8, stream: u32| frame(CONTINUATION, flags, stream, &block(&[("x", "y")]));
    let priority = |stream: u32| frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 15]);
    let with_reserved_bit = [&[0, 0, 8, PING, 0, 0x80, 0, 0, 0][..], &[7; 8]].concat();
    vec![
        case("4.1/1", "a kind that nobody knows", Must::GoOn, frame(UNKNOWN, 0, 0, &[0; 8])),
        case("4.1/2", "a flag that nobody knows", Must::Send(PING, ACK), frame(PING, 0x16, 0, &[0; 8])),
        case("4.1/3", "the reserved bit", Must::Send(PING, ACK), with_reserved_bit),
        case(
            "4.2/1",
            "DATA of 2^14 bytes",
            Must::Answer(200),
            [open(), frame(DATA, END_STREAM, 1, &[0; 16_384])].concat(),
        ),
        case(
            "4.2/2",
            "DATA of more",
            Must::EndStream(&[FRAME_SIZE]),
            [open(), frame(DATA, END_STREAM, 1, &[0; 16_385])].concat(),
        ),
        case(
            "4.2/3",
            "HEADERS of more",
            Must::End(&[FRAME_SIZE]),
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0; 16_385]),
        ),
        case(
            "4.3/2",
            "PRIORITY within fields",
            Must::End(&[PROTOCOL]),
            [begun(END_STREAM), priority(1), more(END_HEADERS, 1)].concat(),
        ),
        case(
            "4.3/3",
            "HEADERS of another stream within fields",
            Must::End(&[PROTOCOL]),
            [begun(END_STREAM), get(3, "/h2")].concat(),
        ),
        case("5.5/1", "an extension", Must::GoOn, frame(UNKNOWN, 0, 0, &[0; 8])),
        case(
            "5.5/2",
            "an extension within fields",
            Must::End(&[PROTOCOL]),
            [begun(END_STREAM), frame(UNKNOWN, 0, 0, &[0; 8])].concat(),
        ),
        case("6.1/1", "DATA on no stream", Must::End(&[PROTOCOL]), frame(DATA, END_STREAM, 0, b"body")),
        later(
            "6.1/2",
            "DATA on a stream that has ended",
            Must::EndStream(&[STREAM_CLOSED]),
            x(),
            frame(DATA, END_STREAM, 1, b"body"),
        ),
        case(
            "6.1/3",
            "DATA with more padding than bytes",
            Must::End(&[PROTOCOL]),
            [open(), frame(DATA, END_STREAM | PADDED, 1, &[6, 0, 0, 0, 0])].concat(),
        ),
        case("generic/3.1/1", "DATA", Must::Answer(200), [open(), frame(DATA, END_STREAM, 1, b"body")].concat()),
        case(
            "generic/3.1/2",
            "several DATA",
            Must::Answer(200),
            [open(), frame(DATA, 0, 1, b"bo"), frame(DATA, END_STREAM, 1, b"dy")].concat(),
        ),
        case(
            "generic/3.1/3",
            "DATA with padding",
            Must::Answer(200),
            [open(), frame(DATA, END_STREAM | PADDED, 1, b"\x02body\0\0")].concat(),
        ),
        case(
            "6.2/1",
            "HEADERS, then PRIORITY before their end",
            Must::End(&[PROTOCOL]),
            [begun(0), priority(1)].concat(),
        ),
        case(
            "6.2/2",
            "HEADERS, then those of another stream",
            Must::End(&[PROTOCOL]),
            [begun(0), get(3, "/h2")].concat(),
        ),
        case("6.2/3", "HEADERS on no stream", Must::End(&[PROTOCOL]), get(0, "/h2")),
        case(
            "6.2/4",
            "HEADERS with more padding than bytes",
            Must::End(&[PROTOCOL]),
            frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, &[&[255][..], &fields].concat()),
        ),
        case(
            "generic/3.2/2",
            "HEADERS with padding",
            Must::Answer(200),
            frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, &[&[3][..], &fields, &[0; 3]].concat()),
        ),
        case("6.3/1", "PRIORITY on no stream", Must::End(&[PROTOCOL]), priority(0)),
        case(
            "6.3/2",
            "PRIORITY of four bytes",
            Must::EndStream(&[FRAME_SIZE]),
            [x(), frame(PRIORITY, 0, 1, &[0; 4])].concat(),
        ),
        case(
            "6.4/3",
            "RST_STREAM of three bytes",
            Must::End(&[FRAME_SIZE]),
            [open(), frame(RST_STREAM, 0, 1, &[0; 3])].concat(),
        ),
        case(
            "6.10/1",
            "several CONTINUATIONs",
            Must::Answer(200),
            [begun(END_STREAM), more(0, 1), more(END_HEADERS, 1)].concat(),
        ),
        case(
            "6.10/2",
            "DATA between CONTINUATIONs",
            Must::End(&[PROTOCOL]),
            [begun(0), more(0, 1), frame(DATA, END_STREAM, 1, b"x")].concat(),
        ),
        case(
            "6.10/3",
            "CONTINUATION on no stream",
            Must::End(&[PROTOCOL]),
            [begun(END_STREAM), more(END_HEADERS, 0)].concat(),
        ),
        case(
            "6.10/4",
            "CONTINUATION behind fields that have ended",
            Must::End(&[PROTOCOL]),
            [open(), more(END_HEADERS, 1)].concat(),
        ),
        case(
            "6.10/5",
            "CONTINUATION behind the last one",
            Must::End(&[PROTOCOL]),
            [begun(0), more(END_HEADERS, 1), more(END_HEADERS, 1)].concat(),
        ),
        case(
            "6.10/6",
            "CONTINUATION behind DATA",
            Must::End(&[PROTOCOL]),
            [open(), frame(DATA, 0, 1, b"x"), more(END_HEADERS, 1)].concat(),
        ),
    ]
}
