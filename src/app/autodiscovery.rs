//! What apps that look for a server in the local network are told: where the proxy is, and the
//! server that its clients see there.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
};

use crate::{autodiscovery::Server, proxy::SharedState};

/// An address at which clients connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listener {
    pub(super) address: SocketAddr,
    pub(super) over_tls: bool,
}

/// The server as an app at this address finds it. `None` if no pod is known, or if the app cannot
/// reach the proxy.
pub(super) fn server(shared: &Arc<SharedState>, listeners: &[Listener], app: IpAddr) -> Option<Server> {
    let public_url = shared.shown_server.public_url.clone();
    let url = match &public_url {
        Some(url) => url.clone(),
        None => url_for(listeners, local_address(app)?)?,
    };
    let (_, rest) = url.split_once("://")?;
    let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    // A single pool may be served below a path of its own only.
    let mut configured = (0..shared.pools.len()).filter(|index| shared.pools[*index].is_configured);
    let (first, second) = (configured.next(), configured.next());
    let only = || first.filter(|_| second.is_none());
    let index = shared.router.find(host, path).and_then(|route| route.pool()).or_else(only)?;
    let pool = &shared.pools[index];
    let address = if public_url.is_some() { url } else { format!("{url}{}", pool.pool.base_path) };
    let name = pool.pool.pods().iter().find_map(|pod| pod.info.with(|info| info.name.clone()))?;
    Some(Server { address, id: pool.shown_server.id()?.as_str().to_owned(), name })
}

/// The address of this machine from which it reaches the app. Sends nothing.
fn local_address(app: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = if app.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((app, 1)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// The URL of the first listener that takes connections at this address, cleartext first.
fn url_for(listeners: &[Listener], here: IpAddr) -> Option<String> {
    let takes = |listener: &&Listener| {
        let at = listener.address.ip();
        at == here || (at.is_unspecified() && (at.is_ipv6() || here.is_ipv4()))
    };
    let listener = listeners.iter().find(takes)?;
    let scheme = if listener.over_tls { "https" } else { "http" };
    Some(format!("{scheme}://{}", SocketAddr::new(here, listener.address.port())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_is_told_the_listener_that_it_can_reach() {
        let listener = |address: &str, over_tls| Listener { address: address.parse().expect("an address"), over_tls };
        let here = |text: &str| text.parse::<IpAddr>().expect("an address");
        let rows = [
            (vec![listener("0.0.0.0:8096", false)], "10.0.0.5", Some("http://10.0.0.5:8096")),
            (vec![listener("[::]:8096", false)], "10.0.0.5", Some("http://10.0.0.5:8096")),
            (vec![listener("[::]:8096", false)], "fd00::5", Some("http://[fd00::5]:8096")),
            (vec![listener("0.0.0.0:8096", false)], "fd00::5", None),
            (
                vec![listener("127.0.0.1:80", false), listener("10.0.0.5:443", true)],
                "10.0.0.5",
                Some("https://10.0.0.5:443"),
            ),
            (vec![], "10.0.0.5", None),
        ];
        for (listeners, at, expected) in rows {
            assert_eq!(url_for(&listeners, here(at)).as_deref(), expected, "{at}");
        }
    }
}
