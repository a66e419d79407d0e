//! Session migration: a client whose home is gone becomes known to another pod. This happens within
//! the request that finds out.
//!
//! jellypin first tries the session's known tokens there, since a restarted pod has every row of
//! the database. Otherwise it mints a session for the same user and device, by three calls that
//! need the pods' API key. Parallel requests and sockets of one client wait for one migration. A
//! token that a living home refuses is dead, and never migrates.

mod ending;
mod migration;
mod mint;
mod state_replay;
mod task;

use std::sync::Arc;

use tokio::time::{self, Instant};

use super::{
    own_users::OwnUsers,
    pod_client::{Caller, PodClient},
    request::context::RequestContext,
    shared_state::SharedState,
    user_data::UserData,
    user_homes,
};
use crate::{
    forward::{Cause, Failure},
    jellyfin::translation::NO_TOKEN,
    observe::metrics::Metrics,
    pod::{Condition, Pod, PodInstance},
    sessions::{
        Session, Token,
        mint_limiter::Priority,
        session::{MigrationOutcome, MigrationRole, MoveReason},
    },
    shutdown::Shutdown,
};
use migration::Migration;

/// Why and how jellypin makes a session known to a pod.
pub(super) struct MigrationRequest {
    /// For whom the pod is called.
    pub(super) caller: Caller,
    pub(super) priority: Priority,
    pub(super) kind: MigrationKind,
}

/// Whether a migration moves the session's home to the pod.
#[derive(Clone, Copy, Debug)]
pub(super) enum MigrationKind {
    MoveHome,
    /// Moves the home only if the session still lives on this pod, and no request has moved it
    /// there for a group since this moment.
    MoveHomeFrom(PodInstance, Instant),
    /// The same, since the pod is the home of the session's user.
    MoveToUser(PodInstance, Instant),
    /// The same, since an operator says so.
    MoveForOperator(PodInstance, Instant),
    /// The pod gets to know the session, but the home stays.
    KeepHome,
}

impl MigrationKind {
    fn moves_home(self, session: &Session) -> bool {
        match self {
            MigrationKind::MoveHome => true,
            MigrationKind::MoveHomeFrom(from, since)
            | MigrationKind::MoveToUser(from, since)
            | MigrationKind::MoveForOperator(from, since) => {
                session.home().is_some_and(|home| home.pod == from.pod) && !session.group.moved_since(from, since)
            }
            MigrationKind::KeepHome => false,
        }
    }
}

impl MigrationRequest {
    /// For a request that waits for the migration; the session's home moves to the pod.
    pub(super) fn for_request(ctx: &RequestContext<'_>) -> MigrationRequest {
        MigrationRequest { caller: Caller::of(ctx), priority: Priority::Waiting, kind: MigrationKind::MoveHome }
    }
}

/// Makes sessions known to other pods.
pub(super) struct Migrator {
    shared: Arc<SharedState>,
    pods: Arc<PodClient>,
    user_data: Arc<UserData>,
    own_users: OwnUsers,
    metrics: Metrics,
    shutdown: Shutdown,
}

impl Migrator {
    pub(super) fn new(
        shared: Arc<SharedState>,
        pods: Arc<PodClient>,
        user_data: Arc<UserData>,
        (metrics, shutdown): (Metrics, Shutdown),
    ) -> Migrator {
        let own_users = OwnUsers::new(shared.clone(), pods.clone());
        Migrator { shared, pods, user_data, own_users, metrics, shutdown }
    }

