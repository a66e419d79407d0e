//! What a client says while it has no pod: kept in order, and said to the next one.

use std::collections::VecDeque;

use futures_util::SinkExt;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use super::{Out, Stream};
use crate::websocket::{MessageRewriter, subscriptions::Subscriptions};

/// What a client may say while it has no pod: more is left unread.
const GAP_MESSAGES: usize = 64;
const GAP_BYTES: usize = 256 * 1024;

/// What the client has said and no pod has been told yet.
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

    /// Another pod is to hear first what the client has asked for.
    pub(super) fn replay_subscriptions(&mut self) {
        self.messages = self.subscriptions.messages().chain(self.messages.drain(..)).collect();
    }

    fn is_full(&self) -> bool {
        let bytes: usize = self.messages.iter().map(Message::len).sum();
        self.messages.len() >= GAP_MESSAGES || bytes >= GAP_BYTES
    }
}

/// Writes what the client says to a pod, until that takes no more. What was not written stays to be said to the next.
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
            // The proxy's own, for the pod that was silent.
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

/// Keeps what the client says while it has no pod, as far as there is room; never ends.
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
