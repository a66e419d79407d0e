//! A client that adds nothing: the headers of a request are those of the recording and those its recorder sent with
//! every request, and an answer is kept as it came.

use std::fmt;
use std::io::Read;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};
use tokio_tungstenite::tungstenite::protocol::Role;

/// How long anything is waited for before the replay says that it does not come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A request as it goes out.
pub(crate) struct Outgoing {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) json: Option<Value>,
    /// A body that is no JSON, whose type stands among the headers.
    pub(crate) raw: Option<String>,
}

/// An answer as it came in; `body` is decoded.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) received: usize,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Why there is no answer.
pub(crate) enum NoAnswer {
    /// The connection was refused, or ended before the answer was whole.
    Refused(String),
    /// Nothing came for [`PATIENCE`].
    Late,
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoAnswer::Refused(why) => f.write_str(why),
            NoAnswer::Late => f.write_str("nothing came"),
        }
    }
}

/// What an upgrade was answered with, and the socket if it was granted.
pub(crate) struct Upgraded {
    pub(crate) answer: Answer,
    pub(crate) socket: Option<Socket>,
}

/// Sends one request over a connection of its own.
pub(crate) async fn send(pod: SocketAddr, request: Outgoing) -> Result<Answer, NoAnswer> {
    let exchange = async {
        let mut sender = connect(pod).await?;
        let response = sender.send_request(assemble(pod, request)?).await?;
        read(response).await
    };
    match timeout(PATIENCE, exchange).await {
        Ok(result) => result.map_err(|error| NoAnswer::Refused(error.to_string())),
        Err(_) => Err(NoAnswer::Late),
    }
}

/// Asks for a WebSocket.
pub(crate) async fn upgrade(pod: SocketAddr, mut request: Outgoing) -> Result<Upgraded, NoAnswer> {
    let key = generate_key();
    for (name, value) in [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", &key),
    ] {
        request.headers.push((name.to_owned(), value.to_owned()));
    }
    let exchange = async {
        let mut sender = connect(pod).await?;
        let mut response = sender.send_request(assemble(pod, request)?).await?;
        if response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
            let answer = read(response).await?;
            return Ok(Upgraded { answer, socket: None });
        }
        let stream = hyper::upgrade::on(&mut response).await?;
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(stream), Role::Client, None).await;
        Ok::<_, Problem>(Upgraded { answer: accepted(&response, &key)?, socket: Some(Socket { stream: socket }) })
    };
    match timeout(PATIENCE, exchange).await {
        Ok(result) => result.map_err(|error| NoAnswer::Refused(error.to_string())),
        Err(_) => Err(NoAnswer::Late),
    }
}

/// A WebSocket seen from the client. Dropping it ends the connection without a Close frame.
pub(crate) struct Socket {
    stream: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>,
}

/// What a pod sent over a WebSocket.
pub(crate) enum Received {
    Message(Value),
    Closed(u16, String),
    /// The connection ended, or bore something that is not a text message of JSON.
    Broken(String),
    /// Nothing came for [`PATIENCE`].
    Nothing,
}

impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Received::Message(message) => write!(f, "{message}"),
            Received::Closed(code, reason) => write!(f, "closed with {code} {reason:?}"),
            Received::Broken(why) => f.write_str(why),
            Received::Nothing => f.write_str("nothing"),
        }
    }
}

impl Socket {
    pub(crate) async fn say(&mut self, message: &Value) -> bool {
        let message = Message::text(message.to_string());
        self.stream.send(message).await.is_ok()
    }

    /// The next message or Close frame; pings are answered and passed over.
    pub(crate) async fn next(&mut self) -> Received {
        loop {
            let message = match timeout(PATIENCE, self.stream.next()).await {
                Err(_) => return Received::Nothing,
                Ok(None) => return Received::Broken("the connection ended".to_owned()),
                Ok(Some(Err(error))) => return Received::Broken(error.to_string()),
                Ok(Some(Ok(message))) => message,
            };
            match message {
                Message::Text(text) => {
                    return match serde_json::from_str(&text) {
                        Ok(value) => Received::Message(value),
                        Err(error) => Received::Broken(error.to_string()),
                    };
                }
                Message::Close(Some(close)) => {
                    return Received::Closed(close.code.into(), close.reason.to_string());
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other => return Received::Broken(format!("{other:?}")),
            }
        }
    }
}

type Problem = Box<dyn std::error::Error + Send + Sync>;

async fn connect(pod: SocketAddr) -> Result<http1::SendRequest<Full<Bytes>>, Problem> {
    let stream = TcpStream::connect(pod).await?;
    let (sender, connection) = http1::Builder::new().title_case_headers(true).handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection.with_upgrades());
    Ok(sender)
}

fn assemble(pod: SocketAddr, request: Outgoing) -> Result<http::Request<Full<Bytes>>, Problem> {
    let mut building = http::Request::builder()
        .method(request.method.as_str())
        .uri(request.target.as_str())
        .header("Host", pod.to_string());
    for (name, value) in &request.headers {
        building = building.header(name, header_value(value)?);
    }
    let body = match request.json {
        Some(json) => {
            building = building.header("Content-Type", "application/json");
            Bytes::from(json.to_string())
        }
        None => Bytes::from(request.raw.unwrap_or_default()),
    };
    Ok(building.body(Full::new(body))?)
}

/// Bytes above 127 stand in a recording as Latin-1.
fn header_value(text: &str) -> Result<http::HeaderValue, Problem> {
    let latin_1 = text.chars().map(|char| u8::try_from(u32::from(char)));
    Ok(http::HeaderValue::from_bytes(&latin_1.collect::<Result<Vec<u8>, _>>()?)?)
}

async fn read(response: http::Response<hyper::body::Incoming>) -> Result<Answer, Problem> {
    let (status, headers) = head(&response);
    let raw = response.into_body().collect().await?.to_bytes();
    let answer = Answer { status, headers, received: raw.len(), body: raw.to_vec() };
    if answer.header("Content-Encoding") != Some("gzip") {
        return Ok(answer);
    }
    let mut body = Vec::new();
    flate2::read::GzDecoder::new(raw.as_ref()).read_to_end(&mut body)?;
    Ok(Answer { body, ..answer })
}

/// The answer to a granted upgrade, its `Sec-WebSocket-Accept` checked here, for it is another one each time.
fn accepted(response: &http::Response<hyper::body::Incoming>, key: &str) -> Result<Answer, Problem> {
    let (status, headers) = head(response);
    let answer = Answer { status, headers, received: 0, body: Vec::new() };
    if answer.header("Sec-WebSocket-Accept") == Some(derive_accept_key(key.as_bytes()).as_str()) {
        Ok(answer)
    } else {
        Err("Sec-WebSocket-Accept does not fit the key".into())
    }
}

fn head<B>(response: &http::Response<B>) -> (u16, Vec<(String, String)>) {
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        })
        .collect();
    (response.status().as_u16(), headers)
}