    /// The token by which the pod knows the client. Migrates the session if its home is gone and
    /// the pod does not know it. `None` means the client's own token, whatever the pod answers.
    pub(super) async fn upstream_token(
        self: &Arc<Self>,
        ctx: &RequestContext<'_>,
        pod: &Arc<Pod>,
    ) -> Result<Option<Token>, Failure> {
        let Some(session) = ctx.session() else { return Ok(None) };
        // The session ended while this request was under way. No pod may accept its token any more,
        // even one that still remembers it.
        let no_token = || Ok(Some(Token::new(NO_TOKEN)));
        if session.is_ended() {
            return no_token();
        }
        let place = PodInstance::of(pod);
        if let Some(token) = session.token_at(place) {
            return Ok(Some(token));
        }
        if !ctx.depends_on_token() || session.migrations.is_refused(place) || !may_migrate_to(ctx, session, pod) {
            return Ok(None);
        }
        let failed = |cause| Err(Failure { cause, may_be_received: false, on_reused_connection: false });
        let priority = if ctx.is_upgrade { Priority::Idle } else { Priority::Waiting };
        let migrating = self.migrate(session, pod, MigrationRequest { priority, ..MigrationRequest::for_request(ctx) });
        // Many clients may move at once. The migration keeps its place, and the client's next request
        // finds it further.
        let Ok(migrated) = time::timeout(self.shared.forward.queue_time, migrating).await else {
            return failed(Cause::Overloaded);
        };
        match migrated {
            _ if session.is_ended() => no_token(),
            MigrationOutcome::Done => Ok(session.token_at(place)),
            MigrationOutcome::Refused | MigrationOutcome::Ended => Ok(None),
            MigrationOutcome::Failed => {
                // A mint on the next pod in its place would leave sessions on both.
                let is_slow = pod.status().is_alive() && pod.vitals.condition() != Condition::Well;
                // The process that took this one's place can mint, and this one cannot keep what it mints.
                failed(if is_slow || self.shutdown.is_leaving() { Cause::Overloaded } else { Cause::Lost })
            }
        }
    }

    /// The token for a call in the client's name to the pod that answered its request. Unlike the
    /// request itself, the call needs one that the pod knows.
    pub(super) async fn token_for_call(self: &Arc<Self>, ctx: &RequestContext<'_>, pod: &Arc<Pod>) -> Option<Token> {
        let Some(session) = ctx.session() else { return ctx.keys.identity.token.as_deref().map(Token::new) };
        let place = PodInstance::of(pod);
        let is_refused = session.migrations.is_refused(place);
        if session.token_at(place).is_none() && !is_refused && may_migrate_to(ctx, session, pod) {
            self.migrate(session, pod, MigrationRequest::for_request(ctx)).await;
        }
        session.token_at(place).filter(|_| !session.is_ended())
    }

    /// Makes a session known to a pod, or waits for the task that already does. Dropping this does
    /// not stop the migration.
    pub(super) async fn migrate(
        self: &Arc<Self>,
        session: &Arc<Session>,
        pod: &Arc<Pod>,
        migration_request: MigrationRequest,
    ) -> MigrationOutcome {
        let moves = migration_request.kind;
        let mut outcome = match session.migrations.join(PodInstance::of(pod), migration_request.priority) {
            MigrationRole::Follow(outcome) => outcome,
            MigrationRole::Lead(lead) => {
                let outcome = lead.outcome.subscribe();
                let (migrator, session, pod) = (self.clone(), session.clone(), pod.clone());
                // If it were dropped after the pod's log-in, nobody would know the session's only token.
                let shutdown = self.shutdown.clone();
                let migration = Migration { migrator, session, pod, migration_request, urgent: lead.urgent };
                tokio::spawn(shutdown.track(migration.run(lead.outcome)));
                outcome
            }
        };
        let migrated = match outcome.wait_for(Option::is_some).await {
            Ok(migrated) => migrated.unwrap_or(MigrationOutcome::Failed),
            // The task that ran the migration ended with its worker.
            Err(_) => MigrationOutcome::Failed,
        };
        // The task that ran the migration may have been asked to keep the home.
        if migrated == MigrationOutcome::Done
            && moves.moves_home(session)
            && let Some(token) = session.token_at(PodInstance::of(pod))
            && session
                .residence
                .record_home(PodInstance::of(pod), token.as_str(), || self.move_reason(session, pod, moves))
        {
            self.shared.sessions.keeper.persist(session);
            user_homes::record(&self.shared, session);
        }
        migrated
    }

    /// Why a session's home moves to this pod.
    fn move_reason(&self, session: &Session, pod: &Pod, moves: MigrationKind) -> MoveReason {
        match (self.shared.move_reason(session, pod), moves) {
            (MoveReason::Group | MoveReason::HomeGone, MigrationKind::MoveHomeFrom(..)) => MoveReason::Drain,
            (MoveReason::Group | MoveReason::HomeGone, MigrationKind::MoveToUser(..)) => MoveReason::User,
            (MoveReason::Group | MoveReason::HomeGone, MigrationKind::MoveForOperator(..)) => MoveReason::Operator,
            (reason, _) => reason,
        }
    }
}

/// Only a session whose home is gone or has restarted migrates: the answer of a living home is
/// final.
fn may_migrate_to(ctx: &RequestContext<'_>, session: &Session, pod: &Pod) -> bool {
    pod.status().is_alive() && !session.is_ended() && !session.lives_elsewhere(&ctx.pool.pool, pod)
}
