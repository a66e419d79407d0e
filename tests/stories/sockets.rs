//! Sockets: the tunnel opens when the pod opens it, messages pass as they are, and each side hears how the other ends.

mod ending;
mod messages;
mod opening;

use futures_util::StreamExt;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::{client::generate_key, derive_accept_key},
        protocol::{Role, WebSocketConfig},
    },
};

use super::{
    wire::{self, Call, End, HandPod, within},
    world::{DEADLINE, World},
};

type Peer = WebSocketStream<TcpStream>;

/// A handshake's request.
fn asks(path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: story\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n{more}\r\n",
        generate_key()
    )
}

/// The pod's side answers the handshake with a 101.
async fn switch_protocols(call: &mut Call) {
    let accept = derive_accept_key(call.field("sec-websocket-key").expect("a key").as_bytes());
    call.wire
        .send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        ))
        .await;
}

/// The pod's side of a socket that it accepts.
async fn accept(mut call: Call) -> Peer {
    switch_protocols(&mut call).await;
    peer(call.wire, Role::Server).await
}

/// A socket through the proxy, both of its ends as bytes.
async fn opened_by_hand(world: &World, pod: &mut HandPod) -> (End, Call) {
    let mut end = wire::client(world).await;
    end.send(asks("/socket", "")).await;
    let mut call = pod.call().await;
    switch_protocols(&mut call).await;
    end.head().await;
    (end, call)
}

async fn peer(end: End, role: Role) -> Peer {
    let unlimited = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    let (stream, read) = end.into_parts();
    WebSocketStream::from_partially_read(stream, read, role, Some(unlimited)).await
}

/// A socket through the proxy, both of its ends.
pub(super) async fn opened(world: &World, pod: &mut HandPod) -> (Peer, Peer) {
    let mut end = wire::client(world).await;
    end.send(asks("/socket?ApiKey=t", "")).await;
    let pod_side = accept(pod.call().await).await;
    let head = end.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    (peer(end, Role::Client).await, pod_side)
}

/// Opens a socket over a stream of any kind and gives its first message.
pub(super) async fn greeting_over<S: AsyncRead + AsyncWrite + Unpin>(stream: S, token: &str) -> String {
    let uri = format!("ws://localhost/socket?ApiKey={token}&deviceId=d1");
    let (mut socket, _) = tokio_tungstenite::client_async(uri, stream).await.expect("a socket");
    let greeting = within(DEADLINE, "the greeting", socket.next()).await.expect("a message").expect("whole");
    greeting.to_text().expect("a text").to_owned()
}
