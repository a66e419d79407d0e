//! What an administrator's socket gets of the whole pool: new entries of the activity log, and tasks.
//!
//! A pod tells its own sockets what it does itself. The log is in the database, so any pod knows its
//! newest entry. Tasks run on the leader. One poll serves all sockets of a pool that listen. The
//! relay drops the same messages of their own pods, which would come twice or be of other tasks.

mod polls;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::watch, time};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::session_lists::feed::SessionWatch;
use crate::{
    jellyfin::{
        message::{self, Subject, Subscription},
        session_list::Viewer,
    },
    jitter,
    pod::Pod,
    sessions::board::BoardReader,
    websocket::OwnMessages,
};
pub(super) use polls::DashboardPolls;
use polls::News;

/// How often the pool is asked if a client does not say it.
const INTERVAL: Duration = Duration::from_millis(1500);

/// The pause after a pod has not said who a client is.
const AGAIN: Duration = Duration::from_secs(5);

/// What a socket's messages say about its subscriptions. The relay's two directions share it.
pub(super) struct DashboardWatch {
    polls: Arc<DashboardPolls>,
    pool: usize,
    /// Knows who the client is.
    sessions: Arc<SessionWatch>,
    activity: Series,
    tasks: Series,
}

/// One series of messages.
struct Series {
    /// The client's interval, and the pod at which it subscribed.
    wanted: watch::Sender<Option<(Duration, Arc<Pod>)>>,
    /// The client gets the news of the whole pool.
    is_replaced: AtomicBool,
}

/// What the client gets of both series.
pub(super) struct DashboardFeed {
    activity: SeriesFeed,
    tasks: SeriesFeed,
}

struct SeriesFeed {
    watch: Arc<DashboardWatch>,
    news: News,
    wanted: watch::Receiver<Option<(Duration, Arc<Pod>)>>,
    reader: Option<BoardReader<Bytes>>,
    seen: Option<Arc<Bytes>>,
}

impl DashboardWatch {
    /// For a socket whose client may see other pods.
    pub(super) fn new(polls: &Arc<DashboardPolls>, pool: usize, sessions: Arc<SessionWatch>) -> Arc<DashboardWatch> {
        let series = || Series { wanted: watch::Sender::new(None), is_replaced: AtomicBool::new(false) };
        Arc::new(DashboardWatch { polls: polls.clone(), pool, sessions, activity: series(), tasks: series() })
    }

    /// Reads a message of the client on its way to this pod.
    pub(super) fn read_from_client(&self, text: &str, pod: &Arc<Pod>) {
        let Some(subscription) = message::subscription(text) else { return };
        let (Subscription::Start(subject) | Subscription::Stop(subject)) = subscription;
        let series = match subject {
            Subject::ActivityLogEntry => &self.activity,
            Subject::ScheduledTasksInfo => &self.tasks,
            Subject::Sessions => return,
        };
        if subscription == Subscription::Start(subject) {
            let interval = message::interval(text).unwrap_or(INTERVAL);
            series.wanted.send_replace(Some((interval, pod.clone())));
        } else {
            series.is_replaced.store(false, Ordering::Relaxed);
            series.wanted.send_replace(None);
        }
    }

    /// Whether the client does not get this message of its pod.
    pub(super) fn replaces(&self, text: &str) -> bool {
        (message::is_activity(text) && self.takes(News::Activity))
            || (message::is_task_list(text) && self.takes(News::Tasks))
    }

    /// The same for a message that begins so.
    pub(super) fn replaces_from(&self, first: &[u8]) -> bool {
        message::begins_task_list(first) && self.takes(News::Tasks)
    }

    fn series(&self, news: News) -> &Series {
        match news {
            News::Activity => &self.activity,
            News::Tasks => &self.tasks,
        }
    }

    fn takes(&self, news: News) -> bool {
        let board = self.polls.board(self.pool, news);
        let is_replaced = self.series(news).is_replaced.load(Ordering::Relaxed);
        if is_replaced {
            board.hurry();
        }
        is_replaced && board.is_filled()
    }
}

impl DashboardFeed {
    pub(super) fn new(watch: &Arc<DashboardWatch>) -> DashboardFeed {
        let series = |news| SeriesFeed {
            watch: watch.clone(),
            news,
            wanted: watch.series(news).wanted.subscribe(),
            reader: None,
            seen: None,
        };
        DashboardFeed { activity: series(News::Activity), tasks: series(News::Tasks) }
    }
}

impl OwnMessages for DashboardFeed {
    async fn next(&mut self) -> Utf8Bytes {
        tokio::select! {
            message = self.activity.next() => message,
            message = self.tasks.next() => message,
        }
    }
}

impl SeriesFeed {
    /// The next message. Cancel safe.
    async fn next(&mut self) -> Utf8Bytes {
        loop {
            let Some(reader) = &mut self.reader else {
                self.subscribe().await;
                continue;
            };
            tokio::select! {
                // It cannot fail: the pool's board lives as long as the process.
                _ = reader.snapshots.changed() => {}
                _ = self.wanted.changed() => {
                    self.reader = None;
                    continue;
                }
            }
            let Some(now) = reader.snapshots.borrow_and_update().clone() else { continue };
            let before = self.seen.replace(now.clone());
            // What was there when the client began to listen is no news.
            if before.is_some_and(|before| before != now) {
                return message(self.news, &now);
            }
        }
    }

    /// Waits until an administrator listens, and listens for the client.
    async fn subscribe(&mut self) {
        let Some((interval, pod)) = self.wanted.borrow_and_update().clone() else {
            // It cannot fail: `watch` holds the sender.
            let _ = self.wanted.changed().await;
            return;
        };
        let viewer = tokio::select! {
            viewer = self.watch.sessions.viewer(&pod) => viewer,
            _ = self.wanted.changed() => return,
        };
        match viewer {
            // To an API key pods tell nothing: it is no user.
            Some(Viewer::User(user)) if user.is_administrator => {
                self.seen = None;
                self.reader = Some(self.watch.polls.listen(self.watch.pool, self.news, interval));
                self.watch.series(self.news).is_replaced.store(true, Ordering::Relaxed);
            }
            Some(_) => drop(self.wanted.changed().await),
            None => time::sleep(AGAIN).await,
        }
    }
}

fn message(news: News, content: &Bytes) -> Utf8Bytes {
    let id = jitter::number();
    match news {
        News::Activity => message::activity(id).into(),
        // Pods write UTF-8.
        News::Tasks => message::task_list(id, &String::from_utf8_lossy(content)).into(),
    }
}
