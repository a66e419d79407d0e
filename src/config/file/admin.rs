//! Where operators connect, and who of them.

use std::net::SocketAddr;

use serde::Deserialize;

use crate::config::{
    names::AdminHost,
    secret::SecretSource,
    units::MaybeAddress,
    value::{Spanned, Written},
};

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Admin {
    pub(in crate::config) listen: Spanned<Written<MaybeAddress>>,
    pub(in crate::config) hosts: Vec<Written<AdminHost>>,
    pub(in crate::config) token: Option<SecretSource>,
    pub(in crate::config) administrators: bool,
}

impl Default for Admin {
    fn default() -> Self {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 9096));
        let listen = Spanned::new(0..0, Written(MaybeAddress(Some(loopback))));
        Admin { listen, hosts: Vec::new(), token: None, administrators: true }
    }
}
