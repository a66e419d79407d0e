//! Hands listening sockets to the process that takes this one's place.
//!
//! The sockets themselves change hands (`SCM_RIGHTS`), and with them the connections that wait in
//! their queues: nobody is refused. The two processes talk over a pair of sockets, of which the new
//! one has an end as its standard input.
//!
//! The order: `sockets` from the old one; `prepared` from the new one; the old one stops accepting
//! and closes its files; `go`; the new one serves, and says `serving`.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    sockopt::{Timeout, set_socket_timeout},
};

/// The variable that tells a process that it takes another one's place.
pub const VARIABLE: &str = "JELLYPIN_HAND_OVER";

/// The new process has read its configuration.
pub const PREPARED: &str = "prepared";

/// The old process accepts no more, and its files are closed.
pub const GO: &str = "go";

/// The new process serves.
pub const SERVING: &str = "serving";

/// The longest message.
const LONGEST: usize = 256;

/// Sockets in one message.
const AT_ONCE: usize = 32;

/// The sockets that change hands, and what only the old process has.
#[derive(Default)]
pub struct Sockets {
    /// The key of cookies that the old process has made for itself and keeps nowhere.
    pub key: Option<Vec<u8>>,
    pub clients: Vec<Handed>,
    pub admin: Option<Admin>,
    pub autodiscovery: Option<(SocketAddr, UdpSocket)>,
}

/// The admin API's listener, and its address as configured.
pub type Admin = (SocketAddr, TcpListener);

/// The sockets of one address for clients.
#[derive(Debug)]
pub struct Handed {
    /// As the old process's configuration has it; the port may be 0.
    pub configured: SocketAddr,
    pub over_tls: bool,
    pub sockets: Vec<TcpListener>,
}

impl Sockets {
    /// Takes the sockets of an address.
    pub fn take(&mut self, configured: SocketAddr, over_tls: bool) -> Option<Vec<TcpListener>> {
        let is_it = |handed: &Handed| {
            let is_at = || handed.sockets.iter().any(|socket| socket.local_addr().is_ok_and(|at| at == configured));
            handed.over_tls == over_tls && (handed.configured == configured || is_at())
        };
        let at = self.clients.iter().position(is_it)?;
        Some(self.clients.swap_remove(at).sockets)
    }
}

