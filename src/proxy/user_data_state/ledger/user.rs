//! One user: the pairs, and what is being written of them.

use std::time::{Duration, SystemTime};

use ahash::HashMap;
use tokio::{sync::watch, time::Instant};

use super::{Ledger, Ticket, UserKey, pair::Pair};
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
    /// Rows that are being read where they were written.
    pub(super) reading: Vec<Reading>,
    /// The pods that were there at the last look, and those that were let write since.
    pods: Vec<PodInstance>,
    /// Pods that were not there at the last look, and for which the task was woken.
    woken: Vec<PodInstance>,
    /// Pods on which the user was seen since the entry was made.
    pub(super) seen: Vec<(PodInstance, Instant)>,
    pub(super) is_carried: bool,
    pub(super) changes: watch::Sender<()>,
}

/// A row that is being read to tell other pods of it.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) pod: PodInstance,
    /// `None`: every row of the user.
    pub(super) item: Option<Id>,
    /// Whether something waits for its end.
    pub(super) is_awaited: bool,
}

/// A client's write that is under way.
#[derive(Debug)]
pub(super) struct Writing {
    pub(super) ticket: Ticket,
    pub(super) pod: PodInstance,
    pub(super) item: Option<Id>,
    /// Whether a row was on its way to the pod too: which of both the pod took last, nobody knows.
    pub(super) is_doubtful: bool,
    /// Whether another pod wrote the row meanwhile.
    pub(super) is_met: bool,
}

impl User {
    pub(super) fn new() -> User {
        User {
            pairs: HashMap::default(),
            generation: 0,
            writing: Vec::new(),
            telling: Vec::new(),
            reading: Vec::new(),
            pods: Vec::new(),
            woken: Vec::new(),
            seen: Vec::new(),
            is_carried: false,
            changes: watch::Sender::new(()),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pairs.is_empty() && self.writing.is_empty() && self.telling.is_empty() && !self.is_carried
    }

    /// Whether a row of this pod is being read, or written by a client or by the proxy. Who asks
    /// waits for the end.
    pub(super) fn is_busy(&mut self, pod: PodInstance, item: Id) -> bool {
        let is_read = |reading: &&mut Reading| reading.pod == pod && reading.item.is_none_or(|of| of == item);
        if let Some(reading) = self.reading.iter_mut().find(is_read) {
            reading.is_awaited = true;
            return true;
        }
        self.writing.iter().any(|writing| writing.may_be_of(pod, item)) || self.telling.contains(&(pod, item))
    }

    /// Looks which pods there are. Returns whether one has gone that may have written into the
    /// database that others share.
    pub(super) fn look(&mut self, there: impl Iterator<Item = PodInstance>) -> bool {
        let before = std::mem::replace(&mut self.pods, there.collect());
        self.woken.retain(|pod| !self.pods.contains(pod));
        before.iter().any(|pod| !pod.is_database() && !self.pods.contains(pod))
    }

    /// Whether the user's task is to look for this pod: once, since the pod may be gone for good.
    pub(super) fn is_new_to_task(&mut self, pod: PodInstance) -> bool {
        let is_new = !self.pods.contains(&pod) && !self.woken.contains(&pod);
        if is_new {
            self.woken.push(pod);
        }
        is_new
    }

    /// Whether clients may be writing this row, or the proxy is.
    pub(super) fn is_under_way(writing: &[Writing], telling: &[(PodInstance, Id)], item: Id) -> bool {
        writing.iter().any(|writing| writing.item.is_none_or(|of| of == item))
            || telling.iter().any(|(_, of)| *of == item)
    }

    /// A client begins to write through a pod.
    pub(super) fn begin_writing(&mut self, writing: Writing) {
        self.note_writer(writing.pod);
        self.writing.push(writing);
    }

    /// A pod begins to be told of a row that clients may be writing on others.
    pub(super) fn begin_telling(&mut self, pod: PodInstance, item: Id) {
        self.note_writer(pod);
        self.telling.push((pod, item));
        let concerned = self.writing.iter_mut().filter(|writing| writing.item.is_none_or(|of| of == item));
        concerned.for_each(|writing| writing.is_met = true);
    }

    fn note_writer(&mut self, pod: PodInstance) {
        if !self.pods.contains(&pod) {
            self.pods.push(pod);
        }
    }

    pub(super) fn see(&mut self, pod: PodInstance, now: Instant) {
        self.seen.retain(|(seen, at)| *seen != pod && *at + SEEN_FOR > now);
        self.seen.push((pod, now));
    }

    /// Notes a write. With `is_full`, a new pair takes the oldest one's place. Returns whether a pair
    /// had to go, or is not kept.
    pub(super) fn record(
        &mut self,
        pod: PodInstance,
        write: &Write,
        (now, clock): (Instant, SystemTime),
        is_full: bool,
    ) -> bool {
        let has_dropped = is_full && !self.pairs.contains_key(&write.item);
        if has_dropped {
            let oldest = self.pairs.iter().min_by_key(|(_, pair)| pair.written).map(|(item, _)| *item);
            let Some(oldest) = oldest else { return true };
            self.pairs.remove(&oldest);
        }
        self.see(pod, now);
        self.generation += 1;
        let is_on_several = self.seen.len() > 1;
        let pair = self.pairs.entry(write.item).or_insert_with(|| Pair::new(now));
        pair.record(Owner { pod, generation: self.generation }, write, now, clock, is_on_several);
        has_dropped
    }
}

/// Nobody knows what became of a write. Its pod may have written the row into the database before it
/// died, and an old one.
pub(in crate::proxy) fn lose_write(ledger: &mut Ledger, user: UserKey, ticket: Ticket) {
    let Some(user) = ledger.users.get_mut(&user) else { return };
    let Some(lost) = user.writing.iter().find(|writing| writing.ticket == ticket) else { return };
    let concerned = user.pairs.iter_mut().filter(|(item, _)| lost.item.is_none_or(|lost| lost == **item));
    concerned.for_each(|(_, pair)| pair.overwrite());
}

/// Drops the pair that was written longest ago, of whichever user, unless the user has one of this
/// item. Returns whether one had to go.
pub(super) fn make_room(users: &mut HashMap<UserKey, User>, user: UserKey, item: Id) -> bool {
    if users.get(&user).is_some_and(|user| user.pairs.contains_key(&item)) {
        return false;
    }
    let pairs = users.iter().flat_map(|(key, user)| user.pairs.iter().map(|(item, pair)| (*key, *item, pair)));
    let Some((key, item, _)) = pairs.min_by_key(|(_, _, pair)| pair.written_at) else { return false };
    users.get_mut(&key).is_some_and(|user| user.pairs.remove(&item).is_some())
}

impl Writing {
    pub(super) fn may_be_of(&self, pod: PodInstance, item: Id) -> bool {
        self.pod == pod && self.item.is_none_or(|of| of == item)
    }
}
