//! The body of an answer as the client gets it. It holds the request record, which is written when
//! the body ends.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::Full;

use crate::{
    compression::Encoder,
    forward::answer::AnswerBody,
    proxy::request::record::{Outcome, RequestRecord},
    server_id::BodyRewriter,
};

/// An answer's body: a pod's, or the proxy's own short text.
pub struct Body {
    kind: Kind,
    /// Frames that were read ahead of the rest.
    early: VecDeque<Result<Frame<Bytes>, hyper::Error>>,
    encoder: Option<Box<Encoder>>,
    record: Option<Box<RequestRecord>>,
}

enum Kind {
    Own(Full<Bytes>),
    Answer(UpstreamAnswer),
    /// A file, which another pod continues if its own fails.
    File(Box<dyn ContinuedBody>),
}

/// Learns from a body as it passes.
pub(in crate::proxy) trait BodyObserver: Send {
    /// Sees a piece before the client gets it, so that the client's next request finds what the
    /// piece taught. The caller holds the piece back until the returned future ends.
    fn feed(&mut self, piece: &[u8]) -> Option<Confirmation>;

    /// The body has ended.
    fn finish(self: Box<Self>);
}

/// A call to the pod that the client's answer waits for.
pub(in crate::proxy) type Confirmation = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A body that goes on after its pod has failed.
pub(in crate::proxy) trait ContinuedBody: Send {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>>;

    /// How often another answer continued the first.
    fn times(&self) -> u32;

    /// Bytes that the client still needs.
    fn remaining(&self) -> u64;
}

/// A pod's body, what learns from it, and what then rewrites it.
struct UpstreamAnswer {
    body: AnswerBody,
    /// Frames that were read ahead.
    early: VecDeque<Frame<Bytes>>,
    learning: Option<Box<dyn BodyObserver>>,
    /// A frame held back from the client until its confirmation completes.
    waiting: Option<Box<(Frame<Bytes>, Confirmation)>>,
    rewriting: Option<Box<BodyRewriter>>,
}

impl Body {
    pub(in crate::proxy) fn empty() -> Body {
        Body::whole(Bytes::new())
    }

    /// A body that is complete already.
    pub(in crate::proxy) fn whole(bytes: Bytes) -> Body {
        Body::of(Kind::Own(Full::new(bytes)))
    }

    pub(in crate::proxy) fn answer(
        body: AnswerBody,
        learning: Option<Box<dyn BodyObserver>>,
        rewriting: Option<Box<BodyRewriter>>,
    ) -> Body {
        Body::of(Kind::Answer(UpstreamAnswer { body, early: VecDeque::new(), learning, waiting: None, rewriting }))
    }

    /// An answer whose `early` frames were read ahead.
    pub(in crate::proxy) fn answer_read_ahead(
        early: VecDeque<Frame<Bytes>>,
        body: AnswerBody,
        rewriting: Option<Box<BodyRewriter>>,
    ) -> Body {
        Body::of(Kind::Answer(UpstreamAnswer { body, early, learning: None, waiting: None, rewriting }))
    }

    pub(in crate::proxy) fn resuming(file: Box<dyn ContinuedBody>) -> Body {
        Body::of(Kind::File(file))
    }

    fn of(kind: Kind) -> Body {
        Body { kind, early: VecDeque::new(), encoder: None, record: None }
    }

    /// Puts frames back that were read of it.
    pub(in crate::proxy) fn with_early(mut self, early: VecDeque<Result<Frame<Bytes>, hyper::Error>>) -> Body {
        self.early = early;
        self
    }

    /// Compresses it on its way.
    pub(in crate::proxy) fn encoded(mut self, encoder: Encoder) -> Body {
        self.encoder = Some(Box::new(encoder));
        self
    }

    /// Whether the body is the proxy's own, not a pod's.
    pub(in crate::proxy) fn is_own(&self) -> bool {
        matches!(self.kind, Kind::Own(_))
    }

