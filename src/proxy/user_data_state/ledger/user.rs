//! One user: the pairs, and what is being written of them.

use std::time::{Duration, SystemTime};

use ahash::HashMap;
use tokio::{sync::watch, time::Instant};

use super::{Ticket, pair::Pair};
use crate::{
    jellyfin::{endpoint::Write, user_data::Id},
    pod::PodInstance,
    proxy::user_data_state::round::{Generation, Owner},
};

/// How long a pod counts as one on which the user is seen.
const SEEN_FOR: Duration = Duration::from_secs(300);

/// A user with pairs on which some pod is behind.
#[derive(Debug)]
pub(super) struct User {
    pub(super) pairs: HashMap<Id, Pair>,
    pub(super) generation: Generation,
    pub(super) writing: Vec<Writing>,
    pub(super) telling: Vec<(PodInstance, Id)>,
    /// Pods on which the user was seen since the entry was made.
    pub(super) seen: Vec<(PodInstance, Instant)>,
    pub(super) is_carried: bool,
    pub(super) changes: watch::Sender<()>,
}

/// A client's write that is under way.
#[derive(Debug)]
pub(super) struct Writing {
    pub(super) ticket: Ticket,
    pub(super) pod: PodInstance,
    pub(super) item: Option<Id>,
    /// Whether a row was on its way to the pod too: which of both the pod took last, nobody knows.
    pub(super) is_doubtful: bool,
}

impl User {
    pub(super) fn new() -> User {
        User {
            pairs: HashMap::default(),
            generation: 0,
            writing: Vec::new(),
            telling: Vec::new(),
            seen: Vec::new(),
            is_carried: false,
            changes: watch::Sender::new(()),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pairs.is_empty() && self.writing.is_empty() && self.telling.is_empty() && !self.is_carried
    }

    /// Whether a row of this pod is being written, by a client or by the proxy.
    pub(super) fn is_busy(&self, pod: PodInstance, item: Id) -> bool {
        self.writing.iter().any(|writing| writing.may_be_of(pod, item)) || self.telling.contains(&(pod, item))
    }

    pub(super) fn see(&mut self, pod: PodInstance, now: Instant) {
        self.seen.retain(|(seen, at)| *seen != pod && *at + SEEN_FOR > now);
        self.seen.push((pod, now));
    }

    pub(super) fn record(&mut self, pod: PodInstance, write: &Write, now: Instant, clock: SystemTime) {
        self.see(pod, now);
        self.generation += 1;
        let is_on_several = self.seen.len() > 1;
        let pair = self.pairs.entry(write.item).or_insert_with(|| Pair::new(now));
        pair.record(Owner { pod, generation: self.generation }, write, now, clock, is_on_several);
    }
}

impl Writing {
    pub(super) fn may_be_of(&self, pod: PodInstance, item: Id) -> bool {
        self.pod == pod && self.item.is_none_or(|of| of == item)
    }
}
