//! The line to one member's client: what jellypin itself has to say about its group.

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::websocket::OwnMessages;

/// One client's line. A client is told of its group's end once.
#[derive(Default)]
pub(in crate::proxy) struct Line {
    state: Mutex<LineState>,
    has_more: Notify,
}

#[derive(Default)]
struct LineState {
    unsent: Option<String>,
    is_dismissed: bool,
}

impl Line {
    /// Tells the client that it has left its group.
    pub(super) fn dismiss(&self, message: String) {
        *self.state.lock() = LineState { unsent: Some(message), is_dismissed: true };
        self.has_more.notify_one();
    }

    /// Whether the client was dismissed since the last call.
    pub(super) fn take_dismissal(&self) -> bool {
        std::mem::take(&mut self.state.lock().is_dismissed)
    }
}

/// What the client's socket sends.
pub(in crate::proxy) struct GroupNews(pub(in crate::proxy) std::sync::Arc<Line>);

impl OwnMessages for GroupNews {
    async fn next(&mut self) -> Utf8Bytes {
        loop {
            let has_more = self.0.has_more.notified();
            if let Some(message) = self.0.state.lock().unsent.take() {
                return message.into();
            }
            has_more.await;
        }
    }
}
