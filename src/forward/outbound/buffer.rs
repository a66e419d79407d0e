//! What was read of a client's body, as far as it is kept.

use std::{
    error::Error,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

/// Locked for the length of one poll.
#[derive(Debug)]
pub(super) struct ReplayBuffer {
    pub(super) incoming: Incoming,
    pub(super) size: SizeHint,
    pub(super) pieces: Vec<Piece>,
    pub(super) kept: usize,
    pub(super) most: usize,
    /// Too long to keep: the sent bytes are gone.
    pub(super) is_gone: bool,
    /// Attempts so far. Only the newest reads on: two would take the client's bytes from each
    /// other.
    pub(super) attempts: u32,
    pub(super) is_broken: bool,
    /// It broke off since it is no HTTP.
    pub(super) is_malformed: bool,
    /// The pod has not asked for the body yet (`Expect: 100-continue`), nor the proxy the client.
    pub(super) is_held_back: bool,
    pub(super) bytes: u64,
    pub(super) ended: Option<Instant>,
    /// Since when the client has sent nothing although the proxy asked for more.
    pub(super) silent_since: Option<Instant>,
}

#[derive(Clone, Debug)]
pub(super) enum Piece {
    Data(Bytes),
    Trailers(http::HeaderMap),
}

impl ReplayBuffer {
    pub(super) fn poll_piece(
        &mut self,
        next: &mut usize,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(piece) = self.pieces.get(*next) {
            *next += 1;
            return Poll::Ready(Some(Ok(piece.clone().into_frame())));
        }
        if self.ended.is_some() {
            return Poll::Ready(None);
        }
        // After an error hyper says that the body has ended. A pod must not take it for whole.
        if self.is_broken {
            self.silent_since.get_or_insert_with(Instant::now);
            return Poll::Pending;
        }
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        if polled.is_pending() {
            self.silent_since.get_or_insert_with(Instant::now);
        } else {
            self.silent_since = None;
        }
        match ready!(polled) {
            Some(Ok(frame)) => {
                let piece = Piece::from_frame(frame);
                self.bytes += piece.len() as u64;
                self.keep(&piece, next);
                if self.incoming.is_end_stream() {
                    self.ended = Some(Instant::now());
                }
                Poll::Ready(Some(Ok(piece.into_frame())))
            }
            Some(Err(error)) => {
                self.is_broken = true;
                self.is_malformed = is_malformed(&error);
                Poll::Ready(Some(Err(error)))
            }
            None => {
                self.ended = Some(Instant::now());
                Poll::Ready(None)
            }
        }
    }

    pub(super) fn keep(&mut self, piece: &Piece, next: &mut usize) {
        self.kept += piece.len();
        if self.is_gone || self.kept > self.most {
            self.is_gone = true;
            self.pieces = Vec::new();
            *next = 0;
        } else {
            self.pieces.push(piece.clone());
            *next = self.pieces.len();
        }
    }
}

impl Piece {
    pub(super) fn from_frame(frame: Frame<Bytes>) -> Piece {
        match frame.into_data() {
            Ok(data) => Piece::Data(data),
            // A frame is data or trailers; any other kind is no part of the body.
            Err(other) => Piece::Trailers(other.into_trailers().unwrap_or_default()),
        }
    }

    pub(super) fn into_frame(self) -> Frame<Bytes> {
        match self {
            Piece::Data(data) => Frame::data(data),
            Piece::Trailers(trailers) => Frame::trailers(trailers),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Piece::Data(data) => data.len(),
            Piece::Trailers(_) => 0,
        }
    }
}

/// Whether hyper could not read the body, rather than that it ended early. hyper gives the decoder's
/// error as the source of its own.
fn is_malformed(error: &hyper::Error) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    source.is_some_and(|error| matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput))
}
