//! Asks the running proxy: `jellypin check --diff` and `jellypin upgrade`.

use std::{io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use jellypin::admin;
use tokio::{net::TcpStream, time};

/// The longest time for the answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest answer that is read.
const LONGEST: usize = 1 << 20;

/// What the running proxy says. `config` has its admin API's address and token.
pub(super) async fn ask(config: &admin::Config, method: &Method, page: &str) -> Result<String, String> {
    let Some(address) = config.listen else {
        return Err("[admin] listen is \"off\", so the running proxy cannot be asked".to_owned());
    };
    let answer = time::timeout(PATIENCE, send(config, reachable(address), method, page)).await;
    match answer.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut))) {
        Ok((StatusCode::OK, said)) => Ok(said),
        Ok((status, said)) => Err(format!("the running proxy answers {status}: {}", said.trim_end())),
        Err(error) => Err(format!("no running proxy answers at {address}: {error}")),
    }
}

async fn send(
    config: &admin::Config,
    address: SocketAddr,
    method: &Method,
    page: &str,
) -> io::Result<(StatusCode, String)> {
    let stream = TcpStream::connect(address).await?;
    let (mut requests, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(async move {
        // The caller learns how the connection ends.
        let _ = connection.await;
    });
    let mut request = Request::builder().method(method).uri(page).header(header::HOST, address.to_string());
    if let Some(token) = &config.token {
        request = request.header(header::AUTHORIZATION, [b"Bearer ", token.bytes()].concat());
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(io::Error::other)?;
    let (head, body) = requests.send_request(request).await.map_err(io::Error::other)?.into_parts();
    let body = Limited::new(body, LONGEST).collect().await.map_err(io::Error::other)?.to_bytes();
    Ok((head.status, String::from_utf8_lossy(&body).into_owned()))
}

/// An address that stands for all of the machine's is reached on its loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => ([127, 0, 0, 1], v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (std::net::Ipv6Addr::LOCALHOST, v6.port()).into(),
        other => other,
    }
}
