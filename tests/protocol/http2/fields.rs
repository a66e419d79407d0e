//! Fields: how they are compressed, and which ones a request may have.

use super::{COMPRESSION, Case, Must, PROTOCOL, case};
use crate::protocol::frames::{DATA, END_HEADERS, END_STREAM, Field, HEADERS, block, frame, request};

/// A request of these bytes for its fields.
fn compressed(fields: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, fields)
}

fn with(more: &[Field<'_>]) -> Vec<u8> {
    compressed(&block(&[&request("GET", "/h2")[..], more].concat()))
}

fn upload(fields: &[Field<'_>], frames: &[Vec<u8>]) -> Vec<u8> {
    let fields = [&request("POST", "/h2")[..], fields].concat();
    [frame(HEADERS, END_HEADERS, 1, &block(&fields)), frames.concat()].concat()
}

pub(super) fn cases() -> Vec<Case> {
    let base = request("GET", "/h2");
    let without = |missing: usize| {
        let mut fields = base.to_vec();
        fields.remove(missing);
        compressed(&block(&fields))
    };
    let behind = |bytes: &[u8]| compressed(&[&block(&base), bytes].concat());
    let ahead = |bytes: &[u8]| compressed(&[bytes, &block(&base)].concat());
    let trailers = |flags: u8, fields: &[Field<'_>]| {
        upload(&[], &[frame(DATA, 0, 1, b"body"), frame(HEADERS, END_HEADERS | flags, 1, &block(fields))])
    };
    let wrong = Must::EndStream(&[PROTOCOL]);
    let unreadable = Must::End(&[COMPRESSION]);
    // Of the static table: `:method: GET`, `:scheme: http`, `:path: /`, and `:authority` with a literal.
    let indexed = [0x82, 0x86, 0x84, 0x41, 1, b'h'];
    vec![
        case("4.3/1", "fields that break off", unreadable, compressed(&[0x40])),
        case("hpack/2.3.3/1", "an index beyond both tables", unreadable, behind(&[0xf0])),
        case("hpack/2.3.3/2", "a name's index beyond both tables", unreadable, behind(&[0x7e, 1, b'x'])),
        case("hpack/4.2/1", "the table's size at the end of the fields", unreadable, behind(&[0x20])),
        case(
            "hpack/5.2/1",
            "Huffman's code with more than seven bits of padding",
            unreadable,
            behind(&[0, 1, b'x', 0x82, 0x1f, 0xff]),
        ),
        case("hpack/5.2/2", "Huffman's code padded by zeros", unreadable, behind(&[0, 1, b'x', 0x81, 0x18])),
        case(
            "hpack/5.2/3",
            "Huffman's code with its end in it",
            unreadable,
            behind(&[0, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff]),
        ),
        case("hpack/6.1/1", "the index 0", unreadable, behind(&[0x80])),
        case("hpack/6.3/1", "a table larger than allowed", unreadable, ahead(&[0x3f, 0xe2, 0x1f])),
        case("generic/5/1", "indexed fields", Must::Answer(200), compressed(&indexed)),
        case("generic/5/2", "a literal that is kept", Must::Answer(200), behind(&[0x40, 1, b'x', 1, b'y', 0xbe])),
        case("generic/5/4", "a literal that is not kept", Must::Answer(200), behind(&[0, 1, b'x', 1, b'y'])),
        case("generic/5/8", "a literal that is never kept", Must::Answer(200), behind(&[0x10, 1, b'x', 1, b'y'])),
        case("generic/5/10", "Huffman's code", Must::Answer(200), behind(&[0, 1, b'x', 0x81, 0x1f])),
        case("generic/5/14", "the table's size first", Must::Answer(200), ahead(&[0x20])),
        case("generic/5/15", "the table's size twice", Must::Answer(200), ahead(&[0x20, 0x3f, 0xe1, 0x1f])),
        case("generic/4/1", "GET", Must::Answer(200), with(&[])),
        case("generic/4/2", "HEAD", Must::Answer(200), compressed(&block(&request("HEAD", "/h2")))),
        case("generic/4/3", "POST", Must::Answer(200), upload(&[], &[frame(DATA, END_STREAM, 1, b"body")])),
        case("generic/4/4", "POST with trailers", Must::Answer(200), trailers(END_STREAM, &[("x-trailer", "y")])),
        case("8.1/1", "second HEADERS that do not end the stream", wrong, trailers(0, &[("x-trailer", "y")])),
        case("8.1.2/1", "a name in upper case", wrong, with(&[("X-TEST", "ok")])),
        case("8.1.2.1/1", "a pseudo-field that nobody knows", wrong, with(&[(":test", "ok")])),
        case("8.1.2.1/2", "a pseudo-field of answers", wrong, with(&[(":status", "200")])),
        case("8.1.2.1/3", "a pseudo-field in trailers", wrong, trailers(END_STREAM, &[(":method", "GET")])),
        case(
            "8.1.2.1/4",
            "a pseudo-field behind a field",
            wrong,
            compressed(&block(&[&[("x", "y")], &base[..]].concat())),
        ),
        case("8.1.2.2/1", "Connection", wrong, with(&[("connection", "keep-alive")])),
        case("8.1.2.2/2", "TE of something else", wrong, with(&[("trailers", "test"), ("te", "trailers, deflate")])),
        case("8.1.2.3/1", "an empty path", wrong, compressed(&block(&request("GET", "")))),
        case("8.1.2.3/2", "no method", wrong, without(0)),
        case("8.1.2.3/3", "no scheme", wrong, without(1)),
        case("8.1.2.3/4", "no path", wrong, without(3)),
        case("8.1.2.3/5", "two methods", wrong, with(&[(":method", "GET")])),
        case("8.1.2.3/6", "two schemes", wrong, with(&[(":scheme", "http")])),
        case("8.1.2.3/7", "two paths", wrong, with(&[(":path", "/h2")])),
        case(
            "8.1.2.6/1",
            "a length that DATA do not have",
            wrong,
            upload(&[("content-length", "1")], &[frame(DATA, END_STREAM, 1, b"test")]),
        ),
        case(
            "8.1.2.6/2",
            "a length that all DATA do not have",
            wrong,
            upload(&[("content-length", "1")], &[frame(DATA, 0, 1, b"test"), frame(DATA, END_STREAM, 1, b"test")]),
        ),
    ]
}
