//! A pod that keeps every byte that reaches it, and answers what it takes for a request with that request's first line.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::reading::{Next, Reading};

pub(super) struct Pod {
    pub(super) address: SocketAddr,
    seen: Seen,
    accepting: JoinHandle<()>,
}

/// The bytes of each connection.
type Seen = Arc<Mutex<Vec<Vec<u8>>>>;

impl Pod {
    /// A pod that reads in this way.
    pub(super) async fn start(reading: Reading) -> Pod {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let seen = Seen::default();
        let kept = seen.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, reading, kept.clone()));
            }
        });
        Pod { address, seen, accepting }
    }

    /// What came over each connection.
    pub(super) fn seen(&self) -> Vec<Vec<u8>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut stream: TcpStream, reading: Reading, seen: Seen) {
    let kept = || seen.lock().unwrap_or_else(PoisonError::into_inner);
    let number = {
        let mut all = kept();
        all.push(Vec::new());
        all.len() - 1
    };
    let (mut unread, mut buffer) = (Vec::new(), vec![0; 16 * 1024]);
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        kept()[number].extend_from_slice(&buffer[..count]);
        unread.extend_from_slice(&buffer[..count]);
        loop {
            match reading.next(&unread) {
                Next::Request(line, length) => {
                    unread.drain(..length);
                    if stream.write_all(&answer(&line)).await.is_err() {
                        return;
                    }
                    if unread.is_empty() {
                        break;
                    }
                }
                Next::Unfinished(_) => break,
                Next::Refused(_) => {
                    let _ = stream
                        .write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                        .await;
                    return;
                }
            }
        }
    }
}

/// The last segment of a path may name the status to answer with.
fn answer(line: &str) -> Vec<u8> {
    let target = line.split(' ').nth(1).unwrap_or_default();
    let body = match target {
        "/health" => "Healthy".to_owned(),
        "/System/Info/Public" => r#"{"Id":"5a1e0f3d9c7b48268f4d2a6b1c3e5f70","Version":"12.0.0"}"#.to_owned(),
        _ if line.starts_with("HEAD ") => String::new(),
        _ => line.to_owned(),
    };
    let status =
        target.rsplit('/').next().filter(|last| matches!(*last, "401" | "404" | "426" | "501")).unwrap_or("200");
    format!("HTTP/1.1 {status} As Asked\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}
