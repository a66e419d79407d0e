//! Compresses a body while it passes, piece by piece, and holds nothing back.

use std::{
    io::{self, Write},
    task::Poll,
};

use brotli::{CompressorWriter, enc::BrotliEncoderParams};
use bytes::Bytes;
use flate2::write::GzEncoder;
use http_body::Frame;

use super::{coding::Coding, permits::Permit};

/// Bytes compressed in one go: a worker has other connections, too.
const STEP: usize = 32 * 1024;

/// Compressed bytes that make a piece for the client.
const PIECE: usize = 8 * 1024;

/// Bytes compressed without a piece for the client before one is forced.
const LONGEST_WAIT: usize = 512 * 1024;

/// What each coding does, at the level that costs about as much time as it saves on a home's line.
const ZSTD_LEVEL: i32 = 3;
const BROTLI_LEVEL: i32 = 4;
const GZIP_LEVEL: u32 = 5;

/// How far back a repetition is found, as a power of two. It bounds the memory of each answer.
const WINDOW: u32 = 19;

/// Stands between a body and its client.
pub struct Encoder {
    /// `None` after the last piece.
    coder: Option<Coder>,
    /// What was read of the body and not compressed yet.
    rest: Bytes,
    /// Bytes that went in since the last piece came out.
    unsent: usize,
    trailers: Option<Frame<Bytes>>,
    _permit: Permit,
}

enum Coder {
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Gzip(GzEncoder<Vec<u8>>),
}

impl Encoder {
    pub(super) fn new(coding: Coding, permit: Permit) -> Option<Encoder> {
        let coder = Coder::new(coding).ok()?;
        Some(Encoder { coder: Some(coder), rest: Bytes::new(), unsent: 0, trailers: None, _permit: permit })
    }

    /// The next compressed frame; `next` gives the frames of the body itself. While the body has
    /// nothing more, the client gets all that was read of it.
    ///
    /// An error of the body comes at once: a broken answer ends as it broke.
    pub fn poll_frame<E>(
        &mut self,
        mut next: impl FnMut() -> Poll<Option<Result<Frame<Bytes>, E>>>,
    ) -> Poll<Option<Result<Frame<Bytes>, E>>> {
        loop {
            let Some(coder) = &mut self.coder else {
                return Poll::Ready(self.trailers.take().map(Ok));
            };
            let piece = if self.rest.is_empty() {
                match next() {
                    Poll::Pending if self.unsent == 0 => return Poll::Pending,
                    Poll::Pending => {
                        self.unsent = 0;
                        coder.flush()
                    }
                    Poll::Ready(Some(Err(error))) => {
                        self.coder = None;
                        return Poll::Ready(Some(Err(error)));
                    }
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(data) => {
                            self.rest = data;
                            continue;
                        }
                        // Nothing comes after trailers.
                        Err(trailers) => {
                            self.trailers = Some(trailers);
                            self.finish()
                        }
                    },
                    Poll::Ready(None) => self.finish(),
                }
            } else {
                let step = self.rest.split_to(self.rest.len().min(STEP));
                self.unsent += step.len();
                match coder.write(&step) {
                    Ok(waiting) if waiting < PIECE && self.unsent < LONGEST_WAIT => continue,
                    Ok(_) => {
                        self.unsent = 0;
                        coder.flush()
                    }
                    Err(error) => Err(error),
                }
            };
            match piece {
                // A coder may have nothing to say when it is flushed.
                Ok(piece) if piece.is_empty() => {}
                Ok(piece) => return Poll::Ready(Some(Ok(Frame::data(piece.into())))),
                Err(error) => {
                    // The client sees an answer without its end, which no decoder takes for whole.
                    tracing::error!(%error, "an answer could not be compressed");
                    (self.coder, self.trailers) = (None, None);
                }
            }
        }
    }

    fn finish(&mut self) -> io::Result<Vec<u8>> {
        self.coder.take().map_or(Ok(Vec::new()), Coder::finish)
    }

    /// Whether nothing more comes.
    pub fn is_end_stream(&self) -> bool {
        self.coder.is_none() && self.trailers.is_none()
    }
}

