//! Scheduled tasks: each pod has its own triggers, and runs its own.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::clock;
use crate::pod::Life;

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

/// What runs in this process, and when each task last ended.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    /// The triggers that are not the default ones, by the task's id; read from the disk when the process begins.
    pub(crate) triggers: BTreeMap<String, Value>,
    running: BTreeSet<String>,
    ended: BTreeMap<String, String>,
    /// Counts beginnings and ends, of which sockets are told at once.
    changes: watch::Sender<u64>,
}

impl Tasks {
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(crate) fn begin(&mut self, id: &str) {
        if self.running.insert(id.to_owned()) {
            self.changes.send_modify(|count| *count += 1);
        }
    }

    pub(crate) fn end(&mut self, id: &str) {
        if self.running.remove(id) {
            self.ended.insert(id.to_owned(), clock::now());
            self.changes.send_modify(|count| *count += 1);
        }
    }

    /// Ends all that run.
    pub(crate) fn end_all(&mut self) {
        for id in std::mem::take(&mut self.running) {
            self.ended.insert(id, clock::now());
            self.changes.send_modify(|count| *count += 1);
        }
    }
}

/// Whether there is such a task.
pub(crate) fn exists(id: &str) -> bool {
    TASKS.iter().any(|task| task.0 == id)
}

/// The time of every trigger comes: each task that has one runs. Gives their ids.
pub(crate) fn come_due(life: &Life) -> Vec<String> {
    let has_trigger = |id: &str| dto(life, id)["Triggers"].as_array().is_some_and(|triggers| !triggers.is_empty());
    let due: Vec<String> = TASKS.iter().filter(|task| has_trigger(task.0)).map(|task| task.0.to_owned()).collect();
    let mut memory = life.memory();
    for id in &due {
        memory.tasks.begin(id);
        memory.tasks.end(id);
    }
    due
}

/// All tasks, by name as the message `ScheduledTasksInfo` and the list have them.
pub(crate) fn shown(life: &Life) -> Value {
    let mut tasks = TASKS;
    tasks.sort_by_key(|task| task.1);
    tasks.iter().map(|task| dto(life, task.0)).collect()
}

/// `TaskInfo`.
pub(crate) fn dto(life: &Life, id: &str) -> Value {
    let Some((_, name, key, description, category, interval)) = TASKS.iter().find(|task| task.0 == id) else {
        return Value::Null;
    };
    let by_default = || json!([{"Type": "IntervalTrigger", "IntervalTicks": interval}]);
    let memory = life.memory();
    let triggers = memory.tasks.triggers.get(id).cloned().unwrap_or_else(by_default);
    let state = if memory.tasks.running.contains(id) { "Running" } else { "Idle" };
    let ended = memory.tasks.ended.get(id).map_or("2026-11-01T10:00:01.0000000Z", String::as_str);
    json!({
        "Name": name,
        "State": state,
        "Id": id,
        "LastExecutionResult": {
            "StartTimeUtc": "2026-11-01T10:00:00.0000000Z",
            "EndTimeUtc": ended,
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
