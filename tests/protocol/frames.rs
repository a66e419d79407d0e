//! Frames of HTTP/2 by hand, right ones and wrong ones.

use super::wire::Wire;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

/// Of SETTINGS and PING.
pub(super) const ACK: u8 = 1;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;
pub(super) const WITH_PRIORITY: u8 = 32;

/// A field's name and value, which may hold any bytes.
pub(super) type Field<'a> = (&'a str, &'a str);

/// A frame that was read.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    pub(super) async fn read(wire: &mut Wire) -> Option<Frame> {
        let head = wire.bytes(9).await?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        Some(Frame { kind: head[3], flags: head[4], stream, payload: wire.bytes(length).await? })
    }

    /// Four bytes of the payload: an error's code, or an increment.
    pub(super) fn number(&self, at: usize) -> u32 {
        self.payload.get(at..at + 4).map_or(0, |four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
    }

    pub(super) fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    /// The status that a block of fields begins with: of the static table, or a literal.
    pub(super) fn status(&self) -> u16 {
        match &self.payload[..] {
            [0x88, ..] => 200,
            [0x89, ..] => 204,
            [0x8b, ..] => 304,
            [0x8c, ..] => 400,
            [0x8d, ..] => 404,
            [0x8e, ..] => 500,
            // Huffman's code for three digits takes two or three bytes.
            [_, length, text @ ..] if length & 0x80 != 0 => {
                huffman_digits(&text[..usize::from(length & 0x7f).min(text.len())])
            }
            [_, 3, text @ ..] => String::from_utf8_lossy(&text[..3.min(text.len())]).parse().unwrap_or(0),
            _ => 0,
        }
    }
}

/// Three digits in Huffman's code (RFC 7541, appendix B): `0` to `2` have five bits, the others six.
fn huffman_digits(bytes: &[u8]) -> u16 {
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let take = |from: usize, count: usize| {
        bits[from..].iter().take(count).fold(0_u16, |code, bit| code << 1 | u16::from(*bit))
    };
    let (mut at, mut number) = (0, 0);
    for _ in 0..3 {
        let short = take(at, 5);
        let (digit, length) = if short < 3 { (short, 5) } else { (take(at, 6).saturating_sub(0x19) + 3, 6) };
        number = number * 10 + digit;
        at = (at + length).min(bits.len());
    }
    number
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The preface and first settings of a client.
pub(super) fn greeting() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// Fields as literals without compression (RFC 7541, 6.2.2).
pub(super) fn block(fields: &[Field<'_>]) -> Vec<u8> {
    let mut block = Vec::new();
    let text = |block: &mut Vec<u8>, text: &str| {
        // The bytes of characters below 256, so that any byte can be told.
        let bytes: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect();
        match bytes.len() {
            short @ 0..127 => block.push(short as u8),
            mut long => {
                block.push(127);
                long -= 127;
                while long >= 128 {
                    block.push((long % 128) as u8 | 128);
                    long /= 128;
                }
                block.push(long as u8);
            }
        }
        block.extend(bytes);
    };
    for (name, value) in fields {
        block.push(0);
        text(&mut block, name);
        text(&mut block, value);
    }
    block
}

/// The pseudo-fields of a request for this path.
pub(super) fn request<'a>(method: &'a str, path: &'a str) -> [Field<'a>; 4] {
    [(":method", method), (":scheme", "http"), (":authority", "h"), (":path", path)]
}

/// A whole request without a body.
pub(super) fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&request("GET", path)))
}

#[test]
fn a_status_is_read_in_each_of_its_forms() {
    let of = |payload: &[u8]| Frame { kind: HEADERS, flags: 0, stream: 1, payload: payload.to_vec() }.status();
    assert_eq!(of(&[0x88, 0x40]), 200);
    assert_eq!(of(&[0x48, 0x83, 0x68, 0x0d, 0xff]), 405);
    assert_eq!(of(&[0x48, 0x83, 0x69, 0x90, 0xff]), 431);
    assert_eq!(of(&[0x48, 3, b'4', b'1', b'3']), 413);
}
