//! Cleartext HTTP on a TLS port. The client gets an explanation instead of a silent close.

use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::connection;

const ANSWER: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n\
    Content-Length: 75\r\nConnection: close\r\n\r\n\
    This port speaks HTTPS only, and the request came in clear. Use https://.\r\n";

/// Whether the client begins with an HTTP method. The first byte of TLS is not a letter.
pub(super) async fn is_spoken(stream: &TcpStream) -> bool {
    let mut first = [0];
    matches!(stream.peek(&mut first).await, Ok(1) if first[0].is_ascii_uppercase())
}

/// Sends the explanation to the client, and closes.
pub(super) async fn refuse(mut stream: TcpStream) {
    // A failed write means that the client is gone.
    if stream.write_all(ANSWER).await.is_ok() {
        connection::close_in_stages(stream).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_as_long_as_it_says() {
        let text = std::str::from_utf8(ANSWER).expect("a text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
    }
}
