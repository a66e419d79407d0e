//! A client's socket, and one pod's socket after the other behind it.
//!
//! The client's side lasts as long as the client does. When the pod's side ends, or the client has come to live elsewhere,
//! another one is attached: what the client had asked for is asked for again, and what it said meanwhile is said in order.
//! Each side is two small loops, a reader and a writer.

use std::{collections::VecDeque, pin::pin, time::Duration};

use bytes::Bytes;
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    time::{self, Instant},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use super::{CloseStyle, Config, Passing, Pods, wishes::Wishes};
use crate::{identity::message, shutdown::Shutdown};

#[cfg(test)]
mod tests;

/// Messages that wait for a slow peer; then its counterpart is no longer read.
const WAITING: usize = 4;

/// What a client may say while it has no pod: more is left unread.
const GAP_MESSAGES: usize = 64;
const GAP_BYTES: usize = 256 * 1024;

/// Longest time for the last frames of a closing handshake.
const CLOSING: Duration = Duration::from_secs(3);

/// Longest time for what a side has said before it took no more.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What the proxy's own pings carry.
const PING: Bytes = Bytes::from_static(b"jellypin");

/// A pod's side that ends sooner than this while its pod lives on was of no use: the next attempt waits a little.
const SHORT: Duration = Duration::from_secs(5);

/// The pause before the second attempt after such a side; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Such sides in a row, after which the client's socket is ended.
const MOST_SHORT: u32 = 8;

/// How a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    ClientClosed,
    /// The pod's side ended so, and no pod took its place.
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
    /// How often another pod's side was attached.
    pub attached: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub messages: u64,
    pub bytes: u64,
}

/// What a socket lies upon: a connection, or in tests a pipe.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// How one side stopped being read or written.
#[derive(Debug)]
enum Stopped {
    Closed(Option<CloseFrame>),
    Gone,
    Silent,
    Malformed,
}

type Out<S> = SplitSink<WebSocketStream<S>, Message>;
type In<S> = SplitStream<WebSocketStream<S>>;

/// What the client has said and no pod has been told yet.
#[derive(Default)]
struct Unsaid {
    messages: VecDeque<Message>,
    wishes: Wishes,
}

/// How the time with one pod's side ended.
enum Turn<S> {
    Client(Stopped),
    Pod(Stopped),
    /// The client lives elsewhere, and this is the side there.
    Replaced(Box<WebSocketStream<S>>),
    Stopping,
}

