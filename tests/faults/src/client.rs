//! A client: a person with a device, a token and a cookie jar, which its connections share.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Method, Request, Response, StatusCode, header, request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{MissedTickBehavior, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

pub type Socket = WebSocketStream<TcpStream>;

/// What does not come within this time is lost to a client, as to real ones.
pub const GIVES_UP: Duration = Duration::from_secs(30);

/// Bytes that the kernel takes for a client ahead of it: a film shall not play on for long from a buffer.
const RECEIVE_BUFFER: u32 = 64 * 1024;

/// How often another process is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// One connection's worth of a client.
pub struct Client {
    pub address: SocketAddr,
    pub person: Arc<Person>,
    connection: Option<SendRequest<Full<Bytes>>>,
}

/// Who it is.
#[derive(Default)]
pub struct Person {
    pub user: String,
    device: String,
    /// Its own address.
    from: Option<Ipv4Addr>,
    token: Mutex<Option<String>>,
    cookies: Mutex<BTreeMap<String, String>>,
}

/// A whole answer.
pub struct Answer {
    pub status: u16,
    pub body: Bytes,
}

/// What came instead of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    NoConnection,
    NoAnswer,
    /// It ended in the middle of the body.
    Cut,
    TooLate,
}

/// Why there is no socket.
pub enum Undialled {
    Refused(StatusCode),
    NoAnswer,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Person {
    /// The person of this number, who comes from an address of its own.
    pub fn numbered(number: usize, device: &str) -> Arc<Person> {
        let from = Ipv4Addr::new(127, 1, (number % 250) as u8, 1);
        let user = format!("user{}", number % 1000);
        Arc::new(Person { user, device: device.to_owned(), from: Some(from), ..Person::default() })
    }

    pub fn token(&self) -> Option<String> {
        lock(&self.token).clone()
    }

    fn authorization(&self) -> String {
        let token = self.token().map_or_else(String::new, |token| format!(", Token=\"{token}\""));
        format!("MediaBrowser Client=\"Faults\", Device=\"Test\", DeviceId=\"{}\", Version=\"1.0\"{token}", self.device)
    }
}

impl Client {
    pub fn new(address: SocketAddr, person: Arc<Person>) -> Client {
        Client { address, person, connection: None }
    }

    pub fn of_nobody(address: SocketAddr) -> Client {
        Client::new(address, Arc::default())
    }

    /// Calls this address from now on.
    pub fn call_at(&mut self, address: SocketAddr) {
        self.address = address;
        self.connection = None;
    }

    /// Logs in and keeps the token.
    pub async fn log_in(&mut self) -> Result<String, Option<u16>> {
        *lock(&self.person.token) = None;
        let body = json!({"Username": self.person.user, "Pw": "pw"});
        let answer = self.send(Method::POST, "/Users/AuthenticateByName", body).await.map_err(|_| None)?;
        let token = match answer.status {
            200 => answer.json()["AccessToken"].as_str().map(str::to_owned),
            _ => None,
        };
        let token = token.ok_or(Some(answer.status))?;
        *lock(&self.person.token) = Some(token.clone());
        Ok(token)
    }

    /// Logs out. Gives the token if that was confirmed.
    pub async fn log_out(&mut self) -> Option<String> {
        let token = self.person.token();
        let answer = self.send(Method::POST, "/Sessions/Logout", Value::Null).await;
        token.filter(|_| answer.is_ok_and(|answer| answer.status < 300))
    }

    fn request(&self, method: Method, path: &str) -> request::Builder {
        let request = Request::builder().method(method).uri(path).header(header::HOST, self.address.to_string());
        let cookies: Vec<String> =
            lock(&self.person.cookies).iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = if cookies.is_empty() { request } else { request.header(header::COOKIE, cookies.join("; ")) };
        if self.person.device.is_empty() {
            return request;
        }
        request.header(header::AUTHORIZATION, self.person.authorization())
    }

    /// Sends a request and gathers the answer.
    pub async fn send(&mut self, method: Method, path: &str, body: Value) -> Result<Answer, Failed> {
        let sent = timeout(GIVES_UP, async {
            let (head, mut incoming) = self.open(method, path, &body, None).await?.into_parts();
            let mut body = BytesMut::new();
            while let Some(frame) = incoming.frame().await {
                let Ok(frame) = frame else { return Err(Failed::Cut) };
                body.extend_from_slice(&frame.into_data().unwrap_or_default());
            }
            Ok(Answer { status: head.status.as_u16(), body: body.freeze() })
        });
        let answer = sent.await.unwrap_or(Err(Failed::TooLate));
        if answer.is_err() {
            self.connection = None;
        }
        answer
    }

