//! What a socket has asked to be sent again and again: `SessionsStart` and its like.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::pod::Life;
use crate::scheduled_tasks;

/// The lists that a socket listens to.
#[derive(Debug)]
pub(super) struct Listeners {
    changes: watch::Receiver<u64>,
    sessions: Option<Listening>,
    /// `ScheduledTasksInfoStart` and `ActivityLogEntryStart`: each change is told at once.
    tasks: Subscription,
    activity: Subscription,
    /// The activity log is for administrators; an API key is no user.
    may_read_activity: bool,
}

/// Something that a socket is told of while it listens. Counted are this process's own changes.
#[derive(Debug)]
struct Subscription {
    changes: watch::Receiver<u64>,
    is_wanted: bool,
}

impl Subscription {
    fn want(&mut self, is_wanted: bool) {
        // Nothing is sent until something changes.
        self.changes.mark_unchanged();
        self.is_wanted = is_wanted;
    }

    async fn changed(&mut self) {
        if !self.is_wanted || self.changes.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

/// One list: sent at once when it changes, and again after each interval while something plays.
#[derive(Debug)]
struct Listening {
    interval: Duration,
    due: Option<Instant>,
}

/// The least interval; what a client asks for below it would only spin.
const LEAST: Duration = Duration::from_millis(10);

impl Listeners {
    pub(super) fn new(life: &Life, may_read_activity: bool) -> Listeners {
        let memory = life.memory();
        let told = |changes| Subscription { changes, is_wanted: false };
        Listeners {
            changes: memory.sessions.changes(),
            sessions: None,
            tasks: told(memory.tasks.changes()),
            activity: told(memory.activity_changes.subscribe()),
            may_read_activity,
        }
    }

    /// Takes a message of the client. `Data` is "first delay,interval" in milliseconds.
    pub(super) fn take(&mut self, kind: &str, data: &str) {
        let (_, interval) = data.split_once(',').unwrap_or(("0", data));
        let time = |text: &str| Duration::from_millis(text.trim().parse().unwrap_or(0));
        let interval = time(interval).max(LEAST);
        match kind {
            "SessionsStart" => {
                self.changes.mark_unchanged();
                self.sessions = Some(Listening { interval, due: None });
            }
            "SessionsStop" => self.sessions = None,
            "ScheduledTasksInfoStart" => self.tasks.want(true),
            "ScheduledTasksInfoStop" => self.tasks.want(false),
            "ActivityLogEntryStart" if self.may_read_activity => self.activity.want(true),
            "ActivityLogEntryStop" => self.activity.want(false),
            _ => {}
        }
    }

    /// Waits until a list is to be sent and gives the kind of its message. Cancel safe: nothing is taken before the end.
    pub(super) async fn due(&mut self) -> &'static str {
        tokio::select! {
            () = self.tasks.changed() => "ScheduledTasksInfo",
            () = self.activity.changed() => "ActivityLogEntry",
            () = sessions_due(&mut self.changes, &mut self.sessions) => "Sessions",
        }
    }

    /// Something plays: its position changes with each `tick`, and the first one after the interval is sent.
    pub(super) fn send_again(&mut self, tick: Duration) {
        if let Some(sessions) = &mut self.sessions {
            let ticks = sessions.interval.as_nanos().div_ceil(tick.as_nanos().max(1));
            sessions.due = Some(Instant::now() + tick * u32::try_from(ticks).unwrap_or(u32::MAX));
        }
    }
}

/// Waits until the list of sessions is to be sent.
async fn sessions_due(changes: &mut watch::Receiver<u64>, sessions: &mut Option<Listening>) {
    let Some(sessions) = sessions else {
        return std::future::pending().await;
    };
    let again = async {
        match sessions.due {
            Some(due) => sleep_until(due).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        changed = changes.changed() => {
            if changed.is_err() {
                std::future::pending::<()>().await;
            }
        }
        () = again => {}
    }
    sessions.due = None;
}

/// What a list says now, to one user or for `None` to an administrator.
pub(super) fn data(life: &Life, kind: &str, user_id: Option<&str>) -> Value {
    match kind {
        "Sessions" => {
            let memory = life.memory();
            let sessions = memory.sessions.told_to(user_id).into_iter();
            sessions.map(|session| session.dto(&life.shared.settings)).collect()
        }
        "ScheduledTasksInfo" => scheduled_tasks::shown(life),
        // `ActivityLogWebSocketListener` sends no entry: the client is to read the log again.
        _ => json!([]),
    }
}
