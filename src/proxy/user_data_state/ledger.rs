//! Which pods have which writes of a user's data. Pure: moments are arguments.
//!
//! A pod keeps a row in memory for as long as it runs. When any user reads an item, the pod fetches
//! all users' rows of it. So a pod may have an old row of anything that another pod wrote. Each write
//! gets a number, its generation. A pod is *behind* on a pair of user and item until jellypin has
//! told it the newest generation that another pod wrote.

mod pair;
mod talk;
mod user;

use std::time::{Duration, SystemTime};

use ahash::HashMap;
use tokio::{sync::watch, time::Instant};

use super::round::{Generation, Owner, Round};
use crate::{
    jellyfin::{
        endpoint::Write,
        user_data::{Act, Fields, Id, Row},
    },
    pod::PodInstance,
};
pub(in crate::proxy) use pair::{Pair, written_fields, written_since};
pub(in crate::proxy) use talk::{Access, Admission, Plan, PodView, TellOutcome, TellPermit, Ticket};
pub(in crate::proxy) use user::lose_write;
use user::{Reading, User, Writing, make_room};

/// A user of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::proxy) struct UserKey {
    /// The pool's index in the shared state.
    pub(in crate::proxy) pool: usize,
    pub(in crate::proxy) id: Id,
}

/// Pairs kept for one user.
const MOST_OF_USER: usize = 256;

/// Pairs kept in one ledger.
const MOST: usize = 4096;

/// How often to look whether a pod that is away has come back.
const LOOK: Duration = Duration::from_secs(5);

/// How long a pod that is away, and does not sleep, is waited for: then its pairs are dropped.
const AWAY_FOR: Duration = Duration::from_secs(15 * 60);

/// The users with pairs on which some pod is behind.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Ledger {
    users: HashMap<UserKey, User>,
    pairs: usize,
    next_ticket: u64,
}

impl Ledger {
    /// Users, and the pairs kept of all of them.
    pub(in crate::proxy) fn counts(&self) -> (usize, usize) {
        (self.users.len(), self.pairs)
    }

    /// Lets a request go to its pod, or says that the pod is to be told first. With `insists`, the
    /// request goes anyhow, and later ones do not wait for what this one waited for.
    pub(in crate::proxy) fn admit(
        &mut self,
        user: UserKey,
        pod: PodInstance,
        access: Access,
        now: Instant,
        insists: bool,
    ) -> Admission {
        let is_write = matches!(access, Access::Write(_));
        let user = match self.users.get_mut(&user) {
            Some(user) => user,
            None if is_write => self.users.entry(user).or_insert_with(User::new),
            None => return Admission::Granted(None),
        };
        let is_new = !user.seen.iter().any(|(seen, _)| *seen == pod);
        let (mut waits, mut is_due) = (false, true);
        for (item, pair) in &mut user.pairs {
            let concerns = match access {
                Access::Write(None) | Access::All => true,
                Access::Write(Some(of)) | Access::Item(of) => of == *item,
                Access::Other => false,
            };
            let concerns = concerns || is_new || pair.due.is_some_and(|due| due <= now);
            if !concerns || !pair.is_behind(pod) || pair.late.iter().any(|late| late.pod == pod) {
                continue;
            }
            if insists {
                pair.set_late(pod, now);
            } else {
                is_due &= pair.due.is_some_and(|due| due <= now);
                pair.due = pair.due.filter(|due| *due <= now).or(Some(now));
                waits = true;
            }
        }
        // A row that is on its way to the pod would overwrite the client's write.
        let is_told = user.telling.iter().any(|(at, item)| *at == pod && access.may_write(*item));
        waits |= !insists && is_told;
        if waits {
            // Only a change is told: two requests that wait would wake each other without end.
            if !is_due || user.is_new_to_task(pod) {
                user.changes.send_replace(());
            }
            return Admission::Wait(user.changes.subscribe());
        }
        user.see(pod, now);
        let Access::Write(item) = access else { return Admission::Granted(None) };
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        let may_be_same = |of: Option<Id>| of.is_none() || item.is_none() || of == item;
        let mut is_met = user.telling.iter().any(|(_, told)| may_be_same(Some(*told)));
        for other in user.writing.iter_mut().filter(|other| other.pod != pod && may_be_same(other.item)) {
            (is_met, other.is_met) = (true, true);
        }
        user.begin_writing(Writing { ticket, pod, item, is_doubtful: is_told, is_met });
        Admission::Granted(Some(ticket))
    }

