//! A small HTTP client: says what it is told to, keeps cookies if it is to, and shows everything of the answer.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::{HeaderMap, Method, Request, Response, StatusCode, header, request};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error as SocketError;

/// The body of a request.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A client's side of a WebSocket.
pub(crate) type Socket = WebSocketStream<TcpStream>;

/// The header by which a request is found again in what the pods saw.
const NUMBER: &str = "x-story-request";

/// Bytes that the kernel takes for a client ahead of it. Real clients are machines of their own; here one machine's TCP has the
/// buffers of all of them.
const RECEIVE_BUFFER: usize = 256 * 1024;

/// One client: an address book of one, a cookie jar, and what it says of itself.
pub(crate) struct Client {
    address: SocketAddr,
    /// The `Host` that it names.
    pub(crate) host: String,
    /// Cookies by their names; `None` for a client that keeps none.
    pub(crate) cookies: Option<BTreeMap<String, String>>,
    pub(crate) token: Option<String>,
    pub(crate) device: Option<String>,
    /// Opens a connection for each request.
    pub(crate) is_fresh: bool,
    connection: Option<SendRequest<Body>>,
    sent: Sent,
}

/// The requests that clients have sent to one proxy, by their paths.
#[derive(Clone, Default)]
pub(super) struct Sent(Arc<Mutex<BTreeMap<String, i64>>>);

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The request's number, by which the pods' records know it.
    pub(crate) number: u64,
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What came instead of a whole answer.
#[derive(Debug)]
pub(crate) enum Failed {
    /// No connection.
    Connect(io::Error),
    /// The connection ended before the answer's head.
    NoAnswer,
    /// It ended in the middle of the body.
    Cut { status: u16, received: usize },
}

/// Why there is no WebSocket.
#[derive(Debug)]
pub(crate) enum Undialled {
    Refused(StatusCode),
    /// No connection, or none that lasted to the answer.
    NoAnswer,
}

impl Client {
    pub(super) fn new(address: SocketAddr, sent: Sent) -> Client {
        Client {
            address,
            host: address.to_string(),
            cookies: Some(BTreeMap::new()),
            token: None,
            device: None,
            is_fresh: false,
            connection: None,
            sent,
        }
    }

    /// A client of whatever listens there, which no proxy counts.
    pub(crate) fn at_address(address: SocketAddr) -> Client {
        Client::new(address, Sent::default())
    }

    /// The same client without a cookie jar.
    pub(crate) fn without_cookies(mut self) -> Client {
        self.cookies = None;
        self
    }

    /// The same client with a device id, which stands in its `Authorization` header from now on.
    pub(crate) fn device(mut self, id: &str) -> Client {
        self.device = Some(id.to_owned());
        self
    }

    /// Another connection's worth of this client: same cookies, token and device.
    pub(crate) fn twin(&self) -> Client {
        Client {
            address: self.address,
            host: self.host.clone(),
            cookies: self.cookies.clone(),
            token: self.token.clone(),
            device: self.device.clone(),
            is_fresh: self.is_fresh,
            connection: None,
            sent: self.sent.clone(),
        }
    }

    /// The address that it calls.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Calls this address from now on, under the host that it names.
    pub(crate) fn call_at(&mut self, address: SocketAddr) {
        self.address = address;
        self.connection = None;
    }

    /// The same client, calling another proxy from now on.
    pub(crate) fn moved_to(&self, proxy: &super::Proxy) -> Client {
        self.moved(proxy.client())
    }

    /// The same client, calling the address of that one from now on.
    pub(crate) fn moved(&self, there: Client) -> Client {
        Client { cookies: self.cookies.clone(), token: self.token.clone(), device: self.device.clone(), ..there }
    }

    /// The same client, calling a pod past the proxy from now on.
    pub(crate) fn at(self, pod: &jellyfin_sim::Pod) -> Client {
        // Its requests are none of the proxy's, and so are not counted with them.
        let sent = Sent::default();
        Client { address: pod.address(), host: pod.address().to_string(), connection: None, sent, ..self }
    }

    /// The value of the affinity cookie that it holds.
    pub(crate) fn pin(&self) -> Option<&str> {
        self.cookies.as_ref()?.get("jellyfin_server_id").map(String::as_str)
    }

    /// Holds this value of the affinity cookie from now on.
    pub(crate) fn set_pin(&mut self, value: &str) {
        self.cookies.get_or_insert_default().insert("jellyfin_server_id".to_owned(), value.to_owned());
    }

