//! A body that notes whether the peer took it whole, and that breaks off where a control says so.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;

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
        shared.tell();
        let head_only = request.method() == Method::HEAD;
        Watch { life: Arc::clone(&connection.life), number, head_only, whole: false }
    }

    /// Notes the status and puts the watch over the body.
    pub(super) fn over(mut self, response: Response<Body>, connection: &Connection) -> Response<Body> {
        let status = response.status();
        if let Some(number) = self.number {
            self.life.shared.record().change(number, |seen| seen.status = status.as_u16());
        }
        self.life.shared.tell();
        let bodiless = self.head_only || matches!(status, StatusCode::SWITCHING_PROTOCOLS | StatusCode::NO_CONTENT);
        self.whole = bodiless || response.body().is_end_stream();
        let left = connection.life.shared.controls.cut().filter(|_| !bodiless);
        let cut = Arc::clone(&connection.cut);
        response.map(|body| Watched { body, watch: self, left, cut }.boxed_unsync())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.whole || self.life.has_ended() {
            return;
        }
        if let Some(number) = self.number {
            self.life.shared.record().change(number, |seen| seen.client_gone = true);
            self.life.shared.tell();
        }
    }
}

struct Watched {
    body: Body,
    watch: Watch,
    /// How many bytes may leave before the connection is reset.
    left: Option<u64>,
    cut: Arc<Cut>,
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
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        let Some(Ok(mut frame)) = frame else {
            this.watch.whole |= frame.is_none();
            return Poll::Ready(frame);
        };
        if let (Some(left), Some(data)) = (&mut this.left, frame.data_mut()) {
            data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= data.len() as u64;
        }
        if this.left != Some(0) {
            this.watch.whole |= this.body.is_end_stream();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.left != Some(0) && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
