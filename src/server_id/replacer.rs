//! Replaces an id by another while bytes stream by. Pure; it buffers less than one id.

use std::{fmt, sync::Arc};

use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;

use super::ServerId;

/// An id and its replacement. Built once for many bodies, because building the search takes longer
/// than searching most bodies.
#[derive(Clone)]
pub struct Replacement {
    finder: Finder<'static>,
    id: ServerId,
    by: ServerId,
}

impl Replacement {
    pub fn new(id: ServerId, by: ServerId) -> Replacement {
        Replacement { finder: Finder::new(id.bytes()).into_owned(), id, by }
    }

    /// The text with every id replaced; `None` if it contains none.
    pub fn of_text(&self, text: &str) -> Option<String> {
        self.finder.find(text.as_bytes())?;
        Some(text.replace(self.id.as_str(), self.by.as_str()))
    }
}

impl fmt::Debug for Replacement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} by {:?}", self.id, self.by)
    }
}

/// Returns as many bytes as it takes, with every id replaced, wherever pieces begin and end.
#[derive(Debug)]
pub struct Replacer {
    what: Arc<Replacement>,
    /// The number of bytes held back: the end of the input, where it is a proper prefix of the id.
    held: usize,
}

impl Replacer {
    pub fn new(what: Arc<Replacement>) -> Replacer {
        Replacer { what, held: 0 }
    }

    /// Takes the next piece. Returns all bytes that can go on, earlier held-back ones included.
    pub fn push(&mut self, piece: Bytes) -> Bytes {
        if self.held == 0 {
            return self.replace(piece);
        }
        let mut whole = BytesMut::with_capacity(self.held + piece.len());
        whole.extend_from_slice(&self.what.id.bytes()[..self.held]);
        whole.extend_from_slice(&piece);
        self.replace(whole.freeze())
    }

    /// Ends the input and returns the held-back bytes.
    pub fn finish(&mut self) -> Bytes {
        Bytes::copy_from_slice(&self.what.id.bytes()[..std::mem::take(&mut self.held)])
    }

    /// Whether bytes are held back.
    pub fn holds(&self) -> bool {
        self.held > 0
    }

    /// The number of bytes held back.
    pub fn held(&self) -> usize {
        self.held
    }

    fn replace(&mut self, piece: Bytes) -> Bytes {
        let mut found = self.what.finder.find_iter(&piece).peekable();
        let (mut replaced, mut end) = (None, 0);
        // A piece without an id is not copied.
        if found.peek().is_some() {
            let mut copy = BytesMut::from(&piece[..]);
            for at in found {
                end = at + ServerId::LENGTH;
                copy[at..end].copy_from_slice(self.what.by.bytes());
            }
            replaced = Some(copy.freeze());
        }
        self.held = self.prefix_at_end(&piece[end..]);
        let mut out = replaced.unwrap_or(piece);
        out.truncate(out.len() - self.held);
        out
    }

    /// The length of the longest end of `text` that is a beginning of the id.
    fn prefix_at_end(&self, text: &[u8]) -> usize {
        let longest = text.len().min(ServerId::LENGTH - 1);
        (1..=longest).rev().find(|length| text.ends_with(&self.what.id.bytes()[..*length])).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(text: &str) -> ServerId {
        ServerId::parse(text).expect("an id")
    }

    fn replacer(from: ServerId, to: ServerId) -> Replacer {
        Replacer::new(Arc::new(Replacement::new(from, to)))
    }

    /// The output for these pieces, and the most bytes held back.
    fn replaced(pieces: &[Vec<u8>], from: ServerId, to: ServerId) -> (Vec<u8>, usize) {
        let mut replacer = replacer(from, to);
        let (mut out, mut most) = (Vec::new(), 0);
        for piece in pieces {
            out.extend(replacer.push(Bytes::copy_from_slice(piece)));
            most = most.max(replacer.held());
        }
        out.extend(replacer.finish());
        assert!(!replacer.holds());
        (out, most)
    }

    /// Ids that repeat themselves are the hard ones: their beginnings look like their ends.
    fn ids() -> impl Strategy<Value = ServerId> {
        let period = prop_oneof![Just(1_usize), Just(2), Just(3), Just(5), Just(16), Just(31), Just(32)];
        (period, proptest::collection::vec(prop_oneof![Just('a'), Just('b'), Just('0')], 32))
            .prop_map(|(period, digits)| id(&digits.iter().take(period).cycle().take(32).collect::<String>()))
    }

    proptest! {
        #[test]
        fn pieces_of_any_length_give_what_the_whole_would_give(
            from in ids(),
            to in ids(),
            parts in proptest::collection::vec((0_usize..4, 0_usize..33, "[ab0\"]{0,40}"), 0..12),
            cuts in proptest::collection::vec(0_usize..50, 0..40),
        ) {
            // Text made of whole ids, beginnings and ends of ids, and their digits.
            let mut text = String::new();
            for (kind, length, rest) in &parts {
                match kind {
                    0 => text += from.as_str(),
                    1 => text += &from.as_str()[..*length.min(&32)],
                    2 => text += &from.as_str()[*length.min(&32)..],
                    _ => text += rest,
                }
            }
            let mut pieces = Vec::new();
            let mut rest = text.as_bytes();
            for cut in cuts {
                let (piece, behind) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece.to_vec());
                rest = behind;
            }
            pieces.push(rest.to_vec());
            let naive = text.replace(from.as_str(), to.as_str());
            let (out, most) = replaced(&pieces, from, to);
            prop_assert_eq!(String::from_utf8(out).expect("a text"), naive);
            prop_assert!(most < ServerId::LENGTH);
        }
    }

    #[test]
    fn what_holds_no_id_is_not_copied_and_not_held_back() {
        let mut replacer = replacer(id(&"ab".repeat(16)), id(&"c".repeat(32)));
        let piece = Bytes::from_static(b"{\"Name\":\"aabab\"}");
        let out = replacer.push(piece.clone());
        assert_eq!((out.as_ptr(), out.len(), replacer.held()), (piece.as_ptr(), piece.len(), 0));
    }
}
