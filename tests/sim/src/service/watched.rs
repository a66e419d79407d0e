//! A body that notes whether the peer took it whole, and that breaks off where a control says so.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::{Sleep, sleep};

use crate::answer::Body;
use crate::pod::{Connection, Cut, Life};
use crate::seen::Seen;

/// Follows one request until its answer is whole or its peer is gone.
pub(super) struct Watch {
    life: Arc<Life>,
    number: Option<u64>,
    head_only: bool,
    whole: bool,
}

impl Watch {
    pub(super) fn begin<B>(connection: &Connection, request: &Request<B>) -> Watch {
        let shared = &connection.life.shared;
        let number = shared.record().add(|| Seen {
            method: request.method().clone(),
            target: request.uri().to_string(),
            headers: request.headers().clone(),
            status: 0,
            client_gone: false,
        });
        shared.notify_changed();
        let head_only = request.method() == Method::HEAD;
        Watch { life: Arc::clone(&connection.life), number, head_only, whole: false }
    }

    /// Notes the status and puts the watch over the body.
    pub(super) fn over(mut self, response: Response<Body>, connection: &Connection) -> Response<Body> {
        let status = response.status();
        if let Some(number) = self.number {
            self.life.shared.record().change(number, |seen| seen.status = status.as_u16());
        }
        self.life.shared.notify_changed();
        let bodiless = self.head_only || matches!(status, StatusCode::SWITCHING_PROTOCOLS | StatusCode::NO_CONTENT);
        self.whole = bodiless || response.body().is_end_stream();
        let left = connection.life.shared.controls.cut().filter(|_| !bodiless);
        let cut = Arc::clone(&connection.cut);
        let pace = connection.life.shared.controls.rate().map(Pace::new);
        response.map(|body| Watched { body, watch: self, left, cut, pace }.boxed_unsync())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.whole || self.life.has_ended() {
            return;
        }
        if let Some(number) = self.number {
            self.life.shared.record().change(number, |seen| seen.client_gone = true);
            self.life.shared.notify_changed();
        }
    }
}

struct Watched {
    body: Body,
    watch: Watch,
    /// How many bytes may leave before the connection is reset.
    left: Option<u64>,
    cut: Arc<Cut>,
    pace: Option<Pace>,
}

/// A body that leaves no faster than at this rate, in small pieces.
struct Pace {
    bytes_a_second: u64,
    /// What has left the body and waits.
    rest: Bytes,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    fn new(bytes_a_second: u64) -> Pace {
        Pace { bytes_a_second, rest: Bytes::new(), pause: None }
    }

    /// Twenty pieces a second.
    fn piece(&mut self, mut data: Bytes) -> Bytes {
        self.rest = data.split_off(data.len().min((self.bytes_a_second / 20).max(1) as usize));
        self.pause = Some(Box::pin(sleep(Duration::from_secs(data.len() as u64) / self.bytes_a_second as u32)));
        data
    }
}

impl Watched {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Some(pace) = &mut self.pace else { return Pin::new(&mut self.body).poll_frame(cx) };
        if let Some(pause) = &mut pace.pause {
            ready!(pause.as_mut().poll(cx));
            pace.pause = None;
        }
        if !pace.rest.is_empty() {
            let rest = std::mem::take(&mut pace.rest);
            return Poll::Ready(Some(Ok(Frame::data(pace.piece(rest)))));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let Some(Ok(frame)) = frame else { return Poll::Ready(frame) };
        Poll::Ready(Some(Ok(match frame.into_data() {
            Ok(data) => Frame::data(pace.piece(data)),
            Err(trailers) => trailers,
        })))
    }

    fn waiting(&self) -> u64 {
        self.pace.as_ref().map_or(0, |pace| pace.rest.len() as u64)
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if this.left == Some(0) {
            // The break is ours, not the client's.
            this.watch.whole = true;
            // The wire resets when hyper flushes what came before, which it does before it waits for more.
            this.cut.at_next_flush();
            return Poll::Pending;
        }
        let frame = ready!(this.poll_next(cx));
        let Some(Ok(mut frame)) = frame else {
            this.watch.whole |= frame.is_none();
            return Poll::Ready(frame);
        };
        if let (Some(left), Some(data)) = (&mut this.left, frame.data_mut()) {
            data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= data.len() as u64;
        }
        if this.left != Some(0) {
            this.watch.whole |= this.is_end_stream();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.left != Some(0) && self.waiting() == 0 && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.body.size_hint().exact() {
            Some(exact) => SizeHint::with_exact(exact + self.waiting()),
            None => self.body.size_hint(),
        }
    }
}
