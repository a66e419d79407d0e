//! One end of a connection: sends bytes, and reads what HTTP/1 is made of.

use std::{future::Future, io, net::SocketAddr, panic::Location, time::Duration};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time,
};

use crate::stories::world::DEADLINE;

/// One end of a connection, and what was read from it and not yet taken.
pub(crate) struct End<S = TcpStream> {
    stream: S,
    read: Vec<u8>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Closed,
    Reset,
}

/// An answer with its body taken out of its framing.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// From the status line to the empty line; a byte is a character.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// The lines after the last chunk.
    pub(crate) trailers: String,
    /// Whether the body came to its own end, by its length or its last chunk.
    pub(crate) is_whole: bool,
}

impl Answer {
    /// The values of a field, in the order in which they came.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        fields(&self.head, name)
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The values of a field in a head.
pub(crate) fn fields<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let lines = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
    lines.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim_matches(' ')).collect()
}

/// Waits for a step of the other side, or fails where it was waited for.
#[track_caller]
pub(crate) fn within<T>(at_most: Duration, what: &str, step: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = Location::caller();
    async move {
        match time::timeout(at_most, step).await {
            Ok(done) => done,
            Err(_) => panic!("{caller}: never came: {what}"),
        }
    }
}

impl End {
    pub(crate) async fn connect(address: SocketAddr) -> End {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        End::over(stream)
    }

    /// Connects from this address of the machine.
    pub(crate) async fn connect_from(from: [u8; 4], address: SocketAddr) -> End {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind((from, 0).into()).expect("an address of this machine");
        End::over(socket.connect(address).await.expect("a connection"))
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(self) {
        self.stream.set_zero_linger().expect("a socket");
    }

    /// The kernel keeps little of what comes for this end.
    pub(crate) fn take_little(&self) {
        SockRef::from(&self.stream).set_recv_buffer_size(64 * 1024).expect("a socket");
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> End<S> {
    pub(crate) fn over(stream: S) -> End<S> {
        End { stream, read: Vec::new() }
    }

    /// The stream itself, and what was read from it and not yet taken.
    pub(crate) fn into_parts(self) -> (S, Vec<u8>) {
        (self.stream, self.read)
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> impl Future<Output = ()> {
        let caller = Location::caller();
        async move { self.try_send(bytes).await.unwrap_or_else(|error| panic!("{caller}: {error}")) }
    }

    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await?;
        self.stream.flush().await
    }

    /// Says that nothing more is sent.
    pub(crate) async fn finish(&mut self) {
        // A connection that is gone needs no end.
        let _ = self.stream.shutdown().await;
    }

    /// Reads until the empty line. A byte becomes a character.
    #[track_caller]
    pub(crate) fn head(&mut self) -> impl Future<Output = String> {
        let caller = Location::caller();
        async move {
            let head = within(DEADLINE, "a head", self.try_head()).await;
            head.unwrap_or_else(|| {
                panic!("{caller}: the connection ended before a head: {:?}", String::from_utf8_lossy(&self.read))
            })
        }
    }

    pub(crate) async fn try_head(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = self.read.drain(..at + 4).collect();
                return Some(head.iter().map(|byte| char::from(*byte)).collect());
            }
            if self.more().await? {
                return None;
            }
        }
    }

    /// Reads so many bytes.
    #[track_caller]
    pub(crate) fn bytes(&mut self, count: usize) -> impl Future<Output = Vec<u8>> {
        let caller = Location::caller();
        async move {
            let got = within(DEADLINE, "bytes", self.try_bytes(count)).await;
            got.unwrap_or_else(|| panic!("{caller}: the connection ended before {count} bytes"))
        }
    }

    pub(crate) async fn try_bytes(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.read.len() < count {
            if self.more().await? {
                return None;
            }
        }
        Some(self.read.drain(..count).collect())
    }

    /// Reads one chunk of a chunked body; `None` at the end of the connection, an empty one is the last.
    pub(crate) async fn try_chunk(&mut self) -> Option<Vec<u8>> {
        let size = self.line().await?;
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16).ok()?;
        let chunk = self.try_bytes(size).await?;
        if size > 0 {
            self.line().await?;
        }
        Some(chunk)
    }

