//! What the body of an answer teaches: a token that was minted, a play session, a live stream, a live playlist.
//!
//! The body is read while it streams by, whatever its size, chunks and compression, in bounded memory, and is never held back.
//! A log-in is read off the endpoints that are known to mint tokens, and nowhere else: any plug-in may echo what it was sent.

mod json;
mod playlist;

use std::io::Write;

use brotli_decompressor::DecompressorWriter;
use flate2::write::GzDecoder;
use http::{Method, header, response};

use super::endpoint::{self, Endpoint, LeaderCall};

/// What was learnt. Every part may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// The access token of a log-in.
    pub token: Option<String>,
    /// Whom a log-in is for, field by field as it is read.
    pub user: Option<String>,
    pub client: Option<String>,
    pub device_name: Option<String>,
    /// The device's id.
    pub device: Option<String>,
    pub version: Option<String>,
    pub play_session: Option<String>,
    /// The code and the secret of a QuickConnect that was begun.
    pub quick_connect: Vec<String>,
    /// At most eight.
    pub live_streams: Vec<String>,
    /// The 32 hex digits by which a live playlist's segments are found.
    pub playlist: Option<String>,
}

impl Learned {
    /// Takes in what a further piece of the same answer taught.
    pub fn merge(&mut self, new: Learned) {
        let places = [
            (&mut self.token, new.token),
            (&mut self.user, new.user),
            (&mut self.client, new.client),
            (&mut self.device_name, new.device_name),
            (&mut self.device, new.device),
            (&mut self.version, new.version),
            (&mut self.play_session, new.play_session),
            (&mut self.playlist, new.playlist),
        ];
        for (place, new) in places {
            if new.is_some() {
                *place = new;
            }
        }
        self.live_streams.extend(new.live_streams);
        self.quick_connect.extend(new.quick_connect);
    }
}

/// Live streams learnt from one answer.
const MOST_STREAMS: usize = 8;

/// Decoded bytes after which an answer is not read any further: no log-in is that long.
const LONGEST: u64 = 16 * 1024 * 1024;

/// Reads one answer's body.
pub struct BodyScanner {
    decoder: Decoder,
}

enum Decoder {
    Identity(Scanner),
    Gzip(Box<GzDecoder<Scanner>>),
    Brotli(Box<DecompressorWriter<Scanner>>),
    /// Nothing more is to be learnt from it.
    Done,
}

struct Scanner {
    text: Text,
    read: u64,
}

enum Text {
    Json(Box<json::Reader>),
    Playlist(playlist::Reader),
}

impl BodyScanner {
    /// Whoever has to listen to this answer, if anybody has.
    pub fn of(endpoint: Endpoint, method: &Method, path: &str, answer: &response::Parts) -> Option<BodyScanner> {
        if !answer.status.is_success() {
            return None;
        }
        let kind = answer.headers.get(header::CONTENT_TYPE)?.as_bytes();
        let may_mint = endpoint == Endpoint::LogIn;
        let begins = endpoint.may_be_leader_call() && LeaderCall::of(method, path) == Some(LeaderCall::Initiate);
        let text = if kind.starts_with(b"application/json") && (may_mint || endpoint::opens_playback(path) || begins) {
            Text::Json(Box::default())
        } else if endpoint == Endpoint::AuthenticatedMedia && endpoint::is_live_playlist(path) {
            Text::Playlist(playlist::Reader::default())
        } else {
            return None;
        };
        let scanner = Scanner { text, read: 0 };
        let decoder = match answer.headers.get(header::CONTENT_ENCODING).map(|encoding| encoding.as_bytes()) {
            None | Some(b"identity") => Decoder::Identity(scanner),
            Some(b"gzip") => Decoder::Gzip(Box::new(GzDecoder::new(scanner))),
            Some(b"br") => Decoder::Brotli(Box::new(DecompressorWriter::new(scanner, 4096))),
            Some(_) => return None,
        };
        Some(BodyScanner { decoder })
    }

    /// Hears the next piece of the body, and tells what is new in it. What cannot be read is no lesson, and no error of
    /// anybody's.
    pub fn feed(&mut self, piece: &[u8]) -> Learned {
        let heard = match &mut self.decoder {
            Decoder::Identity(scanner) => scanner.write_all(piece),
            Decoder::Gzip(decoder) => decoder.write_all(piece).and_then(|()| decoder.flush()),
            Decoder::Brotli(decoder) => decoder.write_all(piece),
            Decoder::Done => return Learned::default(),
        };
        let learned = self.take();
        if heard.is_err() {
            self.decoder = Decoder::Done;
        }
        learned
    }

    /// What the end of the body brings.
    pub fn finish(&mut self) -> Learned {
        // A broken end loses no more than what was behind it.
        let _ = match &mut self.decoder {
            Decoder::Gzip(decoder) => decoder.try_finish(),
            Decoder::Brotli(decoder) => decoder.close(),
            Decoder::Identity(_) | Decoder::Done => Ok(()),
        };
        self.take()
    }

    fn take(&mut self) -> Learned {
        match &mut self.decoder {
            Decoder::Identity(scanner) => scanner.text.take(),
            Decoder::Gzip(decoder) => decoder.get_mut().text.take(),
            Decoder::Brotli(decoder) => decoder.get_mut().text.take(),
            Decoder::Done => Learned::default(),
        }
    }
}

impl Text {
    fn take(&mut self) -> Learned {
        match self {
            Text::Json(reader) => std::mem::take(&mut reader.learned),
            Text::Playlist(reader) => Learned { playlist: reader.take(), ..Learned::default() },
        }
    }
}

impl Write for Scanner {
    fn write(&mut self, piece: &[u8]) -> std::io::Result<usize> {
        self.read += piece.len() as u64;
        let goes_on = match &mut self.text {
            Text::Json(reader) => reader.read(piece),
            Text::Playlist(reader) => reader.read(piece),
        };
        if goes_on && self.read <= LONGEST { Ok(piece.len()) } else { Err(std::io::ErrorKind::Other.into()) }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
