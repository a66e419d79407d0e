//! Compresses text answers that come to the proxy as they are, for clients that ask for it.
//!
//! Over https Jellyfin does not compress, so its web client and its lists are several times longer.
//! What may be compressed, and how the head then reads, is decided in `head`; `coding` picks the
//! coding, and `encoder` compresses a body while it passes.

mod coding;
mod encoder;
mod head;
mod permits;

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, StatusCode};

pub use coding::Coding;
pub use encoder::Encoder;
pub use head::{ask_for_either_tag, weaken_confirmed_tag};
use permits::Permits;

/// What is compressed.
#[derive(Clone, Debug)]
pub struct Config {
    /// Default true.
    pub is_on: bool,
    /// Shorter answers are left as they are. Default 1 KiB.
    pub min_bytes: usize,
    /// Answers compressed at the same time; further ones are sent as they are. Default 128.
    pub most: usize,
    /// Whether answers that may carry a token are compressed, too. Default false.
    pub with_tokens: bool,
}

/// Compresses answers within the configured bounds.
#[derive(Debug)]
pub struct Compression {
    pub config: Config,
    /// Each encoder holds up to some 2 MiB.
    permits: Arc<Permits>,
}

impl Compression {
    pub fn new(config: Config) -> Compression {
        let permits = Permits::new(config.most);
        Compression { config, permits }
    }

    /// The coding that a client asks for, if the answer to a GET may have one. Tells caches that
    /// the answer depends on what the client asked for.
    pub fn coding(&self, asked: &HeaderMap, status: StatusCode, answer: &mut HeaderMap) -> Option<Coding> {
        let is_short = || head::length(answer).is_some_and(|length| length < self.config.min_bytes as u64);
        if !self.config.is_on || is_short() {
            return None;
        }
        let accepted = asked.get_all(http::header::ACCEPT_ENCODING);
        if accepted.iter().next().is_none() || !head::is_compressible(asked, status, answer) {
            return None;
        }
        head::vary(answer);
        Coding::best(accepted.iter().filter_map(|line| line.to_str().ok()))
    }

    /// What compresses the body of an answer whose head then says so. `None` if too many are
    /// compressed now, in all or for this address, or no encoder can be made. `address` is `None` for
    /// one who stands for many clients.
    pub fn start_encoding(&self, coding: Coding, address: Option<IpAddr>, answer: &mut HeaderMap) -> Option<Encoder> {
        let permit = self.permits.take(address)?;
        let encoder = Encoder::new(coding, permit)?;
        head::show(answer, coding);
        Some(encoder)
    }
}
