//! The request path, from top to bottom.
//!
//! [`Proxy::handle`] is the function to read first: route, identify, decide, rewrite, forward,
//! judge, learn, bind, observe. Each step is a call on an object that owns what it needs. Only this
//! room combines what the rooms below it know of pods, clients and Jellyfin.

mod admission;
mod dashboard_feed;
mod device_lists;
mod dispatch;
pub mod drain_policy;
mod explain;
mod failover;
mod group_lists;
mod groups;
mod identify;
mod in_step;
mod in_step_state;
mod leader_routing;
mod learn;
mod log_in;
mod migrate;
mod observer;
mod opening;
mod own_users;
mod plain;
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
mod triggers;
mod unread;
mod user_data;
mod user_data_state;
mod user_homes;
mod visit;
mod wiring;
mod writers;

use std::{pin::Pin, sync::Arc};

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;

pub use admission::Admission;
pub use explain::{Choice, Explained, Fact, Question, explain};
pub use groups::Groups;
pub use in_step_state::InStepState;
pub use opening::ConnectionPermit;
pub use own_users::OwnUsers;
pub use play_sessions::PlaySessions;
pub use pod_lifecycle::{
    ALL_ARE_LOCAL, Administrator, MissingRequirement, Moved, NotRolled, PodChecks, PodLifecycle, Roll, Roller, Step,
    Undrained,
};
pub use pool_state::PoolState;
pub use response::{answer::Aborted, body::Body};
pub use shared_state::{HELD, HELD_KIB, SharedState};
pub use streams::Streams;
pub use triggers::TaskTriggers;
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
    jellyfin::endpoint::{Endpoint, Revocation},
    limits::Exceeded,
    observe::metrics::Metrics,
    pod::Pod,
    sessions::Token,
    shutdown::Shutdown,
    websocket::handshake,
};
use device_lists::DeviceLists;
use failover::{
    live::{self, LiveStreams},
    resume::{File, ResumableFile},
    socket::Sockets,
};
use group_lists::GroupLists;
use identify::{Identifier, Resolved};
use in_step::{Begun, InStep};
use leader_routing::LeaderRouter;
use learn::Learner;
use log_in::{LogIn, LogInBrake};
use observer::Observer;
use opening::Opening;
use plain::{Call, Plain};
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
    answer::{answer, answer_of_all_pods, refuse},
    binding::{bind, binds_nobody},
    body::BodyObserver,
    compressing::{coding, compress},
    rewriting::{BrokeOff, rewrite_for_client},
};
use revoke::Revoker;
use routing::Destination;
use session_lists::SessionLists;
use user_data::UserData;

/// One worker's request path.
pub struct Proxy {
    /// What clients may have under way.
    pub admission: Admission,
    shared: Arc<SharedState>,
    identifier: Arc<Identifier>,
    brake: Arc<LogInBrake>,
    plain: Plain,
    leader_router: LeaderRouter,
    remote_controller: RemoteController,
    session_lists: Arc<SessionLists>,
    device_lists: DeviceLists,
    group_lists: GroupLists,
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

