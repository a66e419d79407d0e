//! HTTP/2 by the cases of h2spec, each under its section: of RFC 7540, of RFC 7541 (`hpack`), or `generic`.
//!
//! A client sends right or wrong frames by hand, and reads what the program does about them.

mod connection;
mod fields;
mod frame_kinds;
mod streams;

use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::timeout;

use super::{
    frames::{DATA, Frame, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, frame, greeting},
    pod::Pod,
    program::Program,
    reading::READINGS,
    wire::Wire,
};

/// Errors of HTTP/2 (RFC 7540, 7).
const PROTOCOL: u32 = 1;
const FLOW_CONTROL: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const COMPRESSION: u32 = 9;

/// The h2 crate drops pseudo-fields of trailers, so that nobody gets them, and does not end the stream.
const KNOWN: [&str; 1] = ["8.1.2.1/3"];

/// A case: frames in steps, and what must come of them.
struct Case {
    /// Where h2spec has it.
    section: &'static str,
    name: &'static str,
    /// Each step but the first waits until stream 1 has ended, or has sent a piece of its answer.
    steps: Vec<Vec<u8>>,
    is_greeted: bool,
    must: Must,
}

/// What the program must do.
#[derive(Clone, Copy, Debug)]
enum Must {
    /// End the connection with one of these errors, or close it.
    End(&'static [u32]),
    /// End a stream with one of these errors, or the connection.
    EndStream(&'static [u32]),
    /// Answer the first stream with this status.
    Answer(u16),
    /// Send this frame with these flags.
    Send(u8, u8),
    /// Send pieces of an answer that are so long, in this order.
    Pieces(&'static [usize]),
    /// Go on: it answers a PING.
    GoOn,
}

fn case(section: &'static str, name: &'static str, must: Must, frames: Vec<u8>) -> Case {
    Case { section, name, steps: vec![frames], is_greeted: true, must }
}

/// A case whose later frames come once the first stream has ended.
fn later(section: &'static str, name: &'static str, must: Must, first: Vec<u8>, then: Vec<u8>) -> Case {
    Case { section, name, steps: vec![first, then], is_greeted: true, must }
}

#[tokio::test]
async fn the_cases_of_h2spec_hold() {
    let pod = Pod::start(READINGS[0]).await;
    let program = Program::start(pod.address, "").await;
    let cases = [connection::cases(), streams::cases(), frame_kinds::cases(), fields::cases()].into_iter().flatten();
    let address = program.address;
    let outcomes: Vec<(Case, Result<(), String>)> = stream::iter(cases)
        .map(|case| async move {
            let outcome = carry_out(&mut Wire::connect(address).await, &case).await;
            (case, outcome)
        })
        .buffer_unordered(8)
        .collect()
        .await;
    let wrong: Vec<String> = outcomes
        .iter()
        .filter_map(|(case, outcome)| {
            let why = outcome.as_ref().err()?;
            Some(format!("{} {}: must {:?}, but {why}", case.section, case.name, case.must))
        })
        .collect();
    println!("{} cases of h2spec, of which {} do not hold: {wrong:#?}", outcomes.len(), wrong.len());
    let sections: Vec<&str> = wrong.iter().filter_map(|wrong| wrong.split(' ').next()).collect();
    assert_eq!(sections, KNOWN);
}

/// How long a client waits for what must come.
const PATIENCE: Duration = Duration::from_secs(5);

/// The mark of the PING behind all frames of a case.
const LAST: [u8; 8] = *b"the last";

/// What has come so far.
#[derive(Debug, Default)]
struct Seen {
    frames: Vec<(u8, u8, u32)>,
    pieces: Vec<usize>,
    statuses: Vec<u16>,
    stream_errors: Vec<u32>,
    connection_error: Option<u32>,
    has_gone_on: bool,
    is_closed: bool,
}

async fn carry_out(wire: &mut Wire, case: &Case) -> Result<(), String> {
    let mut seen = Seen::default();
    if case.is_greeted {
        wire.send(&greeting()).await;
    }
    for (number, step) in case.steps.iter().enumerate() {
        let pieces = seen.pieces.len();
        while number > 0 && !seen.is_closed && !seen.first_is_over() && seen.pieces.len() <= pieces {
            seen.take(wire).await?;
        }
        wire.send(step).await;
    }
    if matches!(case.must, Must::GoOn) {
        wire.send(&frame(PING, 0, 0, &LAST)).await;
    }
    loop {
        if let Some(outcome) = seen.judge(case.must) {
            return if outcome { Ok(()) } else { Err(format!("{seen:?}")) };
        }
        seen.take(wire).await?;
    }
}

impl Seen {
    async fn take(&mut self, wire: &mut Wire) -> Result<(), String> {
        let Ok(frame) = timeout(PATIENCE, Frame::read(wire)).await else {
            return Err(format!("no more came than {self:?}"));
        };
        let Some(frame) = frame else {
            self.is_closed = true;
            return Ok(());
        };
        self.frames.push((frame.kind, frame.flags, frame.stream));
        match frame.kind {
            DATA => self.pieces.push(frame.payload.len()),
            HEADERS => self.statuses.push(frame.status()),
            // An answer that comes before its request has ended tells so with NO_ERROR.
            RST_STREAM if frame.number(0) != 0 => self.stream_errors.push(frame.number(0)),
            GOAWAY if frame.number(4) != 0 => self.connection_error = Some(frame.number(4)),
            PING if frame.payload == LAST => self.has_gone_on = true,
            _ => {}
        }
        Ok(())
    }

    fn first_is_over(&self) -> bool {
        self.frames.iter().any(|(kind, flags, stream)| {
            *stream == 1 && (*kind == RST_STREAM || matches!(*kind, DATA | HEADERS) && flags & 1 != 0)
        })
    }

    /// Whether it is as it must be; `None` while more may come.
    fn judge(&self, must: Must) -> Option<bool> {
        let ended = self.connection_error;
        match must {
            // As in h2spec, the end of the connection is good whatever error it names.
            Must::End(codes) => (self.is_closed || ended.is_some_and(|code| codes.contains(&code))).then_some(true),
            Must::EndStream(codes) => {
                let is_error = |code: &u32| codes.contains(code);
                (self.is_closed || self.stream_errors.iter().chain(&ended).any(is_error)).then_some(true)
            }
            _ if ended.is_some() || self.is_closed => Some(false),
            Must::Answer(status) => self.statuses.first().map(|first| *first == status),
            Must::Send(kind, flags) => {
                self.frames.iter().any(|frame| (frame.0, frame.1) == (kind, flags)).then_some(true)
            }
            Must::Pieces(lengths) => (self.pieces.len() >= lengths.len()).then(|| self.pieces.starts_with(lengths)),
            Must::GoOn => self.has_gone_on.then_some(true),
        }
    }
}

/// A SETTINGS frame of these settings.
fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    frame(SETTINGS, 0, 0, &payload)
}
