//! `/Devices`: the devices with a token, as this pod knows them, and the names that administrators gave them.

use http::StatusCode;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::call::Call;
use crate::cluster::DeviceRow;
use crate::devices::Ended;
use crate::generation::Generation;
use crate::memory::Memory;
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
    rows.sort_by(|one, other| other.last_activity.cmp(&one.last_activity).then(one.device_id.cmp(&other.device_id)));
    let may_use = |row: &DeviceRow| only.as_ref().is_none_or(|user| user.may_use_device(&row.device_id));
    let devices: Option<Vec<Value>> =
        rows.iter().filter(|row| may_use(row)).map(|row| dto(call, &memory, row)).collect();
    match devices {
        Some(devices) => Answer::json(&json!({"Items": devices, "TotalRecordCount": devices.len(), "StartIndex": 0})),
        None => Answer::error(StatusCode::NOT_FOUND),
    }
}

/// `GET /Devices/Info?id=`: the device as its last active user has it.
pub(crate) fn info(call: &Call) -> Answer {
    let Some(id) = call.query.get("id") else { return Answer::problem(StatusCode::BAD_REQUEST) };
    let memory = call.life().memory();
    let rows = memory.devices.find(|row| row.device_id == id);
    match rows.iter().max_by(|one, other| one.last_activity.cmp(&other.last_activity)) {
        Some(row) => {
            dto(call, &memory, row).map_or_else(|| Answer::error(StatusCode::NOT_FOUND), |dto| Answer::json(&dto))
        }
        None => Answer::problem(StatusCode::NOT_FOUND),
    }
}

/// `GET /Devices/Options?id=`: the name that an administrator gave the device.
pub(crate) fn options(call: &Call) -> Answer {
    let Some(id) = call.query.get("id") else { return Answer::problem(StatusCode::BAD_REQUEST) };
    match call.life().memory().device_names.get(&id) {
        Some(name) => Answer::json(&json!({"Id": 1, "DeviceId": id, "CustomName": name})),
        None => Answer::problem(StatusCode::NOT_FOUND),
    }
}

/// `POST /Devices/Options?id=`: in the database and in this process's memory, which others do not read again.
pub(crate) fn set_options(call: &Call) -> Answer {
    let Some(id) = call.query.get("id") else { return Answer::problem(StatusCode::BAD_REQUEST) };
    let name = call.property("CustomName").and_then(|name| name.as_str().map(str::to_owned));
    call.life().shared.cluster.change(|database| database.device_names.insert(id.clone(), name.clone()));
    call.life().memory().device_names.insert(id, name);
    Answer::no_content()
}

/// `None` if the user is gone (`DeviceManager.ToDeviceInfo`).
fn dto(call: &Call, memory: &Memory, row: &DeviceRow) -> Option<Value> {
    let cluster = &call.life().shared.cluster;
    let user = cluster.read(|database| database.user(&row.user_id).map(|user| user.name.clone()))?;
    let mut dto = json!({
        "Name": row.device,
        "Id": row.device_id,
        "LastUserName": user,
        "AppName": row.client,
        "AppVersion": row.version,
        "LastUserId": row.user_id,
        "DateLastActivity": row.last_activity,
        "Capabilities": memory.capabilities.get(&row.device_id).cloned().unwrap_or_else(no_capabilities),
    });
    if let Some(Some(name)) = memory.device_names.get(&row.device_id) {
        dto["CustomName"] = json!(name);
    }
    Some(dto)
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
