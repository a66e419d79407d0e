//! The caller's own session: the list, capabilities, log-out.

use http::StatusCode;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::call::{Call, Caller};
use crate::devices::Ended;

/// `GET /Sessions`; the sessions of this pod only, and for a user who is no administrator only the user's own.
pub(crate) fn list(call: &Call) -> Answer {
    let settings = call.settings();
    let own = call.user().filter(|user| !user.administrator).map(|user| user.id.clone());
    let device = call.query.get("deviceId");
    call.life().expire_sessions();
    let memory = call.life().memory();
    let sessions = memory.sessions.seen_by(own.as_deref()).into_iter();
    let of_device =
        sessions.filter(|session| device.as_ref().is_none_or(|device| *device == session.client_headers.device_id));
    Answer::json(&of_device.map(|session| session.dto(settings)).collect())
}

/// `POST /Sessions/Logout`: ends the caller's own token.
pub(crate) fn log_out(call: &Call) -> Answer {
    let Caller::User { row, .. } = &call.caller else {
        return Answer::no_content();
    };
    let mut guard = call.life().memory();
    let memory = &mut *guard;
    let ended =
        memory.devices.end(&call.life().shared.cluster, std::slice::from_ref(&**row), call.settings().generation);
    for session in memory.sessions.end_device(&row.device_id) {
        memory.sync_play.session_ended(&memory.sessions, &session);
    }
    match ended {
        Ended::Cleanly => Answer::no_content(),
        Ended::WithError => Answer::error(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// `POST /Sessions/Capabilities?playableMediaTypes=&supportedCommands=&supportsMediaControl=`.
pub(crate) fn capabilities(call: &Call) -> Answer {
    let list = |name| -> Vec<String> {
        let text = call.query.get(name).unwrap_or_default();
        text.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    keep(
        call,
        json!({
            "PlayableMediaTypes": list("playableMediaTypes"),
            "SupportedCommands": list("supportedCommands"),
            "SupportsMediaControl": call.query.is_true("supportsMediaControl"),
            "SupportsPersistentIdentifier": call.query.get("supportsPersistentIdentifier").is_none_or(|value| value != "false"),
        }),
    )
}

/// `POST /Sessions/Capabilities/Full`.
pub(crate) fn full_capabilities(call: &Call) -> Answer {
    let Value::Object(given) = call.json() else {
        return Answer::problem(StatusCode::BAD_REQUEST);
    };
    let mut capabilities = json!({
        "PlayableMediaTypes": [],
        "SupportedCommands": [],
        "SupportsMediaControl": false,
        "SupportsPersistentIdentifier": false,
    });
    for (name, value) in given {
        capabilities[name] = value;
    }
    keep(call, capabilities)
}

fn keep(call: &Call, capabilities: Value) -> Answer {
    let (Some(session), Some(client)) = (call.touch_session(), call.client()) else {
        return Answer::problem(StatusCode::BAD_REQUEST);
    };
    let mut memory = call.life().memory();
    memory.capabilities.insert(client.device_id, capabilities.clone());
    if let Some(session) = memory.sessions.get_mut(&session) {
        session.capabilities = Some(capabilities);
    }
    memory.sessions.note_change();
    Answer::no_content()
}

pub(crate) fn viewing(call: &Call) -> Answer {
    call.touch_session();
    Answer::no_content()
}
