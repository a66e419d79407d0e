//! Scheduled tasks: each pod has its own triggers.

use http::StatusCode;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::call::Call;

/// The tasks by id: name, key, description, category, and how often they run by default, in ticks.
const TASKS: [(&str, &str, &str, &str, &str, u64); 2] = [
    (
        "7738148ffcd07979c7ceb148e06b3aed",
        "Scan Media Library",
        "RefreshLibrary",
        "Scans your media library for new files and refreshes metadata.",
        "Library",
        432_000_000_000,
    ),
    (
        "4e6637c832ed644d1af3370a2506e80a",
        "Clean Cache Directory",
        "DeleteCacheFiles",
        "Deletes cache files no longer needed by the system.",
        "Maintenance",
        864_000_000_000,
    ),
];

/// `GET /ScheduledTasks`.
pub(crate) fn list(call: &Call) -> Answer {
    Answer::json(&TASKS.iter().map(|task| dto(call, task.0)).collect())
}

/// `GET /ScheduledTasks/{id}`.
pub(crate) fn one(call: &Call) -> Answer {
    match dto(call, call.captured(0)) {
        Value::Null => Answer::problem(StatusCode::NOT_FOUND),
        task => Answer::json(&task),
    }
}

/// `POST /ScheduledTasks/{id}/Triggers` with the list of them.
pub(crate) fn set_triggers(call: &Call) -> Answer {
    let (id, triggers) = (call.captured(0), call.json());
    if !TASKS.iter().any(|task| task.0 == id) {
        return Answer::problem(StatusCode::NOT_FOUND);
    }
    if !triggers.is_array() {
        return Answer::problem(StatusCode::BAD_REQUEST);
    }
    call.life().shared.disk.files().triggers.insert(id.to_owned(), triggers);
    Answer::no_content()
}

/// `POST` and `DELETE /ScheduledTasks/Running/{id}`: nothing runs here for long.
pub(crate) fn run(call: &Call) -> Answer {
    match TASKS.iter().any(|task| task.0 == call.captured(0)) {
        true => Answer::no_content(),
        false => Answer::problem(StatusCode::NOT_FOUND),
    }
}

/// `TaskInfo`.
fn dto(call: &Call, id: &str) -> Value {
    let Some((_, name, key, description, category, interval)) = TASKS.iter().find(|task| task.0 == id) else {
        return Value::Null;
    };
    let by_default = || json!([{"Type": "IntervalTrigger", "IntervalTicks": interval}]);
    let triggers = call.life().shared.disk.files().triggers.get(id).cloned().unwrap_or_else(by_default);
    json!({
        "Name": name,
        "State": "Idle",
        "Id": id,
        "LastExecutionResult": {
            "StartTimeUtc": "2026-11-01T10:00:00.0000000Z",
            "EndTimeUtc": "2026-11-01T10:00:01.0000000Z",
            "Status": "Completed",
            "Name": name,
            "Key": key,
            "Id": id,
        },
        "Triggers": triggers,
        "Description": description,
        "Category": category,
        "IsHidden": false,
        "Key": key,
    })
}