pub(super) async fn run<S: Stream, P: Pods<S>>(
    client: WebSocketStream<S>,
    pod: WebSocketStream<S>,
    pods: &mut P,
    config: &Config,
    shutdown: &Shutdown,
) -> Relayed {
    let (mut client_out, client_in) = client.split();
    let (to_client, mut for_client) = mpsc::channel(WAITING);
    let (to_pod, mut for_pod) = mpsc::channel(WAITING);
    let (mut from_client, mut from_pod) = (Count::default(), Count::default());
    let (mut attached, mut short) = (0, 0);
    let mut unsaid = Unsaid::default();
    let (end, farewell, last) = {
        let client_side = async {
            tokio::select! {
                stopped = read(client_in, &to_pod, &to_client, config, &mut from_client, Some) => stopped,
                () = write(&mut client_out, &mut for_client) => Stopped::Gone,
            }
        };
        let mut client_side = pin!(client_side);
        let mut stopping = pin!(stagger(shutdown, config));
        let mut side = pod.split();
        loop {
            let began = Instant::now();
            let passing = pods.passing();
            let turn = {
                let (pod_out, pod_in) = &mut side;
                let for_client = |message| for_client_of(message, &passing);
                let pod_side = async {
                    let reading = read(pod_in, &to_client, &to_pod, config, &mut from_pod, for_client);
                    let mut reading = pin!(reading);
                    tokio::select! {
                        stopped = &mut reading => stopped,
                        // What a pod that takes no more has said before is still heard.
                        () = speak(pod_out, &mut for_pod, &mut unsaid, &passing) => {
                            time::timeout(LAST_WORDS, reading).await.unwrap_or(Stopped::Gone)
                        }
                    }
                };
                let mut pod_side = pin!(pod_side);
                loop {
                    tokio::select! {
                        stopped = &mut client_side => break Turn::Client(stopped),
                        stopped = &mut pod_side => break Turn::Pod(stopped),
                        () = &mut stopping => break Turn::Stopping,
                        next = elsewhere(pods) => match next {
                            Some(next) => break Turn::Replaced(Box::new(next)),
                            None if pods.is_over() => break Turn::Pod(Stopped::Gone),
                            // Where nobody else takes it, it stays where it is.
                            None => {}
                        },
                    }
                }
            };
            let stopped = match turn {
                Turn::Client(stopped) => break (client_end(&stopped), stopped.farewell(), Some(side)),
                Turn::Stopping => break (End::Stopping, None, Some(side)),
                Turn::Replaced(next) => {
                    attached += 1;
                    tokio::spawn(part(std::mem::replace(&mut side, (*next).split())));
                    unsaid.wish_again();
                    say(pods, &to_client);
                    continue;
                }
                Turn::Pod(stopped) => stopped,
            };
            let end = pod_end(&stopped);
            if let Stopped::Closed(_) = stopped {
                // Its farewell is answered.
                tokio::spawn(part(side));
            }
            short = if began.elapsed() < SHORT { short + 1 } else { 0 };
            if short > MOST_SHORT {
                break (end, None, None);
            }
            pods.lost();
            let next = tokio::select! {
                stopped = &mut client_side => break (client_end(&stopped), stopped.farewell(), None),
                () = &mut stopping => break (End::Stopping, None, None),
                () = listen(&mut for_pod, &mut unsaid) => None,
                next = again(pods, short) => next,
            };
            let Some(next) = next else { break (end, None, None) };
            attached += 1;
            if pods.is_new_life() {
                short = 0;
            }
            unsaid.wish_again();
            say(pods, &to_client);
            side = next.split();
        }
    };
    // What was read before the end still reaches the other side.
    drop((to_client, to_pod));
    let said = (for_pod, unsaid, pods.passing());
    let ending = finish(end, farewell, config, (client_out, for_client), last, said);
    let _ = time::timeout(CLOSING, ending).await;
    Relayed { end, from_client, from_pod, attached }
}

impl Stopped {
    fn farewell(self) -> Option<CloseFrame> {
        match self {
            Stopped::Closed(frame) => frame,
            Stopped::Gone | Stopped::Silent | Stopped::Malformed => None,
        }
    }
}

impl Unsaid {
    fn hear(&mut self, message: Message) {
        self.wishes.hear(&message);
        self.messages.push_back(message);
    }

    /// Another pod is to hear first what the client has asked for.
    fn wish_again(&mut self) {
        self.messages = self.wishes.messages().chain(self.messages.drain(..)).collect();
    }

    fn is_full(&self) -> bool {
        let bytes: usize = self.messages.iter().map(Message::len).sum();
        self.messages.len() >= GAP_MESSAGES || bytes >= GAP_BYTES
    }
}

fn client_end(stopped: &Stopped) -> End {
    match stopped {
        Stopped::Closed(_) => End::ClientClosed,
        Stopped::Gone => End::ClientGone,
        Stopped::Silent => End::ClientSilent,
        Stopped::Malformed => End::ClientMalformed,
    }
}

fn pod_end(stopped: &Stopped) -> End {
    match stopped {
        Stopped::Closed(_) => End::PodClosed,
        Stopped::Gone => End::PodGone,
        Stopped::Silent => End::PodSilent,
        Stopped::Malformed => End::PodMalformed,
    }
}

/// Tells the client what is to be told of the change.
fn say<S, P: Pods<S>>(pods: &mut P, to_client: &mpsc::Sender<Message>) {
    if let Some(word) = pods.word() {
        // A client that takes no more is found by its own side.
        let _ = to_client.try_send(Message::text(word));
    }
}

/// Waits until the client lives elsewhere, and gives the side there.
async fn elsewhere<S, P: Pods<S>>(pods: &mut P) -> Option<WebSocketStream<S>> {
    pods.moved().await;
    pods.attach().await
}

/// The next side. After one that was of no use it waits a little, longer each time.
async fn again<S, P: Pods<S>>(pods: &mut P, short: u32) -> Option<WebSocketStream<S>> {
    if short > 1 {
        time::sleep(FIRST_PAUSE * 2_u32.saturating_pow(short - 2)).await;
    }
    pods.attach().await
}