    /// Logs in and keeps the token: `alice`, `bob`, `root`, or `user0` to `user999`.
    #[track_caller]
    pub(crate) fn log_in(&mut self, user: &str) -> impl Future<Output = Answer> {
        let password = if user.starts_with("user") { "pw".to_owned() } else { format!("{user}-pw") };
        self.token = None;
        self.device.get_or_insert_with(|| format!("device of {user}"));
        let body = json!({"Username": user, "Pw": password});
        async move {
            let answer = self.post("/Users/AuthenticateByName", body).await;
            assert_eq!(answer.status, 200, "the log-in is refused: {}", answer.text());
            self.token = answer.json()["AccessToken"].as_str().map(str::to_owned);
            answer
        }
    }

    /// GET, with a whole answer.
    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> impl Future<Output = Answer> {
        let request = self.request(Method::GET, path);
        self.must(request, empty())
    }

    /// GET with further headers.
    #[track_caller]
    pub(crate) fn get_with(&mut self, path: &str, headers: &[(&str, &str)]) -> impl Future<Output = Answer> {
        let request = self.request(Method::GET, path);
        self.must(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)), empty())
    }

    /// POST of JSON.
    #[track_caller]
    pub(crate) fn post(&mut self, path: &str, body: Value) -> impl Future<Output = Answer> {
        let request = self.request(Method::POST, path).header(header::CONTENT_TYPE, "application/json");
        self.must(request, body_of(body.to_string()))
    }

    #[track_caller]
    fn must(&mut self, request: request::Builder, body: Body) -> impl Future<Output = Answer> {
        let caller = std::panic::Location::caller();
        async move { self.send(request, body).await.unwrap_or_else(|failed| panic!("{caller}: {failed:?}")) }
    }

    /// The head of a request, with what this client says of itself.
    pub(crate) fn request(&self, method: Method, path: &str) -> request::Builder {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, &self.host);
        request = request.header(NUMBER, number);
        if self.device.is_some() || self.token.is_some() {
            request = request.header(header::AUTHORIZATION, self.authorization());
        }
        let pairs = self.cookies.iter().flatten().map(|(name, value)| format!("{name}={value}"));
        let cookies = pairs.collect::<Vec<_>>().join("; ");
        if cookies.is_empty() { request } else { request.header(header::COOKIE, cookies) }
    }

    fn authorization(&self) -> String {
        let mut text = "MediaBrowser Client=\"Story\", Device=\"Test\", Version=\"1.0\"".to_owned();
        for (name, value) in [("DeviceId", &self.device), ("Token", &self.token)] {
            if let Some(value) = value {
                text += &format!(", {name}=\"{value}\"");
            }
        }
        text
    }

    /// Sends a request and gathers the answer.
    pub(crate) async fn send(&mut self, request: request::Builder, body: Body) -> Result<Answer, Failed> {
        let number = request.headers_ref().and_then(number_of).unwrap_or_default();
        let (head, mut incoming) = self.open(request, body).await?.into_parts();
        let status = head.status.as_u16();
        let mut body = BytesMut::new();
        while let Some(frame) = incoming.frame().await {
            let Ok(frame) = frame else {
                self.connection = None;
                return Err(Failed::Cut { status, received: body.len() });
            };
            if let Ok(data) = frame.into_data() {
                body.extend_from_slice(&data);
            }
        }
        Ok(Answer { number, status, headers: head.headers, body: body.freeze() })
    }

    /// Sends a request and waits for the head of the answer.
    pub(crate) async fn open(&mut self, request: request::Builder, body: Body) -> Result<Response<Incoming>, Failed> {
        let mut request = request.body(body).expect("a request");
        loop {
            let kept = if self.is_fresh { None } else { self.connection.take() };
            let over_kept = kept.as_ref().is_some_and(|kept| !kept.is_closed());
            let mut connection = match kept.filter(|kept| !kept.is_closed()) {
                Some(kept) => kept,
                None => self.connect().await.map_err(Failed::Connect)?,
            };
            if connection.ready().await.is_err() {
                continue;
            }
            // Counted before it is sent: a dropped future may have sent it.
            let path = request.uri().path().to_owned();
            self.sent.add(&path, 1);
            match connection.try_send_request(request).await {
                Ok(answer) => {
                    self.connection = Some(connection);
                    self.keep_cookies(answer.headers());
                    return Ok(answer);
                }
                Err(mut failed) => match failed.take_message() {
                    // The kept connection had ended before anything was sent.
                    Some(unsent) if over_kept => {
                        self.sent.add(&path, -1);
                        request = unsent;
                    }
                    _ => return Err(Failed::NoAnswer),
                },
            }
        }
    }

    /// Opens a WebSocket, or gives the status of the refusal.
    pub(crate) async fn socket(&mut self, path: &str) -> Result<Socket, StatusCode> {
        let request = upgrade(self.request(Method::GET, path));
        // tungstenite wants the host in the target.
        let request = request.uri(format!("ws://{}{path}", self.host)).body(()).expect("a request");
        let stream = TcpStream::connect(self.address).await.expect("a connection");
        self.sent.add(path, 1);
        match tokio_tungstenite::client_async(request, stream).await {
            Ok((socket, answer)) => {
                self.keep_cookies(answer.headers());
                Ok(socket)
            }
            Err(SocketError::Http(answer)) => Err(answer.status()),
            Err(error) => panic!("no WebSocket handshake: {error}"),
        }
    }

    /// Opens a WebSocket where even the connection may fail.
    pub(crate) async fn dial_socket(&mut self, path: &str) -> Result<Socket, Undialled> {
        let request = self.request(Method::GET, path);
        let request = upgrade(request).uri(format!("ws://{}{path}", self.host)).body(()).expect("a request");
        let stream = TcpStream::connect(self.address).await.map_err(|_| Undialled::NoAnswer)?;
        self.sent.add(path, 1);
        match tokio_tungstenite::client_async(request, stream).await {
            Ok((socket, _)) => Ok(socket),
            Err(SocketError::Http(answer)) => Err(Undialled::Refused(answer.status())),
            Err(_) => Err(Undialled::NoAnswer),
        }
    }

    async fn connect(&self) -> io::Result<SendRequest<Body>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_recv_buffer_size(RECEIVE_BUFFER)?;
        let (requests, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // A sender over the connection learns how it ends.
        tokio::spawn(connection);
        Ok(requests)
    }

    fn keep_cookies(&mut self, headers: &HeaderMap) {
        let Some(jar) = &mut self.cookies else { return };
        for line in headers.get_all(header::SET_COOKIE) {
            let text = line.to_str().expect("a cookie is text");
            let (name, value) = text.split(';').next().and_then(|pair| pair.split_once('=')).expect("a pair");
            jar.insert(name.to_owned(), value.to_owned());
        }
    }
}