    /// A write has ended: with what it wrote, or without effect. Returns whether a pair was dropped
    /// for it.
    pub(in crate::proxy) fn end_write(
        &mut self,
        (user, pod, ticket): (UserKey, PodInstance, Ticket),
        write: Option<&Write>,
        now: Instant,
        clock: SystemTime,
    ) -> bool {
        let made_room = self.pairs >= MOST && write.is_some_and(|write| make_room(&mut self.users, user, write.item));
        self.pairs -= usize::from(made_room);
        let entry = self.users.entry(user).or_insert_with(User::new);
        let before = entry.pairs.len();
        let is_full = before >= MOST_OF_USER || self.pairs >= MOST;
        let has_dropped = write.is_some_and(|write| entry.record(pod, write, (now, clock), is_full)) || made_room;
        // At most one more than before, and never fewer.
        self.pairs += entry.pairs.len() - before;
        let ended = entry.writing.iter().position(|writing| writing.ticket == ticket);
        let ended = ended.map(|at| entry.writing.swap_remove(at));
        if let (Some(ended), Some(pair)) = (ended, write.and_then(|write| entry.pairs.get_mut(&write.item))) {
            if ended.is_doubtful {
                pair.doubtful.push(pod);
            }
            if ended.is_met {
                pair.unsettle();
            }
        }
        entry.changes.send_replace(());
        if entry.is_empty() {
            self.users.remove(&user);
        }
        has_dropped
    }

    /// Asks who carries the user's writes to the pods. `true`: the caller does from now on.
    pub(in crate::proxy) fn take_up(&mut self, user: UserKey) -> bool {
        self.users.get_mut(&user).is_some_and(|user| !std::mem::replace(&mut user.is_carried, true))
    }

    /// Hears of every change of the user's pairs.
    pub(in crate::proxy) fn changes(&self, user: UserKey) -> Option<watch::Receiver<()>> {
        self.users.get(&user).map(|user| user.changes.subscribe())
    }

