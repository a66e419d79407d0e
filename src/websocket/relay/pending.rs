//! What a client sends while it has no pod: kept in order, and sent to the next one.

use std::collections::VecDeque;

use futures_util::SinkExt;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use super::{Out, Stream};
use crate::websocket::{MessageRewriter, subscriptions::Subscriptions};

/// The most that a client may send while it has no pod. The relay leaves the rest unread.
const MOST_MESSAGES: usize = 64;
const MOST_BYTES: usize = 256 * 1024;

/// What the client has sent and no pod has received yet.
#[derive(Default)]
pub(super) struct PendingMessages {
    messages: VecDeque<Message>,
    subscriptions: Subscriptions,
}

impl PendingMessages {
    fn push(&mut self, message: Message) {
        self.subscriptions.record(&message);
        self.messages.push_back(message);
    }

    /// Puts the client's subscriptions first, so that the next pod gets them before anything else.
    pub(super) fn replay_subscriptions(&mut self) {
        self.messages = self.subscriptions.messages().chain(self.messages.drain(..)).collect();
    }

    fn is_full(&self) -> bool {
        let bytes: usize = self.messages.iter().map(Message::len).sum();
        self.messages.len() >= MOST_MESSAGES || bytes >= MOST_BYTES
    }
}

/// Writes the client's messages to a pod until the pod takes no more. The rest stays for the next
/// pod.
pub(super) async fn write_pending<S: Stream>(
    to: &mut Out<S>,
    messages: &mut mpsc::Receiver<Message>,
    pending: &mut PendingMessages,
    rewriter: &impl MessageRewriter,
) {
    loop {
        while let Some(message) = pending.messages.front() {
            let rewritten = match message {
                Message::Text(text) => rewriter.to_pod(text).map(Message::text),
                _ => None,
            };
            if to.send(rewritten.unwrap_or_else(|| message.clone())).await.is_err() {
                return;
            }
            pending.messages.pop_front();
        }
        match messages.recv().await {
            // The proxy's own ping, for a silent pod.
            Some(ping @ Message::Ping(_)) => {
                if to.send(ping).await.is_err() {
                    return;
                }
            }
            Some(message) => pending.push(message),
            None => return,
        }
    }
}

/// Buffers the client's messages while it has no pod, as far as there is room; never ends.
pub(super) async fn buffer_messages(messages: &mut mpsc::Receiver<Message>, pending: &mut PendingMessages) {
    while !pending.is_full() {
        match messages.recv().await {
            Some(Message::Ping(_)) => {}
            Some(message) => pending.push(message),
            None => break,
        }
    }
    std::future::pending().await
}
