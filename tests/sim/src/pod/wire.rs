//! One TCP connection as the pod's HTTP server sees it, with the faults that tests can switch on.
//!
//! The stream is shared, not owned, so that a kill can make its close a reset from outside while hyper holds the wire.

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::life::Registered;

/// A connection that can be frozen with its pod and cut in the middle of an answer.
pub(crate) struct Wire {
    stream: Arc<TcpStream>,
    frost: Arc<Frost>,
    cut: Arc<Cut>,
    _registered: Registered,
}

/// Set by a body that must break off: the wire resets once everything before the break has left.
#[derive(Debug, Default)]
pub(crate) struct Cut(AtomicBool);

impl Cut {
    pub(crate) fn at_next_flush(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// The stopped process: while it is on, no wire reads or writes.
#[derive(Debug, Default)]
pub(crate) struct Frost {
    on: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl Frost {
    pub(crate) fn set(&self, on: bool) {
        self.on.store(on, Ordering::SeqCst);
        if !on {
            for waker in self.waiting.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
                waker.wake();
            }
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::SeqCst)
    }

    fn poll_thawed(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_on() {
            return Poll::Ready(());
        }
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(cx.waker().clone());
        // Between the look and the registration it may have thawed, and nobody would wake us.
        if self.is_on() { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Wire {
    pub(crate) fn new(stream: Arc<TcpStream>, frost: Arc<Frost>, cut: Arc<Cut>, registered: Registered) -> Wire {
        Wire { stream, frost, cut, _registered: registered }
    }
}

/// Makes the close of a connection a reset.
pub(crate) fn reset_on_close(stream: &TcpStream) {
    // A socket that is gone already needs no reset.
    let _ = stream.set_zero_linger();
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.frost.poll_thawed(cx));
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            match self.stream.try_read(buf.initialize_unfilled()) {
                Ok(count) => {
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.frost.poll_thawed(cx));
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            match self.stream.try_write(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return Poll::Ready(other),
            }
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.frost.poll_thawed(cx));
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            match self.stream.try_write_vectored(bufs) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return Poll::Ready(other),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.cut.0.load(Ordering::Acquire) {
            reset_on_close(&self.stream);
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.frost.poll_thawed(cx));
        Poll::Ready(SockRef::from(&*self.stream).shutdown(Shutdown::Write))
    }
}
