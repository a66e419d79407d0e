//! SyncPlay: a group lives in one pod's memory.
//!
//! A client that joins a group first moves to the leader, with its socket. A client that only lists
//! groups does not move.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use tokio::time::{self, Instant};

use super::{Feature, dispatch_to_leader, warn_missing_key};
use crate::{
    affinity::pins::Kind,
    jellyfin::{endpoint, sync_play, verdict::Verdict},
    observe::metrics::Metrics,
    pod::{Pod, PodInstance},
    proxy::{
        dispatch::Dispatcher,
        groups::{self, group::Group},
        migrate::{MigrationKind, MigrationRequest, Migrator},
        request::{attempt::Attempt, context::RequestContext, dispatch::Dispatch, refusal::Refusal},
        selector::Selector,
        shared_state::SharedState,
        visit::Visits,
    },
    sessions::{Session, session::MigrationOutcome},
};

/// Pause between two looks whether a group's pod is gone.
const LOOK: Duration = Duration::from_millis(20);

pub(super) struct SyncPlay {
    pub(super) shared: Arc<SharedState>,
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) selector: Arc<Selector>,
    pub(super) migrator: Arc<Migrator>,
    pub(super) visits: Arc<Visits>,
    pub(super) metrics: Metrics,
}

impl SyncPlay {
    /// Moves the client to the pod that has this group, or is to make one, and only then lets it join
    /// there. That is the leader, unless it leads only since the group was made.
    pub(super) async fn join(&self, dispatch: &mut Dispatch<'_>, group: Option<&str>) -> Result<Attempt, Refusal> {
        let ctx = dispatch.ctx;
        let leader = match group {
            Some(group) => self.pod_of_group(ctx, group).await,
            None => None,
        };
        let leader = match leader {
            Some(pod) => Some(pod),
            None => ctx.pool.leader.await_fit(&ctx.pool.pool).await,
        };
        if let (Some(session), Some(leader)) = (ctx.session(), &leader) {
            self.move_to_leader(ctx, session, leader).await;
        }
        let attempt = self.call(dispatch).await?;
        // A stranger may name any device: only the pod's answer counts.
        if let Some(leader) = leader.filter(|_| ctx.session().is_none() && attempt.verdict == Verdict::Accepted) {
            self.pin_to_leader(ctx, &leader);
        }
        Ok(attempt)
    }

    /// Dispatches a group call. If it succeeds, the pod may have groups from now on.
    pub(super) async fn call(&self, dispatch: &mut Dispatch<'_>) -> Result<Attempt, Refusal> {
        let ctx = dispatch.ctx;
        let group = ctx.session().and_then(|session| self.shared.groups.of(session));
        let life = match &group {
            Some(group) => {
                self.await_settled(ctx, group).await;
                group.location.generation()
            }
            None => 0,
        };
        let mut attempt = self.dispatcher.dispatch(dispatch).await;
        if let Some(group) = &group {
            // The pod may have died over the request, and its group goes on elsewhere.
            let is_refused = attempt.as_ref().map_or(true, |attempt| attempt.answer.status() == StatusCode::FORBIDDEN);
            if is_refused && dispatch.body.can_replay() {
                self.await_settled(ctx, group).await;
                if group.location.generation() != life {
                    attempt = self.dispatcher.dispatch(dispatch).await;
                }
            }
        }
        let attempt = attempt?;
        if attempt.answer.status().is_success() {
            self.shared.sessions.groups.record(&attempt.decision.pod);
            self.learn_wait(dispatch, group.as_deref());
        }
        Ok(attempt)
    }

    /// Waits while the group's pod is gone or the group is being made again, within the hold.
    async fn await_settled(&self, ctx: &RequestContext<'_>, group: &Group) {
        let end = Instant::now() + self.shared.forward.hold;
        let is_lost = || groups::is_gone(&ctx.pool.pool, group.location.place());
        while Instant::now() < end && self.shared.api_key().is_some() && (group.moving.is_under_way() || is_lost()) {
            group.moving.await_end(end - Instant::now()).await;
            if is_lost() {
                time::sleep(LOOK).await;
            }
        }
    }

