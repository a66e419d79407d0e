//! One replica's part in an election: what it knows, what it claims, when it asks. Pure: it is given the time, the pods and
//! Redis's answers.
//!
//! The replicas agree through one lease (see [`Ledger::claim`]): its value is the pod that leads, its holder is the replica
//! that renews it. Every replica looks at it again and again; any of them takes it when it has run out, and takes it over when
//! the pod that leads is gone in its own eyes, or drains and gives the lead up. A replica that Redis does not answer goes on by
//! itself, by the same rule.
//!
//! [`Ledger::claim`]: crate::store::shared::ledger::Ledger::claim

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Why,
    rule::{Candidate, Incumbency, choose},
};
use crate::store::redis_store::ledger::{Claim, Held};

/// Time to the next question after one without an answer.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// What one replica knows of an election.
#[derive(Debug)]
pub struct Election {
    me: String,
    lease: Duration,
    look: Duration,
    field: Vec<Candidate>,
    /// The term and its pod: as agreed, or as counted on while alone.
    incumbency: Incumbency,
    why: Why,
    answers: Option<bool>,
    /// The lease is this replica's, by the latest answer.
    is_mine: bool,
    /// Until when that can be relied on: counted from before the question was sent, by this replica's clock.
    held_until: Option<Instant>,
    /// When to look again if nothing happens.
    next: Instant,
    /// When to ask again whatever happens.
    not_before: Instant,
    is_urgent: bool,
    is_settled: bool,
    /// Pods that this replica has voted out and not seen fit since. Whoever names one again must see it fit: it is let be,
    /// lest two replicas that see different pods vote each other's out for ever.
    removed: BTreeSet<Arc<str>>,
}

impl Election {
    /// `me` is borne by no other replica. It looks once in `look`, and renews at half of the lease.
    pub fn new(me: String, lease: Duration, look: Duration, now: Instant) -> Election {
        Election {
            me,
            lease,
            look,
            field: Vec::new(),
            incumbency: Incumbency::default(),
            why: Why::First,
            answers: None,
            is_mine: false,
            held_until: None,
            next: now,
            not_before: now,
            is_urgent: true,
            is_settled: false,
            removed: BTreeSet::new(),
        }
    }

    /// The pods have changed.
    pub fn set_candidates(&mut self, field: Vec<Candidate>) {
        self.removed.retain(|name| field.iter().any(|pod| pod.name == *name && !pod.is_fit(&field)));
        self.field = field;
        self.continue_alone();
    }

    /// Whether Redis answers, as far as is known.
    pub fn set_redis_answers(&mut self, answers: Option<bool>) {
        self.is_urgent |= answers == Some(true) && self.answers != Some(true);
        self.answers = answers;
        self.continue_alone();
    }

    /// Somebody has changed something.
    pub fn on_notice(&mut self) {
        self.is_urgent = true;
    }

    /// The term and the pod that was named for it. The pod may be one that this replica does not know (yet).
    pub fn incumbency(&self) -> &Incumbency {
        &self.incumbency
    }

    /// The pod to go by: the one of the seat, or the one that it would be if that is none of this replica's.
    pub fn leads(&self) -> Option<&Arc<str>> {
        let named = self.incumbency.pod.as_ref()?;
        if self.is_member() { Some(named) } else { choose(None, &self.field) }
    }

    /// Why the seat changed last.
    pub fn why(&self) -> Why {
        self.why
    }

