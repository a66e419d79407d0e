//! The PROXY protocol, versions 1 and 2: a load balancer says before the first byte who its client is.

use std::net::SocketAddr;

use ppp::{HeaderResult, v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

/// What version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The longest line of version 1, and the longest header of version 2 that is read.
const LONGEST_LINE: usize = 107;
const LONGEST_HEADER: usize = 2048;

/// Who a connection is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Client(SocketAddr),
    /// The load balancer itself, which asks whether the proxy lives.
    Peer,
}

/// Reads the header, and not a byte more. `None` if there is none: then nobody knows whose
/// connection it is.
pub(super) async fn source(stream: &mut (impl AsyncRead + Unpin)) -> Option<Source> {
    let mut header = vec![0; SIGNATURE.len()];
    stream.read_exact(&mut header).await.ok()?;
    if header == SIGNATURE {
        let mut rest = [0; 4];
        stream.read_exact(&mut rest).await.ok()?;
        header.extend_from_slice(&rest);
        let length = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
        let from = header.len();
        header.resize(from + length.min(LONGEST_HEADER), 0);
        stream.read_exact(&mut header[from..]).await.ok()?;
    } else if header.starts_with(b"PROXY ") {
        while !header.ends_with(b"\r\n") {
            if header.len() >= LONGEST_LINE {
                return None;
            }
            // A longer read could take a part of the client's own bytes.
            header.push(stream.read_u8().await.ok()?);
        }
    } else {
        return None;
    }
    match HeaderResult::parse(&header) {
        HeaderResult::V1(Ok(header)) => Some(of_line(&header.addresses)),
        HeaderResult::V2(Ok(header)) => Some(of_header(&header)),
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => None,
    }
}

fn of_line(addresses: &v1::Addresses) -> Source {
    match addresses {
        v1::Addresses::Tcp4(from) => Source::Client((from.source_address, from.source_port).into()),
        v1::Addresses::Tcp6(from) => Source::Client((from.source_address, from.source_port).into()),
        v1::Addresses::Unknown => Source::Peer,
    }
}

fn of_header(header: &v2::Header<'_>) -> Source {
    match (header.command, header.addresses) {
        (v2::Command::Proxy, v2::Addresses::IPv4(from)) => {
            Source::Client((from.source_address, from.source_port).into())
        }
        (v2::Command::Proxy, v2::Addresses::IPv6(from)) => {
            Source::Client((from.source_address, from.source_port).into())
        }
        _ => Source::Peer,
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    async fn read(bytes: &[u8]) -> (Option<Source>, usize) {
        let mut rest = bytes;
        let source = source(&mut rest).await;
        (source, rest.len())
    }

    fn client(address: &str) -> Option<Source> {
        Some(Source::Client(address.parse().expect("an address")))
    }

    #[tokio::test]
    async fn both_versions_name_the_client_and_leave_its_bytes() {
        let line = b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\nGET / HTTP/1.1\r\n";
        assert_eq!(read(line).await, (client("192.0.2.7:56324"), 16));
        let line = b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\nx";
        assert_eq!(read(line).await, (client("[2001:db8::7]:56324"), 1));
        assert_eq!(read(b"PROXY UNKNOWN\r\nxy").await, (Some(Source::Peer), 2));
        let header =
            [&SIGNATURE[..], &[0x21, 0x11, 0, 12], &[192, 0, 2, 7], &[10, 0, 0, 1], &[0xdc, 4, 1, 187], b"xyz"];
        assert_eq!(read(&header.concat()).await, (client("192.0.2.7:56324"), 3));
        // The balancer's own question, with more than is needed.
        let header = [&SIGNATURE[..], &[0x20, 0, 0, 3], b"\x04\0\0", b"xyz"];
        assert_eq!(read(&header.concat()).await, (Some(Source::Peer), 3));
    }

    #[tokio::test]
    async fn anything_else_is_nobodys() {
        let long = format!("PROXY TCP4 {}\r\n", "1".repeat(200));
        let too_long = [&SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff], &[0; 70_000]].concat();
        for bytes in
            [&b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"[..], b"PROXY", b"PROXY TCP4 x y 1 2\r\n", long.as_bytes(), b""]
        {
            assert_eq!(read(bytes).await.0, None, "{}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(read(&too_long).await.0, None);
        assert_eq!(read(b"\x16\x03\x01\x00\x2f\x01\x00\x00\x2b\x03\x03\x00\x00").await.0, None);
    }

    /// Pieces of which headers are made.
    #[rustfmt::skip]
    const PIECES: [&[u8]; 24] = [
        SIGNATURE, b"PROXY ", b"PROXY TCP4 ", b"TCP6 ", b"UNKNOWN", b"192.0.2.7 ", b"2001:db8::7 ", b"::ffff:1.2.3.4 ", b"65535 ", b"65536 ", b" ", b"\r\n",
        b"\r", b"\n", &[0x21, 0x11, 0, 12], &[0x21, 0x21, 0, 36], &[0x20, 0, 0, 0], &[0x21, 0x31, 0, 216], &[0x21, 0x11, 0xff, 0xff], &[0x21, 0x11, 0, 3],
        &[192, 0, 2, 7, 10, 0, 0, 1, 0xdc, 4, 1, 187], &[0; 36], &[4, 0, 1, 0], &[0xff; 3],
    ];

    proptest! {
        #[test]
        fn no_header_does_harm_and_each_is_read_to_its_own_end(
            pieces in vec(select(&PIECES[..]), 0..6),
            rest in vec(any::<u8>(), 0..30),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let bytes = pieces.concat();
            let (source, left) = runtime.block_on(read(&bytes));
            if source.is_some() {
                let header = &bytes[..bytes.len() - left];
                let again = runtime.block_on(read(&[header, &rest].concat()));
                prop_assert_eq!(again, (source, rest.len()));
            }
        }
    }
}
