//! Streams: what they take in each of their states, their numbers, and how many there may be.

use super::{Case, Must, PROTOCOL, REFUSED_STREAM, STREAM_CLOSED, case, later};
use crate::protocol::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PRIORITY, PUSH_PROMISE, RST_STREAM, WINDOW_UPDATE,
    WITH_PRIORITY, block, frame, get, request,
};

pub(super) fn cases() -> Vec<Case> {
    let x = || get(1, "/h2");
    let fields = block(&request("GET", "/h2"));
    let headers = |stream: u32| frame(HEADERS, END_HEADERS, stream, &block(&request("POST", "/h2")));
    let data = |stream: u32| frame(DATA, END_STREAM, stream, b"body");
    let more = |stream: u32| frame(CONTINUATION, END_HEADERS, stream, &fields);
    let reset = |stream: u32| frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    let closed: &'static [u32] = &[STREAM_CLOSED];
    let closed_or_wrong: &'static [u32] = &[STREAM_CLOSED, PROTOCOL];
    let many: Vec<u8> = (0..101).flat_map(|number| headers(number * 2 + 1)).collect();
    vec![
        case("5.1/1", "DATA on an idle stream", Must::End(&[PROTOCOL]), data(1)),
        case("5.1/2", "RST_STREAM on an idle stream", Must::End(&[PROTOCOL]), reset(1)),
        case(
            "5.1/3",
            "WINDOW_UPDATE on an idle stream",
            Must::End(&[PROTOCOL]),
            frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 100]),
        ),
        case("5.1/4", "CONTINUATION on an idle stream", Must::End(&[PROTOCOL]), more(1)),
        case("5.1/5", "DATA on a stream that the client has ended", Must::EndStream(closed), [x(), data(1)].concat()),
        case("5.1/6", "HEADERS on such a stream", Must::EndStream(closed), [x(), x()].concat()),
        case("5.1/7", "CONTINUATION on such a stream", Must::End(closed_or_wrong), [x(), more(1)].concat()),
        case(
            "5.1/8",
            "DATA on a stream that the client has reset",
            Must::EndStream(closed),
            [headers(1), reset(1), data(1)].concat(),
        ),
        case("5.1/9", "HEADERS on such a stream", Must::EndStream(closed), [headers(1), reset(1), x()].concat()),
        case(
            "5.1/10",
            "CONTINUATION on such a stream",
            Must::End(closed_or_wrong),
            [headers(1), reset(1), more(1)].concat(),
        ),
        later("5.1/11", "DATA on a stream that both have ended", Must::EndStream(closed), x(), data(1)),
        later("5.1/12", "HEADERS on such a stream", Must::EndStream(closed), x(), x()),
        later("5.1/13", "CONTINUATION on such a stream", Must::End(closed_or_wrong), x(), more(1)),
        case("5.1.1/1", "an even number", Must::End(&[PROTOCOL]), get(2, "/h2")),
        case(
            "5.1.1/2",
            "a smaller number than before",
            Must::End(&[PROTOCOL]),
            [get(5, "/h2"), get(3, "/h2")].concat(),
        ),
        case("5.1.2/1", "more streams than allowed", Must::EndStream(&[PROTOCOL, REFUSED_STREAM]), many),
        case(
            "5.3.1/1",
            "HEADERS that depend on themselves",
            Must::EndStream(&[PROTOCOL]),
            frame(HEADERS, END_HEADERS | END_STREAM | WITH_PRIORITY, 1, &[&[0, 0, 0, 1, 15][..], &fields].concat()),
        ),
        case(
            "5.3.1/2",
            "PRIORITY that depends on itself",
            Must::EndStream(&[PROTOCOL]),
            [x(), frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 15])].concat(),
        ),
        case(
            "generic/3.2/3",
            "HEADERS with a priority",
            Must::Answer(200),
            frame(HEADERS, END_HEADERS | END_STREAM | WITH_PRIORITY, 1, &[&[0, 0, 0, 0, 15][..], &fields].concat()),
        ),
        case(
            "generic/3.3/1",
            "PRIORITY on an idle stream",
            Must::Answer(200),
            [frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 255]), x()].concat(),
        ),
        case(
            "generic/3.3/2",
            "PRIORITY of one's own kind",
            Must::Answer(200),
            [frame(PRIORITY, 0, 1, &[128, 0, 0, 0, 15]), x()].concat(),
        ),
        later(
            "generic/3.3/4",
            "PRIORITY on a closed stream",
            Must::GoOn,
            x(),
            frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 15]),
        ),
        later(
            "generic/2/2",
            "WINDOW_UPDATE on a closed stream",
            Must::GoOn,
            x(),
            frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
        ),
        later("generic/2/5", "RST_STREAM on a closed stream", Must::GoOn, x(), reset(1)),
        case("generic/3.4/1", "RST_STREAM on an open stream", Must::GoOn, [headers(1), reset(1)].concat()),
        case("6.4/1", "RST_STREAM on no stream", Must::End(&[PROTOCOL]), reset(0)),
        case("6.4/2", "RST_STREAM on an idle stream", Must::End(&[PROTOCOL]), reset(1)),
        case(
            "7/2",
            "RST_STREAM with an error that nobody knows",
            Must::GoOn,
            [headers(1), frame(RST_STREAM, 0, 1, &[0, 0, 0, 0xff])].concat(),
        ),
        case(
            "8.2/1",
            "PUSH_PROMISE of a client",
            Must::End(&[PROTOCOL]),
            [x(), frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &fields].concat())].concat(),
        ),
    ]
}
