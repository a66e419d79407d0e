//! Carry-over: a client whose home is gone becomes known to another pod, within the request that finds out.
//!
//! First the tokens that stand for the session already are tried there, since a restarted pod knows every row of the database;
//! else a session is minted for the same user and device, by three calls that need an API key of the pods. Parallel requests
//! and sockets of one client wait for the one that does it. What a living home refuses is dead, and is never carried.

pub mod drain;
mod migration;
mod mint;
mod state_replay;

use std::sync::Arc;

use http::HeaderMap;
use tokio::time::Instant;

use super::{
    Proxy, RequestContext,
    pod_client::{TokenStatus, client_headers},
};
use crate::{
    forward::{Cause, Failure},
    pod::{Pod, PodInstance},
    sessions::{
        Session, Token,
        mint_limiter::Priority,
        session::{MigrationOutcome, MigrationRole, MoveReason},
    },
};
use migration::Migration;

/// What a session is brought to a pod for.
pub(super) struct MigrationRequest {
    pub(super) base_path: Arc<str>,
    /// What the pod is told of the client.
    pub(super) client: HeaderMap,
    pub(super) priority: Priority,
    pub(super) kind: MigrationKind,
}

/// Whether a session comes to live on the pod that it is brought to.
#[derive(Clone, Copy, Debug)]
pub(super) enum MigrationKind {
    MoveHome,
    /// Only if it lives on this pod then, and no request has brought it there for a group since this moment.
    MoveHomeFrom(PodInstance, Instant),
    /// It is only to be known there too.
    KeepHome,
}

impl MigrationKind {
    fn moves_home(self, session: &Session) -> bool {
        match self {
            MigrationKind::MoveHome => true,
            MigrationKind::MoveHomeFrom(from, since) => {
                session.home().is_some_and(|home| home.pod == from.pod) && !session.moved_for_group_since(from, since)
            }
            MigrationKind::KeepHome => false,
        }
    }
}

impl MigrationRequest {
    /// For a request that waits for it, to live there.
    pub(super) fn for_request(ctx: &RequestContext<'_>) -> MigrationRequest {
        let base_path = ctx.pool.pool.base_path.clone();
        MigrationRequest {
            base_path,
            client: client_headers(ctx),
            priority: Priority::Waiting,
            kind: MigrationKind::MoveHome,
        }
    }
}

impl Proxy {
    /// By which token the client is known to this pod; where it is not and its home is gone, it is made known. `None`: by its
    /// own, whatever comes of it.
    pub(super) async fn upstream_token(
        self: &Arc<Self>,
        ctx: &RequestContext<'_>,
        pod: &Arc<Pod>,
    ) -> Result<Option<Token>, Failure> {
        let Some(session) = ctx.session() else { return Ok(None) };
        // It was ended while this request was on its way: no pod may take its token any more, whatever it remembers.
        let of_nobody = || Ok(Some(Token::new(super::NO_TOKEN)));
        if session.is_ended() {
            return of_nobody();
        }
        let place = PodInstance::of(pod);
        if let Some(token) = session.token_at(place) {
            return Ok(Some(token));
        }
        if !ctx.depends_on_token() || session.is_refused(place) || !ctx.may_migrate_to(session, pod) {
            return Ok(None);
        }
        let priority = if ctx.is_upgrade { Priority::Idle } else { Priority::Waiting };
        match self.migrate(session, pod, MigrationRequest { priority, ..MigrationRequest::for_request(ctx) }).await {
            _ if session.is_ended() => of_nobody(),
            MigrationOutcome::Done => Ok(session.token_at(place)),
            MigrationOutcome::Refused | MigrationOutcome::Ended => Ok(None),
            MigrationOutcome::Failed => {
                Err(Failure { cause: Cause::Lost, may_be_received: false, on_reused_connection: false })
            }
        }
    }

    /// Makes a session known to a pod, or waits for whoever does. It goes on when this is dropped.
    pub(super) async fn migrate(
        self: &Arc<Self>,
        session: &Arc<Session>,
        pod: &Arc<Pod>,
        migration_request: MigrationRequest,
    ) -> MigrationOutcome {
        let moves = migration_request.kind;
        let mut outcome = match session.join_migration(PodInstance::of(pod), migration_request.priority) {
            MigrationRole::Follow(outcome) => outcome,
            MigrationRole::Lead(lead) => {
                let outcome = lead.outcome.subscribe();
                let (proxy, session, pod) = (self.clone(), session.clone(), pod.clone());
                tokio::spawn(
                    Migration { proxy, session, pod, migration_request, urgent: lead.urgent }.run(lead.outcome),
                );
                outcome
            }
        };
        let migrated = match outcome.wait_for(Option::is_some).await {
            Ok(migrated) => migrated.unwrap_or(MigrationOutcome::Failed),
            // Whoever did it has ended with its worker.
            Err(_) => MigrationOutcome::Failed,
        };
        // Whoever it was may have wanted it there only to be known.
        if migrated == MigrationOutcome::Done
            && moves.moves_home(session)
            && let Some(token) = session.token_at(PodInstance::of(pod))
            && session.record_home(PodInstance::of(pod), token.as_str(), || self.move_reason(session, pod, moves))
        {
            self.shared.sessions.persist(session);
        }
        migrated
    }

    /// Why a session comes to live on this pod.
    pub(super) fn move_reason(&self, session: &Session, pod: &Pod, moves: MigrationKind) -> MoveReason {
        let is_alive = |home| self.shared.pools.iter().any(|shared| shared.pool.is_alive(home));
        match (session.home(), moves) {
            (None, _) => MoveReason::First,
            (Some(home), _) if home.pod == pod.id => MoveReason::Restart,
            (_, MigrationKind::MoveHomeFrom(..)) => MoveReason::Drain,
            (Some(home), _) if is_alive(home) => MoveReason::Group,
            _ => MoveReason::HomeGone,
        }
    }
}

impl RequestContext<'_> {
    /// Only a session whose home is gone, or has begun a new life, is carried: a living home has the last word.
    fn may_migrate_to(&self, session: &Session, pod: &Pod) -> bool {
        pod.status().is_alive() && !session.is_ended() && !self.home_is_elsewhere(session, pod)
    }

    /// Whether the session's home is alive, and is not this pod.
    pub(super) fn home_is_elsewhere(&self, session: &Session, pod: &Pod) -> bool {
        let is_alive = |id| self.pool.pool.pods().iter().any(|other| other.id == id && other.status().is_alive());
        session.home().is_some_and(|home| home.pod != pod.id && is_alive(home.pod))
    }
}
