//! Tells a client for which character hyper refuses its request line.
//!
//! hyper's parser takes no `<`, `>` or backtick in a path, no `<`, `>` or `"` in a query, and no bytes that are not UTF-8.
//! It answers an empty 400 before any of jellypin's code runs. So this stream looks at each request
//! line as hyper reads it, and sends a 400 with the reason in the place of hyper's.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::atomic::Ordering,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::uri::PathAndQuery;
use memchr::memchr;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::lingering::Clean;

/// The longest request line that is looked at, in bytes. Pods take no longer one.
const LONGEST: usize = 8 * 1024;

/// How hyper's answer begins.
const REFUSED: &[u8] = b"HTTP/1.1 400 Bad Request\r\n";

/// A stream that explains such a refusal.
pub(super) struct Explained<S, C> {
    stream: S,
    turn: C,
    /// What is read next belongs to a request line.
    is_in_line: bool,
    /// What was read of a line that came in pieces.
    line: Vec<u8>,
    /// What the last request line contains that hyper refuses.
    illegal: Option<Illegal>,
    /// The answer that goes out instead of hyper's.
    answer: Bytes,
}

/// What hyper refuses in a request target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Illegal {
    Character(char),
    NoText,
}

impl<S, C: Clean> Explained<S, C> {
    /// `turn` is set between two requests: what is read next begins a request line.
    pub(super) fn new(stream: S, turn: C) -> Explained<S, C> {
        Explained { stream, turn, is_in_line: true, line: Vec::new(), illegal: None, answer: Bytes::new() }
    }

    /// Looks at a piece of a request line, which may be all of it.
    fn look(&mut self, read: &[u8]) {
        let end = memchr(b'\n', read);
        let piece = &read[..end.unwrap_or(read.len()).min(LONGEST - self.line.len())];
        if self.line.is_empty() && end.is_some() {
            self.illegal = Illegal::of(piece);
        } else {
            self.line.extend_from_slice(piece);
            self.illegal = end.and_then(|_| Illegal::of(&self.line));
        }
        self.is_in_line = end.is_none() && self.line.len() < LONGEST;
    }
}

impl<S: AsyncWrite + Unpin, C> Explained<S, C> {
    /// Takes hyper's answer out of the way if there is a better one.
    fn replaces(&mut self, bytes: &[u8]) -> bool {
        if !bytes.starts_with(REFUSED) {
            return false;
        }
        let Some(illegal) = self.illegal.take() else { return false };
        self.answer = illegal.answer();
        true
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.answer.is_empty() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.answer))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.answer.advance(sent);
        }
        Poll::Ready(Ok(()))
    }
}

impl Illegal {
    /// Nearly every line needs no second look.
    fn of(line: &[u8]) -> Option<Illegal> {
        let may_be = |byte: u8| matches!(byte, b'<' | b'>' | b'`' | b'"') || !byte.is_ascii();
        // Without an early end the compiler looks at many bytes at once.
        if !line.iter().fold(false, |any, byte| any | may_be(*byte)) {
            return None;
        }
        let target = line.split(|byte| *byte == b' ').nth(1)?;
        if PathAndQuery::try_from(target).is_ok() {
            return None;
        }
        let Ok(text) = std::str::from_utf8(target) else { return Some(Illegal::NoText) };
        let path = text.split('?').next().unwrap_or_default().len();
        let is_illegal = |at: usize, char: char| if at < path { "<>`".contains(char) } else { "<>\"".contains(char) };
        let (_, char) = text.char_indices().find(|(at, char)| is_illegal(*at, *char))?;
        Some(Illegal::Character(char))
    }

    fn answer(self) -> Bytes {
        let body = match self {
            Illegal::Character(char) => {
                format!(
                    "Bad request: the character {char} of the address must be written as %{:02X}.\n",
                    u32::from(char)
                )
            }
            Illegal::NoText => "Bad request: the address is not UTF-8.\n".to_owned(),
        };
        let length = body.len();
        Bytes::from(format!(
            "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n\
             Access-Control-Allow-Origin: *\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        ))
    }
}

impl<S: AsyncRead + Unpin, C: Clean> AsyncRead for Explained<S, C> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let begins = self.turn.flag().load(Ordering::Relaxed);
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let read = &buffer.filled()[before..];
        // A frame of HTTP/2 begins with no letter.
        if begins && read.first().is_some_and(u8::is_ascii_alphabetic) {
            self.line.clear();
            self.is_in_line = true;
        }
        if self.is_in_line {
            self.look(read);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin, C: Clean> AsyncWrite for Explained<S, C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.illegal.is_some() && self.replaces(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        ready!(self.poll_answer(cx))?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.illegal.is_some() && slices.first().is_some_and(|first| self.replaces(first)) {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        ready!(self.poll_answer(cx))?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_answer(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_answer(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[test]
    fn each_character_that_hyper_refuses_is_named_and_no_other() {
        let of = |target: &[u8]| Illegal::of(&[b"GET ", target, b" HTTP/1.1\r"].concat());
        for char in ['<', '>', '`'] {
            assert_eq!(of(format!("/a{char}b?c").as_bytes()), Some(Illegal::Character(char)));
        }
        for char in ['<', '>', '"'] {
            assert_eq!(of(format!("/a?b={char}").as_bytes()), Some(Illegal::Character(char)));
        }
        assert_eq!(of(b"/a?b=\xff"), Some(Illegal::NoText));
        for legal in ["/", "/a\"b", "/a?b=`", "/K\u{fc}che?a=\u{fc}", "/a%3Cb", "/a|b{c}^d\\"] {
            assert_eq!(of(legal.as_bytes()), None, "{legal}");
        }
        assert_eq!([Illegal::of(b""), Illegal::of(b"GET"), Illegal::of(b"\"<>`")], [None; 3]);
    }

    #[test]
    fn the_list_of_characters_is_that_of_the_parser() {
        for char in (0x21..0x7f_u8).map(char::from).filter(|char| !"?#".contains(*char)) {
            let refused = |target: String| PathAndQuery::try_from(target).is_err();
            assert_eq!(refused(format!("/{char}")), "<>`".contains(char), "{char} in a path");
            assert_eq!(refused(format!("/?{char}")), "<>\"".contains(char), "{char} in a query");
        }
    }

    impl Clean for AtomicBool {
        fn flag(&self) -> &AtomicBool {
            self
        }
    }

    #[test]
    fn a_line_is_read_in_whatever_pieces_and_its_fields_are_not() {
        for size in [1, 7, 24, 4096] {
            let mut stream = Explained::new((), AtomicBool::default());
            let head = b"GET /a?b=<c HTTP/1.1\r\nHost: h\r\n\r\n";
            for piece in head.chunks(size) {
                if stream.is_in_line {
                    stream.look(piece);
                }
            }
            assert_eq!((stream.illegal, stream.is_in_line), (Some(Illegal::Character('<')), false), "{size}");
            let mut stream = Explained::new((), AtomicBool::default());
            for piece in b"GET /a HTTP/1.1\r\nReferer: <\r\n".chunks(size) {
                if stream.is_in_line {
                    stream.look(piece);
                }
            }
            assert_eq!((stream.illegal, stream.is_in_line), (None, false), "{size}");
        }
        let mut endless = Explained::new((), AtomicBool::default());
        (0..3).for_each(|_| endless.look(&[b'x'; 4096][..LONGEST.min(4096)]));
        assert!(!endless.is_in_line && endless.line.len() == LONGEST);
    }
}
