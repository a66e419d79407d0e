//! Requests for pools that are not Jellyfin's (`kind = "http"`): other services of the house, behind
//! the same front door.
//!
//! None of Jellyfin's steps is taken: no identity, no pin, no cookie, no hold. A request goes to the
//! pod with the fewest under way, and its answer comes back as it is.

mod basic_auth;
mod forward_auth;
mod tunnel;

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Version, header, request};

use super::{
    log_in::LogInBrake,
    opening::Opening,
    request::{
        reason::FailoverReason,
        record::RequestRecord,
        refusal::Refusal,
        select::{Decision, Reason},
    },
    response::{
        answer::{Aborted, answer, refuse},
        body::Body,
    },
    shared_state::SharedState,
};
use crate::{
    affinity::{cookie, placement},
    forward::{
        Failure, Forward,
        answer::AnswerBody,
        head::{self, Client},
        outbound::{ReplayBody, UpstreamBody},
        retry::{self, Next},
    },
    jellyfin::endpoint::Endpoint,
    pod::{Pod, PodId, Pool, Urgency},
    route::auth::Auth,
    shutdown::Shutdown,
};
use basic_auth::BasicAuth;
use forward_auth::ForwardAuth;

/// One worker's way to such pods.
pub(super) struct Plain {
    shared: Arc<SharedState>,
    forward: Arc<Forward>,
    basic_auth: BasicAuth,
    forward_auth: ForwardAuth,
    shutdown: Shutdown,
}

/// A request for such a pool.
pub(super) struct Call<'a> {
    pub(super) pool: Arc<Pool>,
    pub(super) head: request::Parts,
    pub(super) body: ReplayBody,
    /// If it asks for a WebSocket.
    pub(super) opening: Option<Opening>,
    pub(super) client: &'a Client,
    pub(super) origin: IpAddr,
}

/// Why a request may not pass.
enum Denied {
    Refused(Refusal),
    /// This is what the server says that decides.
    Answered(Response<Bytes>),
}

impl Plain {
    pub(super) fn new(
        shared: Arc<SharedState>,
        forward: Arc<Forward>,
        brake: Arc<LogInBrake>,
        shutdown: Shutdown,
    ) -> Plain {
        let basic_auth = BasicAuth::new(shared.clone(), brake);
        Plain { shared, forward, basic_auth, forward_auth: ForwardAuth::default(), shutdown }
    }

    /// Answers a request.
    ///
    /// # Errors
    /// [`Aborted`] if there is no answer that the client could use.
    pub(super) async fn answer(
        &self,
        mut call: Call<'_>,
        mut record: Box<RequestRecord>,
    ) -> Result<Response<Body>, Aborted> {
        let has_body = call.body.length_at_most(1) > 0;
        let protocol = tunnel::asked(&call.head, has_body);
        head::to_pod(&mut call.head.headers, call.client);
        cookie::strip(&mut call.head.headers, &[&self.shared.cookie.name, cookie::OF_ADMIN]);
        let rules = record.rules.clone();
        let mut cookies = Vec::new();
        if let Some(auth) = rules.as_ref().and_then(|rules| rules.auth.as_ref()) {
            match self.admit(auth, &mut call).await {
                Ok(set) => cookies = set,
                Err(Denied::Refused(refusal)) => return refuse(record, refusal),
                Err(Denied::Answered(answered)) => {
                    let (head, body) = answered.into_parts();
                    record.set_status(head.status.as_u16());
                    return Ok(answer(record, head, Body::whole(body)));
                }
            }
        }
        if let Some(rules) = &rules {
            rules.request.apply(&mut call.head.headers);
        }
        let answered = match self.send(&call, protocol.as_ref(), has_body, &mut record).await {
            Ok(answered) => answered,
            Err(refusal) => return refuse(record, refusal),
        };
        if answered.status() == StatusCode::SWITCHING_PROTOCOLS {
            let opening = call.opening.take().or_else(|| Opening::of_any(&mut call.head.extensions));
            return match opening.zip(protocol) {
                Some((opening, protocol)) => Ok(self.switch(answered, opening, protocol, record)),
                None => refuse(record, Refusal::Broken),
            };
        }
        let (mut head, body) = answered.into_parts();
        head::to_client(&mut head.headers);
        for cookie in cookies {
            head.headers.append(header::SET_COOKIE, cookie);
        }
        Ok(answer(record, head, Body::answer(body, None, None)))
    }

