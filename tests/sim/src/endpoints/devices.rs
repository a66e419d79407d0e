//! `/Devices`: the devices with a token, as this pod knows them.

use http::StatusCode;
use serde_json::json;

use crate::answer::Answer;
use crate::call::Call;
use crate::cluster::DeviceRow;
use crate::devices::Ended;
use crate::generation::Generation;
use crate::sessions::no_capabilities;

/// `GET /Devices?userId=`, the last active first. A device whose user another pod has deleted breaks the whole list, until this
/// pod restarts (`DeviceManager.ToDeviceInfo`).
pub(crate) fn list(call: &Call) -> Answer {
    let only = match call.query.get("userId").filter(|named| !named.is_empty()) {
        None => None,
        Some(named) => match call.acts_for(Some(&named)) {
            Ok(user) => Some(user),
            Err(refusal) => return *refusal,
        },
    };
    let memory = call.life().memory();
    let mut rows = memory.devices.find(|_| true);
    rows.sort_by(|one, other| other.last_activity.cmp(&one.last_activity));
    let cluster = &call.life().shared.cluster;
    let may_use = |row: &DeviceRow| only.as_ref().is_none_or(|user| user.may_use_device(&row.device_id));
    let mut devices = Vec::new();
    for row in rows.iter().filter(|row| may_use(row)) {
        let Some(user) = cluster.read(|database| database.user(&row.user_id).map(|user| user.name.clone())) else {
            return Answer::error(StatusCode::NOT_FOUND);
        };
        devices.push(json!({
            "Name": row.device,
            "Id": row.device_id,
            "LastUserName": user,
            "AppName": row.client,
            "AppVersion": row.version,
            "LastUserId": row.user_id,
            "DateLastActivity": row.last_activity,
            "Capabilities": memory.capabilities.get(&row.device_id).cloned().unwrap_or_else(no_capabilities),
        }));
    }
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
    let is_orphan = |row: &DeviceRow| {
        ids.contains(&row.device_id.as_str())
            && call.life().shared.cluster.read(|database| database.user(&row.user_id).is_none())
    };
    if !memory.devices.find(is_orphan).is_empty() {
        return Answer::error(StatusCode::NOT_FOUND);
    }
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
