//! One pair of user and item: what was written, and which pods have it.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::PodView;
use crate::{
    jellyfin::{
        endpoint::Write,
        user_data::{Act, Field, Fields, Id},
    },
    pod::PodInstance,
    proxy::user_data_state::round::{Generation, OwnedAct, Owner, Owners, Round, Settling},
};

/// How often the other pods are told of progress, while the user is seen on several of them.
const PROGRESS_EVERY: Duration = Duration::from_secs(30);

/// How long the pair of a film is kept after its last report.
const PLAYING_FOR: Duration = Duration::from_secs(300);

/// A pod ends playback by itself when no report came for five minutes; it looks every five minutes.
const IDLE_STOP_BY: Duration = Duration::from_secs(11 * 60);

/// How long it takes until a pod that does not answer is asked again, at first.
const PAUSE: Duration = Duration::from_millis(50);

/// How often the pods' rows are compared at most: a pod may write a value in another form.
const COMPARED: u32 = 8;

const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LAST: Duration = Duration::from_secs(30);

/// A pair on which some pod may be behind.
#[derive(Debug)]
pub(in crate::proxy) struct Pair {
    pub(super) written: Generation,
    pub(super) written_at: Instant,
    pub(super) owners: Owners,
    pub(super) acts: Vec<OwnedAct>,
    pub(super) told: Vec<(PodInstance, Generation)>,
    /// When the pods behind are to be told. `None`: at the next stop, move or read.
    pub(super) due: Option<Instant>,
    /// All pods there were told, so that what was due is done.
    pub(super) is_all_told: bool,
    pub(super) late: Vec<Late>,
    /// When the pods of the writes are asked again, and how often that has failed.
    pub(in crate::proxy) paused: Option<(Instant, u32)>,
    /// Pods that may have lost what a client wrote there.
    pub(super) doubtful: Vec<PodInstance>,
    /// A pod that is gone may have written an old row into the database before.
    is_overwritten: bool,
    /// How often the pods' rows are still compared, once all were told: pods wrote the row at the same
    /// time, or an old one.
    unsettled: u32,
    /// Counts what made rows doubtful: what is found out about them holds up to one of these.
    doubts: u64,
    /// The generation of the newest mark that changed a folder's children too.
    pub(super) children: Generation,
    /// The newest generation that was carried to the item's other versions.
    pub(in crate::proxy) versions: Generation,
    /// The last reported position, and by which pod.
    pub(super) position: Option<(PodInstance, i64)>,
    pub(super) playing_until: Option<Instant>,
    /// Pods on which it plays, as far as was reported.
    pub(super) players: Vec<PodInstance>,
    /// Pods on which it played when the user went on elsewhere, and when they will have ended it by
    /// themselves.
    pub(super) left: Vec<(PodInstance, Instant)>,
}

/// A pod that could not be told.
#[derive(Debug)]
pub(super) struct Late {
    pub(super) pod: PodInstance,
    pub(super) failures: u32,
    pub(super) next: Instant,
}

impl Pair {
    pub(super) fn new(now: Instant) -> Pair {
        Pair {
            written: 0,
            written_at: now,
            owners: Owners::default(),
            acts: Vec::new(),
            told: Vec::new(),
            due: None,
            is_all_told: false,
            late: Vec::new(),
            paused: None,
            doubtful: Vec::new(),
            is_overwritten: false,
            unsettled: 0,
            doubts: 0,
            children: 0,
            versions: 0,
            position: None,
            playing_until: None,
            players: Vec::new(),
            left: Vec::new(),
        }
    }

    pub(super) fn record(&mut self, owner: Owner, write: &Write, now: Instant, clock: SystemTime, is_on_several: bool) {
        self.written_at = now;
        if self.is_behind(owner.pod) {
            self.unsettle();
        }
        self.record_player(owner.pod, write, now);
        if let Act::Reached(ticks) = write.act {
            let before = self.position.replace((owner.pod, ticks));
            // A paused player reports the same position again and again.
            if write.is_playing && before == Some((owner.pod, ticks)) {
                return;
            }
        } else if write.act.sets().contains(Field::Position) {
            // The same report is news again.
            self.position = None;
        }
        self.written = owner.generation;
        self.owners.record(&write.act, owner);
        // A later act takes the place of those that it makes undone.
        let sets = write.act.sets();
        self.acts.retain(|earlier| !earlier.act.sets().is_within(sets));
        self.acts.push(OwnedAct { pod: owner.pod, act: write.act.clone(), at: clock });
        if write.act.reaches_children() {
            self.children = owner.generation;
        }
        // What is written from now on is due by itself: a report of progress is not.
        if std::mem::take(&mut self.is_all_told) {
            self.due = None;
        }
        let due = match (write.is_urgent, is_on_several) {
            (true, _) => Some(now),
            (false, true) => Some(now + PROGRESS_EVERY),
            (false, false) => None,
        };
        self.due = match (self.due, due) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }

    /// Notes where the item plays. If the user goes on with it elsewhere, a pod that hears no more of
    /// it ends it by itself (`SessionManager.CheckForIdlePlayback`), and writes its old position.
    pub(super) fn record_player(&mut self, pod: PodInstance, write: &Write, now: Instant) {
        if matches!(write.act, Act::Started | Act::Reached(_) | Act::Ended) {
            self.playing_until = write.is_playing.then(|| now + PLAYING_FOR);
            self.players.retain(|player| *player != pod);
            self.left.retain(|(left, _)| *left != pod);
        }
        if write.act.sets().meets(Fields::PLAY_STATE) {
            let left = self.players.extract_if(.., |player| *player != pod);
            self.left.extend(left.map(|player| (player, now + IDLE_STOP_BY)));
        }
        if write.is_playing {
            self.players.push(pod);
        }
    }

