//! The control port: a few requests by which a test outside this process breaks the pod and asks what it saw.
//!
//! `POST /kill`, `/stop`, `/start`, `/hang?on=1`, `/refuse?on=1`, `/slow?ms=50`, `/cut?bytes=1000` (without a number:
//! off), `/degrade?on=1`, `/database?down=1`, `/database/hang?on=1`,
//! `/database/slow?ms=500`, `/hold?on=1` (HTTP, while sockets go on), `/disk?full=1`, `/cores?of=0.2` (without a number: as fast
//! as it can), `/record?on=1`, `/clear`; `GET /state`, `/seen`.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::machine::Machine;
use crate::pod::Pod;
use crate::seen::Seen;

/// Serves the controls of a pod; gives the address they are at.
pub(crate) async fn serve(pod: Arc<Pod>, address: SocketAddr) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let pod = Arc::clone(&pod);
            let answer = service_fn(move |request| {
                let pod = Arc::clone(&pod);
                async move { Ok::<_, Infallible>(answer(&pod, &request).await) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    Ok(address)
}

async fn answer<B>(pod: &Pod, request: &Request<B>) -> Response<Full<Bytes>> {
    let query = request.uri().query().unwrap_or_default();
    let value = query.split_once('=').map_or("", |(_, value)| value);
    let on = matches!(value, "1" | "true" | "on");
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/state") => (StatusCode::OK, state(pod)),
        (&Method::GET, "/seen") => (StatusCode::OK, pod.seen().iter().map(seen).collect()),
        (&Method::POST, path) => act(pod, path, value, on).await,
        _ => (StatusCode::METHOD_NOT_ALLOWED, Value::Null),
    };
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response
}

async fn act(pod: &Pod, path: &str, value: &str, on: bool) -> (StatusCode, Value) {
    match path {
        "/kill" => pod.kill().await,
        "/stop" => pod.stop().await,
        "/start" => {
            if let Err(error) = pod.start_again().await {
                return (StatusCode::CONFLICT, json!(error.to_string()));
            }
        }
        "/hang" => pod.hang(on),
        "/refuse" => pod.refuse(on),
        "/slow" => pod.slow_first_byte(Duration::from_millis(value.parse().unwrap_or(0))),
        "/cut" => pod.cut_bodies_after(value.parse().ok()),
        "/degrade" => pod.degrade(on),
        "/database" => pod.database_down(on),
        "/database/hang" => pod.cluster().hang_database(on),
        "/database/slow" => pod.cluster().slow_database(Duration::from_millis(value.parse().unwrap_or(0))),
        "/hold" => pod.hold_http(on),
        "/disk" => pod.fill_disk(on),
        "/cores" => pod.run_on(value.parse().ok().map(|cores| Machine::RECORDED.warm().cores(cores))),
        "/record" => pod.set_recording(on),
        "/clear" => pod.clear_seen(),
        _ => return (StatusCode::NOT_FOUND, Value::Null),
    }
    (StatusCode::OK, state(pod))
}

fn state(pod: &Pod) -> Value {
    json!({
        "name": pod.name(),
        "address": pod.address().to_string(),
        "server_id": pod.server_id(),
        "running": pod.is_running(),
        "ready": pod.is_ready(),
        "connections": pod.open_connections(),
        "sockets": pod.open_sockets(),
        "api_key": pod.cluster().api_key(),
    })
}

fn seen(seen: &Seen) -> Value {
    let headers =
        seen.headers.iter().map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]));
    json!({
        "method": seen.method.as_str(),
        "target": seen.target,
        "headers": headers.collect::<Vec<Value>>(),
        "status": seen.status,
        "client_gone": seen.client_gone,
    })
}
