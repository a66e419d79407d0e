//! WebSocket upgrades: pinned like requests. The tunnel opens only after the pod's own 101.

mod pod_sockets;
mod rewriter;

use std::sync::Arc;

use http::{Response, StatusCode, Version, header};
use hyper::upgrade::OnUpgrade;
use prometheus_client::metrics::counter::Counter;
use tokio::{sync::Semaphore, time};

use super::live::LiveStreams;
use crate::{
    affinity::{cookie::Cookies, reject_pacer::Kind},
    forward::{head, outbound::ReplayBody},
    proxy::{
        dashboard_feed::DashboardPolls,
        dispatch::Dispatcher,
        learn::Learner,
        opening::Opening,
        replay::Replayer,
        request::{
            attempt::Attempt,
            context::RequestContext,
            dispatch::Dispatch,
            record::{Outcome, RequestRecord},
            refusal::Refusal,
        },
        response::{
            answer::{Aborted, answer, refuse},
            binding::bind,
            body::Body,
        },
        session_lists::SessionLists,
        shared_state::SharedState,
    },
    shutdown::Shutdown,
    websocket::{self, handshake},
};
use pod_sockets::PodSockets;

/// Opens one worker's sockets.
pub(in crate::proxy) struct Sockets {
    shared: Arc<SharedState>,
    dispatcher: Arc<Dispatcher>,
    learner: Arc<Learner>,
    replayer: Arc<Replayer>,
    live_streams: Arc<LiveStreams>,
    session_lists: Arc<SessionLists>,
    dashboard_polls: Arc<DashboardPolls>,
    /// Limits concurrent WebSocket re-attachments.
    reattach_permits: Arc<Semaphore>,
    socket_messages: Counter,
    shutdown: Shutdown,
}

/// Sockets that one worker re-attaches at once. Those of a dead pod all come at the same moment,
/// and requests go first.
const AT_ONCE: usize = 64;

impl Sockets {
    /// `socket_messages` counts what passes.
    pub(in crate::proxy) fn new(
        shared: Arc<SharedState>,
        (dispatcher, learner): (Arc<Dispatcher>, Arc<Learner>),
        replayer: Arc<Replayer>,
        live_streams: Arc<LiveStreams>,
        (session_lists, dashboard_polls): (Arc<SessionLists>, Arc<DashboardPolls>),
        (socket_messages, shutdown): (Counter, Shutdown),
    ) -> Sockets {
        let reattach_permits = Arc::new(Semaphore::new(AT_ONCE));
        Sockets {
            shared,
            dispatcher,
            learner,
            replayer,
            live_streams,
            session_lists,
            dashboard_polls,
            reattach_permits,
            socket_messages,
            shutdown,
        }
    }

    /// Dispatches the upgrade to pods. An answer other than 101 goes to the client as it is.
    pub(in crate::proxy) async fn open(
        self: &Arc<Self>,
        ctx: RequestContext<'_>,
        opening: Opening,
        cookies: &Cookies,
        mut record: Box<RequestRecord>,
    ) -> Result<Response<Body>, Aborted> {
        // Registered before the dispatch: a client that joins a group meanwhile waits for this
        // socket.
        let socket = ctx.session().map(|session| session.socket_of(ctx.reported_by(session)));
        let body = ReplayBody::empty();
        let mut dispatch = Dispatch { ctx: &ctx, body: &body, record: &mut record };
        let attempt = self.dispatcher.dispatch(&mut dispatch).await;
        let is_opened = |attempt: &Attempt| attempt.answer.status() == StatusCode::SWITCHING_PROTOCOLS;
        let socket = socket.filter(|_| attempt.as_ref().is_ok_and(is_opened));
        let attempt = match attempt {
            Ok(attempt) => attempt,
            Err(refusal) => {
                self.delay_rejection(&ctx).await;
                let is_dead = refusal == Refusal::DeadToken;
                return refuse(record, if is_dead { Refusal::DeadSocketToken } else { refusal });
            }
        };
        let (mut upgrading, decision) = (attempt.answer, attempt.decision);
        if upgrading.status() == StatusCode::FORBIDDEN {
            self.delay_rejection(&ctx).await;
        }
        self.learner.learn_from_head(&ctx, &decision, attempt.verdict, attempt.token.as_ref(), upgrading.status());
        let pod_side = hyper::upgrade::on(&mut upgrading);
        let (mut head, body) = upgrading.into_parts();
        let opened = handshake::is_opened(&head, ctx.head.headers.get(header::SEC_WEBSOCKET_KEY));
        head::to_client(&mut head.headers);
        bind(&mut head.headers, cookies, &ctx, &decision);
        if !opened {
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                return refuse(record, Refusal::Broken);
            }
            return Ok(answer(record, head, Body::answer(body, None, None)));
        }
        handshake::restore(&mut head.headers);
        head.version = Version::HTTP_11;
        record.count_as_socket();
        let home = PodSockets::new(self, &ctx, decision.pod.clone(), socket);
        tokio::spawn(self.shutdown.track(self.clone().relay(opening, pod_side, home, record)));
        Ok(Response::from_parts(head, Body::empty()))
    }

    /// Delays a client's refusals, one after the other. Real clients dial again at once, thousands
    /// of times a second.
    async fn delay_rejection(&self, ctx: &RequestContext<'_>) {
        let slot = match ctx.keys.identity.token.as_deref() {
            Some(token) => self.shared.reject_pacer.slot(Kind::Token, token),
            None => self.shared.reject_pacer.slot(Kind::Address, &ctx.origin.to_string()),
        };
        time::sleep_until(slot).await;
    }

    async fn relay(
        self: Arc<Self>,
        Opening { client, permit: _permit }: Opening,
        pod: OnUpgrade,
        mut pods: PodSockets,
        mut record: Box<RequestRecord>,
    ) {
        let (Ok(client), Ok(pod)) = (client.await, pod.await) else { return };
        let pod = websocket::pod_side(pod, &self.shared.websocket).await;
        // `PodSockets` knows the current pod, so it holds the guard that counts the socket there.
        pods.load_guard = record.take_load_guard();
        let relayed = websocket::relay(client, pod, &mut pods, &self.shared.websocket, &self.shutdown).await;
        self.socket_messages.inc_by(relayed.from_client.messages + relayed.from_pod.messages);
        record.socket_in = relayed.from_client.bytes;
        record.bytes_out = relayed.from_pod.bytes;
        record.record_resumption(relayed.attached);
        record.set_pod(pods.pod.clone());
        if let Some(socket) = pods.socket.get().filter(|_| relayed.end.is_clients()) {
            socket.client_has_left();
        }
        record.set_outcome(Outcome::Socket(relayed.end));
    }
}
