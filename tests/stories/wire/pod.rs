//! A pod that the test plays by hand. It answers the proxy's own questions by itself and hands every other request over.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

use super::{End, end, within};
use crate::stories::world::{ANY_PORT, DEADLINE};

pub(crate) struct HandPod {
    pub(crate) address: SocketAddr,
    calls: mpsc::UnboundedReceiver<Call>,
    accepting: JoinHandle<()>,
}

/// The first request of a connection, its body not yet read.
pub(crate) struct Call {
    /// From the request line to the empty line; a byte is a character.
    pub(crate) head: String,
    pub(crate) wire: End,
}

impl Call {
    /// Path and query as they stand in the request line.
    pub(crate) fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// The values of a field, in the order in which they came.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        end::fields(&self.head, name)
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    /// Answers with a text and keeps the connection.
    pub(crate) async fn reply(&mut self, status: &str, body: &str) {
        let length = body.len();
        self.wire.send(format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}")).await;
    }
}

impl HandPod {
    pub(crate) async fn start() -> HandPod {
        let listener = TcpListener::bind(ANY_PORT).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (hand_over, calls) = mpsc::unbounded_channel();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(greet(stream, hand_over.clone()));
            }
        });
        HandPod { address, calls, accepting }
    }

    /// The next request that reaches the pod over a connection of its own.
    #[track_caller]
    pub(crate) fn call(&mut self) -> impl Future<Output = Call> {
        let call = within(DEADLINE, "a request that reaches the pod", self.calls.recv());
        async move { call.await.expect("the pod accepts") }
    }

    /// Whether no request has come that was not taken.
    pub(crate) fn is_idle(&mut self) -> bool {
        self.calls.is_empty()
    }
}

impl Drop for HandPod {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn greet(stream: TcpStream, hand_over: mpsc::UnboundedSender<Call>) {
    stream.set_nodelay(true).expect("a socket");
    let mut wire = End::over(stream);
    loop {
        let Some(head) = wire.try_head().await else { return };
        let body = match head.split(' ').nth(1) {
            Some("/health") => "Healthy",
            Some("/System/Info/Public") => r#"{"Id":"5a1e0f3d9c7b48268f4d2a6b1c3e5f70","Version":"12.0.0"}"#,
            _ => {
                // A test that has ended takes no more requests.
                let _ = hand_over.send(Call { head, wire });
                return;
            }
        };
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        if wire.try_send(answer).await.is_err() {
            return;
        }
    }
}

/// How long a counter does not move before it counts as stopped.
const STILL: Duration = Duration::from_millis(300);

/// Counts what goes on in a task of the test.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counter(watch::Sender<usize>);

impl Counter {
    pub(crate) fn add(&self, count: usize) {
        self.0.send_modify(|all| *all += count);
    }

    /// Waits until it has moved and does so no longer; fails above `most`.
    #[track_caller]
    pub(crate) fn stands_still(&self, most: usize) -> impl Future<Output = usize> {
        let mut count = self.0.subscribe();
        within(STOPS_WITHIN, "the sender is held back", async move {
            let _ = count.wait_for(|count| *count > 0).await;
            while timeout(STILL, count.changed()).await.is_ok() {
                let now = *count.borrow_and_update();
                assert!(now <= most, "{now} bytes are under way and nobody takes them");
            }
            *count.borrow()
        })
    }
}

/// The longest time until a sender that nobody reads from has filled all buffers.
const STOPS_WITHIN: Duration = Duration::from_secs(60);