impl Coder {
    fn new(coding: Coding) -> io::Result<Coder> {
        let into = Vec::new();
        Ok(match coding {
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(into, ZSTD_LEVEL)?;
                encoder.window_log(WINDOW)?;
                Coder::Zstd(encoder)
            }
            Coding::Brotli => {
                let params = BrotliEncoderParams {
                    quality: BROTLI_LEVEL,
                    lgwin: WINDOW as i32,
                    ..BrotliEncoderParams::default()
                };
                Coder::Brotli(Box::new(CompressorWriter::with_params(into, PIECE, &params)))
            }
            Coding::Gzip => Coder::Gzip(GzEncoder::new(into, flate2::Compression::new(GZIP_LEVEL))),
        })
    }

    /// Compresses some bytes. Returns how many compressed ones wait to be taken.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Coder::Zstd(encoder) => encoder.write_all(bytes).map(|()| encoder.get_ref().len()),
            Coder::Brotli(encoder) => encoder.write_all(bytes).map(|()| encoder.get_ref().len()),
            Coder::Gzip(encoder) => encoder.write_all(bytes).map(|()| encoder.get_ref().len()),
        }
    }

    /// Takes all that was compressed, up to the last byte that was written.
    fn flush(&mut self) -> io::Result<Vec<u8>> {
        match self {
            Coder::Zstd(encoder) => encoder.flush().map(|()| std::mem::take(encoder.get_mut())),
            Coder::Brotli(encoder) => encoder.flush().map(|()| std::mem::take(encoder.get_mut())),
            Coder::Gzip(encoder) => encoder.flush().map(|()| std::mem::take(encoder.get_mut())),
        }
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Coder::Zstd(encoder) => encoder.finish(),
            Coder::Brotli(encoder) => Ok(encoder.into_inner()),
            Coder::Gzip(encoder) => encoder.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, convert::Infallible, io::Read};

    use http::HeaderMap;

    use super::*;
    use crate::compression::permits::Permits;

    const ALL: [Coding; 3] = [Coding::Zstd, Coding::Brotli, Coding::Gzip];

    fn encoder(coding: Coding) -> Encoder {
        let permit = Permits::new(1).take(None).expect("a permit");
        Encoder::new(coding, permit).expect("an encoder")
    }

    /// What a client has after these bytes, whether the answer has ended or not.
    fn decoded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        // An answer that has not ended decodes up to its last byte and then breaks off.
        let _ = match coding {
            Coding::Zstd => zstd::stream::read::Decoder::new(bytes).expect("a decoder").read_to_end(&mut plain),
            Coding::Brotli => brotli_decompressor::Decompressor::new(bytes, 4096).read_to_end(&mut plain),
            Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain),
        };
        plain
    }

    fn text(length: usize) -> Vec<u8> {
        (0..length).map(|index| b"abcdefgh {\"Name\":"[(index * index / 7) % 17]).collect()
    }

    #[test]
    fn a_body_comes_out_whole_whatever_its_pieces() {
        for (coding, piece) in ALL.into_iter().flat_map(|coding| [1000, 70_000, 3_000_000].map(|piece| (coding, piece)))
        {
            let body = text(3_000_000);
            let mut frames: VecDeque<Frame<Bytes>> =
                body.chunks(piece).map(|piece| Frame::data(Bytes::copy_from_slice(piece))).collect();
            frames.push_back(Frame::trailers(HeaderMap::new()));
            let (mut encoder, mut out, mut trailers) = (encoder(coding), Vec::new(), 0);
            while let Poll::Ready(Some(Ok(frame))) =
                encoder.poll_frame(|| Poll::Ready(frames.pop_front().map(Ok::<_, Infallible>)))
            {
                match frame.into_data() {
                    Ok(data) => out.extend_from_slice(&data),
                    Err(_) => trailers += 1,
                }
            }
            assert!(encoder.is_end_stream());
            assert_eq!((trailers, out.len() < body.len() / 2), (1, true), "{coding:?} {piece}: {}", out.len());
            assert!(decoded(coding, &out) == body, "{coding:?} {piece}");
        }
    }

    #[test]
    fn nothing_is_held_back_while_the_body_waits() {
        for coding in ALL {
            let (mut encoder, mut out, mut expected) = (encoder(coding), Vec::new(), Vec::new());
            for line in ["{\"first\": 1}\n", "x", "{\"second\": 2}\n"] {
                let mut frames = VecDeque::from([Frame::data(Bytes::from(line))]);
                expected.extend_from_slice(line.as_bytes());
                loop {
                    let next = || match frames.pop_front() {
                        Some(frame) => Poll::Ready(Some(Ok::<_, Infallible>(frame))),
                        None => Poll::Pending,
                    };
                    match encoder.poll_frame(next) {
                        Poll::Ready(Some(Ok(frame))) => out.extend_from_slice(&frame.into_data().expect("data")),
                        Poll::Ready(other) => panic!("{other:?}"),
                        Poll::Pending => break,
                    }
                }
                assert_eq!(decoded(coding, &out), expected, "{coding:?}");
            }
        }
    }

    #[test]
    fn a_broken_body_breaks_the_answer() {
        for coding in ALL {
            let mut encoder = encoder(coding);
            let mut frames = VecDeque::from([Ok(Frame::data(Bytes::from_static(b"half"))), Err("broken")]);
            let mut last = None;
            while let Poll::Ready(Some(frame)) = encoder.poll_frame(|| Poll::Ready(frames.pop_front())) {
                last = Some(frame);
            }
            assert!(matches!(last, Some(Err("broken"))), "{coding:?}");
        }
    }
}
