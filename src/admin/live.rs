//! The dashboard's stream: server-sent events, each part of the page when it has changed.
//!
//! One task makes the parts for all watchers, at most once a second. It ends with the last watcher.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time,
};

use super::{
    answer::{Answer, text},
    guard::Operator,
    overview::{Views, events_since},
    verdict::millis,
};
use crate::observe::recent::recent;

/// Time from one look at everything to the next.
const EVERY: Duration = Duration::from_secs(1);

/// After this time without news a watcher gets a comment, which shows whether it is still there.
const SILENCE: Duration = Duration::from_secs(15);

/// Watchers at once.
const MOST: usize = 32;

/// What all watchers share.
pub(super) struct Live {
    views: Arc<Views>,
    parts: watch::Sender<Parts>,
    /// Whether the task runs that makes the parts.
    is_made: Mutex<bool>,
    seats: Arc<Semaphore>,
}

/// The parts of the page, each as the event that carries it. Empty before the first look.
#[derive(Clone, Debug, Default, PartialEq)]
struct Parts {
    overview: Bytes,
    clients: Bytes,
    history: Bytes,
    /// The number of the newest line of the log.
    newest: u64,
}

/// The first event of a stream: for whom it is, and the time here.
#[derive(Serialize)]
struct Hello {
    operator: String,
    /// The operator has signed in and can sign out.
    is_signed_in: bool,
    now_ms: u64,
}

/// One watcher.
struct Watcher {
    parts: watch::Receiver<Parts>,
    sent: Parts,
    hello: Option<Bytes>,
    _seat: OwnedSemaphorePermit,
}

impl Live {
    pub(super) fn new(views: Arc<Views>) -> Arc<Live> {
        let seats = Arc::new(Semaphore::new(MOST));
        Arc::new(Live { views, parts: watch::Sender::new(Parts::default()), is_made: Mutex::new(false), seats })
    }

    /// `GET /overview/stream`.
    pub(super) fn stream(self: &Arc<Self>, who: &Operator) -> Answer {
        let Ok(seat) = self.seats.clone().try_acquire_owned() else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "Too many dashboards are open.\n");
        };
        let is_signed_in = matches!(who, Operator::SignedIn(_));
        let hello = Hello { operator: who.to_string(), is_signed_in, now_ms: millis(std::time::SystemTime::now()) };
        let parts = self.parts.subscribe();
        self.start_maker();
        let watcher = Watcher { parts, sent: Parts::default(), hello: Some(event("hello", &hello)), _seat: seat };
        let events = stream::unfold(watcher, async |mut watcher| {
            let bytes = watcher.next().await?;
            Some((Ok::<_, Infallible>(Frame::data(bytes)), watcher))
        });
        // The page comes back by itself, to the process that has taken this one's place.
        let shutdown = self.views.state.shutdown.clone();
        let events = events.take_until(Box::pin(async move { shutdown.leaving().await }));
        let mut answer = Answer::new(BodyExt::boxed(StreamBody::new(events)));
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        answer
    }

    /// Starts the task that makes the parts, unless it runs.
    fn start_maker(self: &Arc<Self>) {
        let mut is_made = self.is_made.lock();
        if !std::mem::replace(&mut *is_made, true) {
            tokio::spawn(self.clone().make_parts());
        }
    }

    async fn make_parts(self: Arc<Self>) {
        loop {
            self.views.renew_listed().await;
            let made = Parts {
                overview: event("overview", &self.views.overview()),
                clients: event("clients", &self.views.clients()),
                history: event("history", &self.views.samples()),
                newest: recent().newest(),
            };
            self.parts.send_if_modified(|parts| {
                let is_new = *parts != made;
                *parts = made;
                is_new
            });
            time::sleep(EVERY).await;
            let mut is_made = self.is_made.lock();
            if self.parts.receiver_count() == 0 {
                *is_made = false;
                // The next first watcher must not begin with an old page.
                self.parts.send_replace(Parts::default());
                return;
            }
        }
    }
}

impl Watcher {
    /// What this watcher does not have yet. Waits until there is something.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(hello) = self.hello.take() {
            return Some(hello);
        }
        loop {
            let parts = self.parts.borrow_and_update().clone();
            let mut news = BytesMut::new();
            for (part, sent) in [
                (&parts.overview, &mut self.sent.overview),
                (&parts.clients, &mut self.sent.clients),
                (&parts.history, &mut self.sent.history),
            ] {
                if part != sent {
                    news.extend_from_slice(part);
                    *sent = part.clone();
                }
            }
            if parts.newest > self.sent.newest {
                news.extend_from_slice(&event("events", &events_since(self.sent.newest)));
                self.sent.newest = parts.newest;
            }
            if !news.is_empty() {
                return Some(news.freeze());
            }
            match time::timeout(SILENCE, self.parts.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return None,
                Err(_) => return Some(Bytes::from_static(b":\n\n")),
            }
        }
    }
}

/// A server-sent event. JSON has no line break of its own, so one line carries it.
fn event<T: Serialize>(name: &str, data: &T) -> Bytes {
    // The types are this room's own, and all have a JSON form.
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("event: {name}\ndata: {data}\n\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_watcher_gets_each_part_when_it_changes_and_a_comment_in_silence() {
        let sender = watch::Sender::new(Parts::default());
        let seat = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("a seat");
        let (parts, hello) = (sender.subscribe(), Some(Bytes::from_static(b"hello")));
        let mut watcher = Watcher { parts, sent: Parts::default(), hello, _seat: seat };
        assert_eq!(watcher.next().await.as_deref(), Some(&b"hello"[..]));
        sender.send_modify(|parts| {
            parts.overview = Bytes::from_static(b"1");
            parts.clients = Bytes::from_static(b"2");
        });
        assert_eq!(watcher.next().await.as_deref(), Some(&b"12"[..]));
        sender.send_modify(|parts| parts.clients = Bytes::from_static(b"3"));
        assert_eq!(watcher.next().await.as_deref(), Some(&b"3"[..]));
        assert_eq!(watcher.next().await.as_deref(), Some(&b":\n\n"[..]));
        drop(sender);
        assert_eq!(watcher.next().await, None);
    }
}
