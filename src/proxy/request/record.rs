//! The record of one request: filled on the way, written once when the request ends, however it
//! ends.

use std::{fmt::Write, net::IpAddr, sync::Arc, time::Duration};

use http::{HeaderValue, Method, Request, Uri, Version, header};
use tokio::time::Instant;

use super::{
    reason::FailoverReason,
    refusal::Refusal,
    select::{Decision, Reason},
};
use crate::{
    forward::outbound::ReplayBody,
    jellyfin::endpoint,
    observe::{access, metrics},
    pod::{LoadGuard, Pod, Pool},
    proxy::observer::Observer,
    route::rules::Rules,
    websocket::End,
};

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Outcome {
    /// The client got the whole answer.
    Complete,
    /// The client left first.
    ClientGone,
    /// The pod broke off its answer.
    PodBroke,
    /// The proxy itself answered, for this cause.
    Refused(Refusal),
    /// A socket ended in this way.
    Socket(End),
}

pub(in crate::proxy) struct RequestRecord {
    observer: Arc<Observer>,
    /// Whether this is a client's own request; only those are written when they end.
    is_written: bool,
    client: IpAddr,
    method: Method,
    uri: Uri,
    host: Option<HeaderValue>,
    /// Kept only if the access log is on.
    user_agent: Option<HeaderValue>,
    version: Version,
    began: Instant,
    route: Option<Arc<str>>,
    /// What the route changes of the answer.
    pub(in crate::proxy) rules: Option<Arc<Rules>>,
    pub(in crate::proxy) pool: Option<Arc<Pool>>,
    /// The pod of the last attempt.
    pod: Option<Arc<Pod>>,
    load_guard: Option<LoadGuard>,
    /// Why the last attempt went to its pod.
    reason: Option<Reason>,
    attempts: u32,
    /// How the attempts ended that gave no answer to the client, like `a=refused`.
    tried: String,
    /// The last attempt may still give the answer.
    is_open: bool,
    /// How long the request waited for a pod so far, and why it began to wait.
    pub(in crate::proxy) held: Option<(Duration, &'static str)>,
    failover: Option<(Arc<Pod>, FailoverReason)>,
    status: u16,
    first_byte: Option<Duration>,
    /// How often a pod continued another's answer.
    resumptions: u32,
    outcome: Outcome,
    pub(in crate::proxy) replay_body: ReplayBody,
    /// Bytes that a socket's client sent.
    pub(in crate::proxy) socket_in: u64,
    pub(in crate::proxy) bytes_out: u64,
    /// What other pods did because of the request.
    fan_out: String,
}

impl RequestRecord {
    pub(in crate::proxy) fn new<B>(
        observer: Arc<Observer>,
        request: &Request<B>,
        client: IpAddr,
    ) -> Box<RequestRecord> {
        let user_agent = request.headers().get(header::USER_AGENT).filter(|_| observer.access.is_on()).cloned();
        Box::new(RequestRecord {
            observer,
            is_written: true,
            client,
            method: request.method().clone(),
            uri: request.uri().clone(),
            host: request.headers().get(header::HOST).cloned(),
            user_agent,
            version: request.version(),
            began: Instant::now(),
            route: None,
            rules: None,
            pool: None,
            pod: None,
            load_guard: None,
            reason: None,
            attempts: 0,
            tried: String::new(),
            is_open: false,
            held: None,
            failover: None,
            status: 0,
            first_byte: None,
            resumptions: 0,
            outcome: Outcome::ClientGone,
            replay_body: ReplayBody::empty(),
            socket_in: 0,
            bytes_out: 0,
            fan_out: String::new(),
        })
    }

    /// For a request that the proxy itself makes on behalf of an already recorded one. It counts as
    /// load at the pods while it exists, but writes no access line.
    pub(in crate::proxy) fn unlogged(observer: Arc<Observer>, client: IpAddr) -> Box<RequestRecord> {
        let mut record = RequestRecord::new(observer, &Request::new(()), client);
        record.is_written = false;
        record
    }

    pub(in crate::proxy) fn set_route(&mut self, route: &Arc<str>, rules: Option<&Arc<Rules>>) {
        self.route = Some(route.clone());
        self.rules = rules.cloned();
    }

    /// Counts an attempt at one more pod.
    pub(in crate::proxy) fn begin_attempt(&mut self, decision: &Decision) {
        self.attempts += 1;
        self.is_open = true;
        self.reason = Some(decision.reason);
        self.pod = Some(decision.pod.clone());
        self.load_guard = Some(LoadGuard::of_request(&decision.pod));
    }

    /// Records how the attempt at a pod ended that gave no answer to the client.
    pub(in crate::proxy) fn record_tried(&mut self, pod: &Pod, outcome: &str) {
        self.is_open = false;
        record_outcome(&mut self.tried, pod, outcome);
    }

    /// The request leaves a pod for another.
    pub(in crate::proxy) fn record_failover(&mut self, from: &Arc<Pod>, why: FailoverReason) {
        let labels = metrics::Move { pool: from.pool.clone(), from: from.name.clone(), why: why.as_str() };
        self.observer.metrics.moves.get_or_create(&labels).inc();
        self.record_tried(from, why.as_str());
        self.failover = Some((from.clone(), why));
        self.load_guard = None;
    }

    /// Records that the head of an answer has arrived.
    pub(in crate::proxy) fn record_answer(&mut self, status: u16) {
        let time = self.began.elapsed();
        self.status = status;
        self.first_byte = Some(time);
        if let Some(pod) = &self.pod {
            self.observer.handles.first_byte(pod, time);
        }
    }