/// A pod's message as its client gets it. That its pod goes down is nothing to a client that goes on with another.
fn for_client_of(message: Message, passing: &impl Passing) -> Option<Message> {
    match &message {
        Message::Text(text) if message::is_farewell(text) => None,
        Message::Text(text) => Some(passing.to_client(text).map_or(message, Message::text)),
        _ => Some(message),
    }
}

/// Passes messages on. A peer that is silent is pinged through `back`, and counts as gone when it stays silent.
async fn read(
    mut from: impl StreamExt<Item = Result<Message, Error>> + Unpin,
    to: &mpsc::Sender<Message>,
    back: &mpsc::Sender<Message>,
    config: &Config,
    count: &mut Count,
    passed: impl Fn(Message) -> Option<Message>,
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
            Some(Ok(message)) => message,
            Some(Err(error)) => return if is_malformed(&error) { Stopped::Malformed } else { Stopped::Gone },
            None => return Stopped::Gone,
        };
        count.messages += 1;
        count.bytes += message.len() as u64;
        if let Some(message) = passed(message)
            && to.send(message).await.is_err()
        {
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
async fn write<S: Stream>(to: &mut Out<S>, messages: &mut mpsc::Receiver<Message>) {
    while let Some(message) = messages.recv().await {
        if to.send(message).await.is_err() {
            return;
        }
    }
}

/// Writes what the client says to a pod, until that takes no more. What was not written stays to be said to the next.
async fn speak<S: Stream>(
    to: &mut Out<S>,
    messages: &mut mpsc::Receiver<Message>,
    unsaid: &mut Unsaid,
    passing: &impl Passing,
) {
    loop {
        while let Some(message) = unsaid.messages.front() {
            let rewritten = match message {
                Message::Text(text) => passing.to_pod(text).map(Message::text),
                _ => None,
            };
            if to.send(rewritten.unwrap_or_else(|| message.clone())).await.is_err() {
                return;
            }
            unsaid.messages.pop_front();
        }
        match messages.recv().await {
            // The proxy's own, for the pod that was silent.
            Some(ping @ Message::Ping(_)) => {
                if to.send(ping).await.is_err() {
                    return;
                }
            }
            Some(message) => unsaid.hear(message),
            None => return,
        }
    }
}

/// Keeps what the client says while it has no pod, as far as there is room; never ends.
async fn listen(messages: &mut mpsc::Receiver<Message>, unsaid: &mut Unsaid) {
    while !unsaid.is_full() {
        match messages.recv().await {
            Some(Message::Ping(_)) => {}
            Some(message) => unsaid.hear(message),
            None => break,
        }
    }
    std::future::pending().await
}

/// Takes leave of a pod, so that it keeps no socket that nobody reads.
async fn part<S: Stream>((mut out, mut rest): (Out<S>, In<S>)) {
    let leave = async {
        let normal = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        // A pod that is gone meanwhile needs no farewell.
        let _ = out.send(Message::Close(Some(normal))).await;
        while let Some(Ok(_)) = rest.next().await {}
    };
    let _ = time::timeout(CLOSING, leave).await;
}

/// Ends both sides as the end asks for. A client that gets no Close is dropped, and so ends abnormally.
async fn finish<S: Stream>(
    end: End,
    farewell: Option<CloseFrame>,
    config: &Config,
    (mut client, mut for_client): (Out<S>, mpsc::Receiver<Message>),
    pod: Option<(Out<S>, In<S>)>,
    (mut for_pod, mut unsaid, passing): (mpsc::Receiver<Message>, Unsaid, impl Passing),
) {
    let to_pod = async move {
        let Some((mut out, rest)) = pod else { return };
        speak(&mut out, &mut for_pod, &mut unsaid, &passing).await;
        if end == End::ClientClosed {
            // A pod that is gone meanwhile needs no farewell.
            let _ = out.send(Message::Close(farewell)).await;
        }
        part((out, rest)).await;
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
async fn stagger(shutdown: &Shutdown, config: &Config) {
    shutdown.stopping().await;
    let mut random = [0_u8; 4];
    // Without randomness all sockets end together, and nothing else is lost.
    let _ = getrandom::fill(&mut random);
    time::sleep(config.stop_stagger.mul_f64(f64::from(u32::from_ne_bytes(random)) / f64::from(u32::MAX))).await;
}
