//! Certificates from an authority that speaks ACME (RFC 8555), such as Let's Encrypt.
//!
//! One task (`keeper`) shows the certificate that was kept, orders the first one, and renews it. The
//! certificate in use stays until another is there: a failed order never stops serving. Replicas
//! share account and certificate through Redis, sealed, and one of them orders.

mod challenges;
mod keeper;
mod order;
mod renewal;
mod storage;

use std::{path::PathBuf, time::Duration};

pub use challenges::Challenges;
pub use keeper::{Keeper, Parts};
pub use storage::Storage;

/// How certificates are ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the authority writes when a certificate is about to expire.
    pub email: Option<String>,
    /// The names of the certificate, at least one.
    pub domains: Vec<String>,
    /// The authority's directory. Default: Let's Encrypt.
    pub directory: String,
    /// PEM file of the authority that signed the directory's own certificate. Default: the system's.
    pub ca: Option<PathBuf>,
    /// How long before its end a certificate is renewed, unless the authority says when. Default: a
    /// third of its life.
    pub renew_before: Option<Duration>,
    /// How to show that the names are ours, the first choice first. A failed order tries the next.
    pub challenges: Vec<ChallengeKind>,
    /// Where account and certificate are kept, if not in Redis alone.
    pub folder: Option<PathBuf>,
}

/// How the authority checks that a name is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChallengeKind {
    /// It asks for a file in clear, at port 80.
    Http01,
    /// It asks for a certificate with an answer in it, at port 443 (RFC 8737).
    TlsAlpn01,
}
