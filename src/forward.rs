//! Sends a request to a pod and brings back its answer, over connections that are kept.
//!
//! Each worker has its own [`Forward`], and so its own kept connections. [`retry`] decides what
//! follows a [`Failure`], and `proxy` carries it out.

pub mod answer;
mod connections;
mod first_byte;
pub mod head;
pub mod outbound;
mod pod_stream;
pub mod retry;

use std::{io, pin::pin, sync::Arc, time::Duration};

use answer::AnswerBody;
use connections::{Connections, PooledConnection};
pub use first_byte::FirstByte;
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use ipnet::IpNet;
use outbound::UpstreamBody;
use tokio::{net::TcpStream, time};

use crate::{
    health,
    pod::{self, Admitted, HandshakeError, Pod, Slot, State, Urgency},
};

/// How jellypin talks to pods.
#[derive(Clone, Debug)]
pub struct Config {
    /// Longest time for a connection to a pod, name look-up included. Default 1 s.
    pub connect_timeout: Duration,
    /// Longest time from the request's last byte to the answer's head.
    pub first_byte: FirstByte,
    /// Longest time that a client may send nothing of a body that it has announced. Default 30 s.
    pub client_body: Duration,
    /// How long an unused connection to a pod is kept. Default 60 s; Kestrel ends them after 130 s.
    pub pod_idle: Duration,
    /// Unused connections kept for each pod by each worker. Default 64.
    pub max_idle_per_pod: usize,
    /// Longest time that a request waits for a pod that may come back. Default 20 s.
    pub hold: Duration,
    /// Requests that wait for one pod at most, while it has too much to do. Default 512.
    pub queue: usize,
    /// Longest time that they wait. Default 15 s.
    pub queue_time: Duration,
    /// Longest request body in bytes that is kept for another attempt. Default 64 KiB.
    pub replay_bytes: usize,
    /// Bytes of a pod's answers that the kernel buffers for each connection. Default 512 KiB.
    pub receive_buffer: usize,
    /// Peers whose `X-Forwarded-*` headers are believed. Default none.
    pub trusted: Vec<IpNet>,
}

/// Why a pod gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    pub cause: Cause,
    /// The pod may have received the request, or a part of it.
    pub may_be_received: bool,
    /// The request went over a kept connection, which the pod may have closed at that moment.
    pub on_reused_connection: bool,
}

/// An extension of an answer's head: the pod answered before the body's end and reads no more.
#[derive(Clone, Copy, Debug)]
pub struct PodCloses;

/// What went wrong between the proxy and a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No process listens there, or the pod's name has no address.
    Refused,
    /// No connection in time, no way to the pod, or no name server that says where it is.
    ConnectTimedOut,
    /// It does not speak TLS, or not as the pod that is meant.
    Untrusted,
    /// The connection ended before the answer's head.
    Broken,
    /// The answer is not HTTP, or none to what was asked.
    Malformed,
    /// The pod answered that it failed, as it does while its database is away. It lives.
    ServerError,
    /// No answer's head in time.
    TimedOut,
    /// The pod went down while the request waited for its answer.
    Lost,
    /// The client's own body broke off.
    ClientGone,
    /// The client's body is no HTTP: its chunks are malformed.
    ClientMalformed,
    /// The client announced a body, and has sent nothing of it for too long.
    ClientSilent,
    /// This machine has no port or file handle left: not the pod's fault.
    Exhausted,
    /// The pod has too much to do, and the request has waited for its turn in vain.
    Overloaded,
}

impl Cause {
    /// A label of a closed set.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Refused => "refused",
            Cause::ConnectTimedOut => "connect_timed_out",
            Cause::Untrusted => "untrusted",
            Cause::Broken => "broken",
            Cause::Malformed => "malformed",
            Cause::ServerError => "server_error",
            Cause::TimedOut => "timed_out",
            Cause::Lost => "lost",
            Cause::ClientGone => "client_gone",
            Cause::ClientMalformed => "client_malformed",
            Cause::ClientSilent => "client_silent",
            Cause::Exhausted => "exhausted",
            Cause::Overloaded => "overloaded",
        }
    }
}

/// How long a request may wait for its answer's head, and what may cut that short.
#[derive(Clone, Copy, Debug)]
pub struct ResponseTimeout {
    pub first_byte: Duration,
    /// The wait ends this long after the pod was lost, unless the pod comes back before.
    pub after_lost: Duration,
}

/// Longest time for a TLS handshake: a slow pod takes its time for it, as for any request.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Longest time for the answer to an upgrade, which takes a pod no work.
const UPGRADE: Duration = Duration::from_secs(30);

/// After this time a waiting request begins to watch its pod. Most answers come sooner.
const WATCH_AFTER: Duration = Duration::from_millis(200);

