//! One HTTP/1.1 connection as a load generator needs it: bytes out, an answer's head in, its body counted.
//!
//! It is deliberately no HTTP client: the load shares its core with the pods, and what it saves the proxy can be given.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::pod::POD_HEADER;

/// Why a request failed, as a client sees it.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The proxy refused the connection.
    Dial(io::Error),
    /// The connection broke in the middle of an exchange.
    Broken(io::Error),
    /// The connection ended before the answer was whole.
    Ended,
    /// The answer is not what this reader understands.
    Unreadable(&'static str),
    /// Anything but 2xx.
    Status(u16),
    /// No whole answer within the client's patience.
    TimedOut,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Dial(error) => write!(formatter, "dial: {}", error.kind()),
            Failure::Broken(error) => write!(formatter, "broken: {}", error.kind()),
            Failure::Ended => formatter.write_str("ended before the answer was whole"),
            Failure::Unreadable(what) => write!(formatter, "unreadable: {what}"),
            Failure::Status(status) => write!(formatter, "status {status}"),
            Failure::TimedOut => formatter.write_str("timed out"),
        }
    }
}

impl std::error::Error for Failure {}

/// What a load wants to know of an answer's head.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// Bytes of the body.
    pub(crate) length: u64,
    /// The proxy closes the connection after this answer.
    pub(crate) close: bool,
    /// The pod that answered, by the one letter of its name.
    pub(crate) pod: Option<char>,
    /// `name=value` and the attributes, as sent.
    pub(crate) set_cookies: Vec<String>,
}

pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Box<[u8]>,
    /// Bytes in the buffer that were read and not yet consumed: `buffer[start..end]`.
    start: usize,
    end: usize,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr, buffer_bytes: usize) -> Result<Connection, Failure> {
        let stream = TcpStream::connect(address).await.map_err(Failure::Dial)?;
        stream.set_nodelay(true).map_err(Failure::Dial)?;
        Ok(Connection { stream, buffer: vec![0; buffer_bytes].into_boxed_slice(), start: 0, end: 0 })
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(bytes).await.map_err(Failure::Broken)
    }

    /// Reads the head of the next answer; the body is then to be consumed by [`Connection::body`].
    pub(crate) async fn head(&mut self) -> Result<Head, Failure> {
        loop {
            if let Some((head, consumed)) = read_head(&self.buffer[self.start..self.end])? {
                self.start += consumed;
                return Ok(head);
            }
            if self.end == self.buffer.len() {
                return Err(Failure::Unreadable("a head larger than the buffer"));
            }
            self.end += self.fill_from(self.end).await?;
        }
    }

    /// Consumes up to `remaining` bytes of the body, as many as come at once, and says how many.
    pub(crate) async fn body(&mut self, remaining: u64) -> Result<u64, Failure> {
        if self.start == self.end {
            self.start = 0;
            self.end = self.fill_from(0).await?;
        }
        let taken = (self.end - self.start).min(usize::try_from(remaining).unwrap_or(usize::MAX));
        self.start += taken;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        Ok(taken as u64)
    }

    /// Consumes a whole body.
    pub(crate) async fn whole_body(&mut self, length: u64) -> Result<(), Failure> {
        let mut remaining = length;
        while remaining > 0 {
            remaining -= self.body(remaining).await?;
        }
        Ok(())
    }

    /// A whole body as text, for the small answers of a pod.
    pub(crate) async fn text(&mut self, length: u64) -> Result<String, Failure> {
        let mut text = Vec::new();
        while (text.len() as u64) < length {
            if self.start == self.end {
                self.start = 0;
                self.end = self.fill_from(0).await?;
            }
            text.extend_from_slice(&self.buffer[self.start..self.end]);
            self.start = self.end;
        }
        String::from_utf8(text).map_err(|_| Failure::Unreadable("not text"))
    }

    async fn fill_from(&mut self, position: usize) -> Result<usize, Failure> {
        match self.stream.read(&mut self.buffer[position..]).await {
            Ok(0) => Err(Failure::Ended),
            Ok(read) => Ok(read),
            Err(error) => Err(Failure::Broken(error)),
        }
    }
}

/// The head at the beginning of `bytes` and its length, or nothing if it is not whole yet.
fn read_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, Failure> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let Ok(parsed) = response.parse(bytes) else {
        return Err(Failure::Unreadable("no HTTP/1 head"));
    };
    let httparse::Status::Complete(consumed) = parsed else {
        return Ok(None);
    };

    let status = response.code.unwrap_or(0);
    let mut head = Head { status, length: 0, close: response.version == Some(0), pod: None, set_cookies: Vec::new() };
    let mut length = None;
    for header in response.headers.iter() {
        let name = header.name;
        if name.eq_ignore_ascii_case("content-length") {
            length = str::from_utf8(header.value).ok().and_then(|value| value.parse().ok());
        } else if name.eq_ignore_ascii_case(POD_HEADER) {
            head.pod = header.value.first().copied().map(char::from);
        } else if name.eq_ignore_ascii_case("connection") {
            head.close |= header.value.eq_ignore_ascii_case(b"close");
        } else if name.eq_ignore_ascii_case("set-cookie") {
            head.set_cookies.push(String::from_utf8_lossy(header.value).into_owned());
        }
    }
    head.length = length.ok_or(Failure::Unreadable("no Content-Length"))?;
    Ok(Some((head, consumed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Loadtest-Pod: b\r\nset-cookie: s=1; Path=/\r\n\r\nhello";

    #[test]
    fn a_whole_head_is_read_and_the_body_left() {
        let (head, consumed) = read_head(ANSWER).expect("readable").expect("whole");
        assert_eq!(&ANSWER[consumed..], b"hello");
        let expected =
            Head { status: 200, length: 5, close: false, pod: Some('b'), set_cookies: vec!["s=1; Path=/".to_owned()] };
        assert_eq!(head, expected);
    }

    #[test]
    fn a_part_of_a_head_is_waited_for() {
        for end in 0..ANSWER.len() - 5 {
            assert!(matches!(read_head(&ANSWER[..end]), Ok(None)), "{end} bytes");
        }
    }

    #[test]
    fn an_answer_of_unknown_length_is_refused() {
        let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(matches!(read_head(answer), Err(Failure::Unreadable("no Content-Length"))));
    }

    #[test]
    fn a_closing_proxy_is_noticed() {
        let answer = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        let (head, _) = read_head(answer).expect("readable").expect("whole");
        assert!(head.close);
        assert_eq!(head.status, 503);
    }
}
