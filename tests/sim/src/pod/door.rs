//! The listening socket, opened and closed at once and always on the same port.
//!
//! A second socket stays bound to the port and never listens, so that nobody else is given the port between two lives.

use std::io;
use std::net::{self, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Bytes that the kernel takes of a pod's answers. Real pods are machines of their own; here one machine's TCP has the buffers of
/// all of them.
const SEND_BUFFER: u32 = 256 * 1024;

/// The pod's door to the network.
#[derive(Debug)]
pub(crate) struct Door {
    address: SocketAddr,
    _holder: TcpSocket,
    leaf: Mutex<Leaf>,
}

#[derive(Debug, Default)]
struct Leaf {
    listener: Option<TcpListener>,
    waker: Option<Waker>,
    /// Whether the process wants to listen.
    wanted: bool,
    /// Whether the network refuses all the same.
    refused: bool,
    /// Whether the network says nothing at all.
    is_dark: bool,
    dark: Option<Dark>,
}

/// A socket whose queue is full and is never read: the system drops what asks for a connection, and says nothing.
#[derive(Debug)]
struct Dark {
    _listener: TcpListener,
    _queue: Vec<net::TcpStream>,
}

/// Within this time a connection to this machine is made, if it ever is.
const MADE: Duration = Duration::from_millis(100);

impl Door {
    /// Takes the address, closed.
    pub(crate) fn new(address: SocketAddr) -> io::Result<Door> {
        let holder = if address.port() == 0 { bound_alone(address)? } else { bound(address)? };
        Ok(Door { address: holder.local_addr()?, _holder: holder, leaf: Mutex::default() })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Opens or closes for the process behind it. Must be called within a runtime.
    pub(crate) fn set_wanted(&self, wanted: bool) -> io::Result<()> {
        self.set(|leaf| leaf.wanted = wanted)
    }

    /// Refuses new connections whatever the process wants. Must be called within a runtime.
    pub(crate) fn set_refused(&self, refused: bool) -> io::Result<()> {
        self.set(|leaf| leaf.refused = refused)
    }

    /// Leaves new connections without any word, neither made nor refused. Must be called within a runtime.
    pub(crate) fn set_dark(&self, dark: bool) -> io::Result<()> {
        self.set(|leaf| {
            leaf.is_dark = dark;
            leaf.dark = None;
        })
    }

    fn set(&self, how: impl FnOnce(&mut Leaf)) -> io::Result<()> {
        let mut leaf = self.leaf.lock().unwrap_or_else(PoisonError::into_inner);
        how(&mut leaf);
        if leaf.is_dark || !leaf.wanted || leaf.refused {
            leaf.listener = None;
            if leaf.is_dark && leaf.dark.is_none() {
                leaf.dark = Some(Dark::new(self.address)?);
            }
        } else if leaf.listener.is_none() {
            leaf.listener = Some(bound(self.address)?.listen(4096)?);
            if let Some(waker) = leaf.waker.take() {
                waker.wake();
            }
        }
        Ok(())
    }

    /// The next connection; waits while the door is closed.
    pub(crate) async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        std::future::poll_fn(|cx| {
            let mut leaf = self.leaf.lock().unwrap_or_else(PoisonError::into_inner);
            leaf.waker = Some(cx.waker().clone());
            match &leaf.listener {
                Some(listener) => listener.poll_accept(cx),
                None => Poll::Pending,
            }
        })
        .await
    }
}

impl Dark {
    fn new(address: SocketAddr) -> io::Result<Dark> {
        let listener = bound(address)?.listen(1)?;
        let mut queue = Vec::new();
        loop {
            match net::TcpStream::connect_timeout(&address, MADE) {
                Ok(stream) => queue.push(stream),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Dark { _listener: listener, _queue: queue })
    }
}

/// Bound to a port that no other socket is bound to: with `SO_REUSEADDR` the system would give one of those that are only held.
fn bound_alone(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(address)?;
    socket.set_reuseaddr(true)?;
    Ok(socket)
}

fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    Ok(socket)
}
