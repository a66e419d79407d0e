//! How a relay ends, and how its sides take leave.

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
    /// The client said farewell.
    ClientClosed,
    /// The pod did, and no pod took its place.
    PodClosed,
    /// The client's connection ended without a farewell.
    ClientGone,
    /// The pod's did, and no pod took its place.
    PodGone,
    /// The client was silent for too long, to pings too.
    ClientSilent,
    /// The pod was, and no pod took its place.
    PodSilent,
    /// A message of the client was larger than the limit, or no message at all.
    ClientMalformed,
    /// One of the pod was, and no pod took its place.
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

    /// Whether it was the client that ended it, or is gone.
    pub fn is_clients(self) -> bool {
        matches!(self, End::ClientClosed | End::ClientGone | End::ClientSilent | End::ClientMalformed)
    }

    /// By how the client's side stopped.
    pub(super) fn of_client(stopped: &Stopped) -> End {
        match stopped {
            Stopped::Closed(_) => End::ClientClosed,
            Stopped::Gone | Stopped::Between => End::ClientGone,
            Stopped::Silent => End::ClientSilent,
            Stopped::Malformed => End::ClientMalformed,
        }
    }

    /// By how the pod's side stopped.
    pub(super) fn of_pod(stopped: &Stopped) -> End {
        match stopped {
            Stopped::Closed(_) => End::PodClosed,
            Stopped::Gone | Stopped::Between => End::PodGone,
            Stopped::Silent => End::PodSilent,
            Stopped::Malformed => End::PodMalformed,
        }
    }
}

/// Takes leave of a pod when this has ended, or the pod has. What it says until then is said elsewhere too, and nobody hears it.
pub(super) async fn close_pod_after<S: Stream>((out, mut rest): (Out<S>, In<S>), until: impl Future<Output = ()>) {
    tokio::select! {
        () = until => {}
        () = async { while let Some(Ok(_)) = rest.next().await {} } => {}
    }
    close_pod((out, rest)).await;
}

/// Takes leave of a pod, so that it keeps no socket that nobody reads.
pub(super) async fn close_pod<S: Stream>((mut out, mut rest): (Out<S>, In<S>)) {
    let leave = async {
        let normal = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        // A pod that is gone meanwhile needs no farewell.
        let _ = out.send(Message::Close(Some(normal))).await;
        while let Some(Ok(_)) = rest.next().await {}
    };
    let _ = time::timeout(CLOSING, leave).await;
}

/// Ends both sides as the end asks for. A client that gets no Close is dropped, and so ends abnormally.
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
            // A pod that is gone meanwhile needs no farewell.
            let _ = out.send(Message::Close(farewell)).await;
        }
        close_pod((out, rest)).await;
    };
    // It is let go of as soon as it has heard all.
    let to_client = async move {
        match end {
            // The answer to its own Close waits to be flushed.
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

/// Ends at this socket's own moment after the stop, so that not all clients dial again at once.
pub(super) async fn await_stagger(shutdown: &Shutdown, config: &Config) {
    shutdown.stopping().await;
    time::sleep(config.stop_stagger.mul_f64(jitter::fraction())).await;
}
