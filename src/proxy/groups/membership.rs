//! One socket's view of its client's group: which messages about it the client gets.
//!
//! While a group is made again, its members get no message about it. Then they get its queue once,
//! sent so that their players go on, and the command by which all go on together.

use std::sync::Arc;

use parking_lot::Mutex;

pub(in crate::proxy) use super::line::GroupNews;
use super::{
    Groups,
    group::{Group, IdOwner},
    line::Line,
    roster::Member,
};
use crate::{
    jellyfin::sync_play::{self, CommandKind, GroupEvent, GroupMessage, GroupState},
    pod::{Pod, PodInstance},
    sessions::session::Socket,
    websocket::ForClient,
};

/// The group of one client's socket.
pub(in crate::proxy) struct Membership {
    groups: Arc<Groups>,
    pool: Arc<str>,
    line: Arc<Line>,
    seat: Mutex<Option<Seat>>,
}

struct Seat {
    group: Arc<Group>,
    /// The life of the group of which the client has delivery.
    generation: u32,
    /// The client has not yet got the command by which its group goes on.
    awaits_resume: bool,
}

impl Membership {
    pub(in crate::proxy) fn new(groups: Arc<Groups>, pool: Arc<str>) -> Membership {
        Membership { groups, pool, line: Arc::default(), seat: Mutex::default() }
    }

    /// What jellypin itself has to say about the group.
    pub(in crate::proxy) fn news(&self) -> GroupNews {
        GroupNews(self.line.clone())
    }

    /// Takes a message of this pod, and says what of it the client gets.
    /// A pod that ends says that the members leave, one by one.
    pub(in crate::proxy) fn receive(&self, socket: Option<&Socket>, pod: &Pod, text: &str) -> ForClient {
        let (place, ends) = (PodInstance::of(pod), !pod.status().is_alive());
        let Some(GroupMessage { group: id, event }) = sync_play::read(text) else { return ForClient::Same };
        let mut seat = self.seat.lock();
        if self.line.take_dismissal() {
            *seat = None;
        }
        let is_of_seat = |seat: &Seat| seat.group.moving.is_under_way() || seat.group.is_known_as(&id);
        if let GroupEvent::Joined { name, state, participants } = &event
            && !seat.as_ref().is_some_and(is_of_seat)
        {
            *seat = self.begin_seat((place, &id), (name, *state), participants.clone());
            self.enroll_at(seat.as_ref(), socket, place);
        }
        let Some(sitting) = &mut *seat else { return self.shown(&id, text) };
        let group = sitting.group.clone();
        let delivery = match group.location.owner_of(&id) {
            _ if ends && matches!(event, GroupEvent::Left | GroupEvent::UserLeft(_)) => Delivery::Suppressed,
            IdOwner::Present(generation) if generation == sitting.generation => sitting.receive(&group, &event),
            IdOwner::Present(generation) => sitting.catch_up(&group, generation, &event),
            // Of an earlier life of the group, or of a new one that is not known yet.
            IdOwner::Other if group.is_known_as(&id) || group.moving.is_under_way() => Delivery::Suppressed,
            IdOwner::Other if event == GroupEvent::Left => Delivery::Left,
            IdOwner::Other => Delivery::Unchanged,
        };
        match delivery {
            Delivery::Suppressed => return ForClient::Nothing,
            Delivery::Unchanged => {}
            Delivery::Resumed => {
                if let Some(socket) = socket {
                    socket.session().group.record_joined(place);
                }
                return ForClient::Changed(sync_play::as_queue_that_plays(&self.with_shown_id(&id, text)));
            }
            Delivery::QueueAgain => {
                return ForClient::Changed(sync_play::as_queue_that_plays(&self.with_shown_id(&id, text)));
            }
            Delivery::Left => {
                *seat = None;
                drop(seat);
                let shown = self.shown(&id, text);
                self.leave_group(&group, socket, place);
                return shown;
            }
        }
        drop(seat);
        self.shown(&id, text)
    }

    /// The session of the socket has become known.
    pub(in crate::proxy) fn enroll(&self, socket: &Socket) {
        let seat = self.seat.lock();
        let place = seat.as_ref().map(|seat| seat.group.location.place());
        if let Some(place) = place {
            self.enroll_at(seat.as_ref(), Some(socket), place);
        }
    }

    /// The socket is attached to this pod. Returns what the client gets if its group has not come
    /// along and will not: `is_to_move` says whether it will.
    pub(in crate::proxy) fn attached(
        &self,
        socket: Option<&Socket>,
        place: PodInstance,
        is_to_move: impl FnOnce(PodInstance) -> bool,
    ) -> Option<String> {
        let mut seat = self.seat.lock();
        let group = seat.as_ref()?.group.clone();
        let at = group.location.place();
        let comes_along = || group.moving.is_under_way() || is_to_move(at);
        if at == place || (group.roster.has_line(&self.line) && comes_along()) {
            return None;
        }
        *seat = None;
        drop(seat);
        self.leave_group(&group, socket, at);
        Some(sync_play::group_left(&group.shown))
    }