    /// Asks who decides about the request. Returns the cookies that the client gets beside its answer.
    async fn admit(&self, auth: &Auth, call: &mut Call<'_>) -> Result<Vec<HeaderValue>, Denied> {
        match auth {
            Auth::Basic(users) => {
                let headers = &mut call.head.headers;
                let admitted = self.basic_auth.admit(users, &call.pool.name, headers, call.origin).await;
                admitted.map(|()| Vec::new()).map_err(Denied::Refused)
            }
            Auth::Forward(server) => self.forward_auth.admit(server, &mut call.head).await,
        }
    }

    /// Sends the request to one pod after the other until one takes it.
    async fn send(
        &self,
        call: &Call<'_>,
        protocol: Option<&HeaderValue>,
        has_body: bool,
        record: &mut RequestRecord,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let can_repeat = call.head.method.is_idempotent() && !has_body;
        let (mut tried, mut last): (Vec<PodId>, _) = (Vec::new(), Refusal::NoPod);
        let mut again = None;
        loop {
            let is_second = again.is_some();
            let Some(pod) = again.take().or_else(|| self.next_pod(&call.pool, &tried)) else { return Err(last) };
            record.begin_attempt(&Decision::new(pod.clone(), Reason::LeastLoaded));
            let failure = match self.send_to(&pod, call, protocol, can_repeat).await {
                Ok(answered) => {
                    record.record_answer(answered.status().as_u16());
                    return Ok(answered);
                }
                Err(failure) => failure,
            };
            self.shared.report_failure(&pod, failure, call.body.bytes() == 0 && !call.body.is_waited_for());
            last = Refusal::of(failure, Endpoint::Open);
            match retry::next(failure, can_repeat, call.body.can_replay()) {
                Next::GiveUp => {
                    record.record_tried(&pod, failure.cause.as_str());
                    return Err(last);
                }
                Next::SamePod if !is_second => again = Some(pod),
                Next::SamePod | Next::OtherPod => {
                    record.record_failover(&pod, FailoverReason::Failure(failure.cause));
                    tried.push(pod.id);
                }
            }
        }
    }

    fn next_pod(&self, pool: &Pool, tried: &[PodId]) -> Option<Arc<Pod>> {
        let pods = pool.pods();
        let candidates = placement::candidates(&pods, |pod: &Pod| tried.contains(&pod.id));
        placement::least_loaded(self.shared.next_placement(), candidates).cloned()
    }

    async fn send_to(
        &self,
        pod: &Arc<Pod>,
        call: &Call<'_>,
        protocol: Option<&HeaderValue>,
        can_repeat: bool,
    ) -> Result<Response<AnswerBody>, Failure> {
        let mut request = upstream_request(&call.head, &call.body);
        // A service may have many long questions open, so none waits for its turn.
        let urgency = Urgency::Playing;
        if let Some(protocol) = protocol {
            tunnel::restore(request.headers_mut(), protocol.clone());
            return self.forward.upgrade(pod, request, urgency).await;
        }
        let timeout = self.shared.response_timeout(call.head.uri.path(), can_repeat);
        self.forward.send(pod, request, timeout, urgency).await
    }

    /// Opens a tunnel. From here on both ends speak what they like.
    fn switch(
        &self,
        mut answered: Response<AnswerBody>,
        opening: Opening,
        asked: HeaderValue,
        mut record: Box<RequestRecord>,
    ) -> Response<Body> {
        let pod = hyper::upgrade::on(&mut answered);
        let (mut head, _) = answered.into_parts();
        let protocol = head.headers.remove(header::UPGRADE).unwrap_or(asked);
        head::to_client(&mut head.headers);
        tunnel::restore(&mut head.headers, protocol);
        head.version = Version::HTTP_11;
        record.count_as_socket();
        let stagger = self.shared.websocket.stop_stagger;
        let tunnel = tunnel::run(opening, pod, record, (self.shutdown.clone(), stagger));
        tokio::spawn(self.shutdown.track(tunnel));
        Response::from_parts(head, Body::empty())
    }
}

/// The request as a pod gets it.
fn upstream_request(head: &request::Parts, body: &ReplayBody) -> Request<UpstreamBody> {
    let mut request = Request::new(body.new_attempt());
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.headers_mut() = head.headers.clone();
    UpstreamBody::wait_if_expected(&mut request);
    request
}
