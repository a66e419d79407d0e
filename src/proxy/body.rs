//! The body of an answer as the client gets it. It carries the exchange, which is written down when the body ends.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::Full;

use super::{
    exchange::{Exchange, Outcome},
    learning::Learning,
    resume::Resuming,
};
use crate::forward::answer::AnswerBody;

/// An answer's body: the pod's, or a few words of the proxy's own.
pub struct Body {
    kind: Kind,
    exchange: Option<Box<Exchange>>,
}

enum Kind {
    Own(Full<Bytes>),
    Answer(AnswerBody, Option<Box<Learning>>),
    /// A file, which goes on after its pod.
    File(Box<Resuming>),
}

impl Body {
    pub(super) fn text(text: String) -> Body {
        Body { kind: Kind::Own(Full::new(text.into())), exchange: None }
    }

    pub(super) fn empty() -> Body {
        Body { kind: Kind::Own(Full::default()), exchange: None }
    }

    pub(super) fn answer(answer: AnswerBody, learning: Option<Box<Learning>>) -> Body {
        Body { kind: Kind::Answer(answer, learning), exchange: None }
    }

    pub(super) fn resuming(file: Box<Resuming>) -> Body {
        Body { kind: Kind::File(file), exchange: None }
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
        if let Kind::Answer(_, learning) = &mut self.kind
            && let Some(learning) = learning.take()
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
            Kind::Answer(answer, learning) => {
                let frame = ready!(Pin::new(answer).poll_frame(cx));
                if let (Some(learning), Some(Ok(frame))) = (learning, &frame)
                    && let Some(data) = frame.data_ref()
                {
                    learning.hear(data);
                }
                frame
            }
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
            Kind::Answer(answer, _) => answer.is_end_stream(),
            Kind::File(file) => file.remaining() == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Own(own) => own.size_hint(),
            Kind::Answer(answer, _) => answer.size_hint(),
            Kind::File(file) => SizeHint::with_exact(file.remaining()),
        }
    }
}
