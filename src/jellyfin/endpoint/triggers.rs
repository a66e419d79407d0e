//! What sets the triggers of a scheduled task.

use http::Method;

use super::{is, segments};

/// The task whose triggers `POST /ScheduledTasks/{id}/Triggers` sets.
pub fn triggers_of<'a>(method: &Method, path: &'a str) -> Option<&'a str> {
    let mut segments = segments(path);
    let first = segments.next().filter(|first| method == Method::POST && is(first, "ScheduledTasks"));
    let (_, task, last, end) = (first?, segments.next()?, segments.next()?, segments.next());
    (is(last, "Triggers") && end.is_none()).then_some(task)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_task_is_named_by_the_path() {
        for (method, path, task) in [
            (Method::POST, "/ScheduledTasks/7738/Triggers", Some("7738")),
            (Method::POST, "/scheduledtasks/7738/triggers", Some("7738")),
            (Method::GET, "/ScheduledTasks/7738/Triggers", None),
            (Method::POST, "/ScheduledTasks/7738/Triggers/1", None),
            (Method::POST, "/ScheduledTasks/Running/7738", None),
            (Method::POST, "/ScheduledTasks/7738", None),
        ] {
            assert_eq!(triggers_of(&method, path), task, "{method} {path}");
        }
    }
}
