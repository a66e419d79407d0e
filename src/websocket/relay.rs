//! A client's socket, and one pod's socket after the other behind it.
//!
//! The client's side lasts as long as the client does. When the pod's side ends, or the client
//! moves to another pod, the relay attaches another side. It replays the client's subscriptions
//! there, then sends what the client said meanwhile, in order. Each side is two small loops, a
//! reader and a writer.

mod arriving;
mod ending;
mod pending;
mod side;
#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    future,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use futures_util::{
    StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    time::{self, Instant},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, Utf8Bytes},
};

use super::{Config, OwnMessages, PodSide, PodSides, pod_side::Marks};
use crate::shutdown::Shutdown;
use arriving::{Arriving, Boundary, Heard};
pub use ending::End;
use ending::{CLOSING, await_stagger, close_pod, close_pod_after, finish};
use pending::{PendingMessages, buffer_messages, write_pending};
use side::{Stopped, ping_when_called, read, write};

/// Messages that wait for a slow peer; when full, the relay stops reading from the other side.
const WAITING: usize = 4;

/// Longest time to read what a side sent before it stopped taking messages.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Longest time for the rest of a pod's message before the relay replaces its side.
const REST: Duration = Duration::from_secs(5);

/// A pod's side is too short if it ends sooner than this while its pod lives on. The relay then
/// pauses before the next attempt.
const SHORT: Duration = Duration::from_secs(5);

/// The pause before the second attempt after a short side; each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Pause before jellypin looks again whether the client has the rest of a message.
const REST_AGAIN: Duration = Duration::from_millis(20);

/// Short sides in a row after which the relay ends the client's socket.
const MOST_SHORT: u32 = 8;

/// What went through a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relayed {
    pub end: End,
    pub from_client: Count,
    pub from_pod: Count,
    /// How often the relay attached another pod's side.
    pub attached: u32,
}

/// What went one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub messages: u64,
    pub bytes: u64,
}

/// What carries a socket: a connection, or in tests a pipe.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

type Out<S> = SplitSink<WebSocketStream<S>, Message>;
type In<S> = SplitStream<WebSocketStream<S>>;

/// How the time with one pod's side ended.
enum Turn<S> {
    Client(Stopped),
    Pod(Stopped),
    /// The client has moved to another pod, and this is the side there.
    Replaced(Box<PodSide<S>>),
    Stopping,
}

/// What one pod's side after the other shares.
struct PodSideState<'a, O> {
    to_client: &'a mpsc::Sender<Message>,
    to_pod: &'a mpsc::Sender<Message>,
    for_pod: mpsc::Receiver<Message>,
    from_pod: Count,
    pending: PendingMessages,
    /// What the client is to hear of the present side, before that side's messages.
    notice: Option<String>,
    own: O,
    /// Of jellypin's own messages, the one for which the client has no room yet.
    unsent: Option<Utf8Bytes>,
}

pub(super) async fn run<S: Stream, P: PodSides<S>>(
    client: WebSocketStream<S>,
    pod: PodSide<S>,
    pods: &mut P,
    config: &Config,
    shutdown: &Shutdown,
) -> Relayed {
    let (mut client_out, client_in) = client.split();
    let (to_client, mut for_client) = mpsc::channel(WAITING);
    let (to_pod, for_pod) = mpsc::channel(WAITING);
    let mut from_client = Count::default();
    let (mut attached, mut short) = (0, 0);
    let of_client = Boundary::default();
    let mut state = PodSideState {
        to_client: &to_client,
        to_pod: &to_pod,
        for_pod,
        from_pod: Count::default(),
        pending: PendingMessages::default(),
        notice: None,
        own: pods.own_messages(),
        unsent: None,
    };
    let (end, farewell, last) = {
        let client_side = async {
            tokio::select! {
                stopped = read(client_in, &to_pod, &to_client, config, &mut from_client, whole, &of_client) => stopped,
                () = write(&mut client_out, &mut for_client) => Stopped::Gone,
            }
        };
        let mut client_side = pin!(client_side);
        let mut stopping = pin!(await_stagger(shutdown, config));
        let (mut side, mut marks) = pod.split();
        loop {
            let began = Instant::now();
            let boundary = Boundary::default();
            let others = (client_side.as_mut(), stopping.as_mut());
            let stopped = match state.relay((&mut side, marks), pods, others, config, &boundary).await {
                Turn::Client(stopped) => break (End::of_client(&stopped), stopped.farewell(), Some(side)),
                Turn::Stopping => break (End::Stopping, None, Some(side)),
                Turn::Replaced(next) => {
                    attached += 1;
                    let (next, next_marks) = next.split();
                    let linger = std::mem::replace(&mut side, next);
                    marks = next_marks;
                    tokio::spawn(close_pod_after(linger, pods.linger()));
                    state.begin_side(pods.notice());
                    continue;
                }
                Turn::Pod(stopped) => stopped,
            };
            let end = End::of_pod(&stopped);
            if boundary.is_within() {
                // The client has half a message, and no other pod has the rest: the client must
                // reconnect.
                break (end, None, None);
            }
            if let Stopped::Closed(_) = stopped {
                pods.closed();
                // Answers the pod's Close.
                tokio::spawn(close_pod(side));
            } else {
                // Drops the side at once, so that the pod does not wait for a reader of its refused
                // message.
                drop(side);
            }
            short = if began.elapsed() < SHORT { short + 1 } else { 0 };
            if short > MOST_SHORT {
                break (end, None, None);
            }
            pods.on_lost();
            let next = tokio::select! {
                stopped = &mut client_side => break (End::of_client(&stopped), stopped.farewell(), None),
                () = &mut stopping => break (End::Stopping, None, None),
                () = buffer_messages(&mut state.for_pod, &mut state.pending) => None,
                next = reattach(pods, short) => next,
            };
            let Some(next) = next else { break (end, None, None) };
            attached += 1;
            if pods.is_new_instance() {
                short = 0;
            }
            state.begin_side(pods.notice());
            (side, marks) = next.split();
        }
    };
    let PodSideState { for_pod, pending, from_pod, .. } = state;
    // What was read before the end still reaches the other side.
    drop((to_client, to_pod));
    let said = (for_pod, pending, pods.rewriter());
    let ending = finish(end, farewell, config, (client_out, for_client), last, said);
    let _ = time::timeout(CLOSING, ending).await;
    Relayed { end, from_client, from_pod, attached }
}

