//! The pod's own answer to clients that look for servers by UDP, as `AutoDiscoveryHost` gives it.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::json;
use tokio::net::UdpSocket;

use crate::dto;
use crate::pod::Life;

/// What a client says, within whatever else.
const QUESTION: &str = "who is jellyfinserver?";

/// Answers as long as the process lives.
pub(crate) async fn answer(life: Arc<Life>, address: SocketAddr) {
    // A port that is taken leaves the pod without discovery, as it does the real server.
    let Ok(socket) = UdpSocket::bind(address).await else {
        return;
    };
    life.shared.set_discovery(socket.local_addr().ok());
    let mut buffer = [0; 2048];
    while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
        let text = String::from_utf8_lossy(&buffer[..length]).to_lowercase();
        if text.contains(QUESTION) {
            let info = dto::public_info(&life.shared);
            let reply = json!({
                "Address": info["LocalAddress"],
                "Id": info["Id"],
                "Name": info["ServerName"],
                "EndpointAddress": null,
            });
            // A client that has left is not missed.
            let _ = socket.send_to(reply.to_string().as_bytes(), client).await;
        }
    }
}
