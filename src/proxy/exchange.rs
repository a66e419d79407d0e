//! The record of one request: gathered on its way, written down once when it ends, however it ends.

use std::{fmt::Write, net::IpAddr, sync::Arc, time::Duration};

use http::{HeaderValue, Method, Request, Response, Uri, Version, header, response};
use tokio::time::Instant;

use super::{
    Aborted, Body, Proxy, Unread, decide::Decision, learning::Learning, reply::Refusal, revoke::Told, unread::Answerer,
};
use crate::{
    forward::{PodCloses, answer::AnswerBody, outbound::Source},
    identity::endpoint,
    observe::{access, metrics},
    pod::{Busy, Pod, Pool},
};

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The answer went out whole.
    Complete,
    /// The client left first.
    ClientGone,
    /// The pod broke its answer off.
    PodBroke,
    /// The proxy answered itself, for this cause.
    Refused(&'static str),
    /// A socket ended, in this way.
    Socket(&'static str),
}

pub(super) struct Exchange {
    proxy: Arc<Proxy>,
    /// It is a client's own request, and is written down when it ends.
    is_written: bool,
    client: IpAddr,
    method: Method,
    uri: Uri,
    host: Option<HeaderValue>,
    version: Version,
    began: Instant,
    route: Option<Arc<str>>,
    pool: Option<Arc<Pool>>,
    /// The pod that was asked last.
    pod: Option<Arc<Pod>>,
    busy: Option<Busy>,
    reason: &'static str,
    attempts: u32,
    moved: Option<(Arc<Pod>, &'static str)>,
    status: u16,
    first_byte: Option<Duration>,
    /// How often a pod went on with the answer of another.
    resumed: u32,
    outcome: Outcome,
    pub(super) source: Source,
    /// Bytes that a socket's client sent.
    pub(super) socket_in: u64,
    pub(super) bytes_out: u64,
    /// What other pods answered to a log-out.
    fan_out: String,
}

impl Exchange {
    pub(super) fn begin<B>(proxy: Arc<Proxy>, request: &Request<B>, client: IpAddr) -> Box<Exchange> {
        Box::new(Exchange {
            proxy,
            is_written: true,
            client,
            method: request.method().clone(),
            uri: request.uri().clone(),
            host: request.headers().get(header::HOST).cloned(),
            version: request.version(),
            began: Instant::now(),
            route: None,
            pool: None,
            pod: None,
            busy: None,
            reason: "none",
            attempts: 0,
            moved: None,
            status: 0,
            first_byte: None,
            resumed: 0,
            outcome: Outcome::ClientGone,
            source: Source::empty(),
            socket_in: 0,
            bytes_out: 0,
            fan_out: String::new(),
        })
    }

    /// For a request that the proxy makes of itself, for an exchange that is written down already. It counts at the pods while
    /// it is there, and leaves no line.
    pub(super) fn unwritten(proxy: Arc<Proxy>, client: IpAddr) -> Box<Exchange> {
        let mut exchange = Exchange::begin(proxy, &Request::new(()), client);
        exchange.is_written = false;
        exchange
    }

    pub(super) fn routed(&mut self, route: &Arc<str>, pool: &Arc<Pool>) {
        self.route = Some(route.clone());
        self.pool = Some(pool.clone());
    }

    /// One more pod is asked.
    pub(super) fn decided(&mut self, decision: &Decision) {
        self.attempts += 1;
        self.reason = decision.reason.name();
        self.pod = Some(decision.pod.clone());
        self.busy = Some(decision.pod.count_request());
    }

    /// The request leaves a pod for another.
    pub(super) fn moved(&mut self, from: &Arc<Pod>, why: &'static str) {
        let labels = metrics::Move { pool: from.pool.clone(), from: from.name.clone(), why };
        self.proxy.metrics.moves.get_or_create(&labels).inc();
        self.moved = Some((from.clone(), why));
        self.busy = None;
    }

    /// The head of an answer is there.
    pub(super) fn answered(&mut self, status: u16) {
        let time = self.began.elapsed();
        self.status = status;
        self.first_byte = Some(time);
        if let Some(pod) = &self.pod {
            self.proxy.tally.first_byte(pod, time);
        }
    }

    /// The client gets another status than its pod's.
    pub(super) fn set_status(&mut self, status: u16) {
        self.status = status;
    }

    /// One more pod was told of what the request has ended.
    pub(super) fn told(&mut self, told: &Told) {
        let gap = if self.fan_out.is_empty() { "" } else { " " };
        // Writing into memory cannot fail.
        let _ = write!(self.fan_out, "{gap}{}={}", told.pod.name, told.outcome());
    }

    /// From now on a socket is under way, not a request.
    pub(super) fn became_socket(&mut self) {
        self.busy = self.busy.take().map(|busy| busy.pod().count_socket());
    }

    /// Whoever knows where it goes on counts it there.
    pub(super) fn take_busy(&mut self) -> Option<Busy> {
        self.busy.take()
    }

    /// It went on at this pod.
    pub(super) fn went_to(&mut self, pod: Arc<Pod>) {
        self.pod = Some(pod);
    }

    pub(super) fn ended(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    /// Another pod has gone on with the answer, for the so-many-th time: nothing is under way at the first one any more.
    pub(super) fn resumed(&mut self, times: u32) {
        if self.resumed != times {
            self.resumed = times;
            self.busy = None;
        }
    }

    /// The pod's answer, which carries this exchange to its end.
    pub(super) fn answer(
        self: Box<Self>,
        head: response::Parts,
        body: AnswerBody,
        learning: Option<Box<Learning>>,
    ) -> Response<Body> {
        self.answer_with(head, Body::answer(body, learning, None))
    }

    /// The same with a body that is made already.
    pub(super) fn answer_with(self: Box<Self>, mut head: response::Parts, body: Body) -> Response<Body> {
        // The version is each connection's own.
        head.version = Version::HTTP_11;
        let closes = head.extensions.remove::<PodCloses>().is_some();
        let answered_by = || match body.is_own() {
            true => Answerer::Proxy,
            false if closes => Answerer::PodThatCloses,
            false => Answerer::Pod,
        };
        if let Some(unread) = Unread::of(&self.source, answered_by) {
            head.extensions.insert(unread);
        }
        Response::from_parts(head, body.carry(self))
    }

    /// The proxy's own answer, or none.
    pub(super) fn refuse(mut self: Box<Self>, refusal: Refusal) -> Result<Response<Body>, Aborted> {
        self.outcome = Outcome::Refused(refusal.name());
        self.proxy.metrics.rejected.get_or_create(&metrics::Rejected { why: refusal.name() }).inc();
        let mut response = refusal.response().ok_or(Aborted)?;
        if let Some(unread) = Unread::of(&self.source, || Answerer::Proxy) {
            response.extensions_mut().insert(unread);
        }
        self.status = response.status().as_u16();
        self.bytes_out = http_body::Body::size_hint(response.body()).lower();
        Ok(response)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.is_written {
            return;
        }
        // The pod that answered, or is being waited for.
        let pod = self.pod.as_ref().filter(|_| self.first_byte.is_some() || self.busy.is_some());
        let bytes_in = self.source.bytes() + self.socket_in;
        let metrics = &self.proxy.metrics;
        self.proxy.tally.request(self.route.as_ref(), pod, self.status, self.reason);
        metrics.bytes_in.inc_by(bytes_in);
        metrics.bytes_out.inc_by(self.bytes_out);
        if !self.proxy.access.is_on() {
            return;
        }
        let outcome = match self.outcome {
            Outcome::Complete => "complete",
            Outcome::ClientGone if self.source.is_broken() => "client_broke",
            Outcome::ClientGone => "client_gone",
            Outcome::PodBroke => "pod_broke",
            Outcome::Refused(why) | Outcome::Socket(why) => why,
        };
        let host = self.host.as_ref().and_then(|host| host.to_str().ok());
        self.proxy.access.write(&access::Line {
            client: self.client,
            method: self.method.as_str(),
            host: host.or(self.uri.authority().map(http::uri::Authority::as_str)).unwrap_or_default(),
            path: &endpoint::without_secrets(self.uri.path()),
            protocol: protocol(self.version),
            status: self.status,
            route: self.route.as_deref().unwrap_or_default(),
            pool: self.pool.as_ref().map_or("", |pool| &pool.name),
            pod: pod.map_or("", |pod| &pod.name),
            reason: self.reason,
            attempts: self.attempts,
            moved: self.moved.as_ref().map(|(from, why)| (&*from.name, *why)),
            fan_out: &self.fan_out,
            resumed: self.resumed,
            outcome,
            bytes_in,
            bytes_out: self.bytes_out,
            first_byte: self.first_byte,
            duration: self.began.elapsed(),
        });
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}
