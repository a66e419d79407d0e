//! Single sign-on: a plug-in keeps the flow in one pod's memory.

use std::sync::Arc;

use http::{Response, header};

use super::dispatch_to_leader;
use crate::{
    affinity::pins::Kind,
    forward::answer::AnswerBody,
    jellyfin::endpoint::{self, Endpoint},
    proxy::{
        dispatch::Dispatcher,
        migrate::{MigrationKind, MigrationRequest, Migrator},
        request::{attempt::Attempt, dispatch::Dispatch, refusal::Refusal},
        shared_state::SharedState,
        visit::Visits,
    },
};

pub(super) struct SignOn {
    pub(super) shared: Arc<SharedState>,
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) migrator: Arc<Migrator>,
    pub(super) visits: Arc<Visits>,
}

impl SignOn {
    /// Sends a single sign-on to the leader, and later to the pod that made its state while that
    /// pod lives. It needs no cookie: the browser that returns from the provider's site has none.
    pub(super) async fn dispatch(
        &self,
        dispatch: &mut Dispatch<'_>,
        state: Option<String>,
    ) -> Result<Attempt, Refusal> {
        let ctx = dispatch.ctx;
        let leader = ctx.pool.leader.current().filter(|leader| leader.status().is_alive());
        // The leader must know a user who links an account, and an administrator.
        let visitor =
            ctx.session().zip(leader).filter(|(session, leader)| session.lives_elsewhere(&ctx.pool.pool, leader));
        if let Some((session, leader)) = &visitor
            && ctx.endpoint != Endpoint::LogIn
            && !session.is_known_at(leader)
        {
            let migration_request =
                MigrationRequest { kind: MigrationKind::KeepHome, ..MigrationRequest::for_request(ctx) };
            // If the migration fails, `dispatch` tries the other pods.
            let _ = self.migrator.migrate(session, leader, migration_request).await;
        }
        let attempt = dispatch_to_leader(&self.dispatcher, dispatch, state).await?;
        if let Some(state) = state_in(&attempt.answer) {
            self.shared.pins.learn(Kind::QuickConnect, &state, attempt.decision.home(), ctx.origin);
        }
        if let Some((session, leader)) = visitor {
            self.visits.end(ctx, session, &leader);
        }
        Ok(attempt)
    }
}

/// The state in a redirect to the provider.
fn state_in(answer: &Response<AnswerBody>) -> Option<String> {
    if !answer.status().is_redirection() {
        return None;
    }
    let (_, query) = answer.headers().get(header::LOCATION)?.to_str().ok()?.split_once('?')?;
    endpoint::query_value(query, "state")
}
