//! The body of a pod's answer, on its way to the client.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::connections::Lease;
use crate::{health, pod::Pod};

/// Streams an answer; when it is whole, its connection is kept for the next request.
///
/// A pod that breaks the answer off makes an error here, and so an aborted answer to the client, never a finished one.
#[derive(Debug)]
pub struct AnswerBody {
    incoming: Incoming,
    /// What was read of it ahead.
    early: Option<Box<Bytes>>,
    lease: Option<Lease>,
    pod: Arc<Pod>,
}

impl AnswerBody {
    pub(super) fn new(incoming: Incoming, lease: Lease, pod: Arc<Pod>) -> AnswerBody {
        let mut body = AnswerBody { incoming, early: None, lease: Some(lease), pod };
        body.give_back_if_whole();
        body
    }

    /// An answer whose connection is not kept.
    pub fn unkept(incoming: Incoming, pod: Arc<Pod>) -> AnswerBody {
        AnswerBody { incoming, early: None, lease: None, pod }
    }

    /// The same answer, of which this was read ahead.
    pub fn with_early(mut self, early: Bytes) -> AnswerBody {
        self.early = (!early.is_empty()).then(|| Box::new(early));
        self
    }

    /// Whose answer it is.
    pub fn pod(&self) -> &Arc<Pod> {
        &self.pod
    }

    fn give_back_if_whole(&mut self) {
        if self.incoming.is_end_stream()
            && let Some(lease) = self.lease.take()
        {
            lease.give_back();
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(early) = self.early.take() {
            return Poll::Ready(Some(Ok(Frame::data(*early))));
        }
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        match &frame {
            // Nothing comes after trailers, and nobody asks.
            Some(Ok(frame)) if !frame.is_trailers() => self.give_back_if_whole(),
            Some(Err(_)) => health::doubtful(&self.pod),
            Some(Ok(_)) | None => {
                if let Some(lease) = self.lease.take() {
                    lease.give_back();
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.early.is_none() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // What was read ahead had no length that was told.
        if self.early.is_some() { SizeHint::default() } else { self.incoming.size_hint() }
    }
}
