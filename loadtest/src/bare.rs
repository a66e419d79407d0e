//! The least relay of the proxy's shape: one thread, kept connections, hyper on both sides, and no thought at all.
//!
//! Each client connection has a connection of its own to one of the pods, taken in turn. A request goes there as it came
//! and its answer comes back as it is. It is the floor under what a proxy built on hyper can cost.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use anyhow::{Context, Result};
use clap::Args;
use hyper::body::Incoming;
use hyper::client::conn::http1 as to_pod;
use hyper::server::conn::http1 as to_client;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;

use crate::Verdict;

#[derive(Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    listen: SocketAddr,
    /// A pod's address; given again, client connections take the pods in turn
    #[arg(long, required = true)]
    to: Vec<SocketAddr>,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Verdict> {
    let listener = TcpListener::bind(arguments.listen).await.context("listening")?;
    for &pod in arguments.to.iter().cycle() {
        let (client, _) = listener.accept().await?;
        client.set_nodelay(true)?;
        spawn_local(async move {
            if let Err(error) = relay(client, pod).await {
                eprintln!("relay: {error:#}");
            }
        });
    }
    Ok(Verdict::Passed)
}

async fn relay(client: TcpStream, pod: SocketAddr) -> Result<()> {
    let stream = TcpStream::connect(pod).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = to_pod::handshake(TokioIo::new(stream)).await?;
    spawn_local(connection);
    let upstream = Rc::new(RefCell::new(Some(sender)));
    let service = service_fn(move |request| forward(upstream.clone(), request));
    to_client::Builder::new().serve_connection(TokioIo::new(client), service).await?;
    Ok(())
}

type Upstream = Rc<RefCell<Option<to_pod::SendRequest<Incoming>>>>;

async fn forward(upstream: Upstream, request: Request<Incoming>) -> Result<Response<Incoming>> {
    // HTTP/1 has one request at a time on a connection, so the sender is always there unless an exchange failed.
    let mut sender = upstream.borrow_mut().take().context("the pod's connection is lost")?;
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    *upstream.borrow_mut() = Some(sender);
    Ok(response)
}
