//! Remote control: a call on another session becomes a message on its socket.
//!
//! Any user may write to any session of this pod: `SessionManager.AssertCanControl` checks nothing. The lists alone hide
//! sessions.

use http::StatusCode;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::call::{Call, property};
use crate::identifiers::plain;
use crate::item_dto;
use crate::sessions::NOBODY;

/// `GeneralCommandType`.
const GENERAL: [&str; 43] = [
    "MoveUp",
    "MoveDown",
    "MoveLeft",
    "MoveRight",
    "PageUp",
    "PageDown",
    "PreviousLetter",
    "NextLetter",
    "ToggleOsd",
    "ToggleContextMenu",
    "Select",
    "Back",
    "TakeScreenshot",
    "SendKey",
    "SendString",
    "GoHome",
    "GoToSettings",
    "VolumeUp",
    "VolumeDown",
    "Mute",
    "Unmute",
    "ToggleMute",
    "SetVolume",
    "SetAudioStreamIndex",
    "SetSubtitleStreamIndex",
    "ToggleFullscreen",
    "DisplayContent",
    "GoToSearch",
    "DisplayMessage",
    "SetRepeatMode",
    "ChannelUp",
    "ChannelDown",
    "Guide",
    "ToggleStats",
    "PlayMediaSource",
    "PlayTrailers",
    "SetShuffleQueue",
    "PlayState",
    "PlayNext",
    "ToggleOsdMenu",
    "Play",
    "SetMaxStreamingBitrate",
    "SetPlaybackOrder",
];

/// `PlaystateCommand`.
const PLAY_STATE: [&str; 9] =
    ["Stop", "Pause", "Unpause", "NextTrack", "PreviousTrack", "Seek", "Rewind", "FastForward", "PlayPause"];

/// `PlayCommand`.
const PLAY: [&str; 5] = ["PlayNow", "PlayNext", "PlayLast", "PlayInstantMix", "PlayShuffle"];

