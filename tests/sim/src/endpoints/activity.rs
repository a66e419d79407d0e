//! What the dashboard asks for: the activity log and the scheduled tasks, both empty.

use serde_json::json;

use crate::answer::Answer;
use crate::call::Call;

pub(crate) fn entries(_: &Call) -> Answer {
    Answer::json(&json!({"Items": [], "TotalRecordCount": 0, "StartIndex": 0}))
}

pub(crate) fn tasks(_: &Call) -> Answer {
    Answer::json(&json!([]))
}
