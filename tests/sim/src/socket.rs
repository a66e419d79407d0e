//! The WebSocket: any path with `Upgrade: websocket`, greeted, kept alive by messages, and closed as Jellyfin closes it.

mod listeners;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use http::request::Parts;
use http::{HeaderMap, Request, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::MissedTickBehavior;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::answer::Answer;
use crate::call::{Call, Caller, property};
use crate::generation::Generation;
use crate::machine::Work;
use crate::pod::Life;
use crate::sessions::{Outgoing, message};
use listeners::Listeners;

/// The receive loop's pipe: a message this long is never read to its end.
const PIPE: usize = 64 * 1024;

/// Whether a request asks for a WebSocket.
pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    let has = |name: &str, word: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    has("connection", "upgrade") && has("upgrade", "websocket") && headers.contains_key("sec-websocket-key")
}

/// Refuses the socket, or accepts it without any extension and serves it in a task of its own.
pub(crate) fn open(call: &Call, parts: Parts) -> Answer {
    if call.connection.life.shared.controls.sockets_refused() {
        return Answer::error(StatusCode::SERVICE_UNAVAILABLE);
    }
    let accepted = matches!(call.caller, Caller::User { .. } | Caller::ApiKey { .. });
    let (Some(session), Some(key), true) = (call.touch_session(), call.headers.get("sec-websocket-key"), accepted)
    else {
        return Answer::error(StatusCode::FORBIDDEN);
    };
    let key = derive_accept_key(key.as_bytes());
    let may_read_activity = call.is_administrator() && call.user().is_some();
    let sees = (!call.is_administrator()).then(|| call.user().map(|user| user.id.clone()).unwrap_or_default());
    let upgrade = hyper::upgrade::on(Request::from_parts(parts, ()));
    let life = Arc::clone(&call.connection.life);
    let is_late = life.has_said_farewell();
    if is_late {
        life.take_late_socket();
    }
    call.life().spawn(async move {
        if is_late {
            // Nobody greets it, nobody reads it, nobody ends it.
            let _held = upgrade.await;
            return std::future::pending().await;
        }
        // A client that leaves before the switch has no socket.
        if let Ok(upgraded) = upgrade.await {
            serve(life, upgraded, session, (sees, may_read_activity)).await;
        }
    });
    Answer::empty(StatusCode::SWITCHING_PROTOCOLS)
        .with("connection", "Upgrade")
        .with("upgrade", "websocket")
        .with("sec-websocket-accept", &key)
}

type Stream = WebSocketStream<TokioIo<Upgraded>>;

/// One open socket.
struct Socket {
    life: Arc<Life>,
    stream: Stream,
    number: u64,
    heard: Instant,
    /// The pod still reads what the client sends.
    reading: bool,
    /// Silent for too long in 12.0: the next message to it breaks it off.
    lost: bool,
    /// Its silence is measured.
    watched: bool,
    listeners: Listeners,
    /// Whose sessions are shown to it; an administrator's sees all.
    sees: Option<String>,
}

/// Why a socket goes on or ends.
enum Next {
    GoOn,
    End,
}

async fn serve(
    life: Arc<Life>,
    upgraded: Upgraded,
    session: String,
    (sees, may_read_activity): (Option<String>, bool),
) {
    let attached = life.memory().sessions.attach(&session);
    let Some((number, inbox)) = attached else {
        return;
    };
    life.shared.notify_changed();
    let registered = Attached { life: Arc::clone(&life), number };
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    let stream = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    let listeners = Listeners::new(&life, may_read_activity);
    let socket = Socket {
        life,
        stream,
        number,
        heard: Instant::now(),
        reading: true,
        lost: false,
        watched: true,
        listeners,
        sees,
    };
    socket.run(inbox).await;
    drop(registered);
}

impl Socket {
    async fn run(mut self, mut inbox: UnboundedReceiver<Outgoing>) {
        if self.force_keep_alive().await.is_err() {
            return;
        }
        let mut watch = tokio::time::interval(self.life.shared.settings.keep_alive / 5);
        watch.set_missed_tick_behavior(MissedTickBehavior::Delay);
        watch.tick().await;
        loop {
            let next = tokio::select! {
                out = inbox.recv() => match out {
                    Some(out) => self.send_out(out).await,
                    None => Ok(Next::End),
                },
                incoming = self.stream.next(), if self.reading => match incoming {
                    Some(Ok(message)) => self.take(message).await,
                    Some(Err(error)) => Err(error),
                    None => Ok(Next::End),
                },
                _ = watch.tick(), if self.watched => self.keep_alive().await,
                due = self.listeners.due(), if !self.lost => self.send_list(due).await,
            };
            // A socket that breaks has ended, whatever broke it.
            if !matches!(next, Ok(Next::GoOn)) {
                return;
            }
        }
    }

