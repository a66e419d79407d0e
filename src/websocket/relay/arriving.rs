//! A pod's messages as its client gets them: short ones whole, others piece by piece.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio_tungstenite::tungstenite::{
    Bytes, Message,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};

use crate::{
    jellyfin::message,
    server_id::Replacer,
    websocket::{
        ForClient, MessageRewriter,
        pod_side::{Mark, Marks},
    },
};

/// What to do with a message that was read.
pub(super) enum Heard {
    /// It passes; `None` if it is dropped.
    Whole(Option<Message>),
    /// A piece of a message that is not complete; `None` if all of it is held back.
    Piece(Option<Message>),
    /// It is no valid message.
    Malformed,
}

/// Follows a pod's messages piece by piece.
pub(super) struct Arriving {
    marks: Arc<Marks>,
    /// Messages and pieces that were read.
    number: u64,
    open: Option<Open>,
    /// The client does not get the message in progress.
    is_replaced: bool,
}

/// The message in progress.
struct Open {
    is_text: bool,
    has_begun: bool,
    letters: Letters,
    replacer: Option<Replacer>,
}

/// Where one message ends and the next begins, so that a reader can be stopped there.
#[derive(Default)]
pub(super) struct Boundary {
    is_within: AtomicBool,
    is_to_stop: AtomicBool,
}

impl Boundary {
    /// Whether the client has got a part of a message and waits for the rest.
    pub(super) fn is_within(&self) -> bool {
        self.is_within.load(Ordering::Relaxed)
    }

    /// Tells the reader to stop after this message.
    pub(super) fn stop(&self) {
        self.is_to_stop.store(true, Ordering::Relaxed);
    }

    /// Records that a message has passed whole. Returns whether to stop.
    pub(super) fn reached(&self) -> bool {
        self.is_within.store(false, Ordering::Relaxed);
        self.is_to_stop.load(Ordering::Relaxed)
    }
}

impl Arriving {
    pub(super) fn new(marks: Arc<Marks>) -> Arriving {
        Arriving { marks, number: 0, open: None, is_replaced: false }
    }

    /// Takes a message that was read. A ping or a pong only shows that the pod lives.
    pub(super) fn receive(&mut self, message: Message, rewriter: &impl MessageRewriter, boundary: &Boundary) -> Heard {
        rewriter.on_pod_message();
        if matches!(message, Message::Ping(_) | Message::Pong(_)) {
            return Heard::Whole(None);
        }
        let number = self.number;
        self.number += 1;
        match self.marks.take(number) {
            None => Heard::Whole(rewrite_for_client(message, rewriter)),
            Some(mark) => {
                let bytes = message.into_data();
                if let Some(is_text) = mark.begins {
                    self.is_replaced = is_text && rewriter.is_replaced_from(&bytes);
                }
                if self.is_replaced {
                    return if mark.is_last { Heard::Whole(None) } else { Heard::Piece(None) };
                }
                boundary.is_within.store(true, Ordering::Relaxed);
                self.piece(mark, bytes, rewriter)
            }
        }
    }

    fn piece(&mut self, mark: Mark, bytes: Bytes, rewriter: &impl MessageRewriter) -> Heard {
        if let Some(is_text) = mark.begins {
            let replacer = rewriter.pieces_to_client().filter(|_| is_text);
            self.open = Some(Open { is_text, has_begun: false, letters: Letters::default(), replacer });
        }
        let Some(open) = &mut self.open else { return Heard::Malformed };
        if open.is_text && !open.letters.take(&bytes, mark.is_last) {
            return Heard::Malformed;
        }
        let bytes = match &mut open.replacer {
            None => bytes,
            Some(replacer) => {
                let most = replacer.push(bytes);
                let rest = if mark.is_last { replacer.finish() } else { Bytes::new() };
                if rest.is_empty() { most } else { [most, rest].concat().into() }
            }
        };
        let kind = match open {
            Open { has_begun: true, .. } => Data::Continue,
            Open { is_text: true, .. } => Data::Text,
            _ => Data::Binary,
        };
        let frame = || Message::Frame(Frame::message(bytes.clone(), OpCode::Data(kind), mark.is_last));
        if mark.is_last {
            let last = frame();
            self.open = None;
            return Heard::Whole(Some(last));
        }
        // All of it may be the beginning of an id, and is then held back.
        let piece = (!bytes.is_empty()).then(frame);
        open.has_begun |= piece.is_some();
        Heard::Piece(piece)
    }
}

/// A pod's message as its client gets it. The client does not get the pod's shutdown or restart,
/// since it continues with another pod.
fn rewrite_for_client(message: Message, rewriter: &impl MessageRewriter) -> Option<Message> {
    match &message {
        Message::Text(text) if message::is_shutdown_notice(text) => {
            rewriter.farewell();
            None
        }
        Message::Text(text) => match rewriter.to_client(text) {
            ForClient::Same => Some(message),
            ForClient::Changed(text) => Some(Message::text(text)),
            ForClient::Nothing => None,
        },
        _ => Some(message),
    }
}

/// Checks UTF-8 whose characters may be cut by the ends of pieces (RFC 6455, 8.1).
#[derive(Default)]
struct Letters {
    /// The beginning of a character.
    begun: [u8; 4],
    length: usize,
}

impl Letters {
    /// Whether these bytes continue valid text, and end it properly if they are the last.
    fn take(&mut self, mut bytes: &[u8], is_last: bool) -> bool {
        while self.length > 0 {
            let Some((first, rest)) = bytes.split_first() else { return !is_last };
            if self.length == self.begun.len() {
                return false;
            }
            self.begun[self.length] = *first;
            self.length += 1;
            bytes = rest;
            match std::str::from_utf8(&self.begun[..self.length]) {
                Ok(_) => self.length = 0,
                Err(error) if error.error_len().is_some() => return false,
                Err(_) => {}
            }
        }
        match std::str::from_utf8(bytes) {
            Ok(_) => true,
            Err(error) if error.error_len().is_some() || is_last => false,
            Err(error) => {
                // Less than a character is left.
                let rest = &bytes[error.valid_up_to()..];
                self.begun[..rest.len()].copy_from_slice(rest);
                self.length = rest.len();
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn letters_are_read_across_cuts(
            text in proptest::collection::vec(prop_oneof![Just(b'a'), Just(0xc3), Just(0xbc), Just(0xe2), Just(0x82), Just(0xac), Just(0xf0), Just(0x9f), Just(0x98), Just(0x80)], 0..12),
            cuts in proptest::collection::vec(0_usize..4, 0..12),
        ) {
            let mut letters = Letters::default();
            let mut rest = &text[..];
            let mut is_text = true;
            for cut in cuts {
                let (piece, behind) = rest.split_at(cut.min(rest.len()));
                is_text = is_text && letters.take(piece, false);
                rest = behind;
            }
            is_text = is_text && letters.take(rest, true);
            prop_assert_eq!(is_text, std::str::from_utf8(&text).is_ok());
        }
    }
}
