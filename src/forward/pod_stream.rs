//! A pod's stream that is still read after writing to it has failed.
//!
//! A pod may answer an upload before it has read it (413, 401), and close. Then writing fails,
//! while the answer waits to be read. hyper drops a connection at the first error of either side.
//! So a failed write stays pending here, and only reading tells how the connection ended.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::pod::TransportStream;

#[derive(Debug)]
pub(super) struct PodStream {
    stream: TransportStream,
    takes_no_more: bool,
}

impl PodStream {
    pub(super) fn new(stream: TransportStream) -> PodStream {
        PodStream { stream, takes_no_more: false }
    }

    /// The result of a write. A failed write stays pending: the reader finds the end of the
    /// connection and wakes the task.
    fn written<T>(&mut self, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match ready!(done) {
            Ok(done) => Poll::Ready(Ok(done)),
            Err(_) => {
                self.takes_no_more = true;
                Poll::Pending
            }
        }
    }
}

impl AsyncRead for PodStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for PodStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.takes_no_more {
            return Poll::Pending;
        }
        let done = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.takes_no_more {
            return Poll::Pending;
        }
        let done = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.written(done)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.takes_no_more {
            return Poll::Ready(Ok(()));
        }
        // Over TLS a flush writes, and may fail like a write.
        let done = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        self.takes_no_more = done.is_err();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