    /// The living pod that has this group.
    async fn pod_of_group(&self, ctx: &RequestContext<'_>, group: &str) -> Option<Arc<Pod>> {
        let group = self.shared.groups.by_id(&ctx.pool.pool.name, &sync_play::plain(group))?;
        self.await_settled(ctx, &group).await;
        let place = group.location.place();
        let pods = ctx.pool.pool.pods();
        pods.iter().find(|pod| PodInstance::of(pod) == place && pod.status().is_alive()).cloned()
    }

    /// Learns which members the others need not wait for: they are not asked to again.
    fn learn_wait(&self, dispatch: &Dispatch<'_>, group: Option<&Group>) {
        let ctx = dispatch.ctx;
        if let (Some(group), Some(session)) = (group, ctx.session())
            && endpoint::is_ignore_wait(ctx.path)
            && let Some(ignores) = dispatch.body.replayable().and_then(|body| sync_play::ignores_wait(&body))
        {
            group.roster.set_ignores_wait(session, ignores);
        }
    }

    async fn move_to_leader(&self, ctx: &RequestContext<'_>, session: &Arc<Session>, leader: &Arc<Pod>) {
        session.group.record_move(PodInstance::of(leader));
        let is_home = session.home().is_some_and(|home| home.pod == leader.id);
        if !is_home
            && self.migrator.migrate(session, leader, MigrationRequest::for_request(ctx)).await
                != MigrationOutcome::Done
        {
            tracing::warn!(
                user.id = &*session.user,
                to = &*leader.name,
                "a client cannot come to live on the leader; its group stays on its own pod"
            );
        }
    }

    /// Lists the leader's groups as this user may see them. It moves no client, and asks the leader
    /// only while it may have groups.
    pub(super) async fn list_groups(&self, dispatch: &mut Dispatch<'_>) -> Result<Attempt, Refusal> {
        let ctx = dispatch.ctx;
        let (Some(session), Some(leader)) = (ctx.session(), ctx.pool.leader.current()) else {
            return self.dispatcher.dispatch(dispatch).await;
        };
        let is_home = session.home().is_none_or(|home| home.pod == leader.id);
        if is_home || !leader.status().is_alive() || !self.shared.sessions.groups.may_be_at(&leader).await {
            return self.dispatcher.dispatch(dispatch).await;
        }
        if !session.is_known_at(&leader)
            && self
                .migrator
                .migrate(
                    session,
                    &leader,
                    MigrationRequest { kind: MigrationKind::KeepHome, ..MigrationRequest::for_request(ctx) },
                )
                .await
                != MigrationOutcome::Done
        {
            return self.dispatcher.dispatch(dispatch).await;
        }
        let attempt = dispatch_to_leader(&self.dispatcher, dispatch, None).await;
        self.visits.end(ctx, session, &leader);
        attempt
    }

    /// Answers with the clock that stamps group commands. That is the leader's, for clients that
    /// may still join a group. If the client's home may have groups, it is the home's, which may
    /// have led before.
    pub(super) async fn time(&self, dispatch: &mut Dispatch<'_>) -> Result<Attempt, Refusal> {
        let ctx = dispatch.ctx;
        let (home, leader) = (self.selector.select(ctx, &[]).map(|decision| decision.pod), ctx.pool.leader.current());
        let Some(home) = home.filter(|home| leader.is_some_and(|leader| leader.id != home.id)) else {
            return self.dispatcher.dispatch(dispatch).await;
        };
        if self.shared.sessions.groups.may_be_at(&home).await {
            return self.dispatcher.dispatch(dispatch).await;
        }
        dispatch_to_leader(&self.dispatcher, dispatch, None).await
    }

    /// Without an API key no session can migrate: the device goes to the leader at its next log-in.
    fn pin_to_leader(&self, ctx: &RequestContext<'_>, leader: &Pod) {
        let home = self.selector.select(ctx, &[]).map(|decision| decision.pod.id);
        if home == Some(leader.id) || self.shared.api_key().is_some() {
            return;
        }
        if let Some(device) = ctx.keys.identity.device.as_deref() {
            let home = PodInstance::of(leader);
            self.shared.pins.learn(Kind::Device, device, home, ctx.origin);
        }
        warn_missing_key(&self.metrics, ctx, Feature::SyncPlay);
    }
}
