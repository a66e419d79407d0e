//! Relays WebSocket messages between a client's socket and a pod's, and ends both itself.
//!
//! The two are connections of their own: pings are answered on each side, a message is passed on when it is whole, and a
//! client's socket outlives its pod's. No extension is negotiated; Jellyfin knows none.

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
    tungstenite::protocol::{Role, WebSocketConfig},
};

pub use pod_side::PodSide;
pub use relay::{End, Relayed};

use crate::{server_id::Replacer, shutdown::Shutdown};

/// How sockets are kept and ended.
#[derive(Clone, Debug)]
pub struct Config {
    /// Silence after which a peer is pinged. Default 30 s.
    pub ping_interval: Duration,
    /// Silence, pongs included, after which a peer counts as gone. Default 90 s, at least 75 s.
    pub idle_timeout: Duration,
    /// Size of a pod's message in bytes. Default 16 MiB. A client's is bounded by [`CLIENT_MESSAGE`] as well.
    pub max_message: usize,
    /// Time over which the sockets are ended when the proxy stops. Default 5 s.
    pub stop_stagger: Duration,
    /// How a client's socket is ended when no pod is left for it.
    pub close: CloseStyle,
}

/// How a client's socket is ended by the proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CloseStyle {
    /// The connection is reset without a Close frame: real clients dial again after that.
    #[default]
    Abrupt,
    /// With a Close frame (1001): some real clients stay deaf after it.
    Clean,
}

/// What becomes of the texts that pass.
pub trait MessageRewriter {
    /// A text of the pod as the client gets it; `None` if that is as it is.
    fn to_client(&self, text: &str) -> Option<String>;

    /// What replaces ids in a text of the pod that comes in pieces; `None` if it passes as it is.
    fn pieces_to_client(&self) -> Option<Replacer> {
        None
    }

    /// A text of the client as the pod gets it; `None` if that is as it is.
    fn to_pod(&self, text: &str) -> Option<String>;

    /// The pod has said that it ends, or begins anew. The client is not told.
    fn farewell(&self) {}
}

/// The longest message of a client in bytes. It is kept until a pod has it, and pods themselves read none of 64 KiB or more to its
/// end.
const CLIENT_MESSAGE: usize = 1 << 20;

/// Bytes that each side of a socket takes for reading as long as it lives. Messages of Jellyfin are short; longer ones are
/// gathered elsewhere.
const READ_BUFFER: usize = 8 * 1024;

/// Whoever finds the pods' sides of one client's socket.
pub trait PodSides<S>: Send {
    /// Another side, where the client lives now; `None` when no pod takes the socket within the time for it.
    ///
    /// # Cancel safety
    /// What was begun ends when it is dropped.
    fn attach(&mut self) -> impl Future<Output = Option<PodSide<S>>> + Send;

    /// Ends when the client has come to live elsewhere while its side still stands. Cancel safe.
    fn await_move(&mut self) -> impl Future<Output = ()> + Send;

    /// The last side has ended.
    fn on_lost(&mut self);

    /// It was the pod that closed it. That may be this client's own affair, or the beginning of the pod's end.
    fn closed(&mut self) {}

    /// What the side that was replaced is to be kept open for, though nothing passes any more: its pod may end with it what the client
    /// still needs.
    fn linger(&mut self) -> impl Future<Output = ()> + Send + 'static {
        future::ready(())
    }

    /// What the client is to hear when another side was attached, before that side says anything.
    fn notice(&mut self) -> Option<String>;

    /// Whether the client was signed out: then nothing may pass any more, whatever side stands.
    fn is_signed_out(&self) -> bool {
        false
    }

    /// Whether the side that was attached last lies at another life of a pod than the one before it: then that one ended
    /// with its pod, however soon that was.
    fn is_new_instance(&self) -> bool;

    /// What happens to texts on their way to and from the side that stands.
    fn rewriter(&self) -> impl MessageRewriter + 'static;
}

/// The pod's side of a socket that it has opened.
pub async fn pod_side(upgraded: Upgraded, config: &Config) -> PodSide<TokioIo<Upgraded>> {
    PodSide::over(TokioIo::new(upgraded), config).await
}

/// Relays until the client ends, or no pod takes its socket any more.
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