    #[track_caller]
    pub(crate) fn chunk(&mut self) -> impl Future<Output = Vec<u8>> {
        let caller = Location::caller();
        async move {
            let chunk = within(DEADLINE, "a chunk", self.try_chunk()).await;
            chunk.unwrap_or_else(|| panic!("{caller}: no chunk came"))
        }
    }

    /// Reads a chunked body to its end: its bytes, the lines after it, and whether that end came.
    pub(crate) async fn chunks(&mut self) -> (Vec<u8>, String, bool) {
        let mut body = Vec::new();
        while let Some(chunk) = self.try_chunk().await {
            if chunk.is_empty() {
                let mut trailers = String::new();
                while let Some(line) = self.line().await {
                    if line.is_empty() {
                        return (body, trailers, true);
                    }
                    trailers += &line;
                    trailers += "\r\n";
                }
                break;
            }
            body.extend(chunk);
        }
        (body, String::new(), false)
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.read.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.read.drain(..at + 2).collect();
                return Some(line[..at].iter().map(|byte| char::from(*byte)).collect());
            }
            if self.more().await? {
                return None;
            }
        }
    }

    /// Reads an answer to a request that is not HEAD.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> impl Future<Output = Answer> {
        let caller = Location::caller();
        async move {
            let answer = within(DEADLINE, "an answer", self.try_answer()).await;
            answer.unwrap_or_else(|| panic!("{caller}: no answer: {:?}", String::from_utf8_lossy(&self.read)))
        }
    }

    pub(crate) async fn try_answer(&mut self) -> Option<Answer> {
        let head = self.try_head().await?;
        let status = head.get(9..12).and_then(|status| status.parse().ok())?;
        let mut answer = Answer { status, head, body: Vec::new(), trailers: String::new(), is_whole: true };
        if status < 200 || matches!(status, 204 | 304) {
            return Some(answer);
        }
        if answer.field("transfer-encoding") == Some("chunked") {
            (answer.body, answer.trailers, answer.is_whole) = self.chunks().await;
        } else if let Some(length) = answer.field("content-length") {
            let length: usize = length.parse().ok()?;
            while self.read.len() < length && self.more().await == Some(false) {}
            answer.is_whole = self.read.len() >= length;
            answer.body = self.read.drain(..length.min(self.read.len())).collect();
        } else {
            let (body, ended) = self.rest().await;
            (answer.body, answer.is_whole) = (body, ended == Ended::Closed);
        }
        Some(answer)
    }

    /// Reads to the end of the connection.
    pub(crate) async fn rest(&mut self) -> (Vec<u8>, Ended) {
        let ended = loop {
            match self.more().await {
                Some(false) => {}
                Some(true) => break Ended::Closed,
                None => break Ended::Reset,
            }
        };
        (std::mem::take(&mut self.read), ended)
    }

    /// Waits for the end of the connection, whatever comes before it.
    #[track_caller]
    pub(crate) fn ended(&mut self, at_most: Duration) -> impl Future<Output = Ended> {
        within(at_most, "the end of the connection", async {
            loop {
                self.read.clear();
                match self.more().await {
                    Some(false) => {}
                    Some(true) => return Ended::Closed,
                    None => return Ended::Reset,
                }
            }
        })
    }

    /// Reads what there is: whether it was the end; `None` for a reset.
    async fn more(&mut self) -> Option<bool> {
        match self.stream.read_buf(&mut self.read).await {
            Ok(count) => Some(count == 0),
            // TLS reports an end without its farewell as an error.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Some(true),
            Err(_) => None,
        }
    }
}