    /// Sends a request, for a file from this byte on, and waits for the head of the answer.
    pub async fn open(
        &mut self,
        method: Method,
        path: &str,
        body: &Value,
        from: Option<u64>,
    ) -> Result<Response<Incoming>, Failed> {
        let mut head = self.request(method, path);
        let mut text = String::new();
        if !body.is_null() {
            (head, text) = (head.header(header::CONTENT_TYPE, "application/json"), body.to_string());
        }
        if let Some(from) = from.filter(|from| *from > 0) {
            head = head.header(header::RANGE, format!("bytes={from}-"));
        }
        let mut request = head.body(Full::new(Bytes::from(text))).expect("a request");
        loop {
            let kept = self.connection.take().filter(|kept| !kept.is_closed());
            let is_kept = kept.is_some();
            let mut connection = match kept {
                Some(kept) => kept,
                None => self.connect().await.map_err(|_| Failed::NoConnection)?,
            };
            if connection.ready().await.is_err() {
                continue;
            }
            match connection.try_send_request(request).await {
                Ok(answer) => {
                    self.connection = Some(connection);
                    self.keep_cookies(answer.headers());
                    return Ok(answer);
                }
                Err(mut failed) => match failed.take_message() {
                    // The kept connection had ended before anything was sent.
                    Some(unsent) if is_kept => request = unsent,
                    _ => return Err(Failed::NoAnswer),
                },
            }
        }
    }

    /// Opens the client's socket.
    pub async fn socket(&mut self) -> Result<Socket, Undialled> {
        let path = format!("/socket?ApiKey={}", self.person.token().unwrap_or_default());
        let request = self
            .request(Method::GET, &path)
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")
            .uri(format!("ws://{}{path}", self.address))
            .body(())
            .expect("a request");
        let dialled = timeout(GIVES_UP, async {
            let stream = self.stream().await.map_err(|_| Undialled::NoAnswer)?;
            match tokio_tungstenite::client_async(request, stream).await {
                Ok((socket, answer)) => {
                    self.keep_cookies(answer.headers());
                    Ok(socket)
                }
                Err(SocketError::Http(answer)) => Err(Undialled::Refused(answer.status())),
                Err(_) => Err(Undialled::NoAnswer),
            }
        });
        dialled.await.unwrap_or(Err(Undialled::NoAnswer))
    }

    async fn stream(&self) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        if let Some(from) = self.person.from {
            socket.bind((from, 0).into())?;
        }
        let stream = socket.connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn connect(&self) -> io::Result<SendRequest<Full<Bytes>>> {
        let (requests, connection) =
            http1::handshake(TokioIo::new(self.stream().await?)).await.map_err(io::Error::other)?;
        // A sender over the connection learns how it ends.
        tokio::spawn(connection);
        Ok(requests)
    }

    fn keep_cookies(&self, headers: &HeaderMap) {
        for line in headers.get_all(header::SET_COOKIE) {
            let pair = line.to_str().ok().and_then(|line| line.split(';').next()?.split_once('='));
            if let Some((name, value)) = pair {
                lock(&self.person.cookies).insert(name.to_owned(), value.to_owned());
            }
        }
    }
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What became of a message to which the pod's socket answers.
pub enum Echo {
    Came,
    /// It did not come in time. A pod that died has taken it along, and it is to be said again.
    Lost,
    SocketEnded,
}

/// Says `KeepAlive` over a socket, and waits so long for its echo.
pub async fn keep_alive(socket: &mut Socket, longest: Duration) -> Echo {
    if socket.send(Message::text(r#"{"MessageType":"KeepAlive"}"#)).await.is_err() {
        return Echo::SocketEnded;
    }
    let echo = async {
        while let Some(Ok(message)) = socket.next().await {
            if message.to_text().is_ok_and(|text| text.contains("\"KeepAlive\"")) {
                return Echo::Came;
            }
        }
        Echo::SocketEnded
    };
    timeout(longest, echo).await.unwrap_or(Echo::Lost)
}

/// Lets time pass: the length of a fault, or a client's pace. It waits for nothing.
pub fn elapse(time: Duration) -> tokio::time::Sleep {
    tokio::time::sleep(time)
}

/// Waits until something in another process holds, which cannot tell of its changes.
///
/// # Panics
/// If it does not within so many seconds.
pub async fn until(what: &str, seconds: f64, mut holds: impl AsyncFnMut() -> bool) {
    let mut looks = tokio::time::interval(LOOK_AGAIN);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let wait = async {
        while !holds().await {
            looks.tick().await;
        }
    };
    assert!(timeout(Duration::from_secs_f64(seconds), wait).await.is_ok(), "never came: {what}");
}
