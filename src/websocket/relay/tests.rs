//! Tests the relay on a paused clock, between two peers over pipes.

use std::{
    collections::VecDeque,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::DuplexStream,
    task::JoinHandle,
    time::{Instant, advance},
};
use tokio_tungstenite::tungstenite::protocol::{Role, frame::coding::CloseCode};

use super::*;
use crate::websocket::{CloseStyle, ForClient, MessageRewriter, pod_side::Marks};

type Peer = WebSocketStream<DuplexStream>;

/// Further sides to attach, and the notice; after the last there are none.
struct Sides(VecDeque<(Moves, PodSide<DuplexStream>)>, Option<String>);

/// The notice that a client gets of a change.
const NOTICE: &str = "a notice";

/// When the relay attaches a further side: after the one before has ended, or at once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moves {
    WhenLost,
    /// The client gets a notice of it.
    WithNotice,
    AtOnce,
}

impl PodSides<DuplexStream> for Sides {
    async fn attach(&mut self) -> Option<PodSide<DuplexStream>> {
        let (moves, side) = self.0.pop_front()?;
        self.1 = (moves == Moves::WithNotice).then(|| NOTICE.to_owned());
        Some(side)
    }

    async fn await_move(&mut self) {
        if !self.0.front().is_some_and(|(moves, _)| *moves == Moves::AtOnce) {
            pending().await
        }
    }

    fn on_lost(&mut self) {}

    fn notice(&mut self) -> Option<String> {
        self.1.take()
    }

    fn is_new_instance(&self) -> bool {
        false
    }

    fn rewriter(&self) -> impl MessageRewriter + 'static {
        AsTheyAre
    }
}

struct AsTheyAre;

impl MessageRewriter for AsTheyAre {
    fn to_client(&self, _: &str) -> ForClient {
        ForClient::Same
    }

    fn to_pod(&self, _: &str) -> Option<String> {
        None
    }
}

/// A relay between two peers that the test drives.
async fn relayed(shutdown: &Shutdown) -> (Peer, Peer, JoinHandle<Relayed>) {
    let (client, pod, _, relay) = relayed_on(shutdown, &[]).await;
    (client, pod, relay)
}

/// The same with further pods.
async fn relayed_on(shutdown: &Shutdown, further: &[Moves]) -> (Peer, Peer, Vec<Peer>, JoinHandle<Relayed>) {
    let (mut sides, mut pods) = (VecDeque::new(), Vec::new());
    let config = Config {
        ping_interval: Duration::from_secs(30),
        idle_timeout: Duration::from_secs(90),
        max_message: 1 << 20,
        stop_stagger: Duration::from_secs(5),
        close: CloseStyle::Abrupt,
    };
    for moves in further {
        let (side, pod) = tokio::io::duplex(1024);
        sides.push_back((*moves, PodSide::over(side, &config).await));
        pods.push(WebSocketStream::from_raw_socket(pod, Role::Server, None).await);
    }
    let (client, client_side) = tokio::io::duplex(1024);
    let (pod_side, pod) = tokio::io::duplex(1024);
    let client_side = WebSocketStream::from_raw_socket(client_side, Role::Server, None).await;
    let pod_side = PodSide::over(pod_side, &config).await;
    let shutdown = shutdown.clone();
    let relay =
        tokio::spawn(async move { run(client_side, pod_side, &mut Sides(sides, None), &config, &shutdown).await });
    let client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
    (client, WebSocketStream::from_raw_socket(pod, Role::Server, None).await, pods, relay)
}

