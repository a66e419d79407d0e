//! A request body that is still arriving when its answer is ready.
//!
//! A close before its end may lose the answer. A kept connection would read the body as a request.
//! So the proxy reads a short rest; otherwise the answer says that the connection closes.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use tokio::time;

use crate::forward::outbound::ReplayBody;

/// Largest rest that the proxy reads, in bytes. That costs less than the client's next connection.
const MOST: u64 = 64 * 1024;

/// Longest time to read that rest.
const LONGEST: Duration = Duration::from_secs(5);

/// Travels with an answer, as an extension of its head.
#[derive(Clone)]
pub struct Unread {
    replay_body: ReplayBody,
    answered_by: Answerer,
}

/// Who answered before the end of the body.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Answerer {
    Proxy,
    /// The pod reads the rest.
    Pod,
    /// The pod reads no more.
    PodThatCloses,
}

impl Unread {
    /// `None` if the body has ended, as nearly all have.
    pub(super) fn of(replay_body: &ReplayBody, answered_by: impl FnOnce() -> Answerer) -> Option<Unread> {
        replay_body.is_unread().then(|| Unread { replay_body: replay_body.clone(), answered_by: answered_by() })
    }

    /// Reads the rest, or says in the head that the connection closes. Returns whether it read all.
    /// `record_asked`: the client waits for `100 Continue` before it sends the body.
    pub async fn read_or_close(self, record_asked: bool, answer: &mut HeaderMap) -> bool {
        let is_read = match self.answered_by {
            Answerer::Pod => return false,
            Answerer::PodThatCloses => false,
            // A read would make the server ask the client for the body.
            Answerer::Proxy if record_asked => false,
            Answerer::Proxy => time::timeout(LONGEST, self.replay_body.discard(MOST)).await.unwrap_or(false),
        };
        if !is_read {
            answer.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        is_read
    }
}
