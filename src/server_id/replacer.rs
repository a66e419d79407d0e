//! Replaces ids by others while bytes stream by. Pure; it buffers less than one id.

use std::{fmt, sync::Arc};

use aho_corasick::{AhoCorasick, MatchKind};
use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;

use super::ServerId;

/// Ids and their replacements. Built once for many bodies, because building the search takes longer
/// than searching most bodies.
#[derive(Clone)]
pub struct Replacement {
    search: Search,
    pairs: Vec<Pair>,
}

/// A text, and what takes its place: both have one length.
type Pair = (Box<[u8]>, Box<[u8]>);

#[derive(Clone)]
enum Search {
    /// The usual case: the server's id alone.
    One(Box<Finder<'static>>),
    Many(AhoCorasick),
    Nothing,
}

impl Replacement {
    pub fn new(id: ServerId, by: ServerId) -> Replacement {
        let search = Search::One(Box::new(Finder::new(id.bytes()).into_owned()));
        Replacement { search, pairs: vec![(Box::from(*id.bytes()), Box::from(*by.bytes()))] }
    }

    /// Of ids as they stand, and of some with dashes too: clients write a user's id in both forms.
    pub fn of_many(ids: &[(ServerId, ServerId)], dashed: &[(ServerId, ServerId)]) -> Replacement {
        let plain = |(id, by): &(ServerId, ServerId)| (Box::from(*id.bytes()), Box::from(*by.bytes()));
        let with_dashes = |(id, by): &(ServerId, ServerId)| (Box::from(id.dashed()), Box::from(by.dashed()));
        let pairs: Vec<Pair> = ids.iter().chain(dashed).map(plain).chain(dashed.iter().map(with_dashes)).collect();
        let mut builder = AhoCorasick::builder();
        let built = builder.match_kind(MatchKind::LeftmostFirst).build(pairs.iter().map(|(id, _)| id));
        // It fails only for more bytes of ids than memory has.
        Replacement { search: built.map_or(Search::Nothing, Search::Many), pairs }
    }

    /// The text with every id replaced; `None` if it contains none.
    pub fn of_text(&self, text: &str) -> Option<String> {
        let replaced = self.of_bytes(text.as_bytes())?.0;
        // Other digits keep a text a text.
        String::from_utf8(replaced.to_vec()).ok()
    }

    /// The bytes with every id replaced, and where the last one ends; `None` if they contain none.
    fn of_bytes(&self, bytes: &[u8]) -> Option<(BytesMut, usize)> {
        let mut replaced: Option<(BytesMut, usize)> = None;
        let mut replace = |at: usize, by: &[u8]| {
            let (copy, end) = replaced.get_or_insert_with(|| (BytesMut::from(bytes), 0));
            *end = at + by.len();
            copy[at..*end].copy_from_slice(by);
        };
        match &self.search {
            Search::One(finder) => {
                let by = &self.pairs.first()?.1;
                finder.find_iter(bytes).for_each(|at| replace(at, by));
            }
            Search::Many(search) => {
                for found in search.find_iter(bytes) {
                    replace(found.start(), &self.pairs.get(found.pattern().as_usize())?.1);
                }
            }
            Search::Nothing => {}
        }
        replaced
    }

    /// The length of the longest end of `text` that is a beginning of an id.
    fn prefix_at_end(&self, text: &[u8]) -> usize {
        let of_id = |byte: &&u8| byte.is_ascii_hexdigit() || **byte == b'-';
        let most = text.iter().rev().take(DASHED).take_while(of_id).count();
        let begins = |length: usize| {
            let end = &text[text.len() - length..];
            self.pairs.iter().any(|(id, _)| id.len() > length && id.starts_with(end))
        };
        (1..=most).rev().find(|length| begins(*length)).unwrap_or(0)
    }
}

/// The length of an id with dashes.
const DASHED: usize = ServerId::LENGTH + 4;

impl fmt::Debug for Replacement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ids", self.pairs.len())
    }
}

/// Returns as many bytes as it takes, with every id replaced, wherever pieces begin and end.
#[derive(Debug)]
pub struct Replacer {
    what: Arc<Replacement>,
    /// What is held back: the end of the input, where it is a proper beginning of an id.
    held: Bytes,
}

impl Replacer {
    pub fn new(what: Arc<Replacement>) -> Replacer {
        Replacer { what, held: Bytes::new() }
    }

    /// Takes the next piece. Returns all bytes that can go on, earlier held-back ones included.
    pub fn push(&mut self, piece: Bytes) -> Bytes {
        if self.held.is_empty() {
            return self.replace(piece);
        }
        let mut whole = BytesMut::with_capacity(self.held.len() + piece.len());
        whole.extend_from_slice(&self.held);
        whole.extend_from_slice(&piece);
        self.replace(whole.freeze())
    }

    /// Ends the input and returns the held-back bytes.
    pub fn finish(&mut self) -> Bytes {
        std::mem::take(&mut self.held)
    }

    /// Whether bytes are held back.
    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// The number of bytes held back.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    fn replace(&mut self, piece: Bytes) -> Bytes {
        // A piece without an id is not copied.
        let (mut out, end) = match self.what.of_bytes(&piece) {
            Some((replaced, end)) => (replaced.freeze(), end),
            None => (piece, 0),
        };
        let held = self.what.prefix_at_end(&out[end..]);
        // A copy, so that a few bytes do not keep the whole piece in memory.
        self.held = Bytes::copy_from_slice(&out[out.len() - held..]);
        out.truncate(out.len() - held);
        out
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
    fn many_ids_are_replaced_with_and_without_dashes_wherever_pieces_end() {
        let ids: Vec<ServerId> = "abcdef".chars().map(|digit| id(&digit.to_string().repeat(32))).collect();
        let what = Arc::new(Replacement::of_many(&[(ids[0], ids[1])], &[(ids[2], ids[3]), (ids[4], ids[5])]));
        let dashed = |id: ServerId| String::from_utf8(id.dashed().to_vec()).expect("a text");
        assert_eq!(dashed(ids[2]), "cccccccc-cccc-cccc-cccc-cccccccccccc");
        let (c, d, e, f) = (dashed(ids[2]), dashed(ids[3]), ids[4].as_str(), ids[5].as_str());
        let text = format!("{{\"{}\":\"{c}{e}\",\"x\":\"{}-ccc\"}}", ids[0].as_str(), ids[2].as_str());
        let expected = format!("{{\"{}\":\"{d}{f}\",\"x\":\"{}-ccc\"}}", ids[1].as_str(), ids[3].as_str());
        assert_eq!(what.of_text(&text).as_deref(), Some(&*expected));
        assert_eq!(what.of_text("cccc-cccc"), None);
        for cut in 0..text.len() {
            let mut replacer = Replacer::new(what.clone());
            let pieces = [&text[..cut], &text[cut..]].map(|piece| Bytes::copy_from_slice(piece.as_bytes()));
            let mut out: Vec<u8> = pieces.into_iter().flat_map(|piece| replacer.push(piece)).collect();
            out.extend(replacer.finish());
            assert_eq!(String::from_utf8(out).expect("a text"), expected, "cut at {cut}");
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
