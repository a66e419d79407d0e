//! One side of a relay: how it is read and written, and how that stops.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::{sync::mpsc, time};
use tokio_tungstenite::tungstenite::{Error, Message, error::ProtocolError, protocol::CloseFrame};

use super::{
    Count, Out, Stream,
    arriving::{Boundary, Heard},
};
use crate::websocket::{Config, MessageRewriter};

/// The payload of the proxy's own pings.
const PING: Bytes = Bytes::from_static(b"jellypin");

/// How reading or writing one side stopped.
#[derive(Debug)]
pub(super) enum Stopped {
    Closed(Option<CloseFrame>),
    Gone,
    Silent,
    Malformed,
    /// The reader stopped at the end of a message, as requested.
    Between,
}

impl Stopped {
    pub(super) fn farewell(self) -> Option<CloseFrame> {
        match self {
            Stopped::Closed(frame) => frame,
            Stopped::Gone | Stopped::Silent | Stopped::Malformed | Stopped::Between => None,
        }
    }
}

/// Forwards messages until it is told to stop between two. It pings a silent peer through `back`. A
/// peer that stays silent counts as gone.
pub(super) async fn read(
    mut from: impl StreamExt<Item = Result<Message, Error>> + Unpin,
    to: &mpsc::Sender<Message>,
    back: &mpsc::Sender<Message>,
    config: &Config,
    count: &mut Count,
    mut passed: impl FnMut(Message) -> Heard,
    boundary: &Boundary,
) -> Stopped {
    let mut silent = Duration::ZERO;
    loop {
        let Ok(received) = time::timeout(config.ping_interval, from.next()).await else {
            silent += config.ping_interval;
            if silent >= config.idle_timeout {
                return Stopped::Silent;
            }
            // A ping does not fit into a full writer: that peer is slow, not silent.
            let _ = back.try_send(Message::Ping(PING));
            continue;
        };
        silent = Duration::ZERO;
        let message = match received {
            Some(Ok(Message::Close(frame))) => return Stopped::Closed(frame),
            // Reading on sends the pong: each side answers its own pings.
            Some(Ok(message @ (Message::Ping(_) | Message::Pong(_)))) => {
                passed(message);
                continue;
            }
            Some(Ok(message)) => message,
            Some(Err(error)) => return if is_malformed(&error) { Stopped::Malformed } else { Stopped::Gone },
            None => return Stopped::Gone,
        };
        count.bytes += message.len() as u64;
        let (message, is_whole) = match passed(message) {
            Heard::Whole(message) => (message, true),
            Heard::Piece(message) => (message, false),
            Heard::Malformed => return Stopped::Malformed,
        };
        count.messages += u64::from(is_whole);
        if let Some(message) = message
            && to.send(message).await.is_err()
        {
            return Stopped::Gone;
        }
        if is_whole && boundary.reached() {
            return Stopped::Between;
        }
    }
}

/// Pings the pod whenever somebody wants to know whether it lives.
pub(super) async fn ping_when_called(rewriter: &impl MessageRewriter, to_pod: &mpsc::Sender<Message>) -> Infallible {
    loop {
        rewriter.await_call().await;
        let _ = to_pod.try_send(Message::Ping(PING));
    }
}

fn is_malformed(error: &Error) -> bool {
    match error {
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => false,
        Error::Capacity(_) | Error::Protocol(_) | Error::Utf8(_) => true,
        _ => false,
    }
}

/// Writes until the peer takes no more.
pub(super) async fn write<S: Stream>(to: &mut Out<S>, messages: &mut mpsc::Receiver<Message>) {
    while let Some(message) = messages.recv().await {
        if to.send(message).await.is_err() {
            return;
        }
    }
}
