//! Scheduled tasks: each pod has its own triggers, and runs its own.

use http::StatusCode;
use serde_json::Value;

use crate::answer::Answer;
use crate::call::Call;
use crate::scheduled_tasks::{dto, exists, shown};

/// `GET /ScheduledTasks`.
pub(crate) fn list(call: &Call) -> Answer {
    Answer::json(&shown(call.life()))
}

/// `GET /ScheduledTasks/{id}`.
pub(crate) fn one(call: &Call) -> Answer {
    match dto(call.life(), call.captured(0)) {
        Value::Null => Answer::problem(StatusCode::NOT_FOUND),
        task => Answer::json(&task),
    }
}

/// `POST /ScheduledTasks/{id}/Triggers` with the list of them.
pub(crate) fn set_triggers(call: &Call) -> Answer {
    let (id, triggers) = (call.captured(0), call.json());
    if !exists(id) {
        return Answer::problem(StatusCode::NOT_FOUND);
    }
    if !triggers.is_array() {
        return Answer::problem(StatusCode::BAD_REQUEST);
    }
    call.life().shared.disk.files().triggers.insert(id.to_owned(), triggers.clone());
    call.life().memory().tasks.triggers.insert(id.to_owned(), triggers);
    Answer::no_content()
}

/// `POST /ScheduledTasks/Running/{id}`: a task ends at once, unless the test holds tasks.
pub(crate) fn run(call: &Call) -> Answer {
    let id = call.captured(0);
    if !exists(id) {
        return Answer::problem(StatusCode::NOT_FOUND);
    }
    let mut memory = call.life().memory();
    memory.tasks.begin(id);
    if !call.life().shared.controls.tasks_held() {
        memory.tasks.end(id);
    }
    Answer::no_content()
}

/// `DELETE /ScheduledTasks/Running/{id}`.
pub(crate) fn stop(call: &Call) -> Answer {
    let id = call.captured(0);
    if !exists(id) {
        return Answer::problem(StatusCode::NOT_FOUND);
    }
    call.life().memory().tasks.end(id);
    Answer::no_content()
}