async fn text_of(peer: &mut Peer) -> String {
    loop {
        if let Message::Text(text) = peer.next().await.expect("a message").expect("whole") {
            return text.to_string();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_goes_on_with_another_pod_and_notices_nothing() {
    let (mut client, mut first, mut further, relay) = relayed_on(&Shutdown::new(), &[Moves::WhenLost]).await;
    let mut second = further.pop().expect("a pod");
    let subscription = r#"{"MessageType":"SessionsStart","Data":"0,1500"}"#;
    client.send(Message::text(subscription)).await.expect("sent");
    assert_eq!(text_of(&mut first).await, subscription);
    first.send(Message::text("before")).await.expect("sent");
    first.send(Message::text(r#"{"MessageType":"ServerShuttingDown"}"#)).await.expect("sent");
    first.close(None).await.expect("a farewell");
    drop(first);
    client.send(Message::text("meanwhile")).await.expect("sent");
    assert_eq!(text_of(&mut client).await, "before");
    assert_eq!(text_of(&mut second).await, subscription, "what the client had asked for");
    assert_eq!(text_of(&mut second).await, "meanwhile");
    second.send(Message::text("after")).await.expect("sent");
    assert_eq!(text_of(&mut client).await, "after", "neither the farewell nor the end was heard");
    drop(second);
    assert!(!matches!(client.next().await, Some(Ok(_))), "no pod is left, and the end is abnormal");
    assert_eq!(relay.await.expect("no panic").attached, 1);
}

#[tokio::test(start_paused = true)]
async fn a_word_waits_for_a_client_that_is_behind() {
    for behind in 0..8 {
        let (mut client, mut first, mut further, relay) = relayed_on(&Shutdown::new(), &[Moves::WithNotice]).await;
        let text = "x".repeat(1000);
        for _ in 0..behind {
            first.send(Message::text(text.as_str())).await.expect("sent");
        }
        drop(first);
        time::sleep(Duration::from_secs(1)).await;
        for _ in 0..behind {
            assert_eq!(text_of(&mut client).await, text);
        }
        assert_eq!(text_of(&mut client).await, NOTICE, "{behind} messages behind");
        further[0].send(Message::text("after")).await.expect("sent");
        assert_eq!(text_of(&mut client).await, "after");
        drop((client, further));
        relay.await.expect("no panic");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_lives_elsewhere_gets_its_second_side_before_the_first_one_ends() {
    let (mut client, mut first, mut further, relay) = relayed_on(&Shutdown::new(), &[Moves::AtOnce]).await;
    let mut second = further.pop().expect("a pod");
    let farewell = first.next().await.expect("a farewell").expect("whole");
    assert!(matches!(farewell, Message::Close(Some(frame)) if frame.code == CloseCode::Normal));
    client.send(Message::text("hello")).await.expect("sent");
    assert_eq!(text_of(&mut second).await, "hello");
    client.close(None).await.expect("a farewell");
    let farewell = second.next().await.expect("a farewell").expect("whole");
    assert!(farewell.is_close());
    drop((client, second, first));
    assert_eq!(relay.await.expect("no panic").end, End::ClientClosed);
}

/// Reads on, and so answers pings, until the peer's socket ends. Returns all but control frames.
fn answering(mut peer: Peer) -> JoinHandle<Vec<Message>> {
    tokio::spawn(async move {
        let mut came = Vec::new();
        while let Some(Ok(message)) = peer.next().await {
            if message.is_text() || message.is_binary() {
                came.push(message);
            }
        }
        came
    })
}

/// Waits in the test's own time for the relay's end.
async fn end_of(relay: JoinHandle<Relayed>) -> (End, Duration) {
    let began = Instant::now();
    let relayed = relay.await.expect("no panic");
    (relayed.end, began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_client_that_vanished_is_found_by_its_silence() {
    // The test keeps it and neither reads nor closes it, like a machine that lost its power.
    let (_client, pod, relay) = relayed(&Shutdown::new()).await;
    let pod = answering(pod);
    let (end, after) = end_of(relay).await;
    assert_eq!(end, End::ClientSilent);
    assert!((Duration::from_secs(90)..Duration::from_secs(91)).contains(&after), "{after:?}");
    pod.await.expect("the pod's side has ended too");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_vanished_is_found_by_its_silence() {
    let (client, _pod, relay) = relayed(&Shutdown::new()).await;
    let client = answering(client);
    let (end, after) = end_of(relay).await;
    assert_eq!(end, End::PodSilent);
    assert!((Duration::from_secs(90)..Duration::from_secs(91)).contains(&after), "{after:?}");
    client.await.expect("the client's side has ended too");
}

#[tokio::test(start_paused = true)]
async fn peers_that_answer_pings_are_kept_however_silent() {
    let (client, mut pod, relay) = relayed(&Shutdown::new()).await;
    let client = answering(client);
    // Not at the moment of a ping, which would coincide with the end of the test.
    let deadline = Instant::now() + Duration::from_secs(3610);
    let mut pings = 0;
    while let Ok(Some(message)) = time::timeout_at(deadline, pod.next()).await {
        assert!(message.expect("a living socket").is_ping(), "nothing but pings comes in an hour of silence");
        pings += 1;
    }
    assert!((115..=121).contains(&pings), "{pings} pings in an hour, one each 30 s");
    assert!(!relay.is_finished());
    pod.send(Message::text("late")).await.expect("sent");
    drop(pod);
    assert_eq!(end_of(relay).await.0, End::PodGone);
    assert_eq!(client.await.expect("no panic"), [Message::text("late")]);
}

#[tokio::test(start_paused = true)]
async fn the_proxys_own_pings_are_answered_on_their_own_side() {
    let (mut client, mut pod, relay) = relayed(&Shutdown::new()).await;
    client.send(Message::Ping("mine".into())).await.expect("sent");
    client.send(Message::Pong("unasked".into())).await.expect("sent");
    client.send(Message::text("after")).await.expect("sent");
    assert_eq!(pod.next().await.expect("a message").expect("whole"), Message::text("after"), "the pod hears no ping");
    assert_eq!(client.next().await.expect("a message").expect("whole"), Message::Pong("mine".into()));
    pod.send(Message::text("back")).await.expect("sent");
    assert_eq!(client.next().await.expect("a message").expect("whole"), Message::text("back"), "one pong, not two");
    drop((client, pod));
    relay.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_slowly_holds_the_other_back_and_is_not_given_up() {
    let (mut client, mut pod, relay) = relayed(&Shutdown::new()).await;
    let text = "x".repeat(1000);
    let sending = tokio::spawn(async move {
        let mut sent = 0;
        while time::timeout(Duration::from_secs(1), pod.send(Message::text("x".repeat(1000)))).await.is_ok() {
            sent += 1;
        }
        (pod, sent)
    });
    let (pod, sent) = sending.await.expect("no panic");
    assert!(sent < 20, "{sent} messages of 1,000 bytes are under way, and the pipes hold 1,024 bytes each");
    advance(Duration::from_secs(20)).await;
    for _ in 0..sent {
        assert_eq!(client.next().await.expect("a message").expect("whole"), Message::text(text.as_str()));
    }
    assert!(!relay.is_finished());
    drop((client, pod));
    relay.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_sockets_within_the_stagger() {
    let shutdown = Shutdown::new();
    let mut ends = Vec::new();
    for _ in 0..20 {
        let (client, pod, relay) = relayed(&shutdown).await;
        let (client, pod) = (answering(client), answering(pod));
        ends.push(tokio::spawn(async move {
            let (end, after) = end_of(relay).await;
            drop((client.await, pod.await));
            (end, after)
        }));
    }
    shutdown.stop();
    let mut times = Vec::new();
    for end in ends {
        let (end, after) = end.await.expect("no panic");
        assert_eq!(end, End::Stopping);
        times.push(after);
    }
    let (first, last) = (times.iter().min().expect("times"), times.iter().max().expect("times"));
    assert!(*last < Duration::from_secs(6), "{last:?}");
    assert!(*last - *first > Duration::from_millis(500), "they end one after the other: {first:?} to {last:?}");
}

/// A pod of which somebody wants to know whether it lives.
#[derive(Default)]
struct Called(AtomicBool);

impl MessageRewriter for Called {
    fn to_client(&self, _: &str) -> ForClient {
        ForClient::Same
    }

    fn to_pod(&self, _: &str) -> Option<String> {
        None
    }

    fn on_pod_message(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    async fn await_call(&self) {
        time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_called_is_pinged_and_its_pong_is_a_sign_of_life() {
    let (to_pod, mut for_pod) = mpsc::channel(1);
    let rewriter = Called::default();
    let ping = tokio::select! {
        never = ping_when_called(&rewriter, &to_pod) => match never {},
        ping = for_pod.recv() => ping,
    };
    let Some(Message::Ping(payload)) = ping else { panic!("no ping: {ping:?}") };
    let marks = Arc::new(Marks::default());
    let heard = Arriving::new(marks).receive(Message::Pong(payload), &rewriter, &Boundary::default());
    assert!(matches!(heard, Heard::Whole(None)), "the client gets nothing of it");
    assert!(rewriter.0.load(Ordering::Relaxed));
}
