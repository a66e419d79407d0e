//! Learns from an answer's body: a minted token, a play session, a live stream, a live playlist.
//!
//! It reads the body while it streams by, whatever its size, chunks and compression. It uses
//! bounded memory and never delays the body. It reads log-ins only from endpoints known to mint
//! tokens, because any plug-in may echo what it was sent.

mod json;
mod playlist;

use std::io::Write;

use brotli_decompressor::DecompressorWriter;
use flate2::write::GzDecoder;
use http::{Method, header, response};

use super::endpoint::{self, Endpoint, LeaderCall};

/// What the body contained. Every part may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// The access token of a log-in.
    pub token: Option<String>,
    /// The user of a log-in. The reader fills the fields from here to `version` one by one.
    pub user: Option<String>,
    pub client: Option<String>,
    pub device_name: Option<String>,
    /// The device's id.
    pub device: Option<String>,
    pub version: Option<String>,
    pub play_session: Option<String>,
    /// The code and the secret of a new QuickConnect.
    pub quick_connect: Vec<String>,
    /// At most eight.
    pub live_streams: Vec<String>,
    /// The ids of live streams' files. At most eight.
    pub live_files: Vec<String>,
    /// The 32 hex digits in the paths of a live playlist's segments.
    pub playlist: Option<String>,
}

impl Learned {
    /// Merges what a later piece of the same answer taught.
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
        self.live_files.extend(new.live_files);
        self.quick_connect.extend(new.quick_connect);
    }
}

/// The most live streams learned from one answer.
const MOST_STREAMS: usize = 8;

/// Decoded bytes after which scanning stops: no log-in is that long.
const LONGEST: u64 = 16 * 1024 * 1024;

/// Reads one answer's body.
pub struct BodyScanner {
    decoder: Decoder,
}

enum Decoder {
    Identity(Scanner),
    Gzip(Box<GzDecoder<Scanner>>),
    Brotli(Box<DecompressorWriter<Scanner>>),
    /// There is nothing more to learn.
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
    /// The scanner for this answer, if there may be something to learn from it.
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

    /// Scans the next piece of the body and returns what is new in it. An unreadable body teaches
    /// nothing and is no error.
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

    /// Ends the body and returns what that adds.
    pub fn finish(&mut self) -> Learned {
        // A broken body loses only what follows the break.
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
