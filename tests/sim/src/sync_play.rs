//! SyncPlay: groups in the memory of one process, told to their members over the sockets that end in it.

mod group;

use http::StatusCode;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::call::Call;
use crate::generation::Generation;
use crate::identifiers::plain;
use crate::library::Item;
use crate::sessions::Sessions;
use group::{Group, NO_ID, State, update};

/// The groups.
#[derive(Debug, Default)]
pub(crate) struct SyncPlay {
    groups: Vec<Group>,
}

impl SyncPlay {
    pub(crate) fn is_member(&self, session: &str) -> bool {
        self.groups.iter().any(|group| group.has(session))
    }

    /// A session that ends leaves its group, and the others are told.
    pub(crate) fn session_ended(&mut self, sessions: &Sessions, session: &str) {
        self.leave(sessions, session);
    }

    fn leave(&mut self, sessions: &Sessions, session: &str) {
        if let Some(group) = self.groups.iter_mut().find(|group| group.has(session)) {
            group.remove(sessions, session);
        }
        self.groups.retain(|group| !group.is_empty());
    }
}

/// `GET /SyncPlay/List`: the groups whose queue the user may see (`Group.HasAccessToPlayQueue`).
/// Like every call of SyncPlay it makes a session of its caller on this pod.
pub(crate) fn list(call: &Call) -> Answer {
    call.touch_session();
    let sees_all = sees_all(call);
    let memory = call.life().memory();
    let shown = memory.sync_play.groups.iter().filter(|group| group.is_open_to(sees_all));
    Answer::json(&shown.map(Group::info).collect())
}

fn sees_all(call: &Call) -> bool {
    call.user().is_some_and(|user| user.all_folders)
}

/// `GET /SyncPlay/{id}`.
pub(crate) fn one(call: &Call) -> Answer {
    call.touch_session();
    let (id, sees_all) = (call.guid(0), sees_all(call));
    let memory = call.life().memory();
    match memory.sync_play.groups.iter().find(|group| group.id == id && group.is_open_to(sees_all)) {
        Some(group) => Answer::json(&group.info()),
        None => Answer::problem(StatusCode::NOT_FOUND),
    }
}

/// `POST /SyncPlay/New`: the group takes over what its maker's session plays.
pub(crate) fn new(call: &Call) -> Answer {
    let name = call.property("GroupName").and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default();
    let session = call.touch_session().unwrap_or_default();
    let user = call.user().map(|user| user.name.clone()).unwrap_or_default();
    let mut guard = call.life().memory();
    let memory = &mut *guard;
    memory.sync_play.leave(&memory.sessions, &session);
    let mut group = Group::new(name, call.life().shared.controls.clock.clone());
    if let Some(playing) = memory.sessions.get(&session).and_then(|session| session.playing.as_ref()) {
        group.take_over(playing);
    }
    group.add(&memory.sessions, &session, user);
    let info = group.info();
    memory.sync_play.groups.push(group);
    Answer::json(&info)
}

/// `POST /SyncPlay/Join`: 204 in any case; whether it worked is said over the socket, if there is one.
pub(crate) fn join(call: &Call) -> Answer {
    let id = call.property("GroupId").and_then(|id| plain(id.as_str()?)).unwrap_or_default();
    let session = call.touch_session().unwrap_or_default();
    let user = call.user().map(|user| user.name.clone()).unwrap_or_default();
    let sees_all = sees_all(call);
    let mut guard = call.life().memory();
    let memory = &mut *guard;
    let refusal = match memory.sync_play.groups.iter().find(|group| group.id == id) {
        None => Some(update(NO_ID, "GroupDoesNotExist", json!(""))),
        Some(group) if !group.is_open_to(sees_all) => Some(update(&id, "LibraryAccessDenied", json!(""))),
        Some(_) => None,
    };
    if let Some(refusal) = refusal {
        if let Some(session) = memory.sessions.get(&session) {
            session.send("SyncPlayGroupUpdate", refusal);
        }
        return Answer::no_content();
    }
    let elsewhere = memory.sync_play.groups.iter().any(|group| group.id != id && group.has(&session));
    if elsewhere {
        memory.sync_play.leave(&memory.sessions, &session);
    }
    if let Some(group) = memory.sync_play.groups.iter_mut().find(|group| group.id == id) {
        group.add(&memory.sessions, &session, user);
    }
    Answer::no_content()
}

/// `POST /SyncPlay/Leave`.
pub(crate) fn leave(call: &Call) -> Answer {
    let session = call.touch_session().unwrap_or_default();
    let mut guard = call.life().memory();
    let memory = &mut *guard;
    memory.sync_play.leave(&memory.sessions, &session);
    Answer::no_content()
}

/// `POST /SyncPlay/SetNewQueue`.
pub(crate) fn set_new_queue(call: &Call) -> Answer {
    let queue = call.property("PlayingQueue").unwrap_or_default();
    let queue: Vec<String> = queue.as_array().into_iter().flatten().filter_map(|id| plain(id.as_str()?)).collect();
    if queue.iter().any(|id| Item::of(id).is_none()) {
        return match call.settings().generation {
            Generation::V12 => Answer::no_content(),
            Generation::V10_11 => Answer::error(StatusCode::INTERNAL_SERVER_ERROR),
        };
    }
    let index = number(call, "PlayingItemPosition");
    let position = number(call, "StartPositionTicks");
    in_group(call, |group, sessions| group.set_queue(sessions, queue, index, position))
}

/// `POST /SyncPlay/Unpause`.
pub(crate) fn unpause(call: &Call) -> Answer {
    in_group(call, |group, sessions| group.command(sessions, "Unpause", State::Playing, None))
}

/// `POST /SyncPlay/Pause`.
pub(crate) fn pause(call: &Call) -> Answer {
    in_group(call, |group, sessions| group.command(sessions, "Pause", State::Paused, None))
}

/// `POST /SyncPlay/Stop`.
pub(crate) fn stop(call: &Call) -> Answer {
    in_group(call, |group, sessions| group.command(sessions, "Stop", State::Idle, Some(0)))
}

/// `POST /SyncPlay/Seek`.
pub(crate) fn seek(call: &Call) -> Answer {
    let position = number(call, "PositionTicks");
    in_group(call, |group, sessions| group.command(sessions, "Seek", State::Waiting, Some(position)))
}

/// `POST /SyncPlay/Ping`, and the other reports of a member: taken, and of no consequence here.
pub(crate) fn ping(call: &Call) -> Answer {
    call.touch_session();
    Answer::no_content()
}

/// See [`ping`].
pub(crate) fn other(call: &Call) -> Answer {
    call.touch_session();
    Answer::no_content()
}

fn number(call: &Call, name: &str) -> i64 {
    call.property(name).as_ref().and_then(Value::as_i64).unwrap_or(0)
}

fn in_group(call: &Call, act: impl FnOnce(&mut Group, &Sessions)) -> Answer {
    let session = call.touch_session().unwrap_or_default();
    let mut guard = call.life().memory();
    let memory = &mut *guard;
    if let Some(group) = memory.sync_play.groups.iter_mut().find(|group| group.has(&session)) {
        act(group, &memory.sessions);
    }
    Answer::no_content()
}
