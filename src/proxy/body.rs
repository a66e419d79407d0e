//! The body of an answer as the client gets it. It carries the exchange, which is written down when the body ends.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::Full;

use super::{
    exchange::{Exchange, Outcome},
    learning::{Confirmation, Learning},
    resume::Resuming,
};
use crate::{facade::Rewriting, forward::answer::AnswerBody};

/// An answer's body: the pod's, or a few words of the proxy's own.
pub struct Body {
    kind: Kind,
    exchange: Option<Box<Exchange>>,
}

enum Kind {
    Own(Full<Bytes>),
    Answer(Answering),
    /// A file, which goes on after its pod.
    File(Box<Resuming>),
}

/// A pod's body with what listens to it, and with what rewrites it after that.
struct Answering {
    body: AnswerBody,
    /// What was read of it ahead.
    early: VecDeque<Frame<Bytes>>,
    learning: Option<Box<Learning>>,
    /// A piece that the client gets when something is known of it.
    waiting: Option<Box<(Frame<Bytes>, Confirmation)>>,
    rewriting: Option<Box<Rewriting>>,
}

impl Body {
    pub(super) fn text(text: String) -> Body {
        Body::whole(text.into())
    }

    pub(super) fn empty() -> Body {
        Body::whole(Bytes::new())
    }

    /// A body that is there already.
    pub(super) fn whole(bytes: Bytes) -> Body {
        Body { kind: Kind::Own(Full::new(bytes)), exchange: None }
    }

    pub(super) fn answer(body: AnswerBody, learning: Option<Box<Learning>>, rewriting: Option<Box<Rewriting>>) -> Body {
        Body {
            kind: Kind::Answer(Answering { body, early: VecDeque::new(), learning, waiting: None, rewriting }),
            exchange: None,
        }
    }

    /// An answer of which these frames were read ahead.
    pub(super) fn begun(early: VecDeque<Frame<Bytes>>, body: AnswerBody, rewriting: Option<Box<Rewriting>>) -> Body {
        Body { kind: Kind::Answer(Answering { body, early, learning: None, waiting: None, rewriting }), exchange: None }
    }

    pub(super) fn resuming(file: Box<Resuming>) -> Body {
        Body { kind: Kind::File(file), exchange: None }
    }

    /// Whether the proxy says it, not a pod.
    pub(super) fn is_own(&self) -> bool {
        matches!(self.kind, Kind::Own(_))
    }

    /// The exchange ends with this body.
    pub(super) fn carry(mut self, exchange: Box<Exchange>) -> Body {
        self.exchange = Some(exchange);
        if self.is_end_stream() {
            self.end(Outcome::Complete);
        }
        self
    }

    fn end(&mut self, outcome: Outcome) {
        if let Kind::Answer(answering) = &mut self.kind
            && let Some(learning) = answering.learning.take()
        {
            learning.end();
        }
        if let Some(mut exchange) = self.exchange.take() {
            exchange.ended(outcome);
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let frame = match &mut this.kind {
            Kind::Answer(answering) => ready!(answering.poll_frame(cx)),
            Kind::File(file) => {
                let frame = ready!(file.poll_frame(cx));
                if let Some(exchange) = &mut this.exchange {
                    exchange.resumed(file.times());
                }
                frame
            }
            Kind::Own(own) => ready!(Pin::new(own).poll_frame(cx)).map(|frame| frame.map_err(|never| match never {})),
        };
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(exchange), Some(data)) = (&mut self.exchange, frame.data_ref()) {
                    exchange.bytes_out += data.len() as u64;
                }
                // Nothing comes after trailers, and nobody asks.
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
        match &self.kind {
            Kind::Own(own) => own.is_end_stream(),
            Kind::Answer(answering) => answering.is_end_stream(),
            Kind::File(file) => file.remaining() == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Own(own) => own.size_hint(),
            Kind::Answer(answering) => answering.size_hint(),
            Kind::File(file) => SizeHint::with_exact(file.remaining()),
        }
    }
}

impl Answering {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Answering { body, early, learning, waiting, rewriting } = self;
        let mut next = || {
            if let Some(frame) = early.pop_front() {
                return Poll::Ready(Some(Ok(frame)));
            }
            if waiting.is_none() {
                let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
                let (Some(learning), Some(Ok(piece))) = (&mut *learning, &frame) else { return Poll::Ready(frame) };
                let Some(confirmation) = piece.data_ref().and_then(|data| learning.hear(data)) else {
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
            // What was read ahead had no length that was told.
            return SizeHint::default();
        }
        let hint = self.body.size_hint();
        self.rewriting.as_ref().map_or(hint, |rewriting| rewriting.size_hint(hint))
    }
}
