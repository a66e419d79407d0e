//! Turns frames of long messages into frames of their pieces while reading.

use std::{
    io::{self, Cursor},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Data, OpCode},
};

use super::{Mark, Marks, PIECE};
use crate::websocket::READ_BUFFER;

/// Bytes of the longest header of an unmasked frame.
const LONGEST_HEADER: usize = 10;

/// A stream that reads each long message as several binary ones: a cut may split a character.
///
/// It passes what breaks the protocol or is too long unchanged, for tungstenite to refuse.
pub(in crate::websocket) struct Pieces<S> {
    stream: S,
    most: u64,
    marks: Arc<Marks>,
    /// Number of data messages read; each piece counts as one.
    number: u64,
    /// Bytes that pass unchanged before the next header.
    rewriter: u64,
    /// Bytes that remain of the frame in pieces after those, and whether it ends its message.
    behind: u64,
    ends: bool,
    /// The message in pieces, from its first frame to its last.
    message: Option<Message>,
    /// Bytes read but not yet returned.
    read: BytesMut,
    /// A header that the proxy made, to return before anything else.
    made: BytesMut,
}

struct Message {
    is_text: bool,
    has_begun: bool,
    bytes: u64,
}

impl<S> Pieces<S> {
    /// `most` is the longest message in bytes.
    pub(super) fn new(stream: S, most: usize, marks: Arc<Marks>) -> Pieces<S> {
        Pieces {
            stream,
            most: most as u64,
            marks,
            number: 0,
            rewriter: 0,
            behind: 0,
            ends: false,
            message: None,
            read: BytesMut::new(),
            made: BytesMut::new(),
        }
    }

    /// Whether the next bytes are the next piece of a frame, which needs a header.
    fn next_piece(&mut self) -> bool {
        if self.rewriter > 0 || self.behind == 0 {
            return false;
        }
        self.make_piece();
        true
    }

    /// Makes the header of the next piece of the frame.
    fn make_piece(&mut self) {
        let Some(message) = &mut self.message else { return };
        let length = self.behind.min(PIECE as u64);
        self.behind -= length;
        self.rewriter = length;
        let is_last = self.ends && self.behind == 0;
        let begins = (!message.has_begun).then_some(message.is_text);
        message.has_begun = true;
        self.marks.set(self.number, Mark { begins, is_last });
        self.number += 1;
        let header = FrameHeader { is_final: true, opcode: OpCode::Data(Data::Binary), ..FrameHeader::default() };
        let mut made = Vec::with_capacity(LONGEST_HEADER);
        // Writing into memory cannot fail.
        let _ = header.format(length, &mut made);
        self.made.extend_from_slice(&made);
        if is_last {
            self.message = None;
        }
    }

    /// Takes a header that was read. Returns whether it passes unchanged; else it made another in
    /// its place.
    fn take_header(&mut self, header: &FrameHeader, length: u64) -> bool {
        let OpCode::Data(kind) = header.opcode else {
            self.rewriter = length;
            return true;
        };
        let is_plain = !header.rsv1 && !header.rsv2 && !header.rsv3 && header.mask.is_none();
        let so_far = self.message.as_ref().map_or(0, |message| message.bytes);
        let fits = length <= self.most.saturating_sub(so_far);
        let is_cut = is_plain
            && fits
            && match kind {
                Data::Text | Data::Binary => self.message.is_none() && (!header.is_final || length > PIECE as u64),
                Data::Continue => self.message.is_some(),
                Data::Reserved(_) => false,
            };
        if !is_cut {
            self.rewriter = length;
            self.number += 1;
            return true;
        }
        let is_text = kind == Data::Text;
        let message = self.message.get_or_insert(Message { is_text, has_begun: false, bytes: 0 });
        message.bytes += length;
        (self.behind, self.ends) = (length, header.is_final);
        self.make_piece();
        false
    }

