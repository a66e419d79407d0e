//! SyncPlay: groups in the memory of one process, told to their members over the sockets that end in it.

mod group;
mod states;

use http::StatusCode;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::call::Call;
use crate::generation::Generation;
use crate::identifiers::plain;
use crate::library::Item;
use crate::sessions::Sessions;
use group::{Group, NO_ID, update};
use states::Request;

/// The groups.
#[derive(Debug, Default)]
pub(crate) struct SyncPlay {
    groups: Vec<Group>,
}

impl SyncPlay {
    /// `IsUserActive`: by the user, whichever of the user's sessions is the member.
    pub(crate) fn is_active(&self, user_id: &str) -> bool {
        self.groups.iter().any(|group| group.has_user(user_id))
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
    let user = call.user().map(|user| (user.name.clone(), user.id.clone())).unwrap_or_default();
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
    let user = call.user().map(|user| (user.name.clone(), user.id.clone())).unwrap_or_default();
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
    if !memory.sync_play.groups.iter().any(|group| group.has(&session)) {
        not_in_group(&memory.sessions, &session);
    }
    memory.sync_play.leave(&memory.sessions, &session);
    Answer::no_content()
}

/// `POST /SyncPlay/SetNewQueue`.
pub(crate) fn set_new_queue(call: &Call) -> Answer {
    let items = items(call, "PlayingQueue");
    if items.iter().any(|id| Item::of(id).is_none()) {
        return match call.settings().generation {
            Generation::V12 => Answer::no_content(),
            Generation::V10_11 => Answer::error(StatusCode::INTERNAL_SERVER_ERROR),
        };
    }
    let index = number(call, "PlayingItemPosition");
    let position = number(call, "StartPositionTicks");
    in_group(call, Request::Play { items, index, position })
}

/// `POST /SyncPlay/Unpause`.
pub(crate) fn unpause(call: &Call) -> Answer {
    in_group(call, Request::Unpause)
}

/// `POST /SyncPlay/Pause`.
pub(crate) fn pause(call: &Call) -> Answer {
    in_group(call, Request::Pause)
}

/// `POST /SyncPlay/Stop`.
pub(crate) fn stop(call: &Call) -> Answer {
    in_group(call, Request::Stop)
}

/// `POST /SyncPlay/Seek`.
pub(crate) fn seek(call: &Call) -> Answer {
    in_group(call, Request::Seek(number(call, "PositionTicks")))
}

/// `POST /SyncPlay/Buffering`.
pub(crate) fn buffering(call: &Call) -> Answer {
    in_group(call, Request::Buffer { entry: entry(call) })
}

/// `POST /SyncPlay/Ready`.
pub(crate) fn ready(call: &Call) -> Answer {
    let (position, plays) = (number(call, "PositionTicks"), flag(call, "IsPlaying"));
    in_group(call, Request::Ready { when: text(call, "When"), position, plays, entry: entry(call) })
}

/// `POST /SyncPlay/SetPlaylistItem`.
pub(crate) fn set_playlist_item(call: &Call) -> Answer {
    in_group(call, Request::SetItem(entry(call)))
}

/// `POST /SyncPlay/NextItem`.
pub(crate) fn next_item(call: &Call) -> Answer {
    in_group(call, Request::Next(entry(call)))
}

/// `POST /SyncPlay/PreviousItem`.
pub(crate) fn previous_item(call: &Call) -> Answer {
    in_group(call, Request::Previous(entry(call)))
}

/// `POST /SyncPlay/SetIgnoreWait`.
pub(crate) fn set_ignore_wait(call: &Call) -> Answer {
    in_group(call, Request::IgnoreWait(flag(call, "IgnoreWait")))
}

/// `POST /SyncPlay/Queue`.
pub(crate) fn queue(call: &Call) -> Answer {
    let is_next = text(call, "Mode") == "QueueNext";
    in_group(call, Request::Queue { items: items(call, "ItemIds"), is_next })
}

/// `POST /SyncPlay/SetRepeatMode`.
pub(crate) fn set_repeat_mode(call: &Call) -> Answer {
    in_group(call, Request::Mode { is_repeat: true, mode: text(call, "Mode") })
}

/// `POST /SyncPlay/SetShuffleMode`.
pub(crate) fn set_shuffle_mode(call: &Call) -> Answer {
    in_group(call, Request::Mode { is_repeat: false, mode: text(call, "Mode") })
}

/// `POST /SyncPlay/Ping`.
pub(crate) fn ping(call: &Call) -> Answer {
    let (session, ping) = (call.touch_session().unwrap_or_default(), number(call, "Ping"));
    let mut memory = call.life().memory();
    if let Some(group) = memory.sync_play.groups.iter_mut().find(|group| group.has(&session)) {
        group.set_ping(&session, ping);
    }
    Answer::no_content()
}

/// What else a member asks: taken, and of no consequence here.
pub(crate) fn other(call: &Call) -> Answer {
    call.touch_session();
    Answer::no_content()
}

fn number(call: &Call, name: &str) -> i64 {
    call.property(name).as_ref().and_then(Value::as_i64).unwrap_or(0)
}

fn flag(call: &Call, name: &str) -> bool {
    call.property(name).as_ref().and_then(Value::as_bool).unwrap_or(false)
}

fn text(call: &Call, name: &str) -> String {
    call.property(name).as_ref().and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn entry(call: &Call) -> String {
    plain(&text(call, "PlaylistItemId")).unwrap_or_else(|| NO_ID.to_owned())
}

fn items(call: &Call, name: &str) -> Vec<String> {
    let items = call.property(name).unwrap_or_default();
    items.as_array().into_iter().flatten().filter_map(|id| plain(id.as_str()?)).collect()
}

fn not_in_group(sessions: &Sessions, session: &str) {
    if let Some(session) = sessions.get(session) {
        session.send("SyncPlayGroupUpdate", update(NO_ID, "NotInGroup", json!("")));
    }
}

fn in_group(call: &Call, request: Request) -> Answer {
    let session = call.touch_session().unwrap_or_default();
    let mut guard = call.life().memory();
    let memory = &mut *guard;
    match memory.sync_play.groups.iter_mut().find(|group| group.has(&session)) {
        Some(group) => group.handle(&memory.sessions, &session, request),
        None => not_in_group(&memory.sessions, &session),
    }
    Answer::no_content()
}
