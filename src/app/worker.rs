//! The workers. Each has a thread, a runtime and one socket of each address.
//!
//! A reload reaches a worker by a message. The worker then makes a new request path for what comes,
//! while what is under way ends on the old one.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Weak},
    thread::JoinHandle,
    time::Duration,
};

use arc_swap::ArcSwap;
use ipnet::IpNet;
use rustls::ServerConfig;
use tokio::{net::TcpListener, runtime, sync::mpsc, task::AbortHandle, time};
use tokio_util::sync::CancellationToken;

use super::Config;
use crate::{
    connection::{self, CurrentProxy, Server},
    listen::{self, Acceptor, Bound, CurrentAcceptor},
    observe::{access::Access, metrics::Metrics},
    proxy::{Proxy, SharedState},
    shutdown::Shutdown,
};

/// What every worker needs.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) shared: Arc<SharedState>,
    pub(super) connection: connection::Config,
    pub(super) tls: Arc<ServerConfig>,
    pub(super) trusted: Arc<[IpNet]>,
    pub(super) proxy_protocol: Arc<[IpNet]>,
    pub(super) metrics: Metrics,
    pub(super) access: Arc<Access>,
    pub(super) shutdown: Shutdown,
    pub(super) drain_timeout: Duration,
}

impl Plan {
    pub(super) fn new(
        config: &Config,
        shared: Arc<SharedState>,
        (metrics, access): (Metrics, Arc<Access>),
        tls: Arc<ServerConfig>,
        shutdown: &Shutdown,
    ) -> Plan {
        Plan {
            shared,
            connection: config.connection.clone(),
            tls,
            trusted: config.forward.trusted.as_slice().into(),
            proxy_protocol: config.listen.proxy_protocol.as_slice().into(),
            metrics,
            access,
            shutdown: shutdown.clone(),
            drain_timeout: config.drain_timeout,
        }
    }
}

/// What a worker is told while it runs.
enum Change {
    /// New connections and requests go by this plan.
    Plan(Box<Plan>),
    Listen(Socket),
    /// The listener of this address ends.
    End(SocketAddr, bool),
    /// No listener accepts any more. What waits in their queues is for others.
    Mute,
    /// The worker ends once nothing is under way.
    Leave,
}

/// A worker's own socket of one address.
struct Socket {
    address: SocketAddr,
    over_tls: bool,
    listener: std::net::TcpListener,
}

/// The running workers.
pub(super) struct Workers {
    threads: Vec<JoinHandle<()>>,
    changes: Vec<mpsc::UnboundedSender<Change>>,
}

/// How often a worker sends its access lines to the writer when there are few.
const FLUSH: Duration = Duration::from_millis(200);

/// Starts the workers. The n-th gets the n-th socket of each address.
pub(super) fn start(plan: Plan, bound: Vec<Bound>, count: usize) -> io::Result<Workers> {
    let mut workers = Workers { threads: Vec::new(), changes: Vec::new() };
    for index in 0..count {
        let plan = plan.clone();
        let (change, changes) = mpsc::unbounded_channel();
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let run = move || runtime.block_on(run(plan, changes));
        workers.threads.push(std::thread::Builder::new().name(format!("worker-{index}")).spawn(run)?);
        workers.changes.push(change);
    }
    bound.into_iter().for_each(|bound| workers.listen(bound));
    Ok(workers)
}

impl Workers {
    /// Gives all workers another plan.
    pub(super) fn renew(&self, plan: &Plan) {
        self.send_to_all(|| Change::Plan(Box::new(plan.clone())));
    }

    /// Gives each worker its sockets of an address.
    pub(super) fn listen(&self, bound: Bound) {
        for (worker, listener) in self.changes.iter().cycle().zip(bound.sockets) {
            let socket = Socket { address: bound.address, over_tls: bound.over_tls, listener };
            // A worker that is gone has ended by a panic, and said so.
            let _ = worker.send(Change::Listen(socket));
        }
    }

    /// Ends the listener of an address.
    pub(super) fn end(&self, address: SocketAddr, over_tls: bool) {
        self.send_to_all(|| Change::End(address, over_tls));
    }

    /// Stops accepting. Connections wait in the sockets' queues while a copy of these is open.
    pub(super) fn mute(&self) {
        self.send_to_all(|| Change::Mute);
    }

    /// Ends each worker once nothing is under way.
    pub(super) fn end_when_idle(&self) {
        self.send_to_all(|| Change::Leave);
    }