    /// Returns what was read already. Answers whether the next header has not arrived yet.
    fn give(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        while buffer.remaining() > 0 {
            if !self.made.is_empty() {
                give(&mut self.made, u64::MAX, buffer);
            } else if self.rewriter > 0 {
                if self.read.is_empty() {
                    break;
                }
                self.rewriter -= give(&mut self.read, self.rewriter, buffer);
            } else if self.next_piece() {
            } else if let Some((header, length, size)) = header_of(&self.read) {
                if self.take_header(&header, length) {
                    self.made.extend_from_slice(&self.read[..size]);
                }
                self.read.advance(size);
            } else {
                return true;
            }
        }
        false
    }

    /// Scans what was read straight into the buffer, from `at` on. Keeps back what does not pass
    /// unchanged.
    fn look(&mut self, buffer: &mut ReadBuf<'_>, mut at: usize) {
        loop {
            let filled = buffer.filled();
            let linger = filled.len() - at;
            let passes = usize::try_from(self.rewriter).unwrap_or(usize::MAX).min(linger);
            self.rewriter -= passes as u64;
            at += passes;
            if at == filled.len() {
                return;
            }
            if self.behind == 0
                && let Some((header, length, size)) = header_of(&filled[at..])
                && is_untouched(&header, length, self.message.is_some())
            {
                self.take_header(&header, length);
                at += size;
                continue;
            }
            self.read.extend_from_slice(&filled[at..]);
            buffer.set_filled(at);
            return;
        }
    }
}

/// Whether a frame passes unchanged whatever surrounds it: a control frame, or a whole short
/// message.
fn is_untouched(header: &FrameHeader, length: u64, is_in_message: bool) -> bool {
    match header.opcode {
        OpCode::Control(_) => true,
        OpCode::Data(Data::Text | Data::Binary) => header.is_final && length <= PIECE as u64 && !is_in_message,
        OpCode::Data(_) => false,
    }
}

/// A header, the length of its payload, and the header's own length.
fn header_of(bytes: &[u8]) -> Option<(FrameHeader, u64, usize)> {
    let mut cursor = Cursor::new(bytes);
    // An unknown opcode is an error at its frame, where tungstenite reports it too.
    let (header, length) = FrameHeader::parse(&mut cursor).ok()??;
    Some((header, length, usize::try_from(cursor.position()).ok()?))
}

/// Moves at most `most` bytes; returns how many.
fn give(from: &mut BytesMut, most: u64, buffer: &mut ReadBuf<'_>) -> u64 {
    let count = from.len().min(buffer.remaining()).min(usize::try_from(most).unwrap_or(usize::MAX));
    buffer.put_slice(&from[..count]);
    from.advance(count);
    count as u64
}

impl<S: AsyncRead + Unpin> AsyncRead for Pieces<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        loop {
            let is_short = this.give(buffer);
            if buffer.filled().len() > before || buffer.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            if is_short && !this.read.is_empty() {
                // The header arrives in parts.
                let mut bytes = [0; READ_BUFFER];
                let mut more = ReadBuf::new(&mut bytes);
                ready!(Pin::new(&mut this.stream).poll_read(cx, &mut more))?;
                if more.filled().is_empty() {
                    return Poll::Ready(Ok(()));
                }
                this.read.extend_from_slice(more.filled());
                continue;
            }
            ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
            if buffer.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            this.look(buffer, before);
            if buffer.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Pieces<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt;

    use super::*;

    const MOST: usize = 4 * PIECE;

    fn frame(opcode: u8, is_final: bool, payload: &[u8]) -> Vec<u8> {
        let header = FrameHeader { is_final, opcode: OpCode::from(opcode), ..FrameHeader::default() };
        let mut bytes = Vec::new();
        header.format(payload.len() as u64, &mut bytes).expect("written");
        bytes.extend_from_slice(payload);
        bytes
    }

    /// A stream that returns its bytes in parts of this length.
    struct Parts(Vec<u8>, usize);

