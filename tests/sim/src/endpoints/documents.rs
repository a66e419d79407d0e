//! Configuration: `/System/Configuration[/{key}]`, branding, and a plug-in's own.

use http::StatusCode;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::call::Call;
use crate::documents::{PLUGIN, Refused, SYSTEM};
use crate::identifiers::{dashed, plain};

/// `GET /System/Configuration`.
pub(crate) fn system(call: &Call) -> Answer {
    read(call, SYSTEM)
}

/// `POST /System/Configuration`.
pub(crate) fn set_system(call: &Call) -> Answer {
    write(call, SYSTEM)
}

/// `GET /System/Configuration/{key}`.
pub(crate) fn named(call: &Call) -> Answer {
    read(call, call.captured(0))
}

/// `POST /System/Configuration/{key}`.
pub(crate) fn set_named(call: &Call) -> Answer {
    write(call, call.captured(0))
}

/// `GET /Branding/Configuration`, before any log-in.
pub(crate) fn branding(call: &Call) -> Answer {
    read(call, "branding")
}

/// `GET /Repositories`: a part of the server's own document.
pub(crate) fn repositories(call: &Call) -> Answer {
    let documents = call.life().shared.documents();
    Answer::json(documents.get(SYSTEM).and_then(|system| system.get("PluginRepositories")).unwrap_or(&Value::Null))
}

/// `POST /Repositories` with all of them.
pub(crate) fn set_repositories(call: &Call) -> Answer {
    let (shared, given) = (&call.life().shared, call.json());
    let mut documents = shared.documents();
    let (true, Some(mut system)) = (given.is_array(), documents.get(SYSTEM).cloned()) else {
        return Answer::problem(StatusCode::BAD_REQUEST);
    };
    system["PluginRepositories"] = given;
    match documents.replace(&shared.disk, call.settings(), SYSTEM, &system) {
        Ok(()) => Answer::no_content(),
        Err(_) => Answer::error(StatusCode::NOT_FOUND),
    }
}

/// `GET /Plugins`.
pub(crate) fn plugins(_: &Call) -> Answer {
    Answer::json(&json!([{
        "Name": "Studio Images", "Version": "12.0.0.0", "ConfigurationFileName": "Jellyfin.Plugin.StudioImages.xml",
        "Description": "", "Id": PLUGIN, "CanUninstall": false, "HasImage": false, "Status": "Active",
    }]))
}

/// `GET /Plugins/{id}/Configuration`.
pub(crate) fn plugin(call: &Call) -> Answer {
    match plain(call.captured(0)) {
        Some(id) if id == PLUGIN => read(call, PLUGIN),
        _ => Answer::problem(StatusCode::NOT_FOUND),
    }
}

/// `POST /Plugins/{id}/Configuration`.
pub(crate) fn set_plugin(call: &Call) -> Answer {
    match plain(call.captured(0)) {
        Some(id) if dashed(&id) == dashed(PLUGIN) => write(call, PLUGIN),
        _ => Answer::problem(StatusCode::NOT_FOUND),
    }
}

/// What is null is left out.
fn read(call: &Call, key: &str) -> Answer {
    match call.life().shared.documents().get(key) {
        Some(Value::Object(document)) => {
            let shown = document.iter().filter(|(_, value)| !value.is_null());
            Answer::json(&Value::Object(shown.map(|(name, value)| (name.clone(), value.clone())).collect()))
        }
        _ => Answer::error(StatusCode::NOT_FOUND),
    }
}

fn write(call: &Call, key: &str) -> Answer {
    let shared = &call.life().shared;
    let given = call.json();
    match shared.documents().replace(&shared.disk, call.settings(), key, &given) {
        Ok(()) => Answer::no_content(),
        Err(Refused::Malformed) => Answer::problem(StatusCode::BAD_REQUEST),
        Err(Refused::Unknown | Refused::NoSuchFolder) => Answer::error(StatusCode::NOT_FOUND),
    }
}
