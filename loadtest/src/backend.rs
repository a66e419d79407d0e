//! The pods of a run, by name and address.

use std::net::SocketAddr;

use anyhow::{Result, ensure};

use crate::ports::Ports;

/// A pod as a proxy's configuration names it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backend {
    pub(crate) name: char,
    pub(crate) address: SocketAddr,
}

/// `count` pods named a, b, c, … on free ports.
pub(crate) fn backends(count: u8, ports: &mut Ports) -> Result<Vec<Backend>> {
    ensure!((1..=26).contains(&count), "1 to 26 pods");
    ('a'..='z').take(count.into()).map(|name| Ok(Backend { name, address: ports.free()? })).collect()
}
