//! `/Devices`: the devices with a token, as this pod knows them.

use http::StatusCode;
use serde_json::json;

use crate::answer::Answer;
use crate::call::Call;
use crate::clock;
use crate::devices::Ended;
use crate::generation::Generation;

pub(crate) fn list(call: &Call) -> Answer {
    let rows = call.life().memory().devices.find(|_| true);
    let cluster = &call.life().shared.cluster;
    let devices: Vec<_> = rows
        .iter()
        .map(|row| {
            let user = cluster.read(|database| database.user(&row.user_id).map(|user| user.name.clone()));
            json!({
                "Name": row.device,
                "Id": row.device_id,
                "LastUserName": user,
                "AppName": row.client,
                "AppVersion": row.version,
                "LastUserId": row.user_id,
                "DateLastActivity": clock::now(),
                "Capabilities": {},
            })
        })
        .collect();
    Answer::json(&json!({"TotalRecordCount": devices.len(), "StartIndex": 0, "Items": devices}))
}

/// `DELETE /Devices?id=…[&id=…]`: a device that this pod does not know is an error, which 12.0 and 10.11 name differently. 12.0 takes a
/// list, and an empty one; 10.11 takes one id.
pub(crate) fn delete(call: &Call) -> Answer {
    let mut ids = call.query.all("id");
    ids.retain(|id| !id.is_empty());
    if call.settings().generation == Generation::V10_11 {
        ids.truncate(1);
        if ids.is_empty() {
            return Answer::problem(StatusCode::BAD_REQUEST);
        }
    }
    let mut guard = call.life().memory();
    let memory = &mut *guard;
    let known = |id: &&str| !memory.devices.find(|row| row.device_id == *id).is_empty();
    if !ids.iter().all(known) {
        return Answer::problem(match call.settings().generation {
            Generation::V12 => StatusCode::BAD_REQUEST,
            Generation::V10_11 => StatusCode::NOT_FOUND,
        });
    }
    let rows = memory.devices.find(|row| ids.contains(&row.device_id.as_str()));
    let ended = memory.devices.end(&call.life().shared.cluster, &rows, call.settings().generation);
    for id in ids {
        for session in memory.sessions.end_device(id) {
            memory.sync_play.session_ended(&memory.sessions, &session);
        }
    }
    match ended {
        Ended::Cleanly => Answer::no_content(),
        Ended::WithError => Answer::error(StatusCode::INTERNAL_SERVER_ERROR),
    }
}