impl<O: OwnMessages> PodSideState<'_, O> {
    /// Relays over this side until it ends, is replaced, or the whole socket ends.
    async fn relay<S: Stream, P: PodSides<S>, T: Stream>(
        &mut self,
        ((pod_out, pod_in), marks): (&mut (Out<T>, In<T>), Arc<Marks>),
        pods: &mut P,
        (mut client_side, mut stopping): (Pin<&mut impl Future<Output = Stopped>>, Pin<&mut impl Future<Output = ()>>),
        config: &Config,
        boundary: &Boundary,
    ) -> Turn<S> {
        let PodSideState { to_client, to_pod, for_pod, from_pod, pending, notice, own, unsent } = self;
        let rewriter = pods.rewriter();
        let mut arriving = Arriving::new(marks);
        let for_client = |message| arriving.receive(message, &rewriter, boundary);
        let pod_side = async {
            let reading = async {
                send_notice(notice, to_client).await;
                read(pod_in, to_client, to_pod, config, from_pod, for_client, boundary).await
            };
            let mut reading = pin!(reading);
            tokio::select! {
                stopped = &mut reading => stopped,
                never = ping_when_called(&rewriter, to_pod) => match never {},
                // A pod that takes no more messages may have sent some before: read those.
                () = write_pending(pod_out, for_pod, pending, &rewriter) => {
                    time::timeout(LAST_WORDS, reading).await.unwrap_or(Stopped::Gone)
                }
            }
        };
        let mut pod_side = pin!(pod_side);
        let mut speaking = pin!(speak(own, unsent, to_client, boundary));
        // The side that replaces this one, once the client has the rest of a message.
        let mut replacing = None;
        let mut last_words = pin!(time::sleep(Duration::ZERO));
        loop {
            tokio::select! {
                stopped = &mut client_side => return Turn::Client(stopped),
                stopped = &mut pod_side => return match (stopped, replacing) {
                    (Stopped::Between, Some(next)) => Turn::Replaced(next),
                    (stopped, _) => Turn::Pod(stopped),
                },
                () = &mut stopping => return Turn::Stopping,
                never = &mut speaking => match never {},
                () = &mut last_words, if replacing.is_some() => return Turn::Pod(Stopped::Gone),
                next = attach_after_move(pods), if replacing.is_none() => match next {
                    Some(next) if boundary.is_within() => {
                        boundary.stop();
                        replacing = Some(Box::new(next));
                        last_words.as_mut().reset(Instant::now() + REST);
                    }
                    Some(next) => return Turn::Replaced(Box::new(next)),
                    None if pods.is_signed_out() => return Turn::Pod(Stopped::Gone),
                    // No other pod takes the socket: it stays where it is.
                    None => {}
                },
            }
        }
    }

    /// The next side hears the client's subscriptions first, and the client what there is to say of it.
    fn begin_side(&mut self, notice: Option<String>) {
        self.pending.replay_subscriptions();
        self.notice = notice.or(self.notice.take());
    }
}

/// Passes a client's message unchanged.
fn whole(message: Message) -> Heard {
    Heard::Whole(Some(message))
}

/// Sends the client the notice of a change, as soon as the client has room. Cancel safe.
async fn send_notice(notice: &mut Option<String>, to_client: &mpsc::Sender<Message>) {
    // If the client is gone, its own side finds that out.
    if notice.is_some()
        && let Ok(room) = to_client.reserve().await
        && let Some(notice) = notice.take()
    {
        room.send(Message::text(notice));
    }
}

/// Sends the client what jellypin itself has to say, never within a message of the pod. Cancel
/// safe: what is not sent yet stays in `unsent`.
async fn speak(
    own: &mut impl OwnMessages,
    unsent: &mut Option<Utf8Bytes>,
    to_client: &mpsc::Sender<Message>,
    boundary: &Boundary,
) -> Infallible {
    loop {
        if unsent.is_none() {
            *unsent = Some(own.next().await);
        }
        let Ok(room) = to_client.reserve().await else {
            // The client's own side finds out that the client is gone.
            return future::pending().await;
        };
        if boundary.is_within() {
            drop(room);
            time::sleep(REST_AGAIN).await;
        } else if let Some(text) = unsent.take() {
            room.send(Message::Text(text));
        }
    }
}

/// Waits until the client moves to another pod, and returns the side there.
async fn attach_after_move<S, P: PodSides<S>>(pods: &mut P) -> Option<PodSide<S>> {
    pods.await_move().await;
    pods.attach().await
}

/// Attaches the next side. After a short one it pauses first, longer each time.
async fn reattach<S, P: PodSides<S>>(pods: &mut P, short: u32) -> Option<PodSide<S>> {
    if short > 1 {
        time::sleep(FIRST_PAUSE * 2_u32.saturating_pow(short - 2)).await;
    }
    pods.attach().await
}