    async fn force_keep_alive(&mut self) -> Result<(), Error> {
        let seconds = self.life.shared.settings.keep_alive.as_secs_f64().ceil() as u64;
        self.send("ForceKeepAlive", Some(&json!(seconds))).await
    }

    async fn send(&mut self, kind: &str, data: Option<&Value>) -> Result<(), Error> {
        self.stream.send(Message::text(message(kind, data))).await
    }

    async fn send_list(&mut self, kind: &'static str) -> Result<Next, Error> {
        let data = listeners::data(&self.life, kind, self.sees.as_deref());
        self.send(kind, Some(&data)).await?;
        if self.life.memory().sessions.any_playing() {
            self.listeners.send_again(self.life.shared.settings.keep_alive / 60);
        }
        Ok(Next::GoOn)
    }

    async fn send_out(&mut self, out: Outgoing) -> Result<Next, Error> {
        if self.lost {
            // The message is gone, and with it the connection, without a Close frame; the session stays, and its group.
            self.life.memory().sessions.forget_lost(self.number);
            return Ok(Next::End);
        }
        match out {
            Outgoing::Message { kind, data } => {
                self.send(kind, data.as_ref()).await?;
                Ok(Next::GoOn)
            }
            Outgoing::ShutDown => {
                self.send("ServerShuttingDown", Some(&json!(""))).await?;
                self.close("System Shutdown").await
            }
            Outgoing::Close => self.close("").await,
        }
    }

    async fn close(&mut self, reason: &'static str) -> Result<Next, Error> {
        self.stream.close(Some(CloseFrame { code: CloseCode::Normal, reason: reason.into() })).await?;
        // Until the client's Close has come the frame may still be on its way.
        let rest = async { while let Some(Ok(_)) = self.stream.next().await {} };
        let _ = tokio::time::timeout(Duration::from_millis(500), rest).await;
        Ok(Next::End)
    }

    /// Silent for three quarters of the time: reminded. For all of it: reminded once more, and 12.0 reads no further.
    async fn keep_alive(&mut self) -> Result<Next, Error> {
        let limit = self.life.shared.settings.keep_alive;
        let silent = self.heard.elapsed();
        if silent >= limit.mul_f64(0.75) {
            self.force_keep_alive().await?;
        }
        if silent >= limit {
            self.watched = false;
            // In 10.11 it is merely off the list of those watched, and works on.
            if self.life.shared.settings.generation == Generation::V12 {
                self.lost = true;
                self.reading = false;
                self.life.memory().sessions.socket_lost(self.number);
                self.life.shared.notify_changed();
            }
        }
        Ok(Next::GoOn)
    }

    async fn take(&mut self, message: Message) -> Result<Next, Error> {
        let text = match &message {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes.as_ref(),
            Message::Close(_) => return Ok(Next::End),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {
                // The pong leaves when the stream is read again.
                self.life.processor.run(Work::Message).await;
                return Ok(Next::GoOn);
            }
        };
        self.life.processor.run(Work::Message).await;
        self.life.shared.record().add_message(text);
        self.life.shared.notify_changed();
        if text.is_empty() {
            return self.close("").await;
        }
        if text.len() >= PIPE {
            self.reading = false;
            return Ok(Next::GoOn);
        }
        self.life.memory().sessions.socket_active(self.number);
        let message: Value = serde_json::from_slice(text).unwrap_or_default();
        let kind = property(&message, "MessageType").and_then(Value::as_str).unwrap_or_default();
        let data = property(&message, "Data").and_then(Value::as_str).unwrap_or_default();
        if kind == "KeepAlive" {
            self.heard = Instant::now();
            self.send("KeepAlive", None).await?;
        } else {
            self.listeners.take(kind, data);
        }
        Ok(Next::GoOn)
    }
}

/// Takes the socket out of its session when it ends; with its last socket a session ends, leaves its group, and its live
/// streams are closed.
struct Attached {
    life: Arc<Life>,
    number: u64,
}

impl Drop for Attached {
    fn drop(&mut self) {
        let mut guard = self.life.memory();
        let memory = &mut *guard;
        if let Some(session) = memory.sessions.detach(self.number) {
            memory.sync_play.session_ended(&memory.sessions, &session);
            memory.live_streams.session_ended(&session);
        }
        drop(guard);
        self.life.shared.notify_changed();
    }
}
