//! A client's WebSocket: opened after the log-in, kept alive, and dialled again a second after it was lost.

use std::{net::SocketAddr, time::Duration};

use futures_util::{SinkExt, StreamExt};
use http::HeaderMap;
use tokio::{
    net::TcpStream,
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::{
    client_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use crate::client::Failure;

/// When jellyfin-web dials again.
const REDIAL: Duration = Duration::from_secs(1);

/// How long [`Socket::until_open`] waits.
const DEADLINE: Duration = Duration::from_secs(5);

/// How the socket is asked for: the target and the client's own headers.
#[derive(Clone, Default)]
pub(crate) struct Dial {
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Opened,
    Refused,
    Lost,
}

/// The socket in the hands of its client.
pub(crate) struct Socket {
    dial: watch::Sender<Option<Dial>>,
    events: watch::Sender<Vec<(Instant, Event)>>,
    keeper: JoinHandle<()>,
}

impl Socket {
    pub(crate) fn new(address: SocketAddr) -> Socket {
        let (dial, dials) = watch::channel(None);
        let events = watch::Sender::default();
        let keeper = tokio::spawn(keep(address, dials, events.clone()));
        Socket { dial, events, keeper }
    }

    /// Opens the socket in this way from now on; one that is open is left.
    pub(crate) fn open(&self, dial: Dial) {
        self.dial.send_replace(Some(dial));
    }

    /// What happened to it since a moment.
    pub(crate) fn events_since(&self, moment: Instant) -> Vec<(Instant, Event)> {
        self.events.borrow().iter().filter(|(at, _)| *at >= moment).copied().collect()
    }

    /// Waits for the socket to be open, for some seconds at most.
    pub(crate) async fn until_open(&self) {
        let mut events = self.events.subscribe();
        let open = events.wait_for(|events| events.last().is_some_and(|(_, event)| *event == Event::Opened));
        // A socket that stays lost is told by its events.
        let _ = timeout(DEADLINE, open).await;
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

async fn keep(
    address: SocketAddr,
    mut dials: watch::Receiver<Option<Dial>>,
    events: watch::Sender<Vec<(Instant, Event)>>,
) {
    let note = |event| events.send_modify(|events| events.push((Instant::now(), event)));
    loop {
        let dial = match dials.wait_for(Option::is_some).await {
            Ok(dial) => dial.clone().unwrap_or_default(),
            Err(_) => return,
        };
        dials.mark_unchanged();
        let is_replaced = match open(address, dial, &note, &mut dials).await {
            Ok(is_replaced) => is_replaced,
            Err(_) => {
                note(Event::Refused);
                false
            }
        };
        if !is_replaced {
            tokio::select! {
                () = sleep(REDIAL) => {}
                _ = dials.changed() => {}
            }
        }
    }
}

/// Opens a socket and keeps it until it ends. Gives whether its client left it for a new one.
async fn open(
    address: SocketAddr,
    dial: Dial,
    note: &impl Fn(Event),
    dials: &mut watch::Receiver<Option<Dial>>,
) -> Result<bool, Failure> {
    let mut request = format!("ws://{address}{}", dial.target).into_client_request()?;
    request.headers_mut().extend(dial.headers);
    let (mut socket, _) = client_async(request, TcpStream::connect(address).await?).await?;
    note(Event::Opened);
    loop {
        let message = tokio::select! {
            message = socket.next() => message,
            _ = dials.changed() => return Ok(true),
        };
        match message {
            Some(Ok(Message::Text(text))) if text.contains("ForceKeepAlive") => {
                // A socket that cannot be written to ends at the next read.
                let _ = socket.send(Message::text("{\"MessageType\":\"KeepAlive\"}")).await;
            }
            Some(Ok(Message::Close(_)) | Err(_)) | None => break,
            Some(Ok(_)) => {}
        }
    }
    note(Event::Lost);
    Ok(false)
}
