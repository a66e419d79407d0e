//! One replica's part in an election: what it knows, what it claims, when it asks Redis. Pure:
//! callers pass in the time, the pods and Redis's answers.
//!
//! The replicas agree through one lease (see [`Ledger::claim`]): its value is the pod that leads,
//! its holder is the replica that renews it. Every replica reads it regularly. Any of them takes it
//! when it has run out. A replica also takes it over when it sees that the leading pod is gone, or
//! drains and gives up the lead. A replica that Redis does not answer continues alone, by the same
//! rule.
//!
//! [`Ledger::claim`]: crate::store::redis_store::ledger::Ledger::claim

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Why,
    rule::{Candidate, Incumbency, choose},
};
use crate::store::redis_store::ledger::{Claim, Held};

/// Time to the next claim after one without an answer.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// What one replica knows of an election.
#[derive(Debug)]
pub struct Election {
    me: String,
    look: Duration,
    field: Vec<Candidate>,
    /// The term and the pod named for it: as the replicas agreed, or as this replica counted alone.
    /// It may not know that pod (yet).
    pub incumbency: Incumbency,
    /// Why the incumbency changed last.
    pub why: Why,
    /// Whether Redis has answered once, or is known not to.
    pub is_settled: bool,
    /// This replica's hold on the lease.
    pub lease: Hold,
    answers: Option<bool>,
    /// When to ask again if nothing happens.
    next: Instant,
    /// The earliest time to ask again, whatever happens.
    not_before: Instant,
    is_urgent: bool,
    /// Pods that this replica voted out and has not seen fit since. If another replica names one
    /// again, this one does not object. Otherwise two replicas that see different pods would vote
    /// each other's out for ever.
    removed: BTreeSet<Arc<str>>,
}

/// One replica's hold on a lease.
#[derive(Debug)]
pub struct Hold {
    lasts: Duration,
    /// Whether the latest answer gave this replica the lease.
    is_mine: bool,
    /// Until when the lease is certain. It counts from before the claim was sent, by this replica's
    /// clock.
    until: Option<Instant>,
}

impl Election {
    /// `me` must be unique among the replicas. The replica reads the lease once per `look`, and
    /// renews its own at half of `lease`.
    pub fn new(me: String, lease: Duration, look: Duration, now: Instant) -> Election {
        Election {
            me,
            look,
            field: Vec::new(),
            incumbency: Incumbency::default(),
            why: Why::First,
            is_settled: false,
            lease: Hold { lasts: lease, is_mine: false, until: None },
            answers: None,
            next: now,
            not_before: now,
            is_urgent: true,
            removed: BTreeSet::new(),
        }
    }

    /// Takes the changed pods.
    pub fn set_candidates(&mut self, field: Vec<Candidate>) {
        self.removed.retain(|name| field.iter().any(|pod| pod.name == *name && !pod.is_fit(&field)));
        self.field = field;
        self.continue_alone();
    }

    /// Records whether Redis answers, as far as is known.
    pub fn set_redis_answers(&mut self, answers: Option<bool>) {
        self.is_urgent |= answers == Some(true) && self.answers != Some(true);
        self.answers = answers;
        self.continue_alone();
    }

    /// Another replica has changed something.
    pub fn on_notice(&mut self) {
        self.is_urgent = true;
    }

    /// The leader to use: the incumbent, or the pod that this replica would choose if it does not
    /// know the incumbent.
    pub fn leads(&self) -> Option<&Arc<str>> {
        let named = self.incumbency.pod.as_ref()?;
        if self.is_member() { Some(named) } else { choose(None, &self.field) }
    }

    /// The claim to send now, if any.
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
            renews: self.lease.is_mine && self.lease.renewal().is_none_or(|at| now >= at),
        })
    }

    /// Takes Redis's answer to a claim that was sent at `sent`.
    pub fn on_answer(&mut self, sent: Instant, held: Option<Held>) {
        (self.next, self.not_before) = (sent + self.look, sent);
        (self.is_urgent, self.is_settled) = (false, true);
        let Some(held) = held else {
            self.lease.give_up();
            return;
        };
        if held.term < self.incumbency.term {
            // No replica that keeps the rules writes that; the next claim repairs it.
            self.not_before = self.next;
            return;
        }
        self.lease.is_mine = held.holder == self.me;
        match (self.lease.is_mine, held.is_renewed) {
            (true, true) => self.lease.until = Some(sent + self.lease.lasts),
            // A claim whose answer was lost took the lease, so its time is unknown.
            (true, false) => self.is_urgent = self.lease.until.is_none(),
            (false, _) => self.lease.until = None,
        }
        if self.incumbency.pod.as_deref() != Some(&*held.value) {
            let is_unfit = |name: &Arc<str>| self.field.iter().any(|pod| pod.name == *name) && !self.is_fit(name);
            if let Some(before) = self.incumbency.pod.clone().filter(|name| self.lease.is_mine && is_unfit(name)) {
                self.removed.insert(before);
            }
            self.why = if self.lease.is_mine { Why::Elected } else { Why::Agreed };
            self.incumbency.pod = Some(held.value.into());
        } else if held.term != self.incumbency.term {
            self.why = Why::Counted;
        }
        self.incumbency.term = held.term;
    }

    /// Redis did not answer.
    pub fn on_no_answer(&mut self, now: Instant) {
        self.not_before = now + ASK_AGAIN.min(self.look);
        self.next = self.not_before;
    }

    /// When this replica must act next, if nothing happens before.
    pub fn next_wake(&self) -> Option<Instant> {
        let asks = (self.answers == Some(true)).then(|| self.asks_at());
        [asks, self.lease.until].into_iter().flatten().min()
    }

    fn asks_at(&self) -> Instant {
        let is_due_now = self.is_urgent || self.must_move();
        let due =
            if is_due_now { self.not_before } else { self.lease.renewal().map_or(self.next, |at| at.min(self.next)) };
        due.max(self.not_before)
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

    /// Whether this replica must move the lead: the leader is not fit, another pod is, and it may
    /// decide.
    fn must_move(&self) -> bool {
        let Some(leads) = &self.incumbency.pod else { return false };
        let is_mine_to_move = self.lease.is_mine || self.is_member() && !self.removed.contains(leads);
        !self.is_fit(leads) && is_mine_to_move && self.wanted().is_some()
    }

    /// Without Redis each replica continues alone, by the rule that all of them share.
    fn continue_alone(&mut self) {
        if self.answers != Some(false) {
            return;
        }
        self.is_settled = true;
        let before = self.incumbency.clone();
        let why = self.incumbency.choose(&self.field);
        if self.incumbency != before {
            self.why = why;
            // Any lease it held was for another pod.
            self.lease.give_up();
        }
    }
}

impl Hold {
    /// Whether this replica holds the lease. It turns false before Redis can give the lease to
    /// another.
    pub fn holds(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Whether this replica's lease has run out since the last call.
    pub fn has_run_out(&mut self, now: Instant) -> bool {
        let has_run_out = self.until.is_some_and(|until| until <= now);
        if has_run_out {
            self.give_up();
        }
        has_run_out
    }

    /// When this replica must renew its lease.
    fn renewal(&self) -> Option<Instant> {
        self.until.map(|until| until - self.lasts / 2)
    }

    fn give_up(&mut self) {
        (self.is_mine, self.until) = (false, None);
    }
}

#[cfg(test)]
mod tests;
