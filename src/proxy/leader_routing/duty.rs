//! What one pod does for all: writes of the catalogue where one pod alone writes it, and what the
//! leader keeps for itself, such as scheduled tasks.
//!
//! The pod judges by the client's own rights: it gets the client's own token, minted if it knows
//! none. What the client leaves there is removed behind the answer.

use std::sync::Arc;

use http::{Method, StatusCode};
use tokio::time::{self, Instant};

use super::dispatch_to_leader;
use crate::{
    jellyfin::{
        endpoint::{Act, Duty, triggers_of},
        verdict::Verdict,
    },
    pod::{Pod, PodInstance},
    proxy::{
        dispatch::Dispatcher,
        migrate::{MigrationKind, MigrationRequest, Migrator},
        request::{
            attempt::Attempt,
            context::{RequestContext, Target},
            dispatch::Dispatch,
            reason::FailoverReason,
            refusal::Refusal,
            select::{Decision, Reason},
        },
        shared_state::SharedState,
        visit::Visits,
        writers::{Found, LOOK, Writers},
    },
    sessions::session::MigrationOutcome,
};

pub(super) struct DutyRouter {
    pub(super) shared: Arc<SharedState>,
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) migrator: Arc<Migrator>,
    pub(super) visits: Arc<Visits>,
    pub(super) writers: Writers,
}

impl DutyRouter {
    /// Dispatches a request that one pod does for all.
    pub(super) async fn dispatch(&self, dispatch: &mut Dispatch<'_>) -> Result<Attempt, Refusal> {
        let ctx = dispatch.ctx;
        match self.await_writer(dispatch).await? {
            Some(writer) => self.send_to_writer(dispatch, &writer).await,
            None if ctx.duty == Duty::Leader => {
                let attempt = self.send_to_leader(dispatch).await;
                if let (Ok(done), Some(task)) = (&attempt, triggers_of(&ctx.head.method, ctx.path))
                    && done.answer.status().is_success()
                    && ctx.pool.leader.current().is_some_and(|leader| leader.id == done.decision.pod.id)
                {
                    ctx.pool.leader.task_edits.record(done.decision.pod.id, task);
                }
                attempt
            }
            None => self.dispatcher.dispatch(dispatch).await,
        }
    }

    /// Whether a follower has failed at what it can do once the writer has done it.
    pub(super) fn may_lack_what_writer_has(ctx: &RequestContext<'_>, attempt: &Attempt) -> bool {
        ctx.pool.writer.is_one()
            && attempt.answer.status() == StatusCode::INTERNAL_SERVER_ERROR
            && ctx.head.method == Method::GET
            && !ctx.endpoint.is_media()
            && !ctx.is_upgrade
    }

    /// Asks the writer the same once, and then the follower again. The writer makes what is missing
    /// in the database.
    pub(super) async fn ask_writer_first(
        &self,
        dispatch: &mut Dispatch<'_>,
        failed: Attempt,
    ) -> Result<Attempt, Refusal> {
        let ctx = dispatch.ctx;
        let writer = ctx.pool.writer.current(&ctx.pool.pool).filter(|writer| writer.id != failed.decision.pod.id);
        let Some(writer) = writer.filter(|_| dispatch.body.can_replay()) else { return Ok(failed) };
        if !self.is_known_to(ctx, &writer).await {
            return Ok(failed);
        }
        let token = ctx.session().and_then(|session| session.token_at(PodInstance::of(&writer)));
        dispatch.record.record_failover(&failed.decision.pod, FailoverReason::ServerError);
        let decision = Decision::new(writer.clone(), Reason::Writer);
        let asked = self.dispatcher.send_only(dispatch, decision, token).await;
        self.end_visit(ctx, &writer);
        match asked {
            Ok(attempt) if attempt.answer.status().is_success() => self.dispatcher.dispatch(dispatch).await,
            Ok(_) | Err(_) => {
                dispatch.record.set_status(failed.answer.status().as_u16());
                Ok(failed)
            }
        }
    }

