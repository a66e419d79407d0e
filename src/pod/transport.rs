//! How connections to a pod are made: in clear or over TLS, and the host that they name.

mod stream;
mod tls;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use http::HeaderValue;
use tokio::{net::TcpStream, time};

pub use stream::TransportStream;
pub use tls::{Fingerprint, Tls, TlsConfig, Trust};

use super::Pod;

/// How connections to a pod are made, beyond its address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransportConfig {
    /// `None` for a pod that is spoken to in clear.
    pub tls: Option<Arc<Tls>>,
    /// The `Host` that the pod is told. Default: the client's.
    pub host: Option<HeaderValue>,
}

/// How one pod is spoken to now. A reload may change it.
pub struct Transport {
    config: ArcSwap<TransportConfig>,
    /// Whether the configuration has a host. Each request asks, and few pods have one.
    has_host: AtomicBool,
    /// Grows with each change. A kept connection of an earlier number is not used again.
    number: AtomicU32,
    /// Why the last handshake failed, in words.
    trouble: ArcSwapOption<String>,
}

/// Why there is no connection that can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeError {
    /// The pod said nothing for too long.
    TimedOut,
    /// The connection ended in the handshake.
    Broken,
    /// It does not speak TLS, or not as the pod that is meant. [`Transport::trouble`] says why.
    Untrusted,
}

/// Makes a fresh connection ready for HTTP. In clear nothing is to be done.
///
/// # Errors
/// The pod is to be spoken to over TLS, and the handshake fails.
pub async fn secure(pod: &Pod, stream: TcpStream, longest: Duration) -> Result<TransportStream, HandshakeError> {
    let transport = &pod.transport;
    let Some(tls) = transport.config.load().tls.clone() else { return Ok(TransportStream::Clear(stream)) };
    match time::timeout(longest, tls.shake_hands(stream)).await {
        Err(_) => Err(HandshakeError::TimedOut),
        Ok(Ok(stream)) => {
            if transport.trouble.load().is_some() {
                transport.trouble.store(None);
            }
            Ok(TransportStream::Tls(Box::new(stream)))
        }
        Ok(Err(error)) => {
            let Some(why) = tls::handshake_failure(&error) else { return Err(HandshakeError::Broken) };
            transport.record_trouble(pod, why);
            Err(HandshakeError::Untrusted)
        }
    }
}

impl Transport {
    pub(super) fn new(config: &TransportConfig) -> Transport {
        Transport {
            config: ArcSwap::from_pointee(config.clone()),
            has_host: AtomicBool::new(config.host.is_some()),
            number: AtomicU32::new(0),
            trouble: ArcSwapOption::empty(),
        }
    }

    /// Connections are made in another way from now on. Returns whether it is another.
    pub(super) fn change(&self, config: &TransportConfig) -> bool {
        let is_other = **self.config.load() != *config;
        if is_other {
            self.config.store(Arc::new(config.clone()));
            self.has_host.store(config.host.is_some(), Ordering::Release);
            self.trouble.store(None);
            self.number.fetch_add(1, Ordering::Release);
        }
        is_other
    }

    /// The number of the present way. It is to be asked for before a connection is made.
    pub fn number(&self) -> u32 {
        self.number.load(Ordering::Acquire)
    }

    /// The `Host` that the pod is told in place of the client's.
    pub fn host(&self) -> Option<HeaderValue> {
        if !self.has_host.load(Ordering::Acquire) {
            return None;
        }
        self.config.load().host.clone()
    }

    pub fn is_tls(&self) -> bool {
        self.config.load().tls.is_some()
    }

    /// Why the pod is not trusted, in words.
    pub fn trouble(&self) -> Option<Arc<String>> {
        self.trouble.load_full()
    }

    /// What was trusted until now is looked at again, so that no kept connection hides the trouble.
    fn record_trouble(&self, pod: &Pod, why: String) {
        let before = self.trouble.swap(Some(Arc::new(why.clone())));
        if before.is_none() {
            self.number.fetch_add(1, Ordering::Release);
        }
        if before.is_none_or(|before| *before != why) {
            tracing::warn!(pod.name = &*pod.name, pod.pool = &*pod.pool, why, "a pod is not trusted");
        }
    }
}