    /// Whether this replica holds the lease. It stops to before Redis can have given it to another.
    pub fn holds(&self, now: Instant) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }

    /// Whether the lease has run out under this replica since it was asked last.
    pub fn lost(&mut self, now: Instant) -> bool {
        let lost = self.held_until.is_some_and(|until| until <= now);
        if lost {
            (self.held_until, self.is_mine) = (None, false);
        }
        lost
    }

    /// Whether Redis has answered once, or is known not to.
    pub fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// What to ask now, if anything.
    pub fn claim(&self, now: Instant) -> Option<Claim> {
        if self.answers != Some(true) || now < self.asks_at() {
            return None;
        }
        let (fit, unfit): (Vec<_>, Vec<_>) = self.field.iter().partition(|pod| pod.is_fit(&self.field));
        Some(Claim {
            claimant: self.me.clone(),
            known: (self.incumbency.term, self.incumbency.pod.as_deref().unwrap_or_default().to_owned()),
            wanted: self.wanted().map(|pod| pod.to_string()),
            fit: fit.iter().map(|pod| pod.name.to_string()).collect(),
            unfit: unfit
                .iter()
                .filter(|pod| !self.removed.contains(&pod.name))
                .map(|pod| pod.name.to_string())
                .collect(),
            renews: self.is_mine && self.renewal().is_none_or(|at| now >= at),
        })
    }

    /// Redis has answered a question that was sent at `sent`.
    pub fn on_answer(&mut self, sent: Instant, held: Option<Held>) {
        (self.next, self.not_before) = (sent + self.look, sent);
        (self.is_urgent, self.is_settled) = (false, true);
        let Some(held) = held else {
            (self.is_mine, self.held_until) = (false, None);
            return;
        };
        if held.term < self.incumbency.term {
            // Nobody who keeps the rules writes that; the next question mends it.
            self.not_before = self.next;
            return;
        }
        self.is_mine = held.holder == self.me;
        match (self.is_mine, held.is_renewed) {
            (true, true) => self.held_until = Some(sent + self.lease),
            // Taken by a question whose answer was lost. Nothing tells when.
            (true, false) => self.is_urgent = self.held_until.is_none(),
            (false, _) => self.held_until = None,
        }
        if self.incumbency.pod.as_deref() != Some(&*held.value) {
            let is_unfit = |name: &Arc<str>| self.field.iter().any(|pod| pod.name == *name) && !self.is_fit(name);
            if let Some(before) = self.incumbency.pod.clone().filter(|name| self.is_mine && is_unfit(name)) {
                self.removed.insert(before);
            }
            self.why = if self.is_mine { Why::Elected } else { Why::Agreed };
            self.incumbency.pod = Some(held.value.into());
        } else if held.term != self.incumbency.term {
            self.why = Why::Counted;
        }
        self.incumbency.term = held.term;
    }

    /// Redis has not answered.
    pub fn on_no_answer(&mut self, now: Instant) {
        self.not_before = now + ASK_AGAIN.min(self.look);
        self.next = self.not_before;
    }

    /// When there is something to do, if nothing happens before.
    pub fn next_wake(&self) -> Option<Instant> {
        let asks = (self.answers == Some(true)).then(|| self.asks_at());
        [asks, self.held_until].into_iter().flatten().min()
    }

    fn asks_at(&self) -> Instant {
        let is_due_now = self.is_urgent || self.must_move();
        let due = if is_due_now { self.not_before } else { self.renewal().map_or(self.next, |at| at.min(self.next)) };
        due.max(self.not_before)
    }

    /// When a lease of this replica's is to be renewed.
    fn renewal(&self) -> Option<Instant> {
        self.held_until.map(|until| until - self.lease / 2)
    }

    fn is_member(&self) -> bool {
        self.field.iter().any(|pod| Some(&pod.name) == self.incumbency.pod.as_ref())
    }

    fn is_fit(&self, name: &Arc<str>) -> bool {
        self.field.iter().any(|pod| pod.name == *name && pod.is_fit(&self.field))
    }

    fn wanted(&self) -> Option<&Arc<str>> {
        choose(self.incumbency.pod.as_deref(), &self.field).filter(|wanted| self.is_fit(wanted))
    }

    /// Whether the pod that leads is not fit to, another is, and it is this replica's to say so.
    fn must_move(&self) -> bool {
        let Some(leads) = &self.incumbency.pod else { return false };
        let is_mine_to_move = self.is_mine || self.is_member() && !self.removed.contains(leads);
        !self.is_fit(leads) && is_mine_to_move && self.wanted().is_some()
    }

    /// Without Redis each replica counts on, by the rule that all of them have.
    fn continue_alone(&mut self) {
        if self.answers != Some(false) {
            return;
        }
        self.is_settled = true;
        let before = self.incumbency.clone();
        let why = self.incumbency.choose(&self.field);
        if self.incumbency != before {
            self.why = why;
            // Whatever lease there was, it was another pod's.
            (self.is_mine, self.held_until) = (false, None);
        }
    }
}

#[cfg(test)]
mod tests;