    /// The pod that writes for all, if one does. While none does, a write waits for up to
    /// `[timeouts] hold`, and what is only read does not.
    async fn await_writer(&self, dispatch: &Dispatch<'_>) -> Result<Option<Arc<Pod>>, Refusal> {
        let ctx = dispatch.ctx;
        let (writer, pool) = (&ctx.pool.writer, &ctx.pool.pool);
        let mut changes = writer.changes();
        match Box::pin(self.writers.find(ctx.pool)).await {
            Found::EveryPod => return Ok(None),
            Found::Pod(pod) => return Ok(Some(pod)),
            Found::Nobody if matches!(ctx.head.method, Method::GET | Method::HEAD) => return Ok(None),
            Found::Nobody => {}
        }
        let _permit = self.shared.hold_permit(ctx, dispatch.body).ok_or(Refusal::NoPod)?;
        let end = Instant::now() + self.shared.forward.hold;
        writer.want();
        while Instant::now() < end {
            if let Some(pod) = writer.current(pool) {
                return Ok(Some(pod));
            }
            // A pod that comes back under the configured name changes nothing that is known.
            let pause = (Instant::now() + LOOK).min(end);
            let _ = time::timeout_at(pause, changes.changed()).await;
        }
        Err(Refusal::NoPod)
    }

    async fn send_to_writer(&self, dispatch: &mut Dispatch<'_>, writer: &Arc<Pod>) -> Result<Attempt, Refusal> {
        let ctx = dispatch.ctx;
        if !self.is_known_to(ctx, writer).await {
            return Err(Refusal::NoPod);
        }
        let to_writer = ctx.with_target(Target::Writer);
        let attempt = self.dispatcher.dispatch(&mut dispatch.with_context(&to_writer)).await;
        self.end_visit(ctx, writer);
        let attempt = attempt?;
        if attempt.answer.status().is_server_error() {
            ctx.pool.writer.want();
        }
        if ctx.act == Some(Act::Library) && attempt.answer.status().is_success() {
            tell_who_lacks_library(dispatch, &attempt.decision.pod);
        }
        // A client whose own pod knows it must not be told to log in again.
        let is_elsewhere =
            ctx.session().is_some_and(|session| session.lives_elsewhere(&ctx.pool.pool, &attempt.decision.pod));
        if attempt.verdict == Verdict::UnknownToken && is_elsewhere {
            return Err(Refusal::NoPod);
        }
        Ok(attempt)
    }

    async fn send_to_leader(&self, dispatch: &mut Dispatch<'_>) -> Result<Attempt, Refusal> {
        let ctx = dispatch.ctx;
        let leader = ctx.pool.leader.current().filter(|leader| leader.status().is_alive());
        let Some(leader) = leader.filter(|_| self.shared.api_key().is_some()) else {
            return self.dispatcher.dispatch(dispatch).await;
        };
        let is_home = ctx.session().is_some_and(|session| session.home().is_none_or(|home| home.pod == leader.id));
        if is_home || !self.is_known_to(ctx, &leader).await {
            return self.dispatcher.dispatch(dispatch).await;
        }
        let attempt = dispatch_to_leader(&self.dispatcher, dispatch, None).await;
        self.end_visit(ctx, &leader);
        attempt
    }

    /// Whether the pod knows the client, or gets to. A token without a session may be an API key,
    /// which every pod knows.
    async fn is_known_to(&self, ctx: &RequestContext<'_>, pod: &Arc<Pod>) -> bool {
        let Some(session) = ctx.session() else { return true };
        if !session.lives_elsewhere(&ctx.pool.pool, pod) || session.is_known_at(pod) {
            return true;
        }
        let guest = MigrationRequest { kind: MigrationKind::KeepHome, ..MigrationRequest::for_request(ctx) };
        self.migrator.migrate(session, pod, guest).await == MigrationOutcome::Done
    }

    fn end_visit(&self, ctx: &RequestContext<'_>, pod: &Arc<Pod>) {
        if let Some(session) = ctx.session().filter(|session| session.lives_elsewhere(&ctx.pool.pool, pod)) {
            self.visits.end(ctx, session, pod);
        }
    }
}

/// Says which pods show their libraries as they were: a pod that follows reads them at its start.
fn tell_who_lacks_library(dispatch: &mut Dispatch<'_>, writer: &Pod) {
    for pod in dispatch.ctx.pool.pool.pods().iter().filter(|pod| pod.id != writer.id && pod.status().is_alive()) {
        dispatch.record.record_fan_out(pod, "needs_restart");
        tracing::warn!(
            pod.name = &*pod.name,
            pod.pool = &*pod.pool,
            "a pod shows the libraries as they were until it is restarted"
        );
    }
}
