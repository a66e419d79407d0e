//! One group: where it is, what it plays, and whether it is being made again.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{self, Instant},
};

use super::{
    playback::Playback,
    roster::{Member, Roster},
};
use crate::{
    jellyfin::sync_play::{self, GroupState},
    pod::PodInstance,
};

/// Earlier ids of a group that are still understood.
const MOST_IDS: usize = 16;

/// How long after a move the return of a group's own members is no news to the others.
const RETURNING: Duration = Duration::from_secs(30);

/// A group of one pool. Each part below has a lock of its own, never held across an await.
pub(in crate::proxy) struct Group {
    pub(in crate::proxy) pool: Arc<str>,
    /// The id by which clients know it.
    pub(in crate::proxy) shown: String,
    /// What its maker has called it.
    pub(in crate::proxy) name: String,
    pub(in crate::proxy) location: Location,
    pub(in crate::proxy) roster: Roster,
    pub(in crate::proxy) playback: SharedPlayback,
    pub(in crate::proxy) moving: Moving,
}

/// The pod that has a group, and the ids by which pods know it.
pub(in crate::proxy) struct Location(Mutex<Located>);

#[derive(Clone)]
struct Located {
    place: PodInstance,
    id: String,
    earlier: Vec<String>,
    /// How often it was made again.
    generation: u32,
    moved_at: Option<Instant>,
}

/// What a group plays, for all that follow it.
pub(in crate::proxy) struct SharedPlayback {
    now: Mutex<Playback>,
    /// Counts the changes.
    changes: watch::Sender<u64>,
}

/// Whether a group is being made again.
pub(in crate::proxy) struct Moving(watch::Sender<Stage>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It stays where it is.
    Settled,
    /// Its members come to the new pod. They get no message about it.
    Gathering,
    /// They get its queue, and go on.
    Resuming,
}

/// To which life of a group a pod's message belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IdOwner {
    /// The present one, by its number.
    Present(u32),
    /// An earlier one, or one that is not known yet.
    Other,
}

impl Group {
    pub(super) fn new((pool, place): (Arc<str>, PodInstance), id: &str, (name, state): (String, GroupState)) -> Group {
        let located = Located { place, id: id.to_owned(), earlier: Vec::new(), generation: 0, moved_at: None };
        Group {
            pool,
            shown: id.to_owned(),
            name,
            location: Location(Mutex::new(located)),
            roster: Roster::default(),
            playback: SharedPlayback { now: Mutex::new(Playback::of(state)), changes: watch::Sender::new(0) },
            moving: Moving(watch::Sender::new(Stage::Settled)),
        }
    }

    /// It goes on at this pod, which knows it by this id.
    pub(in crate::proxy) fn move_to(&self, place: PodInstance, id: String) {
        self.playback.now.lock().begin_again();
        self.roster.begin_return();
        let located = &mut *self.location.0.lock();
        let earlier = std::mem::replace(&mut located.id, id);
        if located.earlier.len() < MOST_IDS {
            located.earlier.push(earlier);
        }
        (located.place, located.generation, located.moved_at) = (place, located.generation + 1, Some(Instant::now()));
    }

    /// Ends a membership that cannot move along, and tells the client.
    pub(in crate::proxy) fn dismiss(&self, member: &Member) {
        member.session.group.record_left(self.location.place());
        self.roster.remove(&member.line);
        member.line.dismiss(sync_play::group_left(&self.shown));
    }

    pub(super) fn is_known_as(&self, id: &str) -> bool {
        let located = self.location.0.lock();
        self.shown == id || located.id == id || located.earlier.iter().any(|earlier| earlier == id)
    }

    /// A user joins. Returns whether the other members are to be told.
    pub(super) fn user_joined(&self, name: &str) -> bool {
        let moved_at = self.location.0.lock().moved_at;
        let is_recent = moved_at.is_some_and(|at| at.elapsed() < RETURNING);
        self.roster.add_name(name);
        !(is_recent && self.roster.is_returning(name))
    }
}

impl Location {
    pub(in crate::proxy) fn place(&self) -> PodInstance {
        self.0.lock().place
    }

    /// The id by which its pod knows it.
    pub(in crate::proxy) fn id(&self) -> String {
        self.0.lock().id.clone()
    }

    pub(super) fn owner_of(&self, id: &str) -> IdOwner {
        let located = self.0.lock();
        if located.id == id { IdOwner::Present(located.generation) } else { IdOwner::Other }
    }

    pub(in crate::proxy) fn generation(&self) -> u32 {
        self.0.lock().generation
    }
}

impl SharedPlayback {
    pub(in crate::proxy) fn now(&self) -> Playback {
        self.now.lock().clone()
    }

    /// Ends when what is known satisfies `holds`, or after this time. Returns whether it does.
    /// Cancel safe.
    pub(in crate::proxy) async fn until(&self, at_most: Duration, holds: impl Fn(&Playback) -> bool) -> bool {
        let mut changes = self.changes.subscribe();
        let waits = async {
            while !holds(&self.now.lock()) {
                // It cannot fail: `self` holds the sender.
                let _ = changes.changed().await;
            }
        };
        time::timeout(at_most, waits).await.is_ok()
    }

    pub(in crate::proxy) fn update(&self, change: impl FnOnce(&mut Playback, Instant)) {
        change(&mut self.now.lock(), Instant::now());
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl Moving {
    pub(in crate::proxy) fn is_under_way(&self) -> bool {
        *self.0.borrow() != Stage::Settled
    }

    pub(super) fn is_gathering(&self) -> bool {
        *self.0.borrow() == Stage::Gathering
    }

    /// Begins, unless it is under way.
    pub(in crate::proxy) fn start_gathering(&self) -> bool {
        self.0.send_if_modified(|stage| std::mem::replace(stage, Stage::Gathering) == Stage::Settled)
    }

    /// All are there: what the new pod says is now for them.
    pub(in crate::proxy) fn resume(&self) {
        self.0.send_replace(Stage::Resuming);
    }

    pub(in crate::proxy) fn end(&self) {
        self.0.send_replace(Stage::Settled);
    }

    /// Ends when nothing is under way, at the latest after this time. Cancel safe.
    pub(in crate::proxy) async fn await_end(&self, at_most: Duration) {
        let mut stage = self.0.subscribe();
        // It cannot fail otherwise: `self` holds the sender.
        let _ = time::timeout(at_most, stage.wait_for(|stage| *stage == Stage::Settled)).await;
    }
}
