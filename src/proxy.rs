//! The request path, from top to bottom.
//!
//! [`Proxy::handle`] is the function to read first: route, identify, decide, rewrite, forward,
//! judge, learn, bind, observe. Each step is a call on an object that owns what it needs. Only this
//! room combines what the rooms below it know of pods, clients and Jellyfin.

mod admission;
mod device_lists;
mod dispatch;
pub mod drain_policy;
mod explain;
mod failover;
mod groups;
mod identify;
mod in_step;
mod in_step_state;
mod leader_routing;
mod learn;
mod log_in;
mod migrate;
mod observer;
mod play_sessions;
mod pod_client;
mod pod_lifecycle;
mod pool_state;
mod regroup;
mod remote_control;
mod replay;
mod request;
mod response;
mod revoke;
mod routing;
mod selector;
mod session_lists;
mod shared_state;
mod streams;
mod unread;
mod user_data;
mod user_data_state;
mod user_homes;
mod visit;
mod wiring;
mod writers;

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;

pub use admission::Admission;
pub use explain::{Choice, Explained, Fact, Question, explain};
pub use failover::socket::ConnectionPermit;
pub use groups::Groups;
pub use in_step_state::InStepState;
pub use play_sessions::PlaySessions;
pub use pod_lifecycle::{
    ALL_ARE_LOCAL, Administrator, MissingRequirement, Moved, NotRolled, PodChecks, PodLifecycle, Roll, Roller, Step,
    Undrained,
};
pub use pool_state::PoolState;
pub use response::{answer::Aborted, body::Body};
pub use shared_state::{HELD, HELD_KIB, SharedState};
pub use streams::Streams;
pub use unread::Unread;
pub use user_data_state::UserDataState;
pub use writers::Writers;

use crate::{
    forward::{
        Forward,
        answer::AnswerBody,
        head::{self, Client},
        outbound::ReplayBody,
    },
    jellyfin::endpoint::Endpoint,
    limits::Exceeded,
    observe::metrics::Metrics,
    shutdown::Shutdown,
    websocket::handshake::{self, UpgradeKind},
};
use device_lists::DeviceLists;
use failover::{
    live::{self, LiveStreams},
    resume::{File, ResumableFile},
    socket::Sockets,
};
use identify::{Identifier, Resolved};
use in_step::InStep;
use leader_routing::LeaderRouter;
use learn::Learner;
use log_in::LogInBrake;
use observer::Observer;
use remote_control::RemoteController;
use replay::Replayer;
use request::{
    attempt::{Attempt, is_refused},
    context::RequestContext,
    dispatch::Dispatch,
    record::{Outcome, RequestRecord},
    refusal::Refusal,
    select::Decision,
};
use response::{
    answer::{answer, refuse, strip},
    binding::{bind, binds_nobody},
    body::BodyObserver,
    compressing::{coding, compress},
    rewriting::{BrokeOff, rewrite_for_client},
};
use revoke::Revoker;
use session_lists::SessionLists;
use user_data::UserData;

/// One worker's request path.
pub struct Proxy {
    /// What clients may have under way.
    pub admission: Admission,
    shared: Arc<SharedState>,
    identifier: Arc<Identifier>,
    brake: LogInBrake,
    leader_router: LeaderRouter,
    remote_controller: RemoteController,
    session_lists: Arc<SessionLists>,
    device_lists: DeviceLists,
    live_streams: Arc<LiveStreams>,
    sockets: Arc<Sockets>,
    revoker: Arc<Revoker>,
    in_step: InStep,
    learner: Arc<Learner>,
    user_data: Arc<UserData>,
    replayer: Arc<Replayer>,
    observer: Arc<Observer>,
    forward: Arc<Forward>,
    metrics: Metrics,
    shutdown: Shutdown,
}

impl Proxy {
    /// Hands the pending access lines to the log's writer.
    pub fn flush_log(&self) {
        self.observer.access.flush();
    }

