//! A session on its way to a pod: one does the work, and all others wait for it.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{PodInstance, Session};
use crate::sessions::mint_limiter::Priority;

/// How long a pod that would not take a session is not asked to again.
const REFUSED: Duration = Duration::from_secs(10);

/// How a carry-over came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrationOutcome {
    /// The session is valid there; its token stands in [`Session::token_at`].
    Done,
    /// The pod would not take it, or may not be asked.
    Refused,
    /// The session was ended: it is not revived.
    Ended,
    /// The pod could not be reached, or broke off.
    Failed,
}

/// Who does the work of a carry-over, and who waits for it.
pub enum MigrationRole {
    /// It is the caller's to do.
    Lead(Lead),
    /// Somebody does it: here is heard how it comes out.
    Follow(watch::Receiver<Option<MigrationOutcome>>),
}

/// The work of a carry-over.
pub struct Lead {
    /// Hears how it came out.
    pub outcome: watch::Sender<Option<MigrationOutcome>>,
    /// Ends when a request has come to wait for it.
    pub urgent: CancellationToken,
}

/// A carry-over that somebody leads.
#[derive(Debug)]
pub(super) struct OngoingMigration {
    to: PodInstance,
    outcome: watch::Receiver<Option<MigrationOutcome>>,
    urgent: CancellationToken,
}

impl OngoingMigration {
    /// A sender that is gone without a word has ended with its worker.
    fn is_under_way(&self) -> bool {
        self.outcome.borrow().is_none() && self.outcome.has_changed().is_ok()
    }
}

impl Session {
    /// Whether this pod has just refused to take the session.
    pub fn is_refused(&self, place: PodInstance) -> bool {
        self.state.lock().refused.is_some_and(|(at, until)| at == place && until > Instant::now())
    }

    /// This pod would not take the session: it is not asked again for ten seconds.
    pub fn record_refusal(&self, place: PodInstance) {
        self.state.lock().refused = Some((place, Instant::now() + REFUSED));
    }

    /// The one carry-over to this place: the first to come leads it, the others follow, and press it if they cannot wait long.
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

    /// The pod that the session is being carried to at this moment.
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