    /// Attaches the record, which ends with this body.
    pub(in crate::proxy) fn with_record(mut self, record: Box<RequestRecord>) -> Body {
        self.record = Some(record);
        if self.is_end_stream() {
            self.end(Outcome::Complete);
        }
        self
    }

    fn end(&mut self, outcome: Outcome) {
        if let Kind::Answer(answering) = &mut self.kind
            && let Some(learning) = answering.learning.take()
        {
            learning.finish();
        }
        if let Some(mut record) = self.record.take() {
            record.set_outcome(outcome);
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Body { kind, early, encoder, record } = &mut *self;
        let mut next = || match early.pop_front() {
            Some(frame) => Poll::Ready(Some(frame)),
            None => kind.poll_frame(cx, record),
        };
        let frame = match encoder {
            Some(encoder) => ready!(encoder.poll_frame(next)),
            None => ready!(next()),
        };
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(record), Some(data)) = (&mut self.record, frame.data_ref()) {
                    record.bytes_out += data.len() as u64;
                }
                // Nothing follows trailers, and hyper does not poll again.
                if frame.is_trailers() || self.is_end_stream() {
                    self.end(Outcome::Complete);
                }
            }
            Some(Err(_)) => self.end(Outcome::PodBroke),
            None => self.end(Outcome::Complete),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        if let Some(encoder) = &self.encoder {
            return encoder.is_end_stream();
        }
        let has_ended = match &self.kind {
            Kind::Own(own) => own.is_end_stream(),
            Kind::Answer(answering) => answering.is_end_stream(),
            Kind::File(file) => file.remaining() == 0,
        };
        has_ended && self.early.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if self.encoder.is_some() || !self.early.is_empty() {
            // Only answers that declared no length are read ahead.
            return SizeHint::default();
        }
        match &self.kind {
            Kind::Own(own) => own.size_hint(),
            Kind::Answer(answering) => answering.size_hint(),
            Kind::File(file) => SizeHint::with_exact(file.remaining()),
        }
    }
}

impl Kind {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        record: &mut Option<Box<RequestRecord>>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self {
            Kind::Answer(answering) => answering.poll_frame(cx),
            Kind::File(file) => {
                let frame = ready!(file.poll_frame(cx));
                if let Some(record) = record {
                    record.record_resumption(file.times());
                }
                Poll::Ready(frame)
            }
            Kind::Own(own) => {
                let frame = ready!(Pin::new(own).poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map_err(|never| match never {})))
            }
        }
    }
}

impl UpstreamAnswer {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let UpstreamAnswer { body, early, learning, waiting, rewriting } = self;
        let mut next = || {
            if let Some(frame) = early.pop_front() {
                return Poll::Ready(Some(Ok(frame)));
            }
            if waiting.is_none() {
                let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
                let (Some(learning), Some(Ok(piece))) = (&mut *learning, &frame) else { return Poll::Ready(frame) };
                let Some(confirmation) = piece.data_ref().and_then(|data| learning.feed(data)) else {
                    return Poll::Ready(frame);
                };
                *waiting = frame.and_then(Result::ok).map(|frame| Box::new((frame, confirmation)));
            }
            if let Some(waiting) = waiting {
                ready!(waiting.1.as_mut().poll(cx));
            }
            Poll::Ready(waiting.take().map(|waiting| Ok(waiting.0)))
        };
        match rewriting {
            Some(rewriting) => rewriting.poll_frame(next),
            None => next(),
        }
    }

    fn is_end_stream(&self) -> bool {
        let has_ended = self.early.is_empty() && self.waiting.is_none() && self.body.is_end_stream();
        self.rewriting.as_ref().map_or(has_ended, |rewriting| rewriting.is_end_stream(has_ended))
    }

    fn size_hint(&self) -> SizeHint {
        if !self.early.is_empty() {
            // Answers that were read ahead declared no length.
            return SizeHint::default();
        }
        let hint = self.body.size_hint();
        self.rewriting.as_ref().map_or(hint, |rewriting| rewriting.size_hint(hint))
    }
}
