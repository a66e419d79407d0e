//! How a relay ends, and how it closes its sides.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::{sync::mpsc, time};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use super::{
    In, Out, Stream,
    pending::{PendingMessages, write_pending},
    side::{Stopped, write},
};
use crate::{
    jitter,
    shutdown::Shutdown,
    websocket::{CloseStyle, Config, MessageRewriter},
};

/// Longest time for the last frames of a closing handshake.
pub(super) const CLOSING: Duration = Duration::from_secs(3);

/// How a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client sent a Close.
    ClientClosed,
    /// The pod sent a Close, and no pod took its place.
    PodClosed,
    /// The client's connection ended without a Close.
    ClientGone,
    /// The pod's connection ended without a Close, and no pod took its place.
    PodGone,
    /// The client was silent for too long, even to pings.
    ClientSilent,
    /// The pod was silent for too long, and no pod took its place.
    PodSilent,
    /// The client sent a message over the limit, or no valid message.
    ClientMalformed,
    /// The pod sent such a message, and no pod took its place.
    PodMalformed,
    /// The proxy stops.
    Stopping,
}

impl End {
    /// The `outcome` of the access line.
    pub fn as_str(self) -> &'static str {
        match self {
            End::ClientClosed => "client_closed",
            End::PodClosed => "pod_closed",
            End::ClientGone => "client_gone",
            End::PodGone => "pod_gone",
            End::ClientSilent => "client_silent",
            End::PodSilent => "pod_silent",
            End::ClientMalformed => "client_malformed",
            End::PodMalformed => "pod_malformed",
            End::Stopping => "stopping",
        }
    }

    /// Whether the client ended it, or is gone.
    pub fn is_clients(self) -> bool {
        matches!(self, End::ClientClosed | End::ClientGone | End::ClientSilent | End::ClientMalformed)
    }

    /// The end for the way the client's side stopped.
    pub(super) fn of_client(stopped: &Stopped) -> End {
        match stopped {
            Stopped::Closed(_) => End::ClientClosed,
            Stopped::Gone | Stopped::Between => End::ClientGone,
            Stopped::Silent => End::ClientSilent,
            Stopped::Malformed => End::ClientMalformed,
        }
    }

    /// The end for the way the pod's side stopped.
    pub(super) fn of_pod(stopped: &Stopped) -> End {
        match stopped {
            Stopped::Closed(_) => End::PodClosed,
            Stopped::Gone | Stopped::Between => End::PodGone,
            Stopped::Silent => End::PodSilent,
            Stopped::Malformed => End::PodMalformed,
        }
    }
}

/// Closes a pod's side once `until` or the pod ends. Discards what the pod sends until then: the
/// client gets it over its new side.
pub(super) async fn close_pod_after<S: Stream>((out, mut rest): (Out<S>, In<S>), until: impl Future<Output = ()>) {
    tokio::select! {
        () = until => {}
        () = async { while let Some(Ok(_)) = rest.next().await {} } => {}
    }
    close_pod((out, rest)).await;
}

/// Closes a pod's side in order, so that the pod keeps no socket that no client reads.
pub(super) async fn close_pod<S: Stream>((mut out, mut rest): (Out<S>, In<S>)) {
    let leave = async {
        let normal = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        // If the pod is gone by now, it needs no Close.
        let _ = out.send(Message::Close(Some(normal))).await;
        while let Some(Ok(_)) = rest.next().await {}
    };
    let _ = time::timeout(CLOSING, leave).await;
}

/// Ends both sides as `end` requires. Drops a client that gets no Close, so its socket ends
/// abnormally.
pub(super) async fn finish<S: Stream, P: Stream>(
    end: End,
    farewell: Option<CloseFrame>,
    config: &Config,
    (mut client, mut for_client): (Out<S>, mpsc::Receiver<Message>),
    pod: Option<(Out<P>, In<P>)>,
    (mut for_pod, mut pending, rewriter): (mpsc::Receiver<Message>, PendingMessages, impl MessageRewriter),
) {
    let to_pod = async move {
        let Some((mut out, rest)) = pod else { return };
        write_pending(&mut out, &mut for_pod, &mut pending, &rewriter).await;
        if end == End::ClientClosed {
            // If the pod is gone by now, it needs no Close.
            let _ = out.send(Message::Close(farewell)).await;
        }
        close_pod((out, rest)).await;
    };
    // Drops the client as soon as it has received everything.
    let to_client = async move {
        match end {
            // Flushes the answer to the client's own Close.
            End::ClientClosed => drop(client.close().await),
            End::ClientGone | End::ClientSilent | End::ClientMalformed => {}
            _ => {
                write(&mut client, &mut for_client).await;
                if config.close == CloseStyle::Clean {
                    let away = CloseFrame { code: CloseCode::Away, reason: "".into() };
                    let _ = client.send(Message::Close(Some(away))).await;
                    let _ = client.close().await;
                }
            }
        }
    };
    tokio::join!(to_pod, to_client);
}

/// Ends at this socket's own moment after the stop, so that not all clients reconnect at once.
pub(super) async fn await_stagger(shutdown: &Shutdown, config: &Config) {
    shutdown.stopping().await;
    time::sleep(config.stop_stagger.mul_f64(jitter::fraction())).await;
}
