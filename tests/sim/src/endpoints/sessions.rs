//! The caller's own session: the list, capabilities, log-out.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::call::{Call, Caller};
use crate::devices::Ended;
use crate::session_rights::{Asker, Wanted, is_shown};

/// `GET /Sessions?controllableByUserId=&deviceId=&activeWithinSeconds=`; the sessions of this pod only. It makes no session
/// of its caller.
pub(crate) fn list(call: &Call) -> Answer {
    let asker = match (&call.caller, call.user()) {
        (Caller::ApiKey { .. }, _) => Asker::ApiKey,
        (_, Some(user)) => Asker::User(user),
        _ => return Answer::json(&json!([])),
    };
    let controller = match call.query.get("controllableByUserId") {
        None => None,
        Some(named) => match call.acts_for(Some(&named)) {
            Ok(user) => Some(user),
            // A user who is not there controls nothing.
            Err(refusal) if refusal.status == StatusCode::NOT_FOUND => return Answer::json(&json!([])),
            Err(refusal) => return *refusal,
        },
    };
    let device = call.query.get("deviceId");
    let seconds = call.query.get("activeWithinSeconds").map(|text| text.parse::<i32>().map_err(|_| text));
    let seconds = match seconds.transpose() {
        Ok(seconds) => seconds.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0),
        Err(text) => return Answer::invalid("activeWithinSeconds", &text),
    };
    let wanted = Wanted {
        device_id: device.as_deref(),
        active_within: seconds.map(Duration::from_secs),
        controllable_by: controller.as_ref(),
    };
    call.life().expire_sessions();
    let memory = call.life().memory();
    let shown = memory.sessions.all().into_iter().filter(|session| is_shown(session, asker, wanted));
    Answer::json(&shown.map(|session| session.dto(call.settings())).collect())
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

/// Keeps them for the caller's own session, or for any that `id` names.
fn keep(call: &Call, capabilities: Value) -> Answer {
    let named = call.query.get("id").filter(|id| !id.is_empty());
    let Some(id) = named.or_else(|| call.touch_session()) else {
        return Answer::problem(StatusCode::BAD_REQUEST);
    };
    let mut memory = call.life().memory();
    let Some(session) = memory.sessions.get_mut(&id) else {
        return Answer::error(StatusCode::NOT_FOUND);
    };
    session.capabilities = Some(capabilities.clone());
    let device = session.client_headers.device_id.clone();
    memory.capabilities.insert(device, capabilities);
    memory.sessions.note_change();
    Answer::no_content()
}
