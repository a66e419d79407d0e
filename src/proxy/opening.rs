//! A client's connection that becomes something else than HTTP.

use std::{any::Any, sync::Arc};

use http::{Extensions, Request};
use hyper::{body::Incoming, upgrade::OnUpgrade};

use crate::websocket::handshake::UpgradeKind;

/// A connection's place among those that may be open. It lasts as long as the socket that the
/// connection becomes.
pub type ConnectionPermit = Arc<dyn Any + Send + Sync>;

/// A client's connection that becomes a socket or a tunnel.
pub(super) struct Opening {
    pub(super) client: OnUpgrade,
    pub(super) permit: Option<ConnectionPermit>,
}

impl Opening {
    /// For a WebSocket. `None` if the request asks for none.
    pub(super) fn of(request: &mut Request<Incoming>, asked: UpgradeKind) -> Option<Opening> {
        if asked != UpgradeKind::Socket {
            return None;
        }
        Opening::of_any(request.extensions_mut())
    }

    /// For whatever protocol the request asks for, by its extensions.
    pub(super) fn of_any(extensions: &mut Extensions) -> Option<Opening> {
        let permit = extensions.remove::<ConnectionPermit>();
        extensions.remove::<OnUpgrade>().map(|client| Opening { client, permit })
    }
}