impl Sent {
    fn add(&self, path: &str, count: i64) {
        let path = path.split('?').next().unwrap_or_default().to_owned();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(path).or_default() += count;
    }

    /// How many there were.
    pub(super) fn total(&self) -> usize {
        let paths = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        usize::try_from(paths.values().sum::<i64>()).unwrap_or_default()
    }

    /// How many more there are of each path than were sent, without the paths of which there are as many.
    pub(super) fn surplus<'a>(&self, paths: impl Iterator<Item = &'a str>) -> BTreeMap<String, i64> {
        let mut surplus = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        surplus.values_mut().for_each(|count| *count = -*count);
        paths.for_each(|path| *surplus.entry(path.to_owned()).or_default() += 1);
        surplus.retain(|_, count| *count != 0);
        surplus
    }
}

impl Answer {
    #[track_caller]
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a text")
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// A header's first line, empty if there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The one `Set-Cookie` of the answer.
    #[track_caller]
    pub(crate) fn set_cookie(&self) -> Option<&str> {
        let lines: Vec<_> = self.headers.get_all(header::SET_COOKIE).iter().collect();
        assert!(lines.len() <= 1, "{lines:?}");
        lines.first().map(|line| line.to_str().expect("a cookie is text"))
    }
}

/// The number that a client gave its request.
pub(crate) fn number_of(headers: &HeaderMap) -> Option<u64> {
    headers.get(NUMBER)?.to_str().ok()?.parse().ok()
}

/// Reads a socket to its end: whether that came in time.
pub(crate) async fn has_ended(socket: &mut Socket) -> bool {
    let end = async { while let Some(Ok(_)) = socket.next().await {} };
    tokio::time::timeout(super::DEADLINE, end).await.is_ok()
}

fn upgrade(request: request::Builder) -> request::Builder {
    request
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")
}

/// A body with its length.
pub(crate) fn body_of(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

fn empty() -> Body {
    body_of(Bytes::new())
}