    impl AsyncRead for Parts {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let count = self.1.min(self.0.len()).min(buffer.remaining());
            buffer.put_slice(&self.0[..count]);
            self.0.drain(..count);
            Poll::Ready(Ok(()))
        }
    }

    /// Returns what is read in steps of this length, and the marks.
    async fn through(bytes: Vec<u8>, close_pod: usize, step: usize) -> (Vec<u8>, Arc<Marks>) {
        let marks = Arc::<Marks>::default();
        let mut pieces = Pieces::new(Parts(bytes, close_pod), MOST, marks.clone());
        let mut read = Vec::new();
        let mut buffer = vec![0; step];
        loop {
            match pieces.read(&mut buffer).await.expect("read") {
                0 => return (read, marks),
                count => read.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// The frames in these bytes: opcode, whether final, payload.
    fn frames(mut bytes: &[u8]) -> Vec<(OpCode, bool, Vec<u8>)> {
        let mut frames = Vec::new();
        while let Some((header, length, size)) = header_of(bytes) {
            let payload = bytes[size..][..length as usize].to_vec();
            bytes = &bytes[size + length as usize..];
            frames.push((header.opcode, header.is_final, payload));
        }
        assert!(bytes.is_empty());
        frames
    }

    /// The messages that come out: whether each is text, and its bytes.
    fn messages(read: &[u8], marks: &Marks) -> Vec<(bool, Vec<u8>)> {
        let (mut messages, mut open, mut number) = (Vec::new(), None::<(bool, Vec<u8>)>, 0);
        for (opcode, is_final, payload) in frames(read) {
            assert!(is_final && payload.len() <= PIECE);
            let OpCode::Data(kind) = opcode else { continue };
            match marks.take(number) {
                None => messages.push((kind == Data::Text, payload)),
                Some(mark) => {
                    assert_eq!((kind, mark.begins.is_some()), (Data::Binary, open.is_none()));
                    let message = open.get_or_insert((mark.begins == Some(true), Vec::new()));
                    message.1.extend_from_slice(&payload);
                    if mark.is_last {
                        messages.extend(open.take());
                    }
                }
            }
            number += 1;
        }
        assert!(open.is_none());
        messages
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 8))]
        #[test]
        fn messages_come_out_as_they_came_in_however_they_are_framed_and_read(
            sent in proptest::collection::vec(
                (any::<bool>(), proptest::collection::vec(prop_oneof![0_usize..10, 100_usize..200, Just(PIECE), Just(PIECE + 1)], 1..4), any::<bool>()),
                1..6,
            ),
            close_pod in prop_oneof![1_usize..8, 1000_usize..9000],
            step in prop_oneof![Just(8192_usize), 50_usize..3000, Just(PIECE * 2)],
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let (mut bytes, mut expected) = (Vec::new(), Vec::new());
            for (is_text, fragments, with_ping) in sent {
                let mut whole = Vec::new();
                for (at, length) in fragments.iter().enumerate() {
                    let payload: Vec<u8> = (0..*length).map(|byte| byte as u8).collect();
                    let opcode = if at > 0 { 0 } else { 2 - u8::from(is_text) };
                    bytes.extend(frame(opcode, at + 1 == fragments.len(), &payload));
                    if with_ping {
                        bytes.extend(frame(9, true, b"ping"));
                    }
                    whole.extend(payload);
                }
                expected.push((is_text, whole));
            }
            let (read, marks) = runtime.block_on(through(bytes, close_pod, step));
            prop_assert!(messages(&read, &marks) == expected);
        }
    }

    #[tokio::test]
    async fn what_is_short_passes_untouched_and_so_does_what_is_to_be_refused() {
        let too_long = frame(1, true, &vec![0; MOST + 1]);
        let grows = [frame(1, false, &vec![0; MOST]), frame(0, true, b"x")].concat();
        let alone = frame(0, true, b"of nothing");
        let within = [frame(1, false, b"x"), frame(1, true, b"y")].concat();
        for (bytes, is_changed) in
            [(frame(1, true, b"short"), false), (too_long, false), (alone, false), (grows, true), (within, true)]
        {
            let (read, _) = through(bytes.clone(), 1000, 8192).await;
            assert_eq!(read != bytes, is_changed);
            // The frame that breaks the rule passes unchanged.
            assert_eq!(read[read.len() - 3..], bytes[bytes.len() - 3..]);
        }
    }
}
