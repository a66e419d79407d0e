//! The tasks whose triggers clients have set at the leader.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::pod::PodId;

/// Edits that nobody has looked at yet. Of more, only that there are some is known.
const MOST: usize = 1024;

/// Tasks, each with the number of its latest edit. No two edits have the same number.
pub type Edits = BTreeMap<String, u64>;

/// What clients have set at the pod that leads, until it is looked at.
#[derive(Debug, Default)]
pub struct TaskEdits {
    /// Whether somebody looks.
    are_wanted: AtomicBool,
    made: Mutex<Made>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Made {
    latest: u64,
    tasks: BTreeMap<(PodId, String), u64>,
}

impl TaskEdits {
    /// Says whether edits are kept from now on.
    pub fn want(&self, are_wanted: bool) {
        self.are_wanted.store(are_wanted, Ordering::Relaxed);
    }

    /// The pod that leads has taken a client's triggers for a task.
    pub fn record(&self, leader: PodId, task: &str) {
        if !self.are_wanted.load(Ordering::Relaxed) {
            return;
        }
        let mut made = self.made.lock();
        made.latest += 1;
        let (latest, of_task) = (made.latest, (leader, task.to_ascii_lowercase()));
        if made.tasks.len() < MOST || made.tasks.contains_key(&of_task) {
            made.tasks.insert(of_task, latest);
        }
        drop(made);
        self.news.notify_one();
    }

    /// The tasks that were set at the pod that leads. What was set elsewhere is forgotten: that pod
    /// leads no more, and may be emptied before it leads again.
    pub fn at_leader(&self, leader: Option<PodId>) -> Edits {
        let mut made = self.made.lock();
        made.tasks.retain(|(at, _), _| Some(*at) == leader);
        made.tasks.iter().map(|((_, task), number)| (task.clone(), *number)).collect()
    }

    /// These were looked at. What was set once more since then stays.
    pub fn forget(&self, edits: &Edits, leader: PodId) {
        self.made.lock().tasks.retain(|(at, task), number| *at != leader || edits.get(task) != Some(number));
    }

    /// Ends when there is a new edit. Cancel safe.
    pub async fn news(&self) {
        self.news.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::{Pod, PodConfig};

    fn pod(name: &str) -> PodId {
        Pod::new(
            &"main".into(),
            &PodConfig { name: name.to_owned(), authority: "10.0.0.1:8096".to_owned(), ..Default::default() },
        )
        .id
    }

    fn tasks(edits: &Edits) -> Vec<&str> {
        edits.keys().map(String::as_str).collect()
    }

    #[test]
    fn an_edit_at_a_pod_that_leads_no_more_is_forgotten_though_it_leads_again() {
        let (edits, a, b) = (TaskEdits::default(), pod("a"), pod("b"));
        edits.record(a, "scan");
        assert!(edits.at_leader(Some(a)).is_empty(), "nobody wants to know");
        edits.want(true);
        edits.record(a, "Scan");
        assert_eq!(tasks(&edits.at_leader(Some(a))), ["scan"]);
        assert!(edits.at_leader(Some(b)).is_empty());
        assert!(edits.at_leader(Some(a)).is_empty());
        edits.record(b, "scan");
        assert!(edits.at_leader(None).is_empty() && edits.at_leader(Some(b)).is_empty());
    }

    #[test]
    fn a_second_edit_during_a_look_outlives_it() {
        let (edits, a) = (TaskEdits::default(), pod("a"));
        edits.want(true);
        edits.record(a, "scan");
        edits.record(a, "clean");
        let seen = edits.at_leader(Some(a));
        edits.record(a, "scan");
        assert_ne!(edits.at_leader(Some(a)), seen, "another edit of the same task is news");
        edits.forget(&seen, a);
        assert_eq!(tasks(&edits.at_leader(Some(a))), ["scan"]);
    }
}
