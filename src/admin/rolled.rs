//! How far the restart of all pods is, as JSON.

use serde::Serialize;

use crate::proxy::Roll;

/// One pool's last roll.
#[derive(Serialize)]
pub(super) struct RollPage {
    pool: String,
    /// `running`, `done` or `stopped`.
    state: &'static str,
    pods: Vec<RolledPod>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<Trouble>,
}

#[derive(Serialize)]
struct RolledPod {
    name: String,
    step: &'static str,
}

/// The pod at which it stopped.
#[derive(Serialize)]
struct Trouble {
    pod: String,
    why: String,
}

impl RollPage {
    pub(super) fn of(pool: &str, roll: &Roll) -> RollPage {
        let state = match (&roll.trouble, roll.is_over) {
            (Some(_), _) => "stopped",
            (None, true) => "done",
            (None, false) => "running",
        };
        let pods = roll.pods.iter().map(|(name, step)| RolledPod { name: name.to_string(), step: step.as_str() });
        let trouble = roll.trouble.as_ref().map(|(pod, why)| Trouble { pod: pod.to_string(), why: why.clone() });
        RollPage { pool: pool.to_owned(), state, pods: pods.collect(), trouble }
    }
}