/// One end of the talk between the two processes. Its calls block.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// The old process's end, and the new one's standard input.
    ///
    /// # Errors
    /// The machine has no file handle left.
    pub fn pair() -> io::Result<(Channel, OwnedFd)> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Channel(ours), theirs))
    }

    /// The new process's end.
    ///
    /// # Errors
    /// Standard input is closed.
    pub fn of_stdin() -> io::Result<Channel> {
        Ok(Channel(io::stdin().as_fd().try_clone_to_owned()?))
    }

    /// The same end once more.
    ///
    /// # Errors
    /// The machine has no file handle left.
    pub fn again(&self) -> io::Result<Channel> {
        Ok(Channel(self.0.try_clone()?))
    }

    /// Sends one message.
    ///
    /// # Errors
    /// The other process is gone.
    pub fn send_message(&self, message: &str) -> io::Result<()> {
        self.send(message, &[])
    }

    /// Waits for a message that starts with `message`, and returns the rest.
    ///
    /// # Errors
    /// The other process is gone, says something else, or is silent for this long.
    pub fn expect_message(&self, message: &str, timeout: Duration) -> io::Result<String> {
        let (said, _) = self.receive(timeout)?;
        match said.strip_prefix(message) {
            Some(rest) => Ok(rest.trim().to_owned()),
            None => Err(io::Error::new(io::ErrorKind::InvalidData, format!("it says {said:?} instead of {message:?}"))),
        }
    }

    /// Sends all sockets.
    ///
    /// # Errors
    /// The other process is gone.
    pub fn send_sockets(&self, sockets: &Sockets) -> io::Result<()> {
        for Handed { configured, over_tls, sockets } in &sockets.clients {
            let kind = if *over_tls { "https" } else { "http" };
            for some in sockets.chunks(AT_ONCE) {
                let some: Vec<BorrowedFd<'_>> = some.iter().map(AsFd::as_fd).collect();
                self.send(&format!("{kind} {configured}"), &some)?;
            }
        }
        if let Some((configured, socket)) = &sockets.admin {
            self.send(&format!("admin {configured}"), &[socket.as_fd()])?;
        }
        if let Some((configured, socket)) = &sockets.autodiscovery {
            self.send(&format!("autodiscovery {configured}"), &[socket.as_fd()])?;
        }
        if let Some(key) = &sockets.key {
            let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
            self.send_message(&format!("key {digits}"))?;
        }
        self.send_message("end")
    }

    /// Receives all sockets.
    ///
    /// # Errors
    /// The other process is gone, or sends something else.
    pub fn receive_sockets(&self, timeout: Duration) -> io::Result<Sockets> {
        let mut received = Sockets::default();
        loop {
            let (said, mut sockets) = self.receive(timeout)?;
            let odd = || io::Error::new(io::ErrorKind::InvalidData, "an unknown socket");
            let (kind, address) = said.split_once(' ').unwrap_or((&said, ""));
            if kind == "end" {
                return Ok(received);
            }
            if kind == "key" {
                let byte = |at: usize| u8::from_str_radix(address.get(at..at + 2)?, 16).ok();
                received.key = (0..address.len()).step_by(2).map(byte).collect();
                continue;
            }
            let configured: SocketAddr = address.parse().map_err(|_| odd())?;
            match kind {
                "http" | "https" => {
                    let (over_tls, more) = (kind == "https", sockets.into_iter().map(TcpListener::from));
                    let same = |one: &&mut Handed| (one.configured, one.over_tls) == (configured, over_tls);
                    match received.clients.last_mut().filter(same).filter(|one| one.sockets.len() % AT_ONCE == 0) {
                        Some(known) => known.sockets.extend(more),
                        None => received.clients.push(Handed { configured, over_tls, sockets: more.collect() }),
                    }
                }
                "admin" => received.admin = sockets.pop().map(|socket| (configured, socket.into())),
                "autodiscovery" => received.autodiscovery = sockets.pop().map(|socket| (configured, socket.into())),
                _ => return Err(odd()),
            }
        }
    }

    fn send(&self, message: &str, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !sockets.is_empty() && !control.push(SendAncillaryMessage::ScmRights(sockets)) {
            return Err(io::Error::other("too many sockets for one message"));
        }
        sendmsg(&self.0, &[IoSlice::new(message.as_bytes())], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    fn receive(&self, timeout: Duration) -> io::Result<(String, Vec<OwnedFd>)> {
        set_socket_timeout(&self.0, Timeout::Recv, Some(timeout))?;
        let mut bytes = [0; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received =
            recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
        if received == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut sockets = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(some) = message {
                sockets.extend(some);
            }
        }
        Ok((String::from_utf8_lossy(&bytes[..received]).into_owned(), sockets))
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, net::TcpStream};

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    #[test]
    fn sockets_arrive_with_the_connections_that_wait_in_them() {
        let (old, new) = Channel::pair().expect("a pair");
        let new = Channel(new);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listeners: Vec<_> = (0..2).map(|_| TcpListener::bind(any).expect("a listener")).collect();
        let addresses: Vec<_> = listeners.iter().map(|it| it.local_addr().expect("an address")).collect();
        let mut waiting = TcpStream::connect(addresses[1]).expect("a connection");
        let admin = TcpListener::bind(any).expect("a listener");
        let sent = Sockets {
            clients: vec![Handed { configured: any, over_tls: true, sockets: listeners }],
            admin: Some((any, admin)),
            autodiscovery: None,
            key: Some(vec![0, 7, 255]),
        };
        old.send_sockets(&sent).expect("they are sent");
        drop(sent);
        let mut received = new.receive_sockets(SOON).expect("they are received");
        assert!(received.admin.is_some() && received.autodiscovery.is_none());
        assert_eq!(received.key.as_deref(), Some(&[0, 7, 255][..]));
        assert!(received.take(any, false).is_none(), "TLS is not cleartext");
        let sockets = received.take(any, true).expect("the sockets");
        assert_eq!(sockets.iter().map(|it| it.local_addr().expect("an address")).collect::<Vec<_>>(), addresses);
        drop(sockets[1].accept().expect("the connection that waits"));
        assert_eq!(waiting.read(&mut [0]).expect("an end"), 0);
    }

    #[test]
    fn messages_are_checked_and_an_end_is_seen() {
        let (old, new) = Channel::pair().expect("a pair");
        let new = Channel(new);
        new.send_message("serving 12").expect("it is sent");
        assert_eq!(old.expect_message(SERVING, SOON).expect("the message"), "12");
        new.send_message("nonsense").expect("it is sent");
        assert!(old.expect_message(SERVING, SOON).is_err());
        assert!(old.expect_message(SERVING, Duration::from_millis(10)).is_err(), "it is silent");
        drop(new);
        assert_eq!(old.expect_message(SERVING, SOON).expect_err("an end").kind(), io::ErrorKind::UnexpectedEof);
    }
}
