//! Counts the control frames of an HTTP/2 connection, and ends it when there are too many.
//!
//! A PING needs an answer, a reset stream was a request, and empty frames cost more than they
//! carry. h2 bounds only resets before acceptance and endless fields; hyper exposes nothing. So
//! this reads each frame's head in passing, nine bytes, without a copy. Other bytes pass untouched.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

/// The cost allowed at once: 1,000 resets. A browser that leaves a page resets a hundred streams.
const BURST: f32 = 1000.0;

/// The cost allowed per second after that.
const RATE: f32 = 100.0;

/// Cost of a frame that clients rarely send: a PING, SETTINGS, an empty piece.
const RARE: usize = 5;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD: usize = 9;

const DATA: u8 = 0;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END: u8 = 1;

/// A stream whose frames are counted. It calls `F` once when there are too many.
pub(super) struct Counted<S, F> {
    stream: S,
    frames: Frames,
    left: f32,
    at: Instant,
    on_flood: F,
}

/// Where the next frame head is in the incoming bytes.
enum Frames {
    /// The number of preface bytes read.
    Preface(usize),
    /// The payload bytes still to skip, and the head bytes read.
    Head { payload: usize, have: usize, head: [u8; HEAD] },
    /// Not HTTP/2, or a peer that is exempt.
    Uncounted,
}

impl<S, F: Fn()> Counted<S, F> {
    /// `is_counted`: whether this peer's frames are counted at all.
    pub(super) fn new(stream: S, is_counted: bool, on_flood: F) -> Counted<S, F> {
        let frames = if is_counted { Frames::Preface(0) } else { Frames::Uncounted };
        Counted { stream, frames, left: BURST, at: Instant::now(), on_flood }
    }

    fn read(&mut self, bytes: &[u8]) -> io::Result<()> {
        let costly = self.frames.read(bytes);
        if costly == 0 {
            return Ok(());
        }
        let now = Instant::now();
        self.left = (self.left + now.duration_since(self.at).as_secs_f32() * RATE).min(BURST) - costly as f32;
        self.at = now;
        if self.left >= 0.0 {
            return Ok(());
        }
        self.frames = Frames::Uncounted;
        (self.on_flood)();
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, "too many control frames"))
    }
}

impl Frames {
    /// Parses the bytes. Returns the cost of those frames that cost more than they carry.
    fn read(&mut self, mut bytes: &[u8]) -> usize {
        let mut costly = 0;
        while !bytes.is_empty() {
            match self {
                Frames::Uncounted => return costly,
                Frames::Preface(have) => {
                    let count = bytes.len().min(PREFACE.len() - *have);
                    if bytes[..count] != PREFACE[*have..*have + count] {
                        *self = Frames::Uncounted;
                        return costly;
                    }
                    *have += count;
                    bytes = &bytes[count..];
                    if *have == PREFACE.len() {
                        *self = Frames::Head { payload: 0, have: 0, head: [0; HEAD] };
                    }
                }
                Frames::Head { payload, have, head } => {
                    let skipped = bytes.len().min(*payload);
                    *payload -= skipped;
                    bytes = &bytes[skipped..];
                    let count = bytes.len().min(HEAD - *have);
                    head[*have..*have + count].copy_from_slice(&bytes[..count]);
                    *have += count;
                    bytes = &bytes[count..];
                    if *have == HEAD {
                        *payload = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
                        *have = 0;
                        costly += cost(head[3], head[4], *payload);
                    }
                }
            }
        }
        costly
    }
}

fn cost(kind: u8, flags: u8, length: usize) -> usize {
    match kind {
        PRIORITY | RST_STREAM => 1,
        SETTINGS | PING | GOAWAY => RARE,
        DATA | CONTINUATION if length == 0 && flags & END == 0 => RARE,
        // A client sends one for every few pieces of an answer, and it costs next to nothing.
        WINDOW_UPDATE => 0,
        kind if kind > CONTINUATION => RARE,
        _ => 0,
    }
}

impl<S: AsyncRead + Unpin, F: Fn() + Unpin> AsyncRead for Counted<S, F> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        if matches!(this.frames, Frames::Uncounted) || !matches!(polled, Poll::Ready(Ok(()))) {
            return polled;
        }
        Poll::Ready(this.read(&buf.filled()[before..]))
    }
}

impl<S: AsyncWrite + Unpin, F: Unpin> AsyncWrite for Counted<S, F> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, 1]);
        frame.extend(payload);
        frame
    }

    fn costly(pieces: &[&[u8]]) -> usize {
        let mut frames = Frames::Preface(0);
        pieces.iter().map(|piece| frames.read(piece)).sum()
    }

    #[test]
    fn costly_frames_are_counted_however_the_bytes_are_cut() {
        let frames = [
            frame(SETTINGS, 0, &[0; 6]),
            frame(DATA, 0, &[PING; 300]),
            frame(PING, 0, &[0; 8]),
            frame(DATA, 0, &[]),
            frame(DATA, END, &[]),
            frame(WINDOW_UPDATE, 0, &[0; 4]),
            frame(RST_STREAM, 0, &[0; 4]),
            frame(1, 4, &[7; 40]),
            frame(99, 0, &[1]),
        ];
        let bytes = [PREFACE, &frames.concat()].concat();
        for size in 1..bytes.len() {
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            assert_eq!(costly(&pieces), 4 * RARE + 1, "in pieces of {size}");
        }
    }

    #[test]
    fn what_is_no_http2_is_not_counted() {
        let pings = frame(PING, 0, &[0; 8]).repeat(10);
        assert_eq!(costly(&[b"GET / HTTP/1.1\r\n\r\n", &pings]), 0);
        assert_eq!(costly(&[b"PRI * HTTP/1.1\r\n\r\n", &pings]), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_ends_and_is_told_once() {
        let told = std::cell::Cell::new(0);
        let mut counted = Counted::new(tokio::io::empty(), true, || told.set(told.get() + 1));
        let ping = frame(PING, 0, &[0; 8]);
        assert!(counted.read(PREFACE).is_ok());
        assert!(counted.read(&ping.repeat(200)).is_ok());
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        assert!(counted.read(&ping.repeat(20)).is_ok(), "a rate is allowed");
        assert!(counted.read(&ping).is_err());
        assert_eq!(told.get(), 1);
    }
}
