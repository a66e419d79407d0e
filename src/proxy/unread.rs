//! A request body that is still on its way when its answer is there.
//!
//! A connection that is closed before its client has sent the body may lose the answer, and one that goes on would read the body as
//! the next request. So a short body is read first; else the client is told that the connection ends.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use tokio::time;

use crate::forward::outbound::ReplayBody;

/// The longest rest that is read, in bytes. Reading it costs less than the client's next connection.
const MOST: u64 = 64 * 1024;

/// Longest time for it.
const LONGEST: Duration = Duration::from_secs(5);

/// Goes with an answer, as an extension of its head.
#[derive(Clone)]
pub struct Unread {
    replay_body: ReplayBody,
    answered_by: Answerer,
}

/// Whose answer came early.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Answerer {
    Proxy,
    /// The pod takes the rest.
    Pod,
    /// The pod takes no more.
    PodThatCloses,
}

impl Unread {
    /// `None` where the body has come to its end, as nearly all do.
    pub(super) fn of(replay_body: &ReplayBody, answered_by: impl FnOnce() -> Answerer) -> Option<Unread> {
        replay_body.is_unread().then(|| Unread { replay_body: replay_body.clone(), answered_by: answered_by() })
    }

    /// Reads the body or says in the answer's head that the connection ends. Answers whether nothing is left of the body.
    /// `record_asked`: the client waits to be asked for it (`Expect: 100-continue`).
    pub async fn settle(self, record_asked: bool, answer: &mut HeaderMap) -> bool {
        let is_read = match self.answered_by {
            Answerer::Pod => return false,
            Answerer::PodThatCloses => false,
            // To read the body would ask the client for it.
            Answerer::Proxy if record_asked => false,
            Answerer::Proxy => time::timeout(LONGEST, self.replay_body.discard(MOST)).await.unwrap_or(false),
        };
        if !is_read {
            answer.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        is_read
    }
}
