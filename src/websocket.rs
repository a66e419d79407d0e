//! Relays WebSocket messages between a client's socket and a pod's, and ends both itself.
//!
//! The two are separate connections. The relay answers pings on each side and forwards a message
//! once it is whole. A client's socket outlives its pod's. The relay negotiates no extension;
//! Jellyfin knows none.

pub mod handshake;
mod pod_side;
mod relay;
mod subscriptions;

use std::{
    future::{self, Future},
    time::Duration,
};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Utf8Bytes,
        protocol::{Role, WebSocketConfig},
    },
};

pub use pod_side::PodSide;
pub use relay::{End, Relayed};

use crate::{server_id::Replacer, shutdown::Shutdown};

/// How the relay keeps and ends sockets.
#[derive(Clone, Debug)]
pub struct Config {
    /// Silence after which the relay pings a peer. Default 30 s.
    pub ping_interval: Duration,
    /// Silence, pongs included, after which a peer counts as gone. Default 90 s, at least 75 s.
    pub idle_timeout: Duration,
    /// Largest message of a pod in bytes. Default 16 MiB. `CLIENT_MESSAGE` also bounds a
    /// client's.
    pub max_message: usize,
    /// Time over which the proxy spreads the ends of the sockets when it stops. Default 5 s.
    pub stop_stagger: Duration,
    /// How the relay ends a client's socket when no pod is left for it.
    pub close: CloseStyle,
}

/// How the proxy ends a client's socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CloseStyle {
    /// Resets the connection without a Close frame: real clients reconnect after that.
    #[default]
    Abrupt,
    /// Sends a Close frame (1001): some real clients hear nothing more after it.
    Clean,
}

/// What a client gets of a pod's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForClient {
    /// The text as it is.
    Same,
    Changed(String),
    /// Nothing: it does not concern the client, or [`OwnMessages`] replace it.
    Nothing,
}

/// Rewrites the texts that pass.
pub trait MessageRewriter: Sync {
    /// What the client gets of the pod's text.
    fn to_client(&self, text: &str) -> ForClient;

    /// What replaces ids in a pod's text that comes in pieces; `None` if it passes unchanged.
    fn pieces_to_client(&self) -> Option<Replacer> {
        None
    }

    /// Whether the client does not get a text of the pod that comes in pieces, of which this is the
    /// first.
    fn is_replaced_from(&self, _: &[u8]) -> bool {
        false
    }

    /// The client's text as the pod gets it; `None` if it passes unchanged.
    fn to_pod(&self, text: &str) -> Option<String>;

    /// Something came from the pod, whatever it is.
    fn on_pod_message(&self) {}

    /// Waits until the pod is to be pinged, although it has not been silent for long. Cancel safe.
    fn await_call(&self) -> impl Future<Output = ()> + Send {
        future::pending()
    }

    /// The pod announced its shutdown or restart. The client does not get that message.
    fn farewell(&self) {}
}

/// What jellypin itself has to say to one client.
pub trait OwnMessages: Send {
    /// The next message; may never come. Cancel safe.
    fn next(&mut self) -> impl Future<Output = Utf8Bytes> + Send;
}

/// Nothing to say.
pub struct NoMessages;

impl OwnMessages for NoMessages {
    async fn next(&mut self) -> Utf8Bytes {
        future::pending().await
    }
}

impl<A: OwnMessages, B: OwnMessages> OwnMessages for (A, B) {
    async fn next(&mut self) -> Utf8Bytes {
        tokio::select! {
            message = self.0.next() => message,
            message = self.1.next() => message,
        }
    }
}

impl<M: OwnMessages> OwnMessages for Option<M> {
    async fn next(&mut self) -> Utf8Bytes {
        match self {
            Some(messages) => messages.next().await,
            None => future::pending().await,
        }
    }
}

/// The longest message of a client in bytes. The relay keeps it until a pod has it. Pods themselves
/// do not read messages of 64 KiB or more to their end.
const CLIENT_MESSAGE: usize = 1 << 20;

/// Read buffer in bytes that each side of a socket holds as long as it lives. Jellyfin's messages
/// are short; longer ones are gathered elsewhere.
const READ_BUFFER: usize = 8 * 1024;

/// Finds the pods' sides of one client's socket.
pub trait PodSides<S>: Send {
    /// Attaches another side, at the client's present home; `None` when no pod takes the socket in
    /// time.
    ///
    /// # Cancel safety
    /// Dropping it ends what it began.
    fn attach(&mut self) -> impl Future<Output = Option<PodSide<S>>> + Send;

    /// Ends when the client has moved to another pod while its side still stands. Cancel safe.
    fn await_move(&mut self) -> impl Future<Output = ()> + Send;

    /// The last side has ended.
    fn on_lost(&mut self);

    /// The pod closed it: only this client's socket, or the first sign of the pod's shutdown.
    fn closed(&mut self) {}

    /// Ends when the relay may close the replaced side, which carries nothing. Closing
    /// it earlier could end something on its pod that the client still needs.
    fn linger(&mut self) -> impl Future<Output = ()> + Send + 'static {
        future::ready(())
    }

    /// What the relay sends the client after it attached another side, before that side's messages.
    fn notice(&mut self) -> Option<String>;

    /// Whether the client was signed out: then nothing may pass any more, on any side.
    fn is_signed_out(&self) -> bool {
        false
    }

    /// Whether the side attached last belongs to another pod instance than the one before. Then the
    /// earlier side ended with its pod, however short it was.
    fn is_new_instance(&self) -> bool;

    /// Rewrites texts on their way to and from the present side.
    fn rewriter(&self) -> impl MessageRewriter + 'static;

    /// What jellypin itself sends the client, whichever side is attached.
    fn own_messages(&self) -> impl OwnMessages + 'static {
        NoMessages
    }
}

/// The pod's side of a socket that it has opened.
pub async fn pod_side(upgraded: Upgraded, config: &Config) -> PodSide<TokioIo<Upgraded>> {
    PodSide::over(TokioIo::new(upgraded), config).await
}

/// Relays until the client's side ends, or no pod takes its socket.
pub async fn relay(
    client: Upgraded,
    pod: PodSide<TokioIo<Upgraded>>,
    pods: &mut impl PodSides<TokioIo<Upgraded>>,
    config: &Config,
    shutdown: &Shutdown,
) -> Relayed {
    let client = WebSocketStream::from_raw_socket(TokioIo::new(client), Role::Server, Some(limits(config))).await;
    relay::run(client, pod, pods, config, shutdown).await
}

fn limits(config: &Config) -> WebSocketConfig {
    let most = config.max_message.min(CLIENT_MESSAGE);
    WebSocketConfig::default().read_buffer_size(READ_BUFFER).max_message_size(Some(most)).max_frame_size(Some(most))
}
