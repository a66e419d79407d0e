//! A session on its way to a pod: one does the work, and all others wait for it.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{Place, Session};
use crate::carryover::mints::Need;

/// How long a pod that would not take a session is not asked to again.
const REFUSED: Duration = Duration::from_secs(10);

/// How a carry-over came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// The session is valid there; its token stands in [`Session::token_at`].
    Settled,
    /// The pod would not take it, or may not be asked.
    Refused,
    /// The session was ended: it is not revived.
    Dead,
    /// The pod could not be reached, or broke off.
    Failed,
}

/// Who does the work of a carry-over, and who waits for it.
pub enum Part {
    /// It is the caller's to do.
    Lead(Lead),
    /// Somebody does it: here is heard how it comes out.
    Follow(watch::Receiver<Option<Carried>>),
}

/// The work of a carry-over.
pub struct Lead {
    /// Hears how it came out.
    pub tell: watch::Sender<Option<Carried>>,
    /// Ends when a request has come to wait for it.
    pub pressed: CancellationToken,
}

/// A carry-over that somebody leads.
#[derive(Debug)]
pub(super) struct UnderWay {
    to: Place,
    outcome: watch::Receiver<Option<Carried>>,
    pressed: CancellationToken,
}

impl UnderWay {
    /// A sender that is gone without a word has ended with its worker.
    fn is_under_way(&self) -> bool {
        self.outcome.borrow().is_none() && self.outcome.has_changed().is_ok()
    }
}

impl Session {
    /// Whether this pod has just refused to take the session.
    pub fn is_refused(&self, place: Place) -> bool {
        self.state.lock().refused.is_some_and(|(at, until)| at == place && until > Instant::now())
    }

    /// This pod would not take the session: it is not asked again for ten seconds.
    pub fn refuse(&self, place: Place) {
        self.state.lock().refused = Some((place, Instant::now() + REFUSED));
    }

    /// The one carry-over to this place: the first to come leads it, the others follow, and press it if they cannot wait long.
    pub fn carry(&self, place: Place, need: Need) -> Part {
        let mut state = self.state.lock();
        if let Some(carry) = state.carry.as_ref().filter(|carry| carry.to == place && carry.is_under_way()) {
            if need == Need::Waiting {
                carry.pressed.cancel();
            }
            return Part::Follow(carry.outcome.clone());
        }
        let (tell, outcome) = watch::channel(None);
        let pressed = CancellationToken::new();
        if need == Need::Waiting {
            pressed.cancel();
        }
        state.carry = Some(UnderWay { to: place, outcome, pressed: pressed.clone() });
        Part::Lead(Lead { tell, pressed })
    }

    /// The pod that the session is being carried to at this moment.
    pub fn destination(&self) -> Option<Place> {
        let state = self.state.lock();
        state.carry.as_ref().filter(|carry| carry.is_under_way()).map(|carry| carry.to)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{place, session},
        *,
    };

    #[test]
    fn of_parallel_carry_overs_to_one_place_one_leads() {
        let (session, a) = (session("own"), place("a"));
        let Part::Lead(lead) = session.carry(a, Need::Idle) else { panic!("the first leads") };
        assert!(matches!(session.carry(a, Need::Idle), Part::Follow(_)) && !lead.pressed.is_cancelled());
        assert!(matches!(session.carry(a, Need::Waiting), Part::Follow(_)) && lead.pressed.is_cancelled());
        assert_eq!(session.destination(), Some(a));
        lead.tell.send_replace(Some(Carried::Refused));
        assert_eq!(session.destination(), None);
        let Part::Lead(lead) = session.carry(a, Need::Waiting) else { panic!("what ended begins anew") };
        drop(lead);
        assert!(matches!(session.carry(a, Need::Idle), Part::Lead(_)), "a leader that is gone leads nobody");
    }
}