    pub(super) fn set_told(&mut self, pod: PodInstance, generation: Generation) {
        let generation = generation.max(told(&self.told, pod));
        self.told.retain(|(at, _)| *at != pod);
        self.told.push((pod, generation));
        self.late.retain(|late| late.pod != pod);
        self.paused = None;
    }

    /// The pod that the user left has ended playback by itself. All others have the newest row.
    pub(super) fn tell_again(&mut self, pod: PodInstance, generation: Generation, pods: &[PodView], now: Instant) {
        let Some(other) = pods.iter().find(|view| view.is_alive && view.instance != pod) else { return };
        if self.owners == Owners::default() {
            self.written = generation;
            let may_be_old = if pod.is_database() { Fields::PLAY_STATE } else { Field::ALL.into_iter().collect() };
            self.owners.set(may_be_old, Owner { pod: other.instance, generation });
            pods.iter().for_each(|view| self.set_told(view.instance, generation));
        }
        self.told.retain(|(at, _)| *at != pod);
        self.due = Some(now);
        self.unsettle();
    }

    /// Whether another pod has written what this one was not told.
    pub(super) fn is_behind(&self, pod: PodInstance) -> bool {
        self.owners.newest_but(pod) > told(&self.told, pod)
    }

    /// A pod may have written an old row, or a part of a new one. Another pod that saves any user's row
    /// of the item then reads it, and keeps it in place of the newest.
    pub(in crate::proxy) fn unsettle(&mut self) {
        self.unsettled = COMPARED;
        self.doubts += 1;
    }

    /// A pod that is gone, or does not say, may have written an old row into the database.
    pub(in crate::proxy) fn overwrite(&mut self) {
        self.is_overwritten = true;
        self.unsettle();
    }

    /// The row was written into the database once more. What was overwritten meanwhile is still so.
    pub(in crate::proxy) fn rewritten(&mut self, doubts: u64) {
        self.is_overwritten &= self.doubts != doubts;
        self.paused = None;
    }

    /// The rows of all pods were compared, as they were when the round was planned: they are equal, or
    /// those that differed were told.
    pub(in crate::proxy) fn compared(&mut self, round: &Round, are_equal: bool) {
        let is_about_now = round.settling.as_ref().is_some_and(|settling| settling.doubts == self.doubts);
        if self.written != round.generation || !is_about_now {
            return;
        }
        self.unsettled = if are_equal { 0 } else { self.unsettled.saturating_sub(1) };
        self.paused = None;
    }

    pub(super) fn set_late(&mut self, pod: PodInstance, now: Instant) {
        let failures = self.late.iter().find(|late| late.pod == pod).map_or(0, |late| late.failures);
        self.late.retain(|late| late.pod != pod);
        let pause = RETRY_FIRST.saturating_mul(1 << failures.min(6)).min(RETRY_LAST);
        self.late.push(Late { pod, failures: failures + 1, next: now + pause });
    }

    /// The pods of the writes are asked again later, and later still after each failure. Returns how
    /// many there were.
    pub(in crate::proxy) fn pause(&mut self, now: Instant) -> u32 {
        let failures = self.paused.map_or(0, |(_, failures)| failures);
        let pause = PAUSE.saturating_mul(1 << failures.min(8)).min(RETRY_LAST);
        self.paused = Some((now + pause, failures + 1));
        failures + 1
    }

    /// What is still to be done once all pods were told.
    pub(super) fn last_round(&self, item: Id, alive: Vec<PodInstance>) -> Option<Round> {
        let first = *alive.first()?;
        if self.is_overwritten {
            return Some(Round::rewriting(item, self.written, first, self.doubts));
        }
        let acts = || self.acts.iter().map(|act| act.act.clone()).collect();
        let settling = || Settling { acts: acts(), pods: alive, doubts: self.doubts };
        (self.unsettled > 0).then(|| Round::settling(item, self.written, &self.owners, settling()))
    }

    /// All pods have all writes.
    pub(super) fn forget_acts(&mut self) {
        (self.due, self.is_all_told) = (None, false);
        self.owners = Owners::default();
        self.acts.clear();
        self.told.clear();
        self.late.clear();
        self.doubtful.clear();
        self.children = 0;
    }

    /// Processes that are gone need not be told.
    pub(super) fn forget_gone(&mut self, pods: &[PodView]) {
        let is_there = |pod: PodInstance| pods.iter().any(|view| view.instance == pod);
        self.told.retain(|(pod, _)| is_there(*pod));
        self.late.retain(|late| is_there(late.pod));
        self.doubtful.retain(|pod| is_there(*pod));
        self.left.retain(|(pod, _)| is_there(*pod));
        self.players.retain(|pod| is_there(*pod));
    }
}

/// What a pod was told last.
fn told(all: &[(PodInstance, Generation)], pod: PodInstance) -> Generation {
    all.iter().find(|(at, _)| *at == pod).map_or(0, |(_, generation)| *generation)
}

/// The written fields that some pod may not have yet.
pub(in crate::proxy) fn written_fields(pair: &Pair) -> Fields {
    pair.owners.written()
}

/// Those that the user has written after this moment.
pub(in crate::proxy) fn written_since(pair: &Pair, at: SystemTime) -> Fields {
    let later = pair.acts.iter().filter(|act| act.at > at);
    later.fold(Fields::NONE, |fields, act| fields.with(act.act.sets()))
}