    /// What is to be done now. With `flushes`, all that is pending is due.
    pub(in crate::proxy) fn plan(&mut self, user: UserKey, pods: &[PodView], now: Instant, flushes: bool) -> Plan {
        let Some(entry) = self.users.get_mut(&user) else { return Plan::Done };
        let (mut work, mut next) = (Vec::new(), None::<Instant>);
        let mut at = |moment: Instant| next = Some(next.map_or(moment, |next| next.min(moment)));
        let one_has_gone = entry.look(pods.iter().map(|view| view.instance));
        let User { pairs, writing, telling, generation, .. } = entry;
        let before = pairs.len();
        pairs.retain(|item, pair| {
            if one_has_gone {
                pair.overwrite();
            }
            pair.forget_gone(pods);
            while let Some(left) = pair.left.iter().position(|(_, moment)| *moment <= now) {
                *generation += 1;
                let (pod, _) = pair.left.swap_remove(left);
                pair.tell_again(pod, *generation, pods, now);
            }
            pair.left.iter().for_each(|(_, moment)| at(*moment));
            let behind = pods.iter().filter(|pod| pair.is_behind(pod.instance));
            let (there, mut away): (Vec<&PodView>, Vec<&PodView>) = behind.partition(|pod| pod.is_alive);
            away.retain(|pod| pod.sleeps || now < pair.written_at + AWAY_FOR);
            if !away.is_empty() {
                at(now + LOOK);
            }
            // A pod that sleeps writes nothing, so the others need not wait for it.
            if there.is_empty() && away.iter().all(|pod| pod.sleeps) {
                let alive: Vec<PodInstance> = pods.iter().filter(|pod| pod.is_alive).map(|pod| pod.instance).collect();
                if let Some(round) = pair.last_round(*item, alive) {
                    pair.is_all_told = true;
                    match pair.paused.filter(|(until, _)| *until > now && !flushes) {
                        Some((until, _)) => at(until),
                        None => work.push(round),
                    }
                    return true;
                }
                pair.playing_until = pair.playing_until.filter(|until| *until > now);
                if let Some(until) = pair.playing_until {
                    at(until);
                }
                // What was written must be known for as long as an older row may be on its way.
                if !away.is_empty() || User::is_under_way(writing, telling, *item) {
                    return true;
                }
                pair.forget_acts();
                return pair.playing_until.is_some() || !pair.left.is_empty();
            }
            // What is due at the next stop, move or read is due too when the client has vanished.
            let due = if flushes { now } else { pair.due.or(pair.playing_until).unwrap_or(now) };
            if due > now {
                at(due);
                return true;
            }
            if let Some((until, _)) = pair.paused.filter(|(until, _)| *until > now && !flushes) {
                at(until);
                return true;
            }
            let is_written = |pod: PodInstance| writing.iter().any(|writing| writing.may_be_of(pod, *item));
            let mut targets = Vec::new();
            for pod in there {
                match pair.late.iter().find(|late| late.pod == pod.instance && late.next > now) {
                    Some(late) if !flushes => at(late.next),
                    _ if is_written(pod.instance) => {}
                    _ => targets.push(pod.instance),
                }
            }
            if !targets.is_empty() {
                let is_known = |pod: PodInstance| {
                    !pair.doubtful.contains(&pod) && pods.iter().any(|view| view.instance == pod && view.is_alive)
                };
                let acts = (&*pair.acts, pair.versions);
                work.push(Round::new(*item, pair.written, &pair.owners, acts, targets, pair.children, is_known));
            }
            true
        });
        self.pairs -= before - entry.pairs.len();
        if !work.is_empty() {
            return Plan::Work(work);
        }
        if entry.pairs.is_empty() && entry.writing.is_empty() && entry.telling.is_empty() {
            self.users.remove(&user);
            return Plan::Done;
        }
        Plan::Wait(next)
    }

    /// Asks whether a row may be read where it was written, on all these pods. If so, nothing but
    /// the user's own requests changes it there until [`Ledger::end_reading`]. `None`: every row.
    ///
    /// What a pod has while a report is replayed to it is taken back, so nobody may be told of it.
    pub(in crate::proxy) fn begin_reading(&mut self, user: UserKey, item: Option<Id>, pods: &[PodInstance]) -> bool {
        let Some(user) = self.users.get_mut(&user) else { return true };
        let is_told = |(pod, told): &(PodInstance, Id)| pods.contains(pod) && item.is_none_or(|item| item == *told);
        if user.telling.iter().any(is_told) {
            return false;
        }
        user.reading.extend(pods.iter().map(|pod| Reading { pod: *pod, item, is_awaited: false }));
        true
    }

    /// The rows were read.
    pub(in crate::proxy) fn end_reading(&mut self, user: UserKey, item: Option<Id>, pods: &[PodInstance]) {
        let Some(entry) = self.users.get_mut(&user) else { return };
        let mut is_awaited = false;
        for pod in pods {
            let read = entry.reading.iter().position(|reading| reading.pod == *pod && reading.item == item);
            is_awaited |= read.is_some_and(|at| entry.reading.swap_remove(at).is_awaited);
        }
        // The task that reads hears of changes too, and is not to wake itself.
        if is_awaited {
            entry.changes.send_replace(());
        }
    }

    /// Asks whether a pod may be told of a row that was read for this generation. If so, no client
    /// may write it there until [`Ledger::end_telling`]. `None`: whatever was written since.
    pub(in crate::proxy) fn begin_telling(
        &mut self,
        user: UserKey,
        item: Id,
        pod: PodInstance,
        generation: Option<Generation>,
    ) -> TellPermit {
        if generation.is_some() && !self.users.contains_key(&user) {
            return TellPermit::Stale;
        }
        let user = self.users.entry(user).or_insert_with(User::new);
        let is_moved = |generation| user.pairs.get(&item).is_none_or(|pair| pair.written != generation);
        if generation.is_some_and(is_moved) || user.is_busy(pod, item) {
            return TellPermit::Stale;
        }
        user.begin_telling(pod, item);
        TellPermit::Without(user.pairs.get(&item).map_or(Fields::NONE, |pair| pair.owners.of(pod)))
    }