    /// Counts that the proxy itself answers.
    pub(in crate::proxy) fn record_refusal(&mut self, refusal: Refusal) {
        self.outcome = Outcome::Refused(refusal);
        self.observer.metrics.rejected.get_or_create(&metrics::Rejected { why: refusal.as_str() }).inc();
    }

    /// Sets a status for the client that differs from its pod's.
    pub(in crate::proxy) fn set_status(&mut self, status: u16) {
        self.status = status;
    }

    /// Records that one more pod was called for this request, and what it answered.
    pub(in crate::proxy) fn record_fan_out(&mut self, pod: &Pod, outcome: &str) {
        record_outcome(&mut self.fan_out, pod, outcome);
    }

    /// From now on the load at the pod is a socket, not a request.
    pub(in crate::proxy) fn count_as_socket(&mut self) {
        self.load_guard = self.load_guard.take().map(|load_guard| LoadGuard::of_socket(load_guard.pod()));
    }

    /// Takes the load guard out: the caller counts the load on the pod where it continues.
    pub(in crate::proxy) fn take_load_guard(&mut self) -> Option<LoadGuard> {
        self.load_guard.take()
    }

    /// Records the pod on which the request continued.
    pub(in crate::proxy) fn set_pod(&mut self, pod: Arc<Pod>) {
        self.pod = Some(pod);
    }

    pub(in crate::proxy) fn set_outcome(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    /// Records that another pod has continued the answer, `times` times in all. The first pod then
    /// no longer has it under way.
    pub(in crate::proxy) fn record_resumption(&mut self, times: u32) {
        if self.resumptions != times {
            self.resumptions = times;
            self.load_guard = None;
        }
    }
}

/// For the field `Server-Timing`: how long the request waited for a pod and why, and how its attempts
/// ended. `None` for nearly every request, and where this is not to be told.
pub(in crate::proxy) fn server_timing(record: &RequestRecord) -> Option<HeaderValue> {
    if (record.held.is_none() && record.tried.is_empty()) || !record.observer.tells_waits() {
        return None;
    }
    let held = record.held.map(|(held, why)| format!("held;dur={:.1};desc=\"{why}\"", held.as_secs_f64() * 1e3));
    let tried = (!record.tried.is_empty()).then(|| format!("tried;desc=\"{}\"", record.tried));
    let metrics: Vec<_> = held.into_iter().chain(tried).collect();
    HeaderValue::try_from(metrics.join(", ")).ok()
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        if !self.is_written {
            return;
        }
        // The pod that answered, or that the request still waits for.
        let pod = self.pod.as_ref().filter(|_| self.first_byte.is_some() || self.load_guard.is_some());
        let bytes_in = self.replay_body.bytes() + self.socket_in;
        let reason = self.reason.map_or("none", Reason::as_str);
        let Observer { access, metrics, handles, .. } = &*self.observer;
        handles.request(self.route.as_ref(), pod, self.status, reason);
        metrics.bytes_in.inc_by(bytes_in);
        metrics.bytes_out.inc_by(self.bytes_out);
        if !access.is_on() {
            return;
        }
        let outcome = match self.outcome {
            Outcome::Complete => "complete",
            Outcome::ClientGone if self.replay_body.is_broken() => "client_broke",
            Outcome::ClientGone => "client_gone",
            Outcome::PodBroke => "pod_broke",
            Outcome::Refused(refusal) => refusal.as_str(),
            Outcome::Socket(end) => end.as_str(),
        };
        let mut tried = std::mem::take(&mut self.tried);
        if let Some(pod) = pod.filter(|_| self.is_open && !tried.is_empty() && self.first_byte.is_some()) {
            record_outcome(&mut tried, pod, itoa::Buffer::new().format(self.status));
        }
        let host = self.host.as_ref().and_then(text_of);
        access.write(&access::Line {
            client: self.client,
            method: self.method.as_str(),
            host: host.or(self.uri.authority().map(http::uri::Authority::as_str)).unwrap_or_default(),
            user_agent: self.user_agent.as_ref().and_then(text_of).unwrap_or_default(),
            path: &endpoint::without_secrets(self.uri.path()),
            protocol: protocol(self.version),
            status: self.status,
            route: self.route.as_deref().unwrap_or_default(),
            pool: self.pool.as_ref().map_or("", |pool| &pool.name),
            pod: pod.map_or("", |pod| &pod.name),
            reason,
            attempts: self.attempts,
            tried: &tried,
            held: self.held,
            moved: self.failover.as_ref().map(|(from, why)| (&*from.name, why.as_str())),
            fan_out: &self.fan_out,
            resumed: self.resumptions,
            outcome,
            bytes_in,
            bytes_out: self.bytes_out,
            first_byte: self.first_byte,
            duration: self.began.elapsed(),
        });
    }
}

/// The longest list of outcomes in bytes. A request that is held tries its pods again and again.
const LONGEST_LIST: usize = 240;

fn record_outcome(list: &mut String, pod: &Pod, outcome: &str) {
    if list.len() > LONGEST_LIST {
        return;
    }
    let gap = if list.is_empty() { "" } else { " " };
    // Writing into memory cannot fail.
    let _ = write!(list, "{gap}{}={outcome}", pod.name);
    if list.len() > LONGEST_LIST {
        list.push_str(" ...");
    }
}

/// A field as the log shows it. The log's formats write every character safely.
fn text_of(field: &HeaderValue) -> Option<&str> {
    std::str::from_utf8(field.as_bytes()).ok()
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}
