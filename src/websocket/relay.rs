//! Two sockets, four small loops: a reader and a writer for each.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream::SplitSink, stream::SplitStream};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    time,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use super::{CloseStyle, Config, Passing};
use crate::shutdown::Shutdown;

#[cfg(test)]
mod tests;

/// Messages that wait for a slow peer; then its counterpart is no longer read.
const WAITING: usize = 4;

/// Longest time for the last frames of a closing handshake.
const CLOSING: Duration = Duration::from_secs(3);

/// What the proxy's own pings carry.
const PING: Bytes = Bytes::from_static(b"jellypin");

/// How a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    ClientClosed,
    PodClosed,
    ClientGone,
    PodGone,
    /// A side was silent for too long, to pings too.
    ClientSilent,
    PodSilent,
    /// A message was larger than the limit, or no message at all.
    ClientMalformed,
    PodMalformed,
    Stopping,
}

impl End {
    pub fn name(self) -> &'static str {
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
}

/// What went through a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relayed {
    pub end: End,
    pub from_client: Count,
    pub from_pod: Count,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub messages: u64,
    pub bytes: u64,
}

/// What a socket lies upon: a connection, or in tests a pipe.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// How one side stopped being read or written.
enum Stopped {
    Closed(Option<CloseFrame>),
    Gone,
    Silent,
    Malformed,
}

pub(super) async fn run<S: Stream>(
    client: WebSocketStream<S>,
    pod: WebSocketStream<S>,
    passing: &impl Passing,
    config: &Config,
    shutdown: &Shutdown,
) -> Relayed {
    let (mut client_out, client_in) = client.split();
    let (mut pod_out, pod_in) = pod.split();
    let (to_client, mut for_client) = mpsc::channel(WAITING);
    let (to_pod, mut for_pod) = mpsc::channel(WAITING);
    let (mut from_client, mut from_pod) = (Count::default(), Count::default());
    let (end, close) = tokio::select! {
        stopped = read(client_in, &to_pod, &to_client, |text| passing.to_pod(text), config, &mut from_client) => client_stopped(stopped),
        stopped = read(pod_in, &to_client, &to_pod, |text| passing.to_client(text), config, &mut from_pod) => pod_stopped(stopped),
        () = write(&mut client_out, &mut for_client) => (End::ClientGone, None),
        () = write(&mut pod_out, &mut for_pod) => (End::PodGone, None),
        () = stagger(shutdown, config) => (End::Stopping, None),
    };
    // What was read before the end still reaches the other side.
    drop((to_client, to_pod));
    let _ = time::timeout(CLOSING, finish(end, close, config, (client_out, for_client), (pod_out, for_pod))).await;
    Relayed { end, from_client, from_pod }
}

fn client_stopped(stopped: Stopped) -> (End, Option<CloseFrame>) {
    match stopped {
        Stopped::Closed(frame) => (End::ClientClosed, frame),
        Stopped::Gone => (End::ClientGone, None),
        Stopped::Silent => (End::ClientSilent, None),
        Stopped::Malformed => (End::ClientMalformed, None),
    }
}

fn pod_stopped(stopped: Stopped) -> (End, Option<CloseFrame>) {
    match stopped {
        Stopped::Closed(frame) => (End::PodClosed, frame),
        Stopped::Gone => (End::PodGone, None),
        Stopped::Silent => (End::PodSilent, None),
        Stopped::Malformed => (End::PodMalformed, None),
    }
}

/// Passes messages on. A peer that is silent is pinged through `back`, and counts as gone when it stays silent.
async fn read<S: Stream>(
    mut from: SplitStream<WebSocketStream<S>>,
    to: &mpsc::Sender<Message>,
    back: &mpsc::Sender<Message>,
    rewrite: impl Fn(&str) -> Option<String>,
    config: &Config,
    count: &mut Count,
) -> Stopped {
    let mut silent = Duration::ZERO;
    loop {
        let Ok(received) = time::timeout(config.ping_interval, from.next()).await else {
            silent += config.ping_interval;
            if silent >= config.idle_timeout {
                return Stopped::Silent;
            }
            // A writer that is full of other messages carries no ping; that peer is not silent, it is slow.
            let _ = back.try_send(Message::Ping(PING));
            continue;
        };
        silent = Duration::ZERO;
        let message = match received {
            Some(Ok(Message::Close(frame))) => return Stopped::Closed(frame),
            // Each side's pings are answered on that side: reading on sends the pong.
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(Message::Text(text))) => rewrite(&text).map_or_else(|| Message::Text(text), Message::text),
            Some(Ok(message)) => message,
            Some(Err(error)) => return if is_malformed(&error) { Stopped::Malformed } else { Stopped::Gone },
            None => return Stopped::Gone,
        };
        count.messages += 1;
        count.bytes += message.len() as u64;
        if to.send(message).await.is_err() {
            return Stopped::Gone;
        }
    }
}

fn is_malformed(error: &Error) -> bool {
    use tokio_tungstenite::tungstenite::error::ProtocolError;
    match error {
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => false,
        Error::Capacity(_) | Error::Protocol(_) | Error::Utf8(_) => true,
        _ => false,
    }
}

/// Writes until the peer takes no more.
async fn write<S: Stream>(to: &mut SplitSink<WebSocketStream<S>, Message>, messages: &mut mpsc::Receiver<Message>) {
    while let Some(message) = messages.recv().await {
        if to.send(message).await.is_err() {
            return;
        }
    }
}

type Writer<S> = (SplitSink<WebSocketStream<S>, Message>, mpsc::Receiver<Message>);

/// Ends both sides as the end asks for. A side that gets no Close is dropped, and so ends abnormally.
async fn finish<S: Stream>(end: End, close: Option<CloseFrame>, config: &Config, client: Writer<S>, pod: Writer<S>) {
    match end {
        End::ClientClosed => drop(tokio::join!(close_with(pod, close), echo_close(client))),
        End::PodClosed => drop(tokio::join!(close_with(client, close), echo_close(pod))),
        End::Stopping => {
            let away = CloseFrame { code: CloseCode::Away, reason: "".into() };
            let to_client = async {
                if config.close == CloseStyle::Clean {
                    close_with(client, Some(away.clone())).await;
                }
            };
            tokio::join!(to_client, close_with(pod, Some(away.clone())));
        }
        End::ClientGone | End::ClientSilent | End::ClientMalformed => deliver(pod).await,
        End::PodGone | End::PodSilent | End::PodMalformed => deliver(client).await,
    }
}

async fn deliver<S: Stream>((mut out, mut messages): Writer<S>) {
    write(&mut out, &mut messages).await;
}

async fn close_with<S: Stream>((mut out, mut messages): Writer<S>, frame: Option<CloseFrame>) {
    write(&mut out, &mut messages).await;
    // A peer that is gone meanwhile needs no farewell.
    let _ = out.send(Message::Close(frame)).await;
    let _ = out.close().await;
}

/// Lets the answer to the peer's own Close go out, which waits to be flushed.
async fn echo_close<S: Stream>((mut out, _): Writer<S>) {
    let _ = out.close().await;
}

/// Ends at this socket's own moment after the stop, so that not all clients dial again at once.
async fn stagger(shutdown: &Shutdown, config: &Config) {
    shutdown.stopping().await;
    let mut random = [0_u8; 4];
    // Without randomness all sockets end together, and nothing else is lost.
    let _ = getrandom::fill(&mut random);
    time::sleep(config.stop_stagger.mul_f64(f64::from(u32::from_ne_bytes(random)) / f64::from(u32::MAX))).await;
}
