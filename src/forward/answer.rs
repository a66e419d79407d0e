//! The body of a pod's answer, on its way to the client.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::connections::PooledConnection;
use crate::{health, pod::Pod};

/// Streams an answer. When it is complete, its connection is kept for the next request.
///
/// If a pod breaks the answer off, this body fails. The client then sees the answer as aborted.
#[derive(Debug)]
pub struct AnswerBody {
    incoming: Incoming,
    /// Bytes that were read ahead.
    early: Option<Box<Bytes>>,
    connection_lease: Option<PooledConnection>,
    pod: Arc<Pod>,
}

impl AnswerBody {
    pub(super) fn new(incoming: Incoming, connection_lease: PooledConnection, pod: Arc<Pod>) -> AnswerBody {
        let mut body = AnswerBody { incoming, early: None, connection_lease: Some(connection_lease), pod };
        body.return_if_complete();
        body
    }

    /// An answer whose connection is not kept.
    pub fn unpooled(incoming: Incoming, pod: Arc<Pod>) -> AnswerBody {
        AnswerBody { incoming, early: None, connection_lease: None, pod }
    }

    /// Adds bytes that were read ahead of the rest.
    pub fn with_early(mut self, early: Bytes) -> AnswerBody {
        self.early = (!early.is_empty()).then(|| Box::new(early));
        self
    }

    /// The pod that answers.
    pub fn pod(&self) -> &Arc<Pod> {
        &self.pod
    }

    fn return_if_complete(&mut self) {
        if self.incoming.is_end_stream()
            && let Some(connection_lease) = self.connection_lease.take()
        {
            connection_lease.return_to_pool();
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
            // After trailers nothing comes, and the caller does not poll again.
            Some(Ok(frame)) if !frame.is_trailers() => self.return_if_complete(),
            Some(Err(_)) => health::report_suspect(&self.pod),
            Some(Ok(_)) | None => {
                if let Some(connection_lease) = self.connection_lease.take() {
                    connection_lease.return_to_pool();
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.early.is_none() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // Answers that were read ahead had no announced length.
        if self.early.is_some() { SizeHint::default() } else { self.incoming.size_hint() }
    }
}