    /// Answers a request in its own task, so that it finishes even if the client leaves.
    ///
    /// # Errors
    /// As [`Proxy::handle`].
    pub async fn handle_detached(
        self: Arc<Self>,
        request: Request<Incoming>,
        client: Arc<Client>,
    ) -> Result<Response<Body>, Aborted> {
        let shutdown = self.shutdown.clone();
        let handled = shutdown.track(async move { self.handle(request, &client).await });
        tokio::spawn(handled).await.unwrap_or(Err(Aborted))
    }

    /// Answers a request.
    ///
    /// # Errors
    /// [`Aborted`] if sending no answer is better than any: the caller must break off the
    /// connection.
    ///
    /// # Cancel safety
    /// The future is dropped when the client leaves; that also ends the request at the pod.
    pub async fn handle(&self, mut request: Request<Incoming>, client: &Client) -> Result<Response<Body>, Aborted> {
        let origin = head::origin(request.headers(), client);
        let mut record = RequestRecord::new(self.observer.clone(), &request, origin);
        let asked = handshake::asked(&request);
        let opening = (asked == UpgradeKind::Socket).then(|| hyper::upgrade::on(&mut request));
        let (mut head, body) = request.into_parts();
        let permit = head.extensions.remove::<ConnectionPermit>();
        let exceeded = head.extensions.remove::<Exceeded>();
        let body = ReplayBody::new(body, self.shared.forward.replay_bytes);
        record.replay_body = body.clone();
        if let Some(exceeded) = exceeded {
            return refuse(record, Refusal::Limited(exceeded.scope));
        }

        // 1. Route.
        let pool = match routing::route(&self.shared, &mut head, (client, asked), &mut record) {
            Ok(pool) => pool,
            Err(unrouted) => return Box::pin(unrouted.answer(&self.shared, record)).await,
        };

        // 2. Identify.
        let cookies = self.shared.pools[pool].cookies.load();
        let mut ctx = self.identifier.identify(pool, &cookies, &head, (client, origin), opening.is_some());
        self.identifier.look_up_session(&mut ctx).await;

        // The log-in brake limits failed log-ins by password.
        let log_in = match self.brake.applies_to(&ctx) {
            Some(by) => match Box::pin(self.brake.begin(by, &ctx, &body)).await {
                Ok(log_in) => Some(log_in),
                Err(refusal) => return refuse(record, refusal),
            },
            None => None,
        };

        // A user logs in where the user's other clients are.
        if user_homes::may_name_user(&self.shared, &ctx) {
            Box::pin(user_homes::name_user(&self.shared, &mut ctx, &body)).await;
        }

        // A log-out ends the session even if no pod can be reached.
        if self.revoker.is_log_out(&ctx) {
            return Ok(Box::pin(self.revoker.log_out(&ctx, record)).await);
        }

        // What the other pods must follow is looked at before it changes.
        let in_step = if self.in_step.concerns(&ctx) { Box::pin(self.in_step.begin(&ctx, &body)).await } else { None };

        // 3.–5. Decide, rewrite, forward: `dispatch` does this for one pod after the other.
        if let Some(opening) = opening {
            // Boxed: this path is rare, and would make every request's future larger.
            return Box::pin(self.sockets.open(ctx, (opening, permit), &cookies, record)).await;
        }
        let mut attempt = self.dispatch(&mut Dispatch { ctx: &ctx, body: &body, record: &mut record }).await;

        // 6. Judge: if no pod knows the token, another replica may.
        if is_refused(&attempt) && self.identifier.may_be_known_elsewhere(&ctx) {
            attempt = Box::pin(self.dispatch_once_resolved(&mut ctx, &body, &mut record, attempt)).await;
        }
        if let Some(log_in) = log_in {
            self.brake.end(log_in, &ctx, attempt.as_ref().ok().map(|attempt| attempt.answer.status()));
        }
        let Attempt { answer: answered, decision, token, verdict, user_data_write } = match attempt {
            Ok(attempt) => attempt,
            Err(refusal) => return refuse(record, refusal),
        };
        let (mut head, answer_body) = answered.into_parts();

        // 7. Learn, or forget, and let the other pods follow.
        let mut combined = None;
        if let Some(ended) = revoke::revocation_of(&ctx, head.status) {
            let answered = (head.status, &decision.pod, token.as_ref());
            let mut dispatch = Dispatch { ctx: &ctx, body: &body, record: &mut record };
            combined = Box::pin(self.revoker.revoke_everywhere(&mut dispatch, ended, answered)).await;
        }
        if let Some(begun) = in_step {
            let mut dispatch = Dispatch { ctx: &ctx, body: &body, record: &mut record };
            let status = combined.unwrap_or(head.status);
            Box::pin(self.in_step.carry(begun, &mut dispatch, (&decision.pod, status))).await;
        }
        if let Some(status) = combined {
            head.status = status;
            record.set_status(status.as_u16());
            strip(&mut head.headers);
            return Ok(answer(record, head, Body::empty()));
        }
        self.learner.learn_from_head(&ctx, &decision, verdict, token.as_ref(), head.status);
        self.learner.record_client_state(&ctx, &body, &decision.pod, head.status);
        self.user_data.record(&ctx, &body, user_data_write, head.status);
        let learning = self.learner.scan_body(&ctx, &decision, &head);

        // 8. Bind, and show one server.
        head::to_client(&mut head.headers);
        if !binds_nobody(&self.shared, &ctx) && !decision.is_duty_call(ctx.duty) {
            bind(&mut head.headers, &cookies, &ctx, &decision);
        }
        let shown = match ctx.endpoint {
            Endpoint::SessionList if ctx.is_to_be_merged() => {
                Box::pin(self.session_lists.answer(&ctx, token.as_ref(), &mut head, answer_body, &mut record)).await
            }
            Endpoint::DeviceList if ctx.is_to_be_merged() => {
                Box::pin(self.device_lists.answer(&ctx, &mut head, answer_body, &mut record)).await
            }
            _ => self.show(&ctx, &decision, &mut head, answer_body, learning).await,
        };
        let Ok(mut shown) = shown else {
            record.set_outcome(Outcome::PodBroke);
            return Err(Aborted);
        };
        if let Some(coding) = coding(&self.shared, &ctx, &mut head) {
            shown = Box::pin(compress(&self.shared, coding, &mut head, shown)).await;
        }

        // 9. Observe: the record travels with the body and is written when the body ends.
        Ok(answer(record, head, shown))
    }

