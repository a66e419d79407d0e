//! Wake-on-LAN: one datagram.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::net::UdpSocket;

use super::Packet;

/// The address of a network card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Reads `02:00:5e:10:00:01`, or the same with dashes.
    pub fn parse(text: &str) -> Option<Mac> {
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut bytes = [0; 6];
        let mut parts = text.split(separator);
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|it| it.is_ascii_hexdigit()))?;
            *byte = u8::from_str_radix(part, 16).ok()?;
        }
        parts.next().is_none().then_some(Mac(bytes))
    }

    /// Six bytes of ones, and the address sixteen times.
    pub(super) fn magic(self) -> [u8; 102] {
        let mut magic = [0xff; 102];
        magic[6..].chunks_exact_mut(6).for_each(|part| part.copy_from_slice(&self.0));
        magic
    }
}

impl Packet {
    pub(super) async fn send(&self) -> Result<(), String> {
        let any: IpAddr = match self.to.ip() {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let send = async {
            let socket = UdpSocket::bind((any, 0)).await?;
            socket.set_broadcast(true)?;
            socket.send_to(&self.mac.magic(), self.to).await
        };
        send.await.map(drop).map_err(|error| error.to_string())
    }
}
