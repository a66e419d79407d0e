//! Asks the admin API of a jellypin that runs with this configuration, for the command line.

mod status;

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Request, StatusCode, header, request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::{net::TcpStream, time};

use crate::admin;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("[admin] listen is off, so nobody can be asked")]
    Off,
    #[error("no jellypin answers at {0}: {1}")]
    Silent(SocketAddr, io::Error),
    #[error("jellypin answers {0}: {1}")]
    Refused(StatusCode, String),
    #[error("another version of jellypin answers, in a form that this one cannot read")]
    Unread,
}

/// Pause between two looks at a restart of all pods.
const LOOK: Duration = Duration::from_millis(250);

/// The longest time for an answer, and the longest answer in bytes. An overview of 2,000 clients
/// takes a MiB.
const LONGEST: Duration = Duration::from_secs(45);
const MOST: usize = 8 << 20;

/// Asks why a client is where it is. `key` is `token`, `device`, `user` or `session`. Neither
/// command line nor address has the value.
///
/// # Errors
/// The listener is off, does not answer, or refuses.
pub async fn explain(config: &admin::Config, key: &str, value: &str) -> Result<String, AskError> {
    let form = format!("{key}={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
    let request = Request::post("/explain")
        .header(header::ACCEPT, "text/plain")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    with_token(config, request, form).await
}

/// Restarts all pods of a pool one after the other, and `says` each step. Without a name the only
/// pool is meant. Returns whether all were restarted.
///
/// # Errors
/// The listener is off, does not answer, or refuses.
pub async fn roll(config: &admin::Config, pool: Option<&str>, mut says: impl FnMut(&str)) -> Result<bool, AskError> {
    let query = pool.map_or(String::new(), |pool| format!("?pool={}", utf8_percent_encode(pool, NON_ALPHANUMERIC)));
    let begun = with_token(config, Request::post(format!("/roll{query}")), String::new()).await?;
    says(begun.trim());
    let mut said = BTreeMap::new();
    loop {
        time::sleep(LOOK).await;
        let page = with_token(config, Request::get("/roll"), String::new()).await?;
        let rolls: Value = serde_json::from_str(&page).unwrap_or_default();
        let rolls = rolls.as_array().map(Vec::as_slice).unwrap_or_default();
        let roll = rolls.iter().find(|roll| pool.is_none_or(|pool| roll["pool"] == pool)).cloned().unwrap_or_default();
        for pod in roll["pods"].as_array().into_iter().flatten() {
            let (Some(name), Some(step)) = (pod["name"].as_str(), pod["step"].as_str()) else { continue };
            if step != "waits" && said.insert(name.to_owned(), step.to_owned()).as_deref() != Some(step) {
                says(&format!("{name}: {step}"));
            }
        }
        match roll["state"].as_str() {
            Some("running") => {}
            Some("done") => return Ok(true),
            _ => {
                let why = |name: &str| roll["trouble"][name].as_str().unwrap_or("?").to_owned();
                says(&format!("stopped at {}: {}", why("pod"), why("why")));
                return Ok(false);
            }
        }
    }
}

/// What only the running process can say or do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// What a reload would change.
    Difference,
    /// To let a new process take its place.
    HandOver,
    /// How things stand: what is wrong, the pods, and the latest events, for a terminal.
    Status,
}

/// Asks this.
///
/// # Errors
/// The listener is off, does not answer, finds the configuration unusable, cannot hand over, or is
/// of another version.
pub async fn send_question(config: &admin::Config, question: Question) -> Result<String, AskError> {
    let request = match question {
        Question::Difference => Request::get("/reload"),
        Question::HandOver => Request::post("/upgrade"),
        Question::Status => Request::get("/overview"),
    };
    let said = with_token(config, request, String::new()).await?;
    if question != Question::Status {
        return Ok(said);
    }
    let overview = serde_json::from_str(&said).unwrap_or_default();
    status::text(&overview, SystemTime::now()).ok_or(AskError::Unread)
}

/// Asks a page that needs no token, `/live` or `/ready`, whether all is well.
///
/// # Errors
/// The listener is off, does not answer, or says that it is not.
pub async fn health(config: &admin::Config, page: &str) -> Result<(), AskError> {
    let address = reachable(config.listen.ok_or(AskError::Off)?);
    let request = Request::get(page).header(header::HOST, address.to_string());
    answer(address, request, String::new()).await.map(drop)
}

async fn with_token(config: &admin::Config, request: request::Builder, body: String) -> Result<String, AskError> {
    let address = reachable(config.listen.ok_or(AskError::Off)?);
    let mut request = request.header(header::HOST, address.to_string());
    if let Some(token) = &config.token {
        request = request.header(header::AUTHORIZATION, [b"Bearer ", token.bytes()].concat());
    }
    answer(address, request, body).await
}

async fn answer(address: SocketAddr, request: request::Builder, body: String) -> Result<String, AskError> {
    let asked = time::timeout(LONGEST, send(address, request, body)).await;
    let late = || Err(io::Error::new(io::ErrorKind::TimedOut, "it is too slow"));
    let (status, text) = asked.unwrap_or_else(|_| late()).map_err(|error| AskError::Silent(address, error))?;
    if status.is_success() { Ok(text) } else { Err(AskError::Refused(status, text.trim().to_owned())) }
}

async fn send(address: SocketAddr, request: request::Builder, body: String) -> io::Result<(StatusCode, String)> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    let request = request.body(Full::new(Bytes::from(body))).map_err(io::Error::other)?;
    let (head, body) = sender.send_request(request).await.map_err(io::Error::other)?.into_parts();
    let body = Limited::new(body, MOST).collect().await.map_err(io::Error::other)?.to_bytes();
    Ok((head.status, String::from_utf8_lossy(&body).into_owned()))
}

/// Where a program on this machine reaches the listener.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
