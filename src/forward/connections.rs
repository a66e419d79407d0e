//! The kept connections of one worker.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{net::TcpStream, time::Instant};

use super::outbound::Outbound;
use crate::pod::PodId;

/// Bytes of an answer that are read ahead of the client.
const READ_BUFFER: usize = 128 * 1024;

#[derive(Debug)]
pub(super) struct Connections {
    /// Held for the length of a push or a pop; only this worker takes it.
    kept: Mutex<HashMap<PodId, VecDeque<Kept>, ahash::RandomState>>,
    most: usize,
    idle: Duration,
}

#[derive(Debug)]
struct Kept {
    requests: SendRequest<Outbound>,
    since: Instant,
}

/// A connection for one request; goes back to the kept ones through [`Lease::give_back`], else it is closed.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) requests: SendRequest<Outbound>,
    pod: PodId,
    home: Arc<Connections>,
}

impl Connections {
    pub(super) fn new(most: usize, idle: Duration) -> Connections {
        Connections { kept: Mutex::default(), most, idle }
    }

    /// The kept connection that was used last, if one is still open.
    pub(super) fn take(self: &Arc<Self>, pod: PodId) -> Option<Lease> {
        let mut kept = self.kept.lock();
        let of_pod = kept.get_mut(&pod)?;
        while let Some(Kept { requests, since }) = of_pod.pop_back() {
            if requests.is_ready() && since.elapsed() < self.idle {
                return Some(Lease { requests, pod, home: self.clone() });
            }
        }
        None
    }

    /// Makes a connection out of a fresh stream.
    pub(super) async fn open(self: &Arc<Self>, pod: PodId, stream: TcpStream) -> hyper::Result<Lease> {
        let (requests, connection) =
            http1::Builder::new().max_buf_size(READ_BUFFER).handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // How it ends is told to whoever waits for an answer, or found when it is taken.
            let _ = connection.with_upgrades().await;
        });
        Ok(Lease { requests, pod, home: self.clone() })
    }

    fn keep(&self, pod: PodId, requests: SendRequest<Outbound>) {
        let now = Instant::now();
        let mut kept = self.kept.lock();
        let of_pod = kept.entry(pod).or_default();
        let is_old = |kept: &Kept| kept.requests.is_closed() || now.duration_since(kept.since) >= self.idle;
        while of_pod.front().is_some_and(is_old) || of_pod.len() >= self.most.max(1) {
            of_pod.pop_front();
        }
        if self.most > 0 {
            of_pod.push_back(Kept { requests, since: now });
        }
    }
}

impl Lease {
    /// The answer is whole: keeps the connection for the next request.
    pub(super) fn give_back(mut self) {
        if self.requests.is_ready() {
            self.home.clone().keep(self.pod, self.requests);
        } else if !self.requests.is_closed() {
            // The answer came before the request's last byte; the connection is free when that is gone too.
            tokio::spawn(async move {
                if self.requests.ready().await.is_ok() {
                    self.home.clone().keep(self.pod, self.requests);
                }
            });
        }
    }
}