    fn begin_seat(
        &self,
        (place, id): (PodInstance, &str),
        (name, state): (&str, GroupState),
        participants: Vec<String>,
    ) -> Option<Seat> {
        let begin = || Group::new((self.pool.clone(), place), id, (name.to_owned(), state));
        let group = self.groups.group_of_socket(&self.pool, id, begin)?;
        group.roster.set_names(participants);
        let generation = group.location.generation();
        Some(Seat { group, generation, awaits_resume: false })
    }

    fn enroll_at(&self, seat: Option<&Seat>, socket: Option<&Socket>, place: PodInstance) {
        let Some(socket) = socket else { return };
        socket.session().group.record_joined(place);
        if let Some(seat) = seat {
            let session = socket.session().clone();
            let member = Member { session, device: socket.device(), ignores_wait: false, line: self.line.clone() };
            seat.group.roster.add(member);
        }
    }

    fn leave_group(&self, group: &Group, socket: Option<&Socket>, place: PodInstance) {
        if let Some(socket) = socket {
            socket.session().group.record_left(place);
        }
        group.roster.remove(&self.line);
        self.groups.forget_empty();
    }

    fn shown(&self, id: &str, text: &str) -> ForClient {
        match self.groups.shown_id(&self.pool, id) {
            Some(shown) => ForClient::Changed(sync_play::with_group(text, id, &shown)),
            None => ForClient::Same,
        }
    }

    fn with_shown_id(&self, id: &str, text: &str) -> String {
        match self.shown(id, text) {
            ForClient::Changed(text) => text,
            ForClient::Same | ForClient::Nothing => text.to_owned(),
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        // The client's socket has ended, and with it the membership.
        if let Some(seat) = self.seat.get_mut().take() {
            seat.group.roster.remove(&self.line);
            self.groups.forget_empty();
        }
    }
}

/// What a client gets of a message.
enum Delivery {
    Unchanged,
    Suppressed,
    /// The queue with which its group goes on.
    Resumed,
    /// The same queue, once more.
    QueueAgain,
    Left,
}

impl Seat {
    /// A message of the life that the client knows.
    fn receive(&mut self, group: &Group, event: &GroupEvent) -> Delivery {
        if group.moving.is_gathering() && matches!(event, GroupEvent::UserLeft(_)) {
            // The pod that the group leaves tells its members that they leave one by one.
            return Delivery::Suppressed;
        }
        if self.awaits_resume && !group.moving.is_under_way() && !group.playback.now().resumes() {
            self.awaits_resume = false;
        }
        match event {
            GroupEvent::Joined { participants, .. } => group.roster.set_names(participants.clone()),
            GroupEvent::Left => return Delivery::Left,
            GroupEvent::UserJoined(name) if !group.user_joined(name) => return Delivery::Suppressed,
            GroupEvent::UserLeft(name) => group.roster.remove_name(name),
            GroupEvent::Queue(queue) => {
                group.playback.update(|playback, now| playback.record_queue(queue, now));
                if self.awaits_resume && queue.reason == "NewPlaylist" {
                    return Delivery::QueueAgain;
                }
            }
            // A member that is ready before the others is told to wait for them. Its player goes on
            // meanwhile, since the wait is short.
            GroupEvent::Command(command) if self.awaits_resume && command.kind != CommandKind::Unpause => {
                return Delivery::Suppressed;
            }
            GroupEvent::State(..) if self.awaits_resume => return Delivery::Suppressed,
            GroupEvent::Command(command) => {
                self.awaits_resume = false;
                group.playback.update(|playback, now| playback.record_command(*command, now));
            }
            GroupEvent::State(state, reason) => {
                group.playback.update(|playback, _| playback.record_state(*state, reason))
            }
            GroupEvent::UserJoined(_) | GroupEvent::Other => {}
        }
        Delivery::Unchanged
    }

    /// A message of a life of which the client has not delivery yet.
    fn catch_up(&mut self, group: &Group, generation: u32, event: &GroupEvent) -> Delivery {
        if *event == GroupEvent::Left {
            return Delivery::Left;
        }
        match event {
            GroupEvent::Command(command)
                if command.kind == CommandKind::Stop && group.playback.now().queue().is_none() =>
            {
                // A group that plays nothing has nothing more to say.
                self.generation = generation;
                Delivery::Suppressed
            }
            GroupEvent::Queue(queue) if !group.moving.is_gathering() => {
                (self.generation, self.awaits_resume) = (generation, true);
                group.playback.update(|playback, now| playback.record_queue(queue, now));
                Delivery::Resumed
            }
            _ => Delivery::Suppressed,
        }
    }
}