    pub(super) fn have_ended(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Waits until all workers have ended. Blocks.
    pub(super) fn join(self) {
        for thread in self.threads {
            // A panicked worker has printed its message. The other workers still have to end.
            let _ = thread.join();
        }
    }

    fn send_to_all(&self, change: impl Fn() -> Change) {
        for worker in &self.changes {
            let _ = worker.send(change());
        }
    }
}

/// A worker's parts that a reload replaces.
struct Worker {
    proxy: CurrentProxy,
    acceptor: CurrentAcceptor,
    connection: connection::Config,
    access: Arc<Access>,
    drain_timeout: Duration,
    /// Request paths whose access log is another one now. They write until their last request ends.
    former: Vec<Weak<Proxy>>,
    listeners: Vec<(SocketAddr, bool, CancellationToken, AbortHandle)>,
    is_leaving: bool,
    shutdown: Shutdown,
    metrics: Metrics,
}

async fn run(plan: Plan, mut changes: mpsc::UnboundedReceiver<Change>) {
    let mut worker = Worker::new(plan);
    let shutdown = worker.shutdown.clone();
    loop {
        tokio::select! {
            () = time::sleep(FLUSH) => {
                worker.flush();
                if worker.is_leaving && shutdown.remaining() == 0 {
                    return;
                }
            }
            Some(change) = changes.recv() => worker.apply(change),
            () = shutdown.stopping() => break,
        }
    }
    if !shutdown.ended(worker.drain_timeout).await {
        tracing::warn!(remaining = shutdown.remaining(), "the shutdown took too long; what is left is closed");
    }
    worker.flush();
}

impl Worker {
    fn new(plan: Plan) -> Worker {
        let shutdown = plan.shutdown.part();
        let proxy = Proxy::new(plan.shared.clone(), plan.access.worker(), plan.metrics.clone(), shutdown.clone());
        let proxy = Arc::new(ArcSwap::from(proxy));
        let server = Server::new(plan.connection.clone(), proxy.clone(), shutdown.clone());
        let acceptor = Acceptor {
            server: Arc::new(server),
            tls: plan.tls,
            trusted: plan.trusted,
            proxy_protocol: plan.proxy_protocol,
            limits: plan.shared.limits.clone(),
            metrics: plan.metrics.clone(),
            shutdown: shutdown.clone(),
        };
        Worker {
            proxy,
            acceptor: Arc::new(ArcSwap::from_pointee(acceptor)),
            connection: plan.connection,
            access: plan.access,
            drain_timeout: plan.drain_timeout,
            former: Vec::new(),
            listeners: Vec::new(),
            is_leaving: false,
            shutdown,
            metrics: plan.metrics,
        }
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Plan(plan) => self.renew(*plan),
            Change::Listen(socket) => self.listen(socket),
            Change::Mute => self.listeners.drain(..).for_each(|(.., task)| task.abort()),
            Change::Leave => self.is_leaving = true,
            Change::End(address, over_tls) => self.listeners.retain(|(at, is_tls, ends, _)| {
                let is_meant = (*at, *is_tls) == (address, over_tls);
                if is_meant {
                    ends.cancel();
                }
                !is_meant
            }),
        }
    }

    fn renew(&mut self, plan: Plan) {
        let is_other_log = !Arc::ptr_eq(&self.access, &plan.access);
        let before = self.proxy.load_full();
        self.proxy.store(before.renewed(plan.shared.clone(), is_other_log.then(|| plan.access.worker())));
        if is_other_log {
            self.former.push(Arc::downgrade(&before));
        }
        let server = match plan.connection == self.connection {
            true => self.acceptor.load().server.clone(),
            false => Arc::new(Server::new(plan.connection.clone(), self.proxy.clone(), self.shutdown.clone())),
        };
        self.acceptor.store(Arc::new(Acceptor {
            server,
            tls: plan.tls,
            trusted: plan.trusted,
            proxy_protocol: plan.proxy_protocol,
            limits: plan.shared.limits.clone(),
            metrics: self.metrics.clone(),
            shutdown: self.shutdown.clone(),
        }));
        (self.connection, self.access, self.drain_timeout) = (plan.connection, plan.access, plan.drain_timeout);
    }

    fn listen(&mut self, Socket { address, over_tls, listener }: Socket) {
        match TcpListener::from_std(listener) {
            Ok(listener) => {
                let ends = CancellationToken::new();
                let task = tokio::spawn(listen::accept(listener, self.acceptor.clone(), over_tls, ends.clone()));
                self.listeners.push((address, over_tls, ends, task.abort_handle()));
            }
            Err(error) => tracing::error!(%error, "a listener could not be used"),
        }
    }

    /// Sends the buffered access lines to their writers.
    fn flush(&mut self) {
        self.proxy.load().flush_log();
        self.former.retain(|proxy| match proxy.upgrade() {
            Some(proxy) => {
                proxy.flush_log();
                true
            }
            None => false,
        });
    }
}
