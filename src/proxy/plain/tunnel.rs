//! A connection that a service speaks another protocol over: WebSocket, or any other that a client asks
//! for. Bytes pass both ways as they are.

use std::{
    io,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Version, header, request};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time,
};

use crate::{
    jitter,
    proxy::{
        opening::Opening,
        request::record::{Outcome, RequestRecord},
    },
    shutdown::Shutdown,
    websocket::{End, handshake},
};

/// Bytes that are read at once, each way.
const BUFFER: usize = 8 * 1024;

/// Longest time that one end still sends after the other has ended.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// A tunnel over which nothing has passed for so long, or up to twice, is closed. Both ends ping more
/// often while they live.
const IDLE: Duration = Duration::from_secs(3600);

/// The protocol that a request asks for. HTTP/2 is not: no pod is spoken to in it.
pub(super) fn asked(head: &request::Parts, has_body: bool) -> Option<HeaderValue> {
    let mut lines = head.headers.get_all(header::UPGRADE).iter();
    let (protocol, None) = (lines.next()?, lines.next()) else { return None };
    let is_http2 = protocol.as_bytes().to_ascii_lowercase().starts_with(b"h2");
    let is_meant = head.version == Version::HTTP_11 && handshake::is_upgrade(&head.headers);
    (is_meant && !is_http2 && !has_body).then(|| protocol.clone())
}

/// Puts the fields back that end at each proxy.
pub(super) fn restore(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, protocol);
}

/// Passes bytes on until both ends have ended, nothing passes any more, or the proxy stops.
pub(super) async fn run(
    opening: Opening,
    pod: OnUpgrade,
    mut record: Box<RequestRecord>,
    (shutdown, stagger): (Shutdown, Duration),
) {
    let Opening { client, permit: _permit } = opening;
    let (Ok(client), Ok(pod)) = (client.await, pod.await) else { return };
    let (client_reads, client_writes) = tokio::io::split(TokioIo::new(client));
    let (pod_reads, pod_writes) = tokio::io::split(TokioIo::new(pod));
    let (from_client, from_pod) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut up = pin!(copy(client_reads, pod_writes, &from_client));
    let mut down = pin!(copy(pod_reads, client_writes, &from_pod));
    let stopping = async {
        shutdown.stopping().await;
        time::sleep(stagger.mul_f64(jitter::fraction())).await;
    };
    let end = tokio::select! {
        ended = &mut up => {
            if ended.is_ok() {
                let _ = time::timeout(LAST_WORDS, &mut down).await;
            }
            End::ClientGone
        }
        ended = &mut down => {
            if ended.is_ok() {
                let _ = time::timeout(LAST_WORDS, &mut up).await;
            }
            End::PodGone
        }
        () = idle([&from_client, &from_pod]) => End::ClientSilent,
        () = stopping => End::Stopping,
    };
    record.socket_in = from_client.load(Ordering::Relaxed);
    record.bytes_out = from_pod.load(Ordering::Relaxed);
    record.set_outcome(Outcome::Socket(end));
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, passed: &AtomicU64) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
        to.flush().await?;
        passed.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// Ends when nothing has passed in a whole period.
async fn idle(passed: [&AtomicU64; 2]) {
    let now = || passed.map(|count| count.load(Ordering::Relaxed));
    let mut before = now();
    loop {
        time::sleep(IDLE).await;
        if std::mem::replace(&mut before, now()) == before {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn a_tunnel_is_asked_for_by_one_protocol_in_http_1_1_without_a_body() {
        let asked = |connection: &str, upgrade: &[&str], version, has_body| {
            let request = Request::get("/").version(version).header("connection", connection);
            let request = upgrade.iter().fold(request, |request, protocol| request.header("upgrade", *protocol));
            asked(&request.body(()).expect("a request").into_parts().0, has_body)
        };
        let (http1, http10) = (Version::HTTP_11, Version::HTTP_10);
        for protocol in ["websocket", "tcp", "WebSocket"] {
            assert_eq!(asked("keep-alive, Upgrade", &[protocol], http1, false).expect("a protocol"), protocol);
        }
        assert_eq!(asked("Upgrade", &["h2c"], http1, false), None);
        assert_eq!(asked("Upgrade", &["tcp", "websocket"], http1, false), None);
        assert_eq!(asked("keep-alive", &["tcp"], http1, false), None);
        assert_eq!(asked("Upgrade", &["tcp"], http10, false), None);
        assert_eq!(asked("Upgrade", &["tcp"], http1, true), None);
        assert_eq!(asked("Upgrade", &[], http1, false), None);
    }
}
