//! Scheduled tasks: when each of them runs by itself.

use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

use super::{ApiCall, ApiResponse, encoded, field, status, text};

/// The ids of all tasks, hidden ones too, with their triggers. A task without any has an empty list.
pub fn triggers(key: &str) -> ApiCall<Vec<(String, Value)>> {
    let read = |response: ApiResponse| {
        let tasks = response.success().ok()?;
        let of_task =
            |task: &Value| Some((text(task, "Id")?, field(task, "Triggers").filter(|it| it.is_array())?.clone()));
        Some(tasks.as_array()?.iter().filter_map(of_task).collect())
    };
    ApiCall::get("/ScheduledTasks", read).with_token(key)
}

/// Gives a task these triggers in place of those that it has.
pub fn set_triggers(task: &str, triggers: &Value, key: &str) -> ApiCall<StatusCode> {
    let body = Bytes::from(triggers.to_string());
    ApiCall::post(format!("/ScheduledTasks/{}/Triggers", encoded(task)), status).with_token(key).with_body(body)
}
