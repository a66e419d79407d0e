//! What a pod remembers of the requests that reached it, for tests to look at.

use http::{HeaderMap, Method};

/// One request as it reached the pod.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The method.
    pub method: Method,
    /// Path and query as they stood in the request line.
    pub target: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The status answered, 0 while there is none.
    pub status: u16,
    /// Whether the peer left before the answer was whole.
    pub client_gone: bool,
}

impl Seen {
    /// The path without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The first value of a header, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// The list behind [`Seen`], with stable numbers so that an answer finds its request again.
#[derive(Debug, Default)]
pub(crate) struct Record {
    off: bool,
    first: u64,
    requests: Vec<Seen>,
    messages: Vec<String>,
}

impl Record {
    /// Adds a request; `None` when nothing is recorded.
    pub(crate) fn add(&mut self, seen: impl FnOnce() -> Seen) -> Option<u64> {
        if self.off {
            return None;
        }
        self.requests.push(seen());
        Some(self.first + self.requests.len() as u64 - 1)
    }

    /// Adds a message that came over a WebSocket.
    pub(crate) fn add_message(&mut self, text: &[u8]) {
        if !self.off {
            self.messages.push(String::from_utf8_lossy(text).into_owned());
        }
    }

    /// Changes a request that is still remembered.
    pub(crate) fn change(&mut self, number: u64, how: impl FnOnce(&mut Seen)) {
        let at = number.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        if let Some(seen) = at.and_then(|at| self.requests.get_mut(at)) {
            how(seen);
        }
    }

    pub(crate) fn all(&self) -> Vec<Seen> {
        self.requests.clone()
    }

    pub(crate) fn heard(&self) -> Vec<String> {
        self.messages.clone()
    }

    pub(crate) fn clear(&mut self) {
        self.messages.clear();
        self.first += self.requests.len() as u64;
        self.requests.clear();
    }

    pub(crate) fn set_recording(&mut self, on: bool) {
        self.off = !on;
    }
}