    /// Answers a request in its own task, so that it finishes even if the client leaves. `counted`
    /// counts the request until then. It comes back with the answer.
    ///
    /// # Errors
    /// As [`Proxy::answer`].
    pub async fn handle_detached<P: Send + 'static>(
        self: Arc<Self>,
        request: Request<Incoming>,
        client: Arc<Client>,
        counted: P,
    ) -> Result<(Response<Body>, P), Aborted> {
        let shutdown = self.shutdown.clone();
        let handled = shutdown.track(async move { Ok((self.answer(request, &client).await?, counted)) });
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
    pub fn answer<'a>(
        &'a self,
        request: Request<Incoming>,
        client: &'a Client,
    ) -> Pin<Box<impl Future<Output = Result<Response<Body>, Aborted>> + use<'a>>> {
        // Room first, then what goes there: `Box::pin` would make the future elsewhere, and then
        // copy its thousands of bytes, nearly all of which mean nothing yet.
        Box::into_pin(Box::write(Box::new_uninit(), self.handle(request, client)))
    }

    /// The nine steps from a request to its answer.
    async fn handle(&self, mut request: Request<Incoming>, client: &Client) -> Result<Response<Body>, Aborted> {
        let origin = head::origin(request.headers(), client);
        let mut record = RequestRecord::new(self.observer.clone(), &request, origin);
        let asked = handshake::asked(&request);
        let opening = Opening::of(&mut request, asked);
        let (mut head, body) = request.into_parts();
        let body = ReplayBody::new(body, self.shared.forward.replay_bytes);
        record.replay_body = body.clone();
        if let Some(exceeded) = head.extensions.remove::<Exceeded>() {
            return refuse(record, Refusal::Limited(exceeded.scope));
        }

        // 1. Route: which pool is it for?
        let routed = match routing::route(&self.shared, &mut head, (client, origin, asked), &mut record) {
            Ok(Destination::Jellyfin(routed)) => routed,
            Ok(Destination::Plain(pool)) => {
                let call = Call { pool, head, body, opening, client, origin };
                return Box::pin(self.plain.answer(call, record)).await;
            }
            Err(unrouted) => return Box::pin(unrouted.answer(&self.shared, record)).await,
        };

        // 2. Identify: who is the client?
        let cookies = self.shared.pools[routed.pool].cookies.load();
        let mut ctx = self.identifier.identify(routed, &cookies, &head, (client, origin), opening.is_some());
        self.identifier.look_up_session(&mut ctx).await;
        if self.revoker.is_log_out(&ctx) && !Box::pin(self.revoker.is_by_key(&ctx)).await {
            // The session ends even if no pod can be reached.
            return Ok(Box::pin(self.revoker.log_out(&ctx, record)).await);
        }
        let Prepared { log_in, in_step } = match self.prepare(&mut ctx, &body).await {
            Ok(prepared) => prepared,
            Err(refusal) => return refuse(record, refusal),
        };

        // 3.–5. Decide, rewrite, forward: `dispatch` does this for one pod after the other.
        if let Some(opening) = opening {
            // Boxed: this path is rare, and would make every request's future larger.
            return Box::pin(self.sockets.open(ctx, opening, &cookies, record)).await;
        }
        let mut attempt = self.dispatch(&mut Dispatch { ctx: &ctx, body: &body, record: &mut record }).await;

        // 6. Judge: if no pod knows the token, another replica may.
        if is_refused(&attempt) && self.identifier.may_be_known_elsewhere(&ctx) {
            attempt = Box::pin(self.dispatch_once_resolved(&mut ctx, &body, &mut record, attempt)).await;
        }
        if let Some(log_in) = log_in {
            self.brake.record_end(log_in, origin, attempt.as_ref().ok().map(|attempt| attempt.answer.status()));
        }
        let Attempt { answer: answered, decision, token, verdict, user_data_write } = match attempt {
            Ok(attempt) => attempt,
            Err(refusal) => return refuse(record, refusal.shown_at(ctx.endpoint)),
        };
        let (mut head, answer_body) = answered.into_parts();

        // 7. Learn, or forget, and let the other pods follow.
        let ended = revoke::revocation_of(&ctx, head.status);
        if ended.is_some() || in_step.is_some() {
            let mut dispatch = Dispatch { ctx: &ctx, body: &body, record: &mut record };
            let answered = (head.status, &decision.pod, token.as_ref());
            let combined = Box::pin(self.let_others_follow(&mut dispatch, ended, in_step, answered)).await;
            if let Some(status) = combined {
                return Ok(answer_of_all_pods(record, head, status));
            }
        }
        self.learner.learn_from_head(&ctx, &decision, verdict, token.as_ref(), head.status);
        self.learner.record_client_state(&ctx, &body, &decision.pod, head.status);
        self.user_data.record(&ctx, (&decision.pod, &body), user_data_write, head.status);
        let learning = self.learner.scan_body(&ctx, &decision, &head);

        // 8. Bind the client to its pod, and show one server.
        head::to_client(&mut head.headers);
        if !binds_nobody(&self.shared, &ctx) && !decision.is_duty_call(ctx.duty) {
            bind(&mut head.headers, &cookies, &ctx, &decision);
        }
        let answered = (&decision, token.as_ref(), &mut head);
        let Ok(mut shown) = self.show(&ctx, answered, answer_body, learning, &mut record).await else {
            record.set_outcome(Outcome::PodBroke);
            return Err(Aborted);
        };
        if let Some(coding) = coding(&self.shared, &ctx, &mut head) {
            shown = Box::pin(compress(&self.shared, &ctx, coding, &mut head, shown)).await;
        }

        // 9. Observe: the record travels with the body and is written when the body ends.
        Ok(answer(record, head, shown))
    }

    /// What must be known or done before any pod gets the request: nearly no request needs it.
    async fn prepare(&self, ctx: &mut RequestContext<'_>, body: &ReplayBody) -> Result<Prepared, Refusal> {
        // The log-in brake limits failed log-ins by password.
        let log_in = match self.brake.applies_to(ctx) {
            Some(by) => Some(Box::pin(self.brake.admit(by, ctx, body)).await?),
            None => None,
        };
        // A user logs in where the user's other clients are.
        if user_homes::may_name_user(&self.shared, ctx) {
            Box::pin(user_homes::name_user(&self.shared, ctx, body)).await;
        }
        if self.in_step.renames(ctx) && !Box::pin(self.in_step.is_administrator(ctx)).await {
            return Err(Refusal::NotAdministrator);
        }
        // What the other pods must follow is looked at before it changes.
        let in_step = if self.in_step.concerns(ctx) { Box::pin(self.in_step.look(ctx, body)).await } else { None };
        if body.is_broken() {
            return Err(if body.is_malformed() { Refusal::MALFORMED_BODY } else { Refusal::ClientGone });
        }
        Ok(Prepared { log_in, in_step })
    }

    /// One object for each way to the pods.
    async fn dispatch(&self, dispatch: &mut Dispatch<'_>) -> Result<Attempt, Refusal> {
        match self.live_streams.of_request(dispatch.ctx) {
            Some(stream) => Box::pin(self.live_streams.dispatch(&stream, dispatch)).await,
            None if dispatch.ctx.endpoint == Endpoint::RemoteControl => {
                Box::pin(self.remote_controller.dispatch(dispatch)).await
            }
            None => {
                let opened_at = self.live_streams.opened_at(dispatch.ctx);
                match self.leader_router.dispatch(dispatch).await {
                    // Boxed: this path is rare, and would make every request's future larger.
                    Ok(failed) if self.live_streams.may_reopen(dispatch, &failed, opened_at) => {
                        Box::pin(self.live_streams.dispatch_reopened(dispatch, failed)).await
                    }
                    attempt => attempt,
                }
            }
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

    /// Ends on all pods what ended on the client's, and lets them follow what it changed. Returns the
    /// status of all pods together if it says more than that of the client's pod.
    async fn let_others_follow(
        &self,
        dispatch: &mut Dispatch<'_>,
        ended: Option<Revocation>,
        in_step: Option<Box<Begun>>,
        (status, pod, token): (StatusCode, &Arc<Pod>, Option<&Token>),
    ) -> Option<StatusCode> {
        let combined = match ended {
            Some(ended) => self.revoker.revoke_everywhere(dispatch, ended, (status, pod, token)).await,
            None => None,
        };
        if let Some(begun) = in_step {
            self.in_step.repeat(begun, dispatch, (pod, combined.unwrap_or(status))).await;
        }
        combined
    }

    /// The body as the client gets it: that of all pods, or its own pod's with one server's names. A
    /// file's answer continues on another pod if its own fails.
    async fn show(
        &self,
        ctx: &RequestContext<'_>,
        (decision, token, head): (&Decision, Option<&Token>, &mut http::response::Parts),
        body: AnswerBody,
        learning: Option<Box<dyn BodyObserver>>,
        record: &mut RequestRecord,
    ) -> Result<Body, BrokeOff> {
        match ctx.endpoint {
            Endpoint::SessionList if ctx.is_to_be_merged() => {
                return Box::pin(self.session_lists.answer(ctx, token, head, body, record)).await;
            }
            Endpoint::DeviceList if ctx.is_to_be_merged() => {
                return Box::pin(self.device_lists.answer(ctx, head, body, record)).await;
            }
            Endpoint::SyncPlay => {
                let others = self.group_lists.others(ctx, &decision.pod);
                if !others.is_empty() {
                    return Box::pin(self.group_lists.answer(ctx, others, (head, record), body)).await;
                }
            }
            _ => {}
        }
        if let Some(file) = File::of(ctx.endpoint, &ctx.head.method, head).filter(|_| learning.is_none()) {
            return Ok(Body::resuming(ResumableFile::new(file, body, decision, self.replayer.copy(ctx))));
        }
        if live::is_live_playlist(ctx) {
            return Box::pin(self.live_streams.show_playlist(ctx, decision, head, body, learning)).await;
        }
        rewrite_for_client(&self.shared, ctx, head, body, learning).await
    }
}

/// What goes on with a request until its answer.
struct Prepared {
    /// A log-in by password.
    log_in: Option<LogIn>,
    /// An act that the other pods follow.
    in_step: Option<Box<Begun>>,
}
