//! A client's end of a connection.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout_at},
};

/// How long a client waits for what may never come; the program's own time-outs are shorter.
const PATIENCE: Duration = Duration::from_secs(20);

/// One end, and what came over it and was not yet taken.
pub(super) struct Wire {
    stream: TcpStream,
    pub(super) read: Vec<u8>,
}

/// An answer of HTTP/1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

impl Wire {
    pub(super) async fn connect(address: SocketAddr) -> Wire {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        Wire { stream, read: Vec::new() }
    }

    /// Sends what the other side still takes.
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        // The program may end the connection before it has read everything: the reader sees that.
        let _ = self.stream.write_all(bytes).await;
    }

    /// Reads so many bytes; `None` when the connection ends before.
    pub(super) async fn bytes(&mut self, count: usize) -> Option<Vec<u8>> {
        let end = Instant::now() + PATIENCE;
        while self.read.len() < count {
            self.more(end).await?;
        }
        Some(self.read.drain(..count).collect())
    }

    /// Reads one answer; `None` when the connection ends before its end.
    pub(super) async fn answer(&mut self) -> Option<Answer> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some((answer, length)) = answer_in(&self.read) {
                self.read.drain(..length);
                if answer.status >= 200 {
                    return Some(answer);
                }
                continue;
            }
            self.more(end).await?;
        }
    }

    /// Reads what comes next; `None` at the end of the connection.
    async fn more(&mut self, end: Instant) -> Option<()> {
        let read = timeout_at(end, self.stream.read_buf(&mut self.read)).await;
        let count = read.expect("the program answers or ends the connection").ok()?;
        (count > 0).then_some(())
    }
}

/// The first answer in these bytes, and its length.
fn answer_in(bytes: &[u8]) -> Option<(Answer, usize)> {
    let head_ends = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..head_ends]).into_owned();
    let status = head.get(9..12)?.parse().expect("a status");
    let field = |name: &str| {
        let mut fields = head.split("\r\n").filter_map(|line| line.split_once(':'));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
    };
    assert_eq!(field("transfer-encoding"), None, "these pods send no chunks");
    let length = if status < 200 { 0 } else { field("content-length")?.parse().expect("a length") };
    let body = String::from_utf8_lossy(bytes.get(head_ends..head_ends + length)?).into_owned();
    Some((Answer { status, body }, head_ends + length))
}