/// If the client was silent this long before the pod ends the connection, the pod has timed out and
/// is well. Kestrel's limit is 5 s.
const PATIENCE_OF_PODS: Duration = Duration::from_secs(3);

/// One worker's way to the pods.
pub struct Forward {
    config: Arc<Config>,
    connections: Arc<Connections>,
}

impl Forward {
    pub fn new(config: Arc<Config>) -> Forward {
        let connections = Connections::new(config.max_idle_per_pod, config.pod_idle);
        Forward { config, connections: Arc::new(connections) }
    }

    /// The way to the pods after a reload. The kept connections stay, unless their bounds change.
    #[must_use]
    pub fn renewed(&self, config: Arc<Config>) -> Forward {
        let bounds = |config: &Config| (config.max_idle_per_pod, config.pod_idle);
        if bounds(&config) == bounds(&self.config) {
            return Forward { config, connections: self.connections.clone() };
        }
        Forward::new(config)
    }

    /// Sends a request to a pod and waits for the head of its answer, once it is the request's turn.
    ///
    /// Skips kept connections that turn out to be closed before a byte was sent.
    pub async fn send(
        &self,
        pod: &Arc<Pod>,
        mut request: Request<UpstreamBody>,
        response_timeout: ResponseTimeout,
        urgency: Urgency,
    ) -> Result<Response<AnswerBody>, Failure> {
        let _slot = self.admit(pod, urgency).await?;
        name_host(pod, &mut request);
        loop {
            let kept = self.connections.take(pod);
            let on_reused_connection = kept.is_some();
            let mut connection_lease = match kept {
                Some(connection_lease) => connection_lease,
                None => self.dial(pod).await?,
            };
            let body = request.body().progress();
            let mut failed = match answer_to(
                pod,
                &mut connection_lease,
                request,
                body.clone(),
                response_timeout,
                self.config.client_body,
            )
            .await
            {
                // The client asked for no other protocol, and could not speak one.
                Ok(Ok(answer)) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
                    return Err(Failure { cause: Cause::Malformed, may_be_received: true, on_reused_connection });
                }
                Ok(Ok(mut answer)) => {
                    pod.vitals.record_life();
                    pod.extra_calls.record_answer();
                    if body.is_held_back() {
                        connection_lease.end_with_answer();
                    }
                    let is_close = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"close");
                    if !body.has_ended() && answer.headers().get(header::CONNECTION).is_some_and(is_close) {
                        answer.extensions_mut().insert(PodCloses);
                    }
                    return Ok(answer.map(|body| AnswerBody::new(body, connection_lease, pod.clone())));
                }
                Ok(Err(failed)) => failed,
                Err(cause) => return Err(Failure { cause, may_be_received: true, on_reused_connection }),
            };
            let cause = match cause_of(failed.error()) {
                Cause::Broken if body.silence().is_some_and(|silence| silence >= PATIENCE_OF_PODS) => {
                    Cause::ClientSilent
                }
                Cause::ClientGone if body.is_malformed() => Cause::ClientMalformed,
                cause => cause,
            };
            match failed.take_message() {
                // Closed before anything was sent: the whole request goes over the next connection.
                Some(unsent) if on_reused_connection => request = unsent,
                unsent => return Err(Failure { cause, may_be_received: unsent.is_none(), on_reused_connection }),
            }
        }
    }

    /// Sends an upgrade request over a connection of its own, and waits for the pod's answer.
    pub async fn upgrade(
        &self,
        pod: &Arc<Pod>,
        mut request: Request<UpstreamBody>,
        urgency: Urgency,
    ) -> Result<Response<AnswerBody>, Failure> {
        let _slot = self.admit(pod, urgency).await?;
        name_host(pod, &mut request);
        let mut connection_lease = self.dial(pod).await?;
        let response_timeout = ResponseTimeout { first_byte: UPGRADE, after_lost: Duration::ZERO };
        let body = request.body().progress();
        let failure = |cause| Failure { cause, may_be_received: true, on_reused_connection: false };
        match answer_to(pod, &mut connection_lease, request, body, response_timeout, self.config.client_body).await {
            Ok(Ok(answer)) => {
                pod.vitals.record_life();
                Ok(answer.map(|body| AnswerBody::unpooled(body, pod.clone())))
            }
            Ok(Err(failed)) => Err(failure(cause_of(failed.error()))),
            Err(cause) => Err(failure(cause)),
        }
    }

    /// Waits until the pod can take another request, in a queue that is bounded in number and time. A
    /// pod that goes down meanwhile is not waited for.
    async fn admit(&self, pod: &Arc<Pod>, urgency: Urgency) -> Result<Slot, Failure> {
        let failure = |cause| Failure { cause, may_be_received: false, on_reused_connection: false };
        let mut waiting = match pod.concurrency.admit(urgency, self.config.queue) {
            Admitted::Now(slot) => return Ok(slot),
            Admitted::Full => return Err(failure(Cause::Overloaded)),
            Admitted::Later(waiting) => waiting,
        };
        tokio::select! {
            biased;
            // First, also when a slot is free: a process that says farewell waits 30 s for a socket that
            // is opened afterwards.
            () = pod.life.await_down() => Err(failure(Cause::Lost)),
            slot = waiting.slot(self.config.queue_time) => slot.ok_or(failure(Cause::Overloaded)),
        }
    }

    async fn dial(&self, pod: &Pod) -> Result<PooledConnection, Failure> {
        let failure = |cause| Failure { cause, may_be_received: false, on_reused_connection: false };
        let transport = pod.transport.number();
        let stream = time::timeout(self.config.connect_timeout, TcpStream::connect(&*pod.authority))
            .await
            .map_err(|_| failure(Cause::ConnectTimedOut))?
            .map_err(|error| failure(refusal(&error)))?;
        connections::set_up(&stream, self.config.receive_buffer);
        let stream = pod::secure(pod, stream, HANDSHAKE).await.map_err(|error| {
            failure(match error {
                // Its machine took the connection: the pod is late, as with an answer.
                HandshakeError::TimedOut => Cause::TimedOut,
                HandshakeError::Broken => Cause::Broken,
                HandshakeError::Untrusted => Cause::Untrusted,
            })
        })?;
        self.connections.open((pod.id, transport), stream).await.map_err(|_| failure(Cause::Broken))
    }
}