    async fn dispatch(&self, dispatch: &mut Dispatch<'_>) -> Result<Attempt, Refusal> {
        match self.live_streams.of_request(dispatch.ctx) {
            Some(stream) => Box::pin(self.live_streams.dispatch(&stream, dispatch)).await,
            None if dispatch.ctx.endpoint == Endpoint::RemoteControl => {
                Box::pin(self.remote_controller.dispatch(dispatch)).await
            }
            None => self.leader_router.dispatch(dispatch).await,
        }
    }

    async fn dispatch_once_resolved(
        &self,
        ctx: &mut RequestContext<'_>,
        body: &ReplayBody,
        record: &mut RequestRecord,
        refused: Result<Attempt, Refusal>,
    ) -> Result<Attempt, Refusal> {
        match self.identifier.resolve(ctx, body).await {
            Resolved::Refused => refused,
            Resolved::StoreUnavailable(refusal) => Err(refusal),
            Resolved::Dispatch(_permit) => self.dispatch(&mut Dispatch { ctx, body, record }).await,
        }
    }

    /// The body as the client gets it. A file's answer continues on another pod if its own fails.
    async fn show(
        &self,
        ctx: &RequestContext<'_>,
        decision: &Decision,
        head: &mut http::response::Parts,
        body: AnswerBody,
        learning: Option<Box<dyn BodyObserver>>,
    ) -> Result<Body, BrokeOff> {
        if let Some(file) = File::of(ctx.endpoint, &ctx.head.method, head).filter(|_| learning.is_none()) {
            return Ok(Body::resuming(ResumableFile::new(file, body, decision, self.replayer.copy(ctx))));
        }
        if live::is_live_playlist(ctx) {
            return Box::pin(self.live_streams.show_playlist(ctx, decision, head, body, learning)).await;
        }
        rewrite_for_client(&self.shared, ctx, head, body, learning).await
    }
}
