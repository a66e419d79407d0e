//! Finds pods whose address is a listener of this proxy itself: each request would go round for ever.
//! Names are not looked up here; what comes round through them is found by its mark (`hop`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use super::{Config, Error};

/// # Errors
/// [`Error::Loop`] for the first such pod.
pub(super) fn refuse(config: &Config) -> Result<(), Error> {
    for pool in config.pools.iter().chain(&config.plain_pools) {
        for pod in &pool.pods {
            let is_own = address(&pod.authority)
                .is_some_and(|address| config.listen.all().any(|(listener, _)| leads_to(address, listener)));
            if is_own {
                let scheme = if pod.transport.tls.is_some() { "https" } else { "http" };
                let (pool, url) = (pool.name.clone(), format!("{scheme}://{}", pod.authority));
                return Err(Error::Loop { pool, pod: pod.name.clone(), url });
            }
        }
    }
    Ok(())
}

fn address(authority: &str) -> Option<SocketAddr> {
    let local = authority.strip_prefix("localhost:").and_then(|port| port.parse().ok());
    local.map(|port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)).or_else(|| authority.parse().ok())
}

/// Whether a connection to the address arrives at the listener.
fn leads_to(address: SocketAddr, listener: SocketAddr) -> bool {
    let (to, at) = (address.ip().to_canonical(), listener.ip().to_canonical());
    // The wildcard of IPv6 takes IPv4 too, unless the system is set otherwise.
    let is_heard = if at.is_unspecified() { at.is_ipv6() || to.is_ipv4() } else { at == to || to.is_unspecified() };
    address.port() == listener.port() && is_heard && is_of_this_machine(to)
}

/// What is sent to an address of this machine leaves from that address. Nothing is sent here.
fn is_of_this_machine(ip: IpAddr) -> bool {
    let own = || {
        let any: IpAddr = if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect((ip, 9)).ok()?;
        socket.local_addr().ok()
    };
    ip.is_loopback() || ip.is_unspecified() || own().is_some_and(|own| own.ip() == ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_arrives_here_is_a_loop() {
        for (authority, listener, expected) in [
            ("127.0.0.1:8096", "0.0.0.0:8096", true),
            ("localhost:8096", "[::]:8096", true),
            ("127.0.0.1:8096", "127.0.0.1:8096", true),
            ("[::1]:8096", "[::]:8096", true),
            ("[::1]:8096", "0.0.0.0:8096", false),
            ("127.0.0.1:8097", "0.0.0.0:8096", false),
            ("127.0.0.2:8096", "127.0.0.1:8096", false),
            ("203.0.113.7:8096", "0.0.0.0:8096", false),
            ("jellyfin:8096", "0.0.0.0:8096", false),
        ] {
            let listener: SocketAddr = listener.parse().expect("an address");
            let leads = address(authority).is_some_and(|address| leads_to(address, listener));
            assert_eq!(leads, expected, "{authority} at {listener}");
        }
    }
}
