//! The workers. Each has a thread, a runtime and one socket of each address.

use std::{io, sync::Arc, thread::JoinHandle, time::Duration};

use ipnet::IpNet;
use rustls::ServerConfig;
use tokio::{net::TcpListener, runtime, time};

use crate::{
    connection::{self, Server},
    listen::{self, Acceptor, Bound},
    observe::{access::Access, metrics::Metrics},
    proxy::{Proxy, SharedState},
    shutdown::Shutdown,
};

/// What every worker needs.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) shared: Arc<SharedState>,
    pub(super) connection: connection::Config,
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) trusted: Arc<[IpNet]>,
    pub(super) proxy_protocol: Arc<[IpNet]>,
    pub(super) metrics: Metrics,
    pub(super) access: Arc<Access>,
    pub(super) shutdown: Shutdown,
    pub(super) drain_timeout: Duration,
}

/// How often a worker sends its access lines to the writer when there are few.
const FLUSH: Duration = Duration::from_millis(200);

/// Starts the workers. The n-th gets the n-th socket of each address.
pub(super) fn start(plan: Plan, bound: Vec<Bound>, count: usize) -> io::Result<Vec<JoinHandle<()>>> {
    let mut shares: Vec<Vec<(std::net::TcpListener, bool)>> = (0..count).map(|_| Vec::new()).collect();
    for address in bound {
        for (share, socket) in shares.iter_mut().zip(address.sockets) {
            share.push((socket, address.over_tls));
        }
    }
    let start_one = |(index, sockets): (usize, Vec<_>)| {
        let plan = plan.clone();
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || runtime.block_on(run(plan, sockets)))
    };
    shares.into_iter().enumerate().map(start_one).collect()
}

async fn run(plan: Plan, sockets: Vec<(std::net::TcpListener, bool)>) {
    let shutdown = plan.shutdown.part();
    let limits = plan.shared.limits.clone();
    let proxy = Proxy::new(plan.shared, plan.access.worker(), plan.metrics.clone(), shutdown.clone());
    let server = Arc::new(Server::new(plan.connection, proxy.clone(), shutdown.clone()));
    for (socket, over_tls) in sockets {
        let acceptor = Acceptor {
            server: server.clone(),
            tls: if over_tls { plan.tls.clone() } else { None },
            trusted: plan.trusted.clone(),
            proxy_protocol: plan.proxy_protocol.clone(),
            limits: limits.clone(),
            metrics: plan.metrics.clone(),
            shutdown: shutdown.clone(),
        };
        match TcpListener::from_std(socket) {
            Ok(listener) => drop(tokio::spawn(listen::accept(listener, acceptor))),
            Err(error) => tracing::error!(%error, "a listener could not be used"),
        }
    }
    loop {
        tokio::select! {
            () = time::sleep(FLUSH) => proxy.flush_log(),
            () = shutdown.stopping() => break,
        }
    }
    if !shutdown.ended(plan.drain_timeout).await {
        tracing::warn!(remaining = shutdown.remaining(), "the shutdown took too long; what is left is closed");
    }
    proxy.flush_log();
}
