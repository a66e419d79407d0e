//! The connection: its beginning, settings, PING, GOAWAY, and windows.

use super::{Case, FLOW_CONTROL, FRAME_SIZE, Must, PROTOCOL, case, later, settings};
use crate::protocol::frames::{
    ACK, END_HEADERS, GOAWAY, HEADERS, PING, PREFACE, SETTINGS, WINDOW_UPDATE, block, frame, get, request,
};

const ENABLE_PUSH: u16 = 2;
const INITIAL_WINDOW: u16 = 4;
const MAX_FRAME: u16 = 5;

fn window(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

/// A request whose body goes on.
fn open(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &block(&request("POST", "/h2")))
}

pub(super) fn cases() -> Vec<Case> {
    let x = || get(1, "/h2");
    let ungreeted =
        |section, name, must, bytes: Vec<u8>| Case { is_greeted: false, ..case(section, name, must, bytes) };
    vec![
        case("3.5/1", "the program sends its settings first", Must::Send(SETTINGS, 0), Vec::new()),
        ungreeted("3.5/2", "an invalid preface", Must::End(&[PROTOCOL]), b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec()),
        ungreeted(
            "generic/1/1",
            "a preface and settings",
            Must::Send(SETTINGS, ACK),
            [PREFACE, &settings(&[])].concat(),
        ),
        ungreeted(
            "3.5",
            "no settings behind the preface",
            Must::End(&[PROTOCOL]),
            [PREFACE, &frame(PING, 0, 0, &[0; 8])].concat(),
        ),
        case("5.4.1/1", "an error ends the connection", Must::End(&[FRAME_SIZE]), frame(PING, 0, 0, b"\0\0\0\0\0\0")),
        case("6.5/1", "an acknowledgement with a payload", Must::End(&[FRAME_SIZE]), frame(SETTINGS, ACK, 0, &[0; 6])),
        case("6.5/2", "settings on a stream", Must::End(&[PROTOCOL]), frame(SETTINGS, 0, 1, &[])),
        case(
            "6.5/3",
            "settings of a length that is no multiple of six",
            Must::End(&[FRAME_SIZE]),
            frame(SETTINGS, 0, 0, &[0; 3]),
        ),
        case("6.5.2/1", "ENABLE_PUSH of 2", Must::End(&[PROTOCOL]), settings(&[(ENABLE_PUSH, 2)])),
        case(
            "6.5.2/2",
            "a window of 2^31 at first",
            Must::End(&[FLOW_CONTROL]),
            settings(&[(INITIAL_WINDOW, 1 << 31)]),
        ),
        case("6.5.2/3", "frames of less than 2^14", Must::End(&[PROTOCOL]), settings(&[(MAX_FRAME, 16_383)])),
        case("6.5.2/4", "frames of 2^24", Must::End(&[PROTOCOL]), settings(&[(MAX_FRAME, 1 << 24)])),
        case("6.5.2/5", "a setting that nobody knows", Must::GoOn, settings(&[(0xff, 1)])),
        case(
            "6.5.3/1",
            "the last of two values counts",
            Must::Pieces(&[1]),
            [settings(&[(INITIAL_WINDOW, 100), (INITIAL_WINDOW, 1)]), x()].concat(),
        ),
        case("6.5.3/2", "settings are acknowledged", Must::Send(SETTINGS, ACK), settings(&[])),
        case("6.7/1", "a PING is answered", Must::Send(PING, ACK), frame(PING, 0, 0, b"h2spec!!")),
        case("6.7/2", "an answer to no PING", Must::GoOn, frame(PING, ACK, 0, b"invalid!")),
        case("6.7/3", "a PING on a stream", Must::End(&[PROTOCOL]), frame(PING, 0, 1, &[0; 8])),
        case("6.7/4", "a PING of six bytes", Must::End(&[FRAME_SIZE]), frame(PING, 0, 0, &[0; 6])),
        case("6.8/1", "GOAWAY on a stream", Must::End(&[PROTOCOL]), frame(GOAWAY, 0, 1, &[0; 8])),
        case("generic/3.8/1", "a GOAWAY, and nothing under way", Must::End(&[]), frame(GOAWAY, 0, 0, &[0; 8])),
        case("6.9/1", "a window grows by nothing", Must::End(&[PROTOCOL]), window(0, 0)),
        case(
            "6.9/2",
            "a stream's window grows by nothing",
            Must::EndStream(&[PROTOCOL]),
            [open(1), window(1, 0)].concat(),
        ),
        case("6.9/3", "WINDOW_UPDATE of three bytes", Must::End(&[FRAME_SIZE]), frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1])),
        case("generic/3.9/1", "the connection's window grows", Must::GoOn, window(0, 1)),
        case(
            "generic/3.9/2",
            "a stream's window grows",
            Must::Answer(200),
            [settings(&[(INITIAL_WINDOW, 1)]), x(), window(1, 100)].concat(),
        ),
        case("6.9.1/1", "a window of one byte", Must::Pieces(&[1]), [settings(&[(INITIAL_WINDOW, 1)]), x()].concat()),
        case(
            "6.9.1/2",
            "the connection's window over 2^31",
            Must::End(&[FLOW_CONTROL]),
            [window(0, 0x7fff_ffff), window(0, 0x7fff_ffff)].concat(),
        ),
        case(
            "6.9.1/3",
            "a stream's window over 2^31",
            Must::EndStream(&[FLOW_CONTROL]),
            [open(1), window(1, 0x7fff_ffff), window(1, 0x7fff_ffff)].concat(),
        ),
        case(
            "6.9.2/1",
            "a window that opens later",
            Must::Pieces(&[1]),
            [settings(&[(INITIAL_WINDOW, 0)]), x(), settings(&[(INITIAL_WINDOW, 1)])].concat(),
        ),
        later(
            "6.9.2/2",
            "a window below nothing",
            Must::Pieces(&[3, 1]),
            [settings(&[(INITIAL_WINDOW, 3)]), x()].concat(),
            [settings(&[(INITIAL_WINDOW, 2)]), window(1, 2)].concat(),
        ),
        later(
            "6.9.2/3",
            "a stream's window over 2^31 by a setting",
            Must::End(&[FLOW_CONTROL]),
            [settings(&[(INITIAL_WINDOW, 1)]), x()].concat(),
            [window(1, 0x7fff_fff0), settings(&[(INITIAL_WINDOW, 0x7fff_ffff)])].concat(),
        ),
        case(
            "7/1",
            "GOAWAY with an error that nobody knows",
            Must::End(&[]),
            frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 0xff]),
        ),
    ]
}
