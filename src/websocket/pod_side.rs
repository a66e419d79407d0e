//! A pod's side of a socket, which reads long messages in pieces.
//!
//! A message of Jellyfin is one frame, and a list of sessions can be megabytes long. tungstenite
//! gathers a whole frame before it returns it, and the fragments of a message as well. So
//! [`Pieces`] sits beneath it and reframes what it reads. It makes each piece of a long message a
//! message of its own, and [`Marks`] records what the piece was. Short messages pass untouched.

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

/// Bytes of a message that pass at once. Longer messages pass in pieces, which bounds a socket's
/// memory.
pub(super) const PIECE: usize = 64 * 1024;

/// A pod's side of a socket.
pub struct PodSide<S> {
    socket: WebSocketStream<Pieces<S>>,
    marks: Arc<Marks>,
}

pub(super) type Out<S> = SplitSink<WebSocketStream<Pieces<S>>, Message>;
pub(super) type In<S> = SplitStream<WebSocketStream<Pieces<S>>>;

impl<S: AsyncRead + AsyncWrite + Unpin> PodSide<S> {
    /// Wraps a stream whose handshake is over.
    pub(super) async fn over(stream: S, config: &Config) -> PodSide<S> {
        let marks = Arc::<Marks>::default();
        let limits = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .max_message_size(Some(PIECE))
            .max_frame_size(Some(PIECE));
        let stream = Pieces::new(stream, config.max_message, marks.clone());
        PodSide { socket: WebSocketStream::from_raw_socket(stream, Role::Client, Some(limits)).await, marks }
    }

    /// Waits for the pod's first message, then closes the socket in order. `None` if it ended
    /// before.
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
