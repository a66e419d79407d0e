//! A tap between real clients and the proxy: hands every byte on, and remembers what the clients got.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// What the clients got, one text of bytes a connection.
type Got = Arc<Mutex<Vec<Vec<u8>>>>;

/// How an answer begins.
const LINE: &[u8] = b"HTTP/1.1 ";

#[derive(Debug)]
pub(crate) struct Tap {
    /// Where clients go.
    pub(crate) address: SocketAddr,
    got: Got,
}

impl Tap {
    /// Opens a tap before `proxy`.
    pub(crate) async fn open(proxy: SocketAddr) -> Tap {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let got = Got::default();
        let kept = got.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(hand_on(client, proxy, kept.clone()));
            }
        });
        Tap { address, got }
    }

    /// How often each status came, read off the status lines.
    pub(crate) fn statuses(&self) -> BTreeMap<u16, usize> {
        let mut statuses = BTreeMap::new();
        for text in self.lock().iter() {
            for at in finds(text, LINE) {
                let digits = text.get(at + LINE.len()..at + LINE.len() + 3).and_then(|it| std::str::from_utf8(it).ok());
                if let Some(status) = digits.and_then(|digits| digits.parse().ok()) {
                    *statuses.entry(status).or_default() += 1;
                }
            }
        }
        statuses
    }

    /// How often a text came, in any case of its letters.
    pub(crate) fn count(&self, text: &str) -> usize {
        let wanted = text.to_ascii_lowercase();
        self.lock().iter().map(|got| finds(&got.to_ascii_lowercase(), wanted.as_bytes()).len()).sum()
    }

    /// The heads of the answers whose bodies are JSON and compressed: in them nothing can be found.
    pub(crate) fn compressed_json(&self) -> Vec<String> {
        let mut heads = Vec::new();
        for text in self.lock().iter() {
            for at in finds(text, LINE) {
                let end = finds(&text[at..], b"\r\n\r\n").first().map_or(text.len(), |length| at + length);
                let head = String::from_utf8_lossy(&text[at..end]).to_ascii_lowercase();
                if head.contains("content-encoding") && head.contains("json") {
                    heads.push(head);
                }
            }
        }
        heads
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.got.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn finds(text: &[u8], wanted: &[u8]) -> Vec<usize> {
    memchr::memmem::find_iter(text, wanted).collect()
}

async fn hand_on(client: TcpStream, proxy: SocketAddr, got: Got) {
    let Ok(proxy) = TcpStream::connect(proxy).await else { return };
    for stream in [&client, &proxy] {
        let _ = stream.set_nodelay(true);
    }
    let number = {
        let mut got = got.lock().unwrap_or_else(PoisonError::into_inner);
        got.push(Vec::new());
        got.len() - 1
    };
    let (from_client, to_client) = client.into_split();
    let (from_proxy, to_proxy) = proxy.into_split();
    tokio::join!(up(from_client, to_proxy), down(from_proxy, to_client, &got, number));
}

// Either side may end it as it likes: the clients complain of what matters.
async fn up(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let _ = copy(&mut from, &mut to).await;
    let _ = to.shutdown().await;
}

async fn down(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, got: &Got, number: usize) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        got.lock().unwrap_or_else(PoisonError::into_inner)[number].extend_from_slice(&buffer[..read]);
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
