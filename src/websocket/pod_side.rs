//! A pod's side of a socket, whose long messages are read in pieces.
//!
//! A message of Jellyfin is one frame, and a list of sessions can be megabytes long. tungstenite gathers a frame before it gives it,
//! and the fragments of a message as well. So [`Pieces`] stands beneath it and frames anew what is read: of a long message each
//! piece becomes a message of its own, and [`Marks`] tells what it was. What is short passes untouched.

mod marks;
mod pieces;

use std::sync::Arc;

use futures_util::{StreamExt, stream::SplitSink, stream::SplitStream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{Role, WebSocketConfig},
    },
};

pub(super) use marks::{Mark, Marks};
pub(super) use pieces::Pieces;

use super::{Config, READ_BUFFER};

/// Bytes of a message that are passed on at once. Longer messages are passed on in pieces, which bounds what a socket holds.
pub(super) const PIECE: usize = 64 * 1024;

/// A pod's side of a socket.
pub struct PodSide<S> {
    socket: WebSocketStream<Pieces<S>>,
    marks: Arc<Marks>,
}

pub(super) type Out<S> = SplitSink<WebSocketStream<Pieces<S>>, Message>;
pub(super) type In<S> = SplitStream<WebSocketStream<Pieces<S>>>;

impl<S: AsyncRead + AsyncWrite + Unpin> PodSide<S> {
    /// Speaks over a stream on which the handshake is over.
    pub(super) async fn over(stream: S, config: &Config) -> PodSide<S> {
        let marks = Arc::<Marks>::default();
        let limits = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .max_message_size(Some(PIECE))
            .max_frame_size(Some(PIECE));
        let stream = Pieces::new(stream, config.max_message, marks.clone());
        PodSide { socket: WebSocketStream::from_raw_socket(stream, Role::Client, Some(limits)).await, marks }
    }

    /// Waits for the pod's greeting, and closes the socket in order. `None` if it ended before.
    pub async fn close_after_greeting(mut self) -> Option<()> {
        self.socket.next().await?.ok()?;
        self.socket.close(None).await.ok()?;
        while let Some(Ok(_)) = self.socket.next().await {}
        Some(())
    }

    pub(super) fn split(self) -> ((Out<S>, In<S>), Arc<Marks>) {
        (self.socket.split(), self.marks)
    }
}
