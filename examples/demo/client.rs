//! A client's HTTP side: one kept connection, a cookie jar or none, and a record of every request as the client saw it.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

/// How long a client waits for a whole answer.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// One request as its client saw it.
pub(crate) struct Record {
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    pub(crate) is_segment: bool,
    /// 0 when there was no whole answer.
    pub(crate) status: u16,
}

/// Sends requests one after another.
pub(crate) struct Client {
    address: SocketAddr,
    device: &'static str,
    keeps_cookies: bool,
    cookies: Vec<(String, String)>,
    token: Option<String>,
    connection: Option<SendRequest<Full<Bytes>>>,
    pub(crate) records: Vec<Record>,
}

/// A whole answer, or none: then the status is 0.
#[derive(Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    body: Bytes,
}

impl Answer {
    pub(crate) fn is_good(&self) -> bool {
        (200..400).contains(&self.status)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    pub(crate) fn new(address: SocketAddr, device: &'static str, keeps_cookies: bool) -> Client {
        let (cookies, records) = (Vec::new(), Vec::new());
        Client { address, device, keeps_cookies, cookies, token: None, connection: None, records }
    }

    pub(crate) fn device(&self) -> &'static str {
        self.device
    }

    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    pub(crate) fn set_token(&mut self, token: Option<String>) {
        self.token = token;
    }

    /// A call of the API, which names client and token in its `Authorization` header.
    pub(crate) async fn call(&mut self, method: Method, target: &str, body: Option<Value>) -> Answer {
        let headers = self.authorization();
        self.send(method, target, headers, body, false).await
    }

    /// What a page or a player fetches: it bears nothing but what stands in its address, and the cookie.
    pub(crate) async fn fetch(&mut self, target: &str) -> Answer {
        self.send(Method::GET, target, HeaderMap::new(), None, target.contains("/hls1/")).await
    }

    /// The header by which Jellyfin's clients name themselves.
    pub(crate) fn authorization(&self) -> HeaderMap {
        let (device, token) = (self.device, self.token.as_deref().unwrap_or_default());
        let value = format!(
            "MediaBrowser Client=\"jellypin demo\", Device=\"{device}\", DeviceId=\"{device}\", Version=\"1.0\", \
             Token=\"{token}\""
        );
        value.parse().map(|value| HeaderMap::from_iter([(header::AUTHORIZATION, value)])).unwrap_or_default()
    }

    /// The header by which a browser sends its cookies back.
    pub(crate) fn cookies(&self) -> Option<String> {
        let pairs: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    async fn send(
        &mut self,
        method: Method,
        target: &str,
        headers: HeaderMap,
        body: Option<Value>,
        is_segment: bool,
    ) -> Answer {
        let began = Instant::now();
        let answer = match timeout(PATIENCE, self.exchange(method, target, headers, body)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => {
                self.connection = None;
                Answer::default()
            }
        };
        self.records.push(Record { began, ended: Instant::now(), is_segment, status: answer.status });
        answer
    }

    async fn exchange(
        &mut self,
        method: Method,
        target: &str,
        headers: HeaderMap,
        body: Option<Value>,
    ) -> Result<Answer, Failure> {
        let mut request = Request::builder().method(method).uri(target).header(header::HOST, self.address.to_string());
        if let Some(cookies) = self.cookies() {
            request = request.header(header::COOKIE, cookies);
        }
        let mut content = Bytes::new();
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, "application/json");
            content = body.to_string().into();
        }
        let mut request = request.body(Full::new(content))?;
        request.headers_mut().extend(headers);
        let answer = self.connected().await?.send_request(request).await?;
        self.keep_cookies(answer.headers());
        let status = answer.status().as_u16();
        Ok(Answer { status, body: answer.into_body().collect().await?.to_bytes() })
    }

    /// The kept connection, or a new one.
    async fn connected(&mut self) -> Result<&mut SendRequest<Full<Bytes>>, Failure> {
        let kept = match self.connection.take() {
            // A connection that the other side has ended says so here.
            Some(mut kept) => kept.ready().await.is_ok().then_some(kept),
            None => None,
        };
        let connection = match kept {
            Some(kept) => kept,
            None => {
                let (sender, driver) = handshake(TokioIo::new(TcpStream::connect(self.address).await?)).await?;
                // A request that waits for an answer learns how it ends.
                tokio::spawn(driver);
                sender
            }
        };
        Ok(self.connection.insert(connection))
    }

    fn keep_cookies(&mut self, headers: &HeaderMap) {
        if !self.keeps_cookies {
            return;
        }
        for line in headers.get_all(header::SET_COOKIE).iter().filter_map(|line| line.to_str().ok()) {
            let pair = line.split(';').next().and_then(|pair| pair.split_once('='));
            if let Some((name, value)) = pair {
                self.cookies.retain(|(kept, _)| kept != name);
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
    }
}
