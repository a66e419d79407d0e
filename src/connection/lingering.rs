//! Closes a client's stream in stages (RFC 9112, 9.6), so that the client reads the last answer.
//!
//! A close with unread bytes resets the connection, and the reset may overtake the answer. So the
//! sending side closes first. The rest is read and discarded for a bounded time.

use std::{
    io,
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

/// Longest time that the proxy discards a client's bytes.
const LONGEST: Duration = Duration::from_secs(30);

/// Longest wait for the next of these bytes.
const SILENCE: Duration = Duration::from_secs(5);

/// A stream that lingers when it is shut down in the middle of a request.
pub(super) struct Lingering<S, C> {
    stream: S,
    clean: C,
    /// The client has closed its sending side.
    has_ended: bool,
    ending: Option<Ending>,
}

/// Set between two requests: all is read, and the stream may close at once. A read clears it.
pub(super) trait Clean: Unpin {
    fn flag(&self) -> &AtomicBool;
}

/// When discarding ends.
struct Ending {
    latest: Instant,
    next: Pin<Box<Sleep>>,
}

impl<S, C: Clean> Lingering<S, C> {
    pub(super) fn new(stream: S, clean: C) -> Lingering<S, C> {
        Lingering { stream, clean, has_ended: false, ending: None }
    }
}

impl<S: AsyncRead + Unpin, C> Lingering<S, C> {
    /// Discards what the client sends, until the client ends or the time is over.
    fn poll_ended(&mut self, ending: &mut Ending, cx: &mut Context<'_>) -> Poll<()> {
        let mut bytes = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    let now = Instant::now();
                    if now >= ending.latest {
                        return Poll::Ready(());
                    }
                    ending.next.as_mut().reset(ending.latest.min(now + SILENCE));
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return ending.next.as_mut().poll(cx),
            }
        }
    }
}

impl<S: AsyncRead + Unpin, C: Clean> AsyncRead for Lingering<S, C> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        if buffer.filled().len() > before {
            self.clean.flag().store(false, Ordering::Relaxed);
        } else if read.is_err() || buffer.remaining() > 0 {
            self.has_ended = true;
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, C: Clean> AsyncWrite for Lingering<S, C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.ending.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            if this.has_ended || this.clean.flag().load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
        }
        let now = Instant::now();
        let begin = || Ending { latest: now + LONGEST, next: Box::pin(sleep_until(now + SILENCE)) };
        let mut ending = this.ending.take().unwrap_or_else(begin);
        let ended = this.poll_ended(&mut ending, cx);
        this.ending = Some(ending);
        ended.map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    impl Clean for Arc<AtomicBool> {
        fn flag(&self) -> &AtomicBool {
            self
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_after_the_answer_is_thrown_away_for_a_bounded_time() {
        for (pause, ends_after) in [(None, SILENCE), (Some(Duration::from_secs(2)), LONGEST)] {
            let (mut client, server) = duplex(1024);
            let mut server = Lingering::new(server, Arc::<AtomicBool>::default());
            client.write_all(b"head and ").await.expect("sent");
            server.read_exact(&mut [0; 4]).await.expect("read");
            let sending = tokio::spawn(async move {
                while let Some(pause) = pause {
                    tokio::time::sleep(pause).await;
                    if client.write_all(b"more").await.is_err() {
                        break;
                    }
                }
                let mut rest = Vec::new();
                client.read_to_end(&mut rest).await.expect("a plain end");
                // The client stays open and silent from here on.
                (rest, client)
            });
            server.write_all(b"answer").await.expect("sent");
            let began = Instant::now();
            server.shutdown().await.expect("closed");
            let took = began.elapsed();
            assert!((ends_after..ends_after + Duration::from_secs(3)).contains(&took), "{took:?}");
            drop(server);
            assert_eq!(sending.await.expect("no panic").0, b"answer");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_ends_between_requests_is_closed_at_once() {
        let (mut client, server) = duplex(1024);
        let clean = Arc::<AtomicBool>::default();
        let mut server = Lingering::new(server, clean.clone());
        client.write_all(b"request").await.expect("sent");
        server.read_exact(&mut [0; 7]).await.expect("read");
        clean.store(true, Ordering::Relaxed);
        let began = Instant::now();
        server.shutdown().await.expect("closed");
        assert_eq!(began.elapsed(), Duration::ZERO);
        let mut other = Lingering::new(duplex(1).0, Arc::<AtomicBool>::default());
        assert_eq!(other.read(&mut [0]).await.expect("the end"), 0);
        other.shutdown().await.expect("closed");
        assert_eq!(began.elapsed(), Duration::ZERO, "a client that has ended is not waited for");
    }
}
