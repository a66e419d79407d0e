//! A session's migration to a pod: one caller does the work, and all others wait for it.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{pod::PodInstance, sessions::mint_limiter::Priority};

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

/// A session's migrations.
#[derive(Debug, Default)]
pub struct Migrations(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The pod that refused the session, and until when jellypin does not ask it again.
    refused: Option<(PodInstance, Instant)>,
    ongoing: Option<OngoingMigration>,
}

/// A migration that a caller leads.
#[derive(Debug)]
struct OngoingMigration {
    to: PodInstance,
    outcome: watch::Receiver<Option<MigrationOutcome>>,
    urgent: CancellationToken,
}

impl Migrations {
    /// Whether this pod has just refused the session.
    pub fn is_refused(&self, place: PodInstance) -> bool {
        self.0.lock().refused.is_some_and(|(at, until)| at == place && until > Instant::now())
    }

    /// Records that this pod refused the session. jellypin does not ask it again for ten seconds.
    pub fn record_refusal(&self, place: PodInstance) {
        self.0.lock().refused = Some((place, Instant::now() + REFUSED));
    }

    /// Joins the one migration to this place. The first caller leads it, and the others follow. A
    /// follower that cannot wait long makes it urgent.
    pub fn join(&self, place: PodInstance, priority: Priority) -> MigrationRole {
        let mut state = self.0.lock();
        if let Some(ongoing) = state.ongoing.as_ref().filter(|ongoing| ongoing.to == place && ongoing.is_under_way()) {
            if priority == Priority::Waiting {
                ongoing.urgent.cancel();
            }
            return MigrationRole::Follow(ongoing.outcome.clone());
        }
        let (tell, outcome) = watch::channel(None);
        let urgent = CancellationToken::new();
        if priority == Priority::Waiting {
            urgent.cancel();
        }
        state.ongoing = Some(OngoingMigration { to: place, outcome, urgent: urgent.clone() });
        MigrationRole::Lead(Lead { outcome: tell, urgent })
    }

    /// The pod that the session is migrating to at this moment.
    pub fn target(&self) -> Option<PodInstance> {
        let state = self.0.lock();
        state.ongoing.as_ref().filter(|ongoing| ongoing.is_under_way()).map(|ongoing| ongoing.to)
    }
}

impl OngoingMigration {
    /// A sender that was dropped without an outcome ended with its worker.
    fn is_under_way(&self) -> bool {
        self.outcome.borrow().is_none() && self.outcome.has_changed().is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sessions::session::tests::place;

    #[test]
    fn of_parallel_migrations_to_one_place_one_leads() {
        let (migrations, a) = (Migrations::default(), place("a"));
        let MigrationRole::Lead(lead) = migrations.join(a, Priority::Idle) else { panic!("the first leads") };
        assert!(matches!(migrations.join(a, Priority::Idle), MigrationRole::Follow(_)) && !lead.urgent.is_cancelled());
        assert!(
            matches!(migrations.join(a, Priority::Waiting), MigrationRole::Follow(_)) && lead.urgent.is_cancelled()
        );
        assert_eq!(migrations.target(), Some(a));
        lead.outcome.send_replace(Some(MigrationOutcome::Refused));
        assert_eq!(migrations.target(), None);
        let MigrationRole::Lead(lead) = migrations.join(a, Priority::Waiting) else {
            panic!("what ended begins again")
        };
        drop(lead);
        assert!(
            matches!(migrations.join(a, Priority::Idle), MigrationRole::Lead(_)),
            "a leader that is gone leads nobody"
        );
    }
}