    /// The pod was told, or not. `generation`: what it knows of the pair now.
    pub(in crate::proxy) fn end_telling(
        &mut self,
        user: UserKey,
        item: Id,
        pod: PodInstance,
        told: Option<(Generation, TellOutcome)>,
        now: Instant,
    ) {
        let Some(entry) = self.users.get_mut(&user) else { return };
        if let Some(at) = entry.telling.iter().position(|telling| *telling == (pod, item)) {
            entry.telling.swap_remove(at);
        }
        if let (Some(pair), Some((generation, told))) = (entry.pairs.get_mut(&item), told) {
            match told {
                TellOutcome::Done => pair.set_told(pod, generation),
                TellOutcome::Failed => pair.set_late(pod, now),
            }
        }
        entry.changes.send_replace(());
        if entry.is_empty() {
            self.users.remove(&user);
        }
    }

    /// The acts of pods that are gone were done again on this pod: the rows there are the newest.
    pub(in crate::proxy) fn redone(&mut self, user: UserKey, round: &Round, pod: PodInstance) {
        let Some(user) = self.users.get_mut(&user) else { return };
        user.generation += 1;
        let generation = user.generation;
        let Some(pair) = user.pairs.get_mut(&round.item) else { return };
        // Also if a client has written meanwhile: a pod is told up to `written`, and would stay behind
        // an owner with a greater number.
        pair.written = generation;
        // The acts may have changed what other pods wrote last, and this one was told.
        pair.told.retain(|(at, _)| *at != pod);
        let is_gone = |owner: PodInstance| round.is_gone(owner);
        pair.owners.replace(is_gone, Owner { pod, generation });
        pair.acts.iter_mut().filter(|act| is_gone(act.pod)).for_each(|act| act.pod = pod);
        pair.doubtful.retain(|pod| !is_gone(*pod));
        pair.unsettle();
        if pair.children != 0 && pair.children <= round.generation {
            pair.children = generation;
        }
    }

    /// A pair that is kept.
    pub(in crate::proxy) fn pair(&mut self, user: UserKey, item: Id) -> Option<&mut Pair> {
        self.users.get_mut(&user)?.pairs.get_mut(&item)
    }

    /// A pod has written this part of a row besides what a client wrote there, but for fields of which
    /// something `newer` was written.
    pub(in crate::proxy) fn written_besides(
        &mut self,
        (user, item, pod): (UserKey, Id, PodInstance),
        part: Row,
        newer: impl FnOnce(&Pair) -> Fields,
        at: (Instant, SystemTime),
    ) {
        let entry = self.users.entry(user).or_insert_with(User::new);
        let part = part.without(entry.pairs.get(&item).map_or(Fields::NONE, newer));
        if part.fields() != Fields::NONE {
            let before = entry.pairs.len();
            let is_full = before >= MOST_OF_USER || self.pairs >= MOST;
            let write = Write { user: None, item, act: Act::Update(part), is_urgent: true, is_playing: false };
            entry.record(pod, &write, at, is_full);
            self.pairs += entry.pairs.len() - before;
        }
        if let Some(pair) = entry.pairs.get_mut(&item) {
            pair.unsettle();
        }
        entry.changes.send_replace(());
    }

    /// The item is gone, or not the user's any more: there is nothing to tell.
    pub(in crate::proxy) fn forget(&mut self, user: UserKey, item: Id) {
        if let Some(user) = self.users.get_mut(&user) {
            self.pairs -= usize::from(user.pairs.remove(&item).is_some());
            user.changes.send_replace(());
        }
    }

    /// The task that carried the user's writes has stopped before all were told.
    pub(in crate::proxy) fn put_down(&mut self, user: UserKey) {
        if let Some(user) = self.users.get_mut(&user) {
            user.is_carried = false;
        }
    }
}