/// A value of an enumeration, in any case; in the case that it is written with.
fn named(names: &[&'static str], text: &str) -> Option<&'static str> {
    names.iter().copied().find(|name| name.eq_ignore_ascii_case(text))
}

/// `POST /Sessions/{id}/Message`.
pub(crate) fn message(call: &Call) -> Answer {
    let body = call.json();
    let text = |name| property(&body, name).and_then(Value::as_str).filter(|text| !text.trim().is_empty());
    let Some(said) = text("Text") else {
        return Answer::problem(StatusCode::BAD_REQUEST);
    };
    let mut arguments = json!({"Header": text("Header").unwrap_or("Message from Server"), "Text": said});
    if let Some(timeout) = property(&body, "TimeoutMs").filter(|timeout| timeout.is_number()) {
        arguments["TimeoutMs"] = json!(timeout.to_string());
    }
    send(call, "GeneralCommand", json!({"Name": "DisplayMessage", "ControllingUserId": NOBODY, "Arguments": arguments}))
}

/// `POST /Sessions/{id}/Command/{name}` and `/System/{name}`.
pub(crate) fn command(call: &Call) -> Answer {
    match named(&GENERAL, call.captured(1)) {
        Some(name) => general(call, name, json!({})),
        None => Answer::invalid("command", call.captured(1)),
    }
}

/// `POST /Sessions/{id}/Command`.
pub(crate) fn full_command(call: &Call) -> Answer {
    let body = call.json();
    let name = property(&body, "Name").and_then(Value::as_str).and_then(|name| named(&GENERAL, name));
    let Some(name) = name.filter(|_| body.is_object()) else {
        return Answer::problem(StatusCode::BAD_REQUEST);
    };
    let arguments = property(&body, "Arguments").cloned().unwrap_or_else(|| json!({}));
    general(call, name, arguments)
}

fn general(call: &Call, name: &str, arguments: Value) -> Answer {
    let controller = call.user().map_or(NOBODY, |user| &user.id);
    send(call, "GeneralCommand", json!({"Name": name, "ControllingUserId": controller, "Arguments": arguments}))
}

/// `POST /Sessions/{id}/Viewing?itemType=&itemId=&itemName=`.
pub(crate) fn display(call: &Call) -> Answer {
    let given = |name| call.query.get(name).filter(|value| !value.is_empty());
    let (Some(kind), Some(id), Some(name)) = (given("itemType"), given("itemId"), given("itemName")) else {
        return Answer::problem(StatusCode::BAD_REQUEST);
    };
    let arguments = json!({"ItemId": id, "ItemName": name, "ItemType": kind});
    send(call, "GeneralCommand", json!({"Name": "DisplayContent", "ControllingUserId": NOBODY, "Arguments": arguments}))
}

/// `POST /Sessions/{id}/Playing?playCommand=&itemIds=`.
pub(crate) fn play(call: &Call) -> Answer {
    let command = call.query.get("playCommand").and_then(|command| named(&PLAY, &command));
    let items = call.query.list("itemIds");
    let Some(command) = command.filter(|_| !items.is_empty()) else {
        return Answer::problem(StatusCode::BAD_REQUEST);
    };
    // A mix and a shuffle become a list here, which the player plays at once.
    let command = if matches!(command, "PlayInstantMix" | "PlayShuffle") { "PlayNow" } else { command };
    let cluster = &call.life().shared.cluster;
    let is_there = |id: &String| call.life().memory().caches.by_id(cluster, id).is_some();
    let items: Vec<String> = items.into_iter().filter_map(plain).filter(is_there).collect();
    let controller = call.user().map_or(NOBODY, |user| &user.id);
    let mut data = json!({"ItemIds": items, "PlayCommand": command, "ControllingUserId": controller});
    for (parameter, name) in [
        ("startPositionTicks", "StartPositionTicks"),
        ("audioStreamIndex", "AudioStreamIndex"),
        ("subtitleStreamIndex", "SubtitleStreamIndex"),
        ("startIndex", "StartIndex"),
    ] {
        if let Some(number) = call.query.number(parameter) {
            data[name] = json!(number);
        }
    }
    if let Some(source) = call.query.get("mediaSourceId") {
        data["MediaSourceId"] = json!(source);
    }
    send(call, "Play", data)
}

/// `POST /Sessions/{id}/Playing/{command}?seekPositionTicks=&controllingUserId=`.
pub(crate) fn play_state(call: &Call) -> Answer {
    let Some(command) = named(&PLAY_STATE, call.captured(1)) else {
        return Answer::invalid("command", call.captured(1));
    };
    let mut data = json!({"Command": command});
    let own = call.user().map(|user| user.id.clone());
    if let Some(controller) = own.or_else(|| call.query.get("controllingUserId")) {
        data["ControllingUserId"] = json!(controller);
    }
    if let Some(ticks) = call.query.number("seekPositionTicks") {
        data["SeekPositionTicks"] = json!(ticks);
    }
    send(call, "Playstate", data)
}

/// `POST /Sessions/{id}/User/{user}`: somebody watches with the session's user.
pub(crate) fn add_user(call: &Call) -> Answer {
    let user = call.guid(1);
    let name = call.life().shared.cluster.read(|database| database.user(&user).map(|user| user.name.clone()));
    with_users(call, |additional| {
        if additional.iter().any(|(id, _)| *id == user) {
            return Some(());
        }
        additional.push((user.clone(), name?));
        Some(())
    })
}

/// `DELETE` of the same.
pub(crate) fn remove_user(call: &Call) -> Answer {
    let user = call.guid(1);
    with_users(call, |additional| {
        additional.retain(|(id, _)| *id != user);
        Some(())
    })
}

fn with_users(call: &Call, how: impl FnOnce(&mut Vec<(String, String)>) -> Option<()>) -> Answer {
    let mut memory = call.life().memory();
    let changed = match memory.sessions.get_mut(call.captured(0)) {
        None => return Answer::error(StatusCode::NOT_FOUND),
        // The session's own user cannot be added or taken away.
        Some(session) if session.user_id == call.guid(1) => return Answer::error(StatusCode::BAD_REQUEST),
        Some(session) => how(&mut session.additional),
    };
    memory.sessions.note_change();
    // A user who is not there is a null reference.
    changed.map_or_else(|| Answer::error(StatusCode::INTERNAL_SERVER_ERROR), |()| Answer::no_content())
}

/// `POST /Sessions/Viewing?sessionId=&itemId=`: what the caller's own client shows, or that of any session it names.
pub(crate) fn viewing(call: &Call) -> Answer {
    let named = call.query.get("sessionId").filter(|id| !id.is_empty());
    let Some(id) = named.or_else(|| call.touch_session()) else {
        return Answer::problem(StatusCode::BAD_REQUEST);
    };
    let item = call.query.get("itemId").and_then(|id| plain(&id)).unwrap_or_default();
    let mut guard = call.life().memory();
    let memory = &mut *guard;
    let shown = memory.caches.by_id(&call.life().shared.cluster, &item);
    let shown = shown.map(|item| item_dto::playing(&item.row, call.settings()));
    match memory.sessions.get_mut(&id) {
        None => return Answer::error(StatusCode::NOT_FOUND),
        Some(session) => session.viewing = shown,
    }
    memory.sessions.note_change();
    Answer::no_content()
}

fn send(call: &Call, kind: &'static str, data: Value) -> Answer {
    call.touch_session();
    let memory = call.life().memory();
    match memory.sessions.get(call.captured(0)) {
        None => Answer::error(StatusCode::NOT_FOUND),
        Some(session) => {
            session.send(kind, data);
            Answer::no_content()
        }
    }
}
