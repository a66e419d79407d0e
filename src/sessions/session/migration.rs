//! A session's migration to a pod: one caller does the work, and all others wait for it.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{PodInstance, Session};
use crate::sessions::mint_limiter::Priority;

/// How long jellypin does not ask a pod again that refused a session.
const REFUSED: Duration = Duration::from_secs(10);

/// How a migration came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrationOutcome {
    /// The session is valid there; [`Session::token_at`] gives its token.
    Done,
    /// The pod refused it, or jellypin may not ask the pod.
    Refused,
    /// The session was ended, and jellypin does not revive it.
    Ended,
    /// jellypin could not reach the pod, or the pod broke off.
    Failed,
}

/// Who does the work of a migration, and who waits for it.
pub enum MigrationRole {
    /// The caller does the work.
    Lead(Lead),
    /// Another caller does the work, and sends the outcome here.
    Follow(watch::Receiver<Option<MigrationOutcome>>),
}

/// The work of a migration.
pub struct Lead {
    /// Sends how it came out.
    pub outcome: watch::Sender<Option<MigrationOutcome>>,
    /// Cancelled when a request has come to wait for the migration.
    pub urgent: CancellationToken,
}

/// A migration that a caller leads.
#[derive(Debug)]
pub(super) struct OngoingMigration {
    to: PodInstance,
    outcome: watch::Receiver<Option<MigrationOutcome>>,
    urgent: CancellationToken,
}

impl OngoingMigration {
    /// A sender that was dropped without an outcome ended with its worker.
    fn is_under_way(&self) -> bool {
        self.outcome.borrow().is_none() && self.outcome.has_changed().is_ok()
    }
}

impl Session {
    /// Whether this pod has just refused the session.
    pub fn is_refused(&self, place: PodInstance) -> bool {
        self.state.lock().refused.is_some_and(|(at, until)| at == place && until > Instant::now())
    }

    /// Records that this pod refused the session. jellypin does not ask it again for ten seconds.
    pub fn record_refusal(&self, place: PodInstance) {
        self.state.lock().refused = Some((place, Instant::now() + REFUSED));
    }

    /// Joins the one migration to this place. The first caller leads it, and the others follow. A
    /// follower that cannot wait long makes it urgent.
    pub fn join_migration(&self, place: PodInstance, priority: Priority) -> MigrationRole {
        let mut state = self.state.lock();
        if let Some(carry) = state.carry.as_ref().filter(|carry| carry.to == place && carry.is_under_way()) {
            if priority == Priority::Waiting {
                carry.urgent.cancel();
            }
            return MigrationRole::Follow(carry.outcome.clone());
        }
        let (tell, outcome) = watch::channel(None);
        let urgent = CancellationToken::new();
        if priority == Priority::Waiting {
            urgent.cancel();
        }
        state.carry = Some(OngoingMigration { to: place, outcome, urgent: urgent.clone() });
        MigrationRole::Lead(Lead { outcome: tell, urgent })
    }

    /// The pod that the session is migrating to at this moment.
    pub fn migration_target(&self) -> Option<PodInstance> {
        let state = self.state.lock();
        state.carry.as_ref().filter(|carry| carry.is_under_way()).map(|carry| carry.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sessions::session::tests::{place, session};

    #[test]
    fn of_parallel_carry_overs_to_one_place_one_leads() {
        let (session, a) = (session("own"), place("a"));
        let MigrationRole::Lead(lead) = session.join_migration(a, Priority::Idle) else { panic!("the first leads") };
        assert!(
            matches!(session.join_migration(a, Priority::Idle), MigrationRole::Follow(_))
                && !lead.urgent.is_cancelled()
        );
        assert!(
            matches!(session.join_migration(a, Priority::Waiting), MigrationRole::Follow(_))
                && lead.urgent.is_cancelled()
        );
        assert_eq!(session.migration_target(), Some(a));
        lead.outcome.send_replace(Some(MigrationOutcome::Refused));
        assert_eq!(session.migration_target(), None);
        let MigrationRole::Lead(lead) = session.join_migration(a, Priority::Waiting) else {
            panic!("what ended begins anew")
        };
        drop(lead);
        assert!(
            matches!(session.join_migration(a, Priority::Idle), MigrationRole::Lead(_)),
            "a leader that is gone leads nobody"
        );
    }
}
