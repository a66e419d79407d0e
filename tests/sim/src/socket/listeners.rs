//! What a socket has asked to be sent again and again: `SessionsStart` and its like.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::pod::Life;

/// The lists that a socket listens to.
#[derive(Debug)]
pub(super) struct Listeners {
    changes: watch::Receiver<u64>,
    sessions: Option<Listening>,
    tasks: Option<Listening>,
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
    pub(super) fn new(changes: watch::Receiver<u64>) -> Listeners {
        Listeners { changes, sessions: None, tasks: None }
    }

    /// Takes a message of the client. `Data` is "first delay,interval" in milliseconds.
    pub(super) fn take(&mut self, kind: &str, data: &str) {
        let (delay, interval) = data.split_once(',').unwrap_or(("0", data));
        let time = |text: &str| Duration::from_millis(text.trim().parse().unwrap_or(0));
        let interval = time(interval).max(LEAST);
        match kind {
            "SessionsStart" => {
                self.changes.mark_unchanged();
                self.sessions = Some(Listening { interval, due: None });
            }
            "SessionsStop" => self.sessions = None,
            // Tasks never run here: the list is sent once. The activity log stays empty: nothing is ever sent.
            "ScheduledTasksInfoStart" => {
                self.tasks = Some(Listening { interval, due: Some(Instant::now() + time(delay)) })
            }
            "ScheduledTasksInfoStop" => self.tasks = None,
            _ => {}
        }
    }

    /// Waits until a list is to be sent and gives the kind of its message. Cancel safe: nothing is taken before the end.
    pub(super) async fn due(&mut self) -> &'static str {
        if let Some(tasks) = &mut self.tasks
            && let Some(due) = tasks.due
        {
            sleep_until(due).await;
            tasks.due = None;
            return "ScheduledTasksInfo";
        }
        let Some(sessions) = &mut self.sessions else {
            return std::future::pending().await;
        };
        let again = async {
            match sessions.due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = self.changes.changed() => {
                if changed.is_err() {
                    std::future::pending::<()>().await;
                }
            }
            () = again => {}
        }
        sessions.due = None;
        "Sessions"
    }

    /// Something plays: its position changes with each `tick`, and the first one after the interval is sent.
    pub(super) fn send_again(&mut self, tick: Duration) {
        if let Some(sessions) = &mut self.sessions {
            let ticks = sessions.interval.as_nanos().div_ceil(tick.as_nanos().max(1));
            sessions.due = Some(Instant::now() + tick * u32::try_from(ticks).unwrap_or(u32::MAX));
        }
    }
}

/// What a list says now, to one user or for `None` to an administrator.
pub(super) fn data(life: &Life, kind: &str, user_id: Option<&str>) -> Value {
    match kind {
        "Sessions" => {
            let memory = life.memory();
            let sessions = memory.sessions.told_to(user_id).into_iter();
            sessions.map(|session| session.dto(&life.shared.settings)).collect()
        }
        _ => json!([]),
    }
}
