//! Binds the listeners that are not for clients, or takes them over.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use crate::{hand_over, listen::BindError};

pub(super) fn bind_admin(address: SocketAddr, handed: Option<hand_over::Admin>) -> Result<TcpListener, BindError> {
    let failed = |source| BindError { address, source };
    let socket = match handed {
        Some((configured, socket)) if configured == address => socket,
        _ => TcpListener::bind(address).map_err(failed)?,
    };
    socket.set_nonblocking(true).map_err(failed)?;
    Ok(socket)
}

pub(super) fn bind_autodiscovery(
    address: SocketAddr,
    handed: Option<(SocketAddr, UdpSocket)>,
) -> Result<UdpSocket, BindError> {
    let failed = |source| BindError { address, source };
    let socket = match handed {
        Some((configured, socket)) if configured == address => socket,
        _ => UdpSocket::bind(address).map_err(failed)?,
    };
    socket.set_nonblocking(true).map_err(failed)?;
    Ok(socket)
}