/// Puts in the host that the operator gives the pod, if any. The client's own stays in `X-Forwarded-Host`.
fn name_host(pod: &Pod, request: &mut Request<UpstreamBody>) {
    if let Some(host) = pod.transport.host() {
        request.headers_mut().insert(header::HOST, host);
    }
}

type Sent = Result<Response<Incoming>, hyper::client::conn::TrySendError<Request<UpstreamBody>>>;

/// Waits for the answer's head; `Err` when the timeout comes first.
async fn answer_to(
    pod: &Pod,
    connection_lease: &mut PooledConnection,
    request: Request<UpstreamBody>,
    body: outbound::Progress,
    response_timeout: ResponseTimeout,
    client_body: Duration,
) -> Result<Sent, Cause> {
    // A pod that is down but still gets a request answers as well as it can. It does not count as
    // lost by staying down.
    let was_down = pod.status().state == State::Down;
    let PooledConnection { requests, timer, .. } = connection_lease;
    let mut answer = pin!(requests.try_send_request(request));
    let asked = time::Instant::now();
    timer.as_mut().reset(asked + WATCH_AFTER.min(response_timeout.first_byte));
    tokio::select! {
        biased;
        sent = &mut answer => return Ok(sent),
        () = timer.as_mut() => {}
    }
    let mut lost = pin!(lost_for(pod, was_down, response_timeout.after_lost));
    loop {
        // The time counts from the body's last byte. The body may take long, if something comes.
        let end = match (body.ended_at(asked), body.silence()) {
            (Some(ended), _) => ended + response_timeout.first_byte,
            (None, silence) => time::Instant::now() + client_body.saturating_sub(silence.unwrap_or_default()),
        };
        tokio::select! {
            sent = &mut answer => return Ok(sent),
            () = &mut lost => return Err(Cause::Lost),
            () = time::sleep_until(end) => {
                if body.ended_at(asked).is_some_and(|ended| ended + response_timeout.first_byte <= time::Instant::now()) {
                    return Err(Cause::TimedOut);
                }
                if body.silence().is_some_and(|silence| silence >= client_body) {
                    return Err(Cause::ClientSilent);
                }
            }
        }
    }
}

/// Waits until the pod has been lost for this long without a break.
async fn lost_for(pod: &Pod, was_down: bool, time: Duration) {
    loop {
        if was_down {
            pod.life.await_unreachable().await;
        } else {
            pod.life.await_down().await;
        }
        if time::timeout(time, pod.life.await_return()).await.is_err() {
            return;
        }
    }
}

fn cause_of(error: &hyper::Error) -> Cause {
    if error.is_user() {
        Cause::ClientGone
    } else if error.is_parse() {
        Cause::Malformed
    } else {
        Cause::Broken
    }
}

fn refusal(error: &io::Error) -> Cause {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => Cause::Exhausted,
        io::ErrorKind::TimedOut => Cause::ConnectTimedOut,
        _ if health::is_out_of_handles(error) => Cause::Exhausted,
        _ if health::is_for_want_of_a_name_server(error) || health::is_unreachable(error) => Cause::ConnectTimedOut,
        _ => Cause::Refused,
    }
}

#[cfg(test)]
mod tests;
