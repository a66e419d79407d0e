//! Lowers how pods are woken that sleep.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use http::{HeaderValue, Method};

use crate::{
    config::{
        Environment,
        error::Fault,
        file::Wake,
        units::Time,
        value::{Spanned, Table},
    },
    wake::{Config, Packet, Webhook},
};

/// Where a magic packet goes if nothing else is said: to the local network, at the port for waste.
const BROADCAST: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::BROADCAST), 9);

/// `idle_after` stands beside the table, at the pod.
pub(super) fn lower(
    wake: Option<Table<Wake>>,
    idle_after: Option<Spanned<Time>>,
    (folder, environment): (&Path, &dyn Environment),
) -> Result<Option<Config>, Fault> {
    let puts_to_sleep = |wake: &Table<Wake>| wake.inner.url.is_some() || !wake.inner.command.is_empty();
    if let Some(idle_after) = idle_after.as_ref().filter(|_| !wake.as_ref().is_some_and(puts_to_sleep)) {
        let problem = "nothing lets the pod sleep; give its `wake` a `command` or a `url`";
        return Err(Fault::new(idle_after.span(), problem));
    }
    let Some(Table { at, inner: wake }) = wake else { return Ok(None) };
    if wake.mac.is_none() && wake.url.is_none() && wake.command.is_empty() {
        return Err(Fault::new(at, "no way to wake the pod; give `mac`, `command` or `url`"));
    }
    if wake.url.is_none() && (wake.method.is_some() || wake.authorization.is_some()) {
        return Err(Fault::new(at, "`method` and `authorization` are those of `url`, which is missing"));
    }
    if wake.command.first().is_some_and(String::is_empty) {
        return Err(Fault::new(at, "`command` begins with the path of a program"));
    }
    let to = wake.broadcast.map_or(BROADCAST, |address| address.0);
    let authorization = match wake.authorization {
        Some(source) => {
            let no_text = source.fault("not the value of a header");
            let secret = source.fetch(folder, environment)?;
            let mut value = HeaderValue::from_bytes(secret.bytes()).map_err(|_| no_text)?;
            value.set_sensitive(true);
            Some(value)
        }
        None => None,
    };
    let method = wake.method.map_or(Method::POST, |method| method.0.0);
    Ok(Some(Config {
        packet: wake.mac.map(|mac| Packet { mac: mac.0, to }),
        command: wake.command,
        webhook: wake.url.map(|url| Webhook { method, uri: url.0.0, authorization }),
        idle_after: idle_after.map(|after| after.into_inner().0),
    }))
}
