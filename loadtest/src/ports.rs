//! Ports of 127.0.0.1 for what a run starts.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Result, bail};

/// Hands out ports that nobody listens on.
///
/// They lie below the kernel's range for outgoing connections: a port out of that range could be taken by an outgoing
/// connection while its pod is dead, and a dial to it could even meet itself.
pub(crate) struct Ports {
    next: u16,
}

const FIRST: u16 = 20_000;
const LAST: u16 = 32_000;

impl Ports {
    pub(crate) fn new() -> Ports {
        // Runs side by side begin at different places, so that they seldom race for one port.
        let span = u32::from(LAST - FIRST);
        let offset = u16::try_from(std::process::id().wrapping_mul(61) % span).unwrap_or(0);
        Ports { next: FIRST + offset }
    }

    pub(crate) fn free(&mut self) -> Result<SocketAddr> {
        for _ in FIRST..LAST {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.next));
            self.next = if self.next + 1 >= LAST { FIRST } else { self.next + 1 };
            if TcpListener::bind(address).is_ok() {
                return Ok(address);
            }
        }
        bail!("no free port between {FIRST} and {LAST}")
    }
}
