//! Remote control: a call on another session becomes a message on its socket.

use http::StatusCode;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::call::{Call, property};
use crate::identifiers::plain;

const NOBODY: &str = "00000000000000000000000000000000";

/// `POST /Sessions/{id}/Message`.
pub(crate) fn message(call: &Call) -> Answer {
    let body = call.json();
    let mut arguments = json!({});
    for name in ["Header", "Text", "TimeoutMs"] {
        match property(&body, name) {
            Some(Value::String(text)) => arguments[name] = json!(text),
            Some(Value::Number(number)) => arguments[name] = json!(number.to_string()),
            _ => {}
        }
    }
    if arguments.get("Header").is_none() {
        arguments["Header"] = json!("Message from Server");
    }
    send(call, "GeneralCommand", json!({"Name": "DisplayMessage", "ControllingUserId": NOBODY, "Arguments": arguments}))
}

/// `POST /Sessions/{id}/Command/{name}` and `/System/{name}`.
pub(crate) fn command(call: &Call) -> Answer {
    let name = call.captured(1);
    send(call, "GeneralCommand", json!({"Name": name, "ControllingUserId": controller(call), "Arguments": {}}))
}

/// `POST /Sessions/{id}/Command`.
pub(crate) fn full_command(call: &Call) -> Answer {
    let body = call.json();
    let name = property(&body, "Name").cloned().unwrap_or_default();
    let arguments = property(&body, "Arguments").cloned().unwrap_or_else(|| json!({}));
    send(call, "GeneralCommand", json!({"Name": name, "ControllingUserId": controller(call), "Arguments": arguments}))
}

/// `POST /Sessions/{id}/Playing?playCommand=&itemIds=`.
pub(crate) fn play(call: &Call) -> Answer {
    let items = call.query.joined("itemIds").unwrap_or_default();
    let items: Vec<String> = items.split(',').filter_map(plain).collect();
    let command = call.query.get("playCommand").unwrap_or_else(|| "PlayNow".to_owned());
    let mut data = json!({"ItemIds": items, "PlayCommand": command, "ControllingUserId": controller(call)});
    if let Some(ticks) = call.query.number("startPositionTicks") {
        data["StartPositionTicks"] = json!(ticks);
    }
    send(call, "Play", data)
}

/// `POST /Sessions/{id}/Playing/{command}`.
pub(crate) fn play_state(call: &Call) -> Answer {
    let mut data = json!({"Command": call.captured(1), "ControllingUserId": controller(call)});
    if let Some(ticks) = call.query.number("seekPositionTicks") {
        data["SeekPositionTicks"] = json!(ticks);
    }
    send(call, "Playstate", data)
}

fn controller(call: &Call) -> &str {
    call.user().map_or(NOBODY, |user| &user.id)
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
