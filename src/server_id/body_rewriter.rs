//! Replaces ids in a body while it streams by, frame by frame.

use std::task::{Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::Replacer;

/// Stands between a body and its consumer.
#[derive(Debug)]
pub struct BodyRewriter {
    replacer: Replacer,
    /// Trailers that arrived while bytes were held back.
    trailers: Option<Frame<Bytes>>,
    /// The body itself has ended.
    has_ended: bool,
}

impl BodyRewriter {
    pub(super) fn new(replacer: Replacer) -> BodyRewriter {
        BodyRewriter { replacer, trailers: None, has_ended: false }
    }

    /// The next frame; `next` gives the frames of the body itself.
    ///
    /// An error comes at once, before the held-back bytes: a broken answer ends as it broke.
    pub fn poll_frame<E>(
        &mut self,
        mut next: impl FnMut() -> Poll<Option<Result<Frame<Bytes>, E>>>,
    ) -> Poll<Option<Result<Frame<Bytes>, E>>> {
        loop {
            if let Some(trailers) = self.trailers.take() {
                return Poll::Ready(Some(Ok(trailers)));
            }
            if self.has_ended {
                return Poll::Ready(None);
            }
            let data = match ready!(next()).transpose() {
                Err(error) => return Poll::Ready(Some(Err(error))),
                Ok(Some(frame)) => match frame.into_data() {
                    Ok(data) => self.replacer.push(data),
                    // Nothing comes after trailers.
                    Err(trailers) => {
                        self.trailers = Some(trailers);
                        self.end()
                    }
                },
                Ok(None) => self.end(),
            };
            // The replacer may hold back a whole piece.
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
    }

    fn end(&mut self) -> Bytes {
        self.has_ended = true;
        self.replacer.finish()
    }

    /// Whether nothing more comes. `has_ended` is what the body itself says.
    pub fn is_end_stream(&self, has_ended: bool) -> bool {
        (has_ended || self.has_ended) && !self.replacer.holds() && self.trailers.is_none()
    }

    /// How many bytes are still to come. `body` is what the body itself says.
    pub fn size_hint(&self, body: SizeHint) -> SizeHint {
        let held = self.replacer.held() as u64;
        let mut hint = SizeHint::new();
        if let Some(upper) = body.upper() {
            hint.set_upper(upper.saturating_add(held));
        }
        hint.set_lower(body.lower().saturating_add(held));
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, convert::Infallible, sync::Arc};

    use http::HeaderMap;

    use super::*;
    use crate::server_id::{ServerId, replacer::Replacement};

    /// The output for these frames: the bytes of each, or `None` for trailers.
    fn passed(frames: Vec<Frame<Bytes>>) -> Vec<Option<Bytes>> {
        let id = |digit: &str| ServerId::parse(&digit.repeat(32)).expect("an id");
        let mut rewriting = BodyRewriter::new(Replacer::new(Arc::new(Replacement::new(id("a"), id("b")))));
        let mut frames = VecDeque::from(frames);
        let mut out = Vec::new();
        loop {
            let has_ended = frames.is_empty();
            let next = || Poll::Ready(frames.pop_front().map(Ok::<_, Infallible>));
            match rewriting.poll_frame(next) {
                Poll::Ready(Some(Ok(frame))) => out.push(frame.into_data().ok()),
                Poll::Ready(None) => break,
                other => panic!("{other:?}"),
            }
            assert!(!has_ended || rewriting.is_end_stream(true) || rewriting.trailers.is_some());
        }
        assert!(rewriting.is_end_stream(true));
        out
    }

    fn data(text: &str) -> Frame<Bytes> {
        Frame::data(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn text(frames: &[Option<Bytes>]) -> String {
        let bytes: Vec<u8> = frames.iter().flatten().flatten().copied().collect();
        String::from_utf8(bytes).expect("a text")
    }

    #[test]
    fn what_is_held_back_comes_before_the_end_and_before_trailers() {
        let (half, whole) = ("a".repeat(16), "b".repeat(32));
        assert_eq!(text(&passed(vec![data("x"), data(&half), data(&half), data("y")])), format!("x{whole}y"));
        assert_eq!(text(&passed(vec![data("xaaa")])), "xaaa");
        let out = passed(vec![data("xaaa"), Frame::trailers(HeaderMap::new())]);
        assert_eq!(out, [Some("x".into()), Some("aaa".into()), None]);
        assert_eq!(passed(vec![Frame::trailers(HeaderMap::new())]), [None]);
        assert_eq!(passed(Vec::new()), []);
    }
}
