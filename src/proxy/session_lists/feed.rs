//! The message `Sessions` of one client's socket, with the sessions of all pods.
//!
//! The client subscribes at its pod (`SessionsStart`). jellypin then drops that pod's lists, and
//! sends the merged list at the client's interval. A client to whom the pod sends nothing gets
//! nothing, unless it is an administrator's. Until jellypin knows the user, the pod's lists pass.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OnceCell, watch},
    time::{self, Instant},
};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::SessionLists;
use crate::{
    jellyfin::{
        client::users,
        message::{self, Subject, Subscription},
        session_list::Viewer,
    },
    pod::{Pod, PodInstance},
    proxy::{pod_client::Caller, request::context::RequestContext},
    sessions::{Token, board::BoardReader, session::KnownSocket, session_board::Snapshot},
    websocket::OwnMessages,
};

/// How often clients get the list if they do not say it.
const INTERVAL: Duration = Duration::from_millis(1500);

/// The pause after a pod has not said who a client is.
const AGAIN: Duration = Duration::from_secs(5);

/// What a socket's messages say about its subscription. The relay's two directions share it.
pub(in crate::proxy) struct SessionWatch {
    lists: Arc<SessionLists>,
    pool: usize,
    caller: Caller,
    /// The token of the client's own request.
    own_token: Option<Token>,
    socket: KnownSocket,
    viewer: OnceCell<Viewer>,
    wanted: watch::Sender<Option<Wanted>>,
    /// The pod has sent a list, so its release allows this client to listen.
    is_allowed: watch::Sender<bool>,
    /// The client gets merged lists.
    is_merged: AtomicBool,
}

/// A subscription, and the pod at which it was made.
#[derive(Clone)]
struct Wanted {
    interval: Duration,
    pod: Arc<Pod>,
}

/// What the client gets.
pub(in crate::proxy) struct SessionFeed {
    watch: Arc<SessionWatch>,
    wanted: watch::Receiver<Option<Wanted>>,
    reader: Option<BoardReader<Snapshot>>,
    last: Option<(Instant, Utf8Bytes)>,
}

impl SessionWatch {
    /// For the socket of this request. `None` if its pod alone can tell it.
    pub(in crate::proxy) fn of(
        lists: &Arc<SessionLists>,
        ctx: &RequestContext<'_>,
        socket: &KnownSocket,
    ) -> Option<Arc<SessionWatch>> {
        lists.key_for(ctx.pool)?;
        Some(Arc::new(SessionWatch {
            lists: lists.clone(),
            pool: ctx.pool_index,
            caller: Caller::of(ctx),
            own_token: ctx.keys.identity.token.as_deref().map(Token::new),
            socket: socket.clone(),
            viewer: OnceCell::new(),
            wanted: watch::Sender::new(None),
            is_allowed: watch::Sender::new(false),
            is_merged: AtomicBool::new(false),
        }))
    }

    /// Reads a message of the client on its way to this pod.
    pub(in crate::proxy) fn read_from_client(&self, text: &str, pod: &Arc<Pod>) {
        match message::subscription(text) {
            Some(Subscription::Start(Subject::Sessions)) => {
                let interval = message::interval(text).unwrap_or(INTERVAL);
                self.wanted.send_replace(Some(Wanted { interval, pod: pod.clone() }));
            }
            Some(Subscription::Stop(Subject::Sessions)) => {
                self.wanted.send_replace(None);
                self.is_merged.store(false, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    /// Takes a list of the pod. Says whether the client gets the merged one in its place.
    pub(in crate::proxy) fn takes_list(&self) -> bool {
        self.is_allowed.send_if_modified(|is_allowed| !std::mem::replace(is_allowed, true));
        let board = &self.lists.shared.pools[self.pool].session_board;
        let is_merged = self.is_merged.load(Ordering::Relaxed);
        if is_merged {
            board.hurry();
        }
        is_merged && board.is_filled()
    }

    /// Who the client is, according to its pod. Cancel safe.
    pub(in crate::proxy) async fn viewer(&self, pod: &Arc<Pod>) -> Option<&Viewer> {
        self.viewer.get_or_try_init(async || self.ask_who(pod).await.ok_or(())).await.ok()
    }

    async fn ask_who(&self, pod: &Arc<Pod>) -> Option<Viewer> {
        let at_pod = self.socket.get().and_then(|socket| socket.session().token_at(PodInstance::of(pod)));
        let token = at_pod.or_else(|| self.own_token.clone())?;
        self.lists.pods.call(pod, &self.caller, users::viewer(token.as_str())).await.ok()
    }
}

impl SessionFeed {
    pub(in crate::proxy) fn new(watch: Arc<SessionWatch>) -> SessionFeed {
        let wanted = watch.wanted.subscribe();
        SessionFeed { watch, wanted, reader: None, last: None }
    }

    /// Waits until the client listens and may do so. Gives its interval.
    async fn await_listener(&mut self) -> Duration {
        loop {
            let Some(Wanted { interval, pod }) = self.wanted.borrow_and_update().clone() else {
                // It cannot fail: `watch` holds the sender.
                let _ = self.wanted.changed().await;
                continue;
            };
            let viewer = tokio::select! {
                viewer = self.watch.viewer(&pod) => viewer,
                _ = self.wanted.changed() => continue,
            };
            let Some(viewer) = viewer else {
                time::sleep(AGAIN).await;
                continue;
            };
            let mut is_allowed = self.watch.is_allowed.subscribe();
            if !viewer.is_administrator() {
                tokio::select! {
                    _ = is_allowed.wait_for(|is_allowed| *is_allowed) => {}
                    _ = self.wanted.changed() => continue,
                }
            }
            self.watch.is_merged.store(true, Ordering::Relaxed);
            return interval;
        }
    }
}

impl OwnMessages for SessionFeed {
    async fn next(&mut self) -> Utf8Bytes {
        loop {
            if self.reader.is_none() {
                let interval = self.await_listener().await;
                (self.reader, self.last) = (Some(self.watch.lists.listen(self.watch.pool, interval)), None);
            }
            let (Some(reader), Some(viewer)) = (&mut self.reader, self.watch.viewer.get()) else {
                continue;
            };
            let interval = self.wanted.borrow().as_ref().map_or(INTERVAL, |wanted| wanted.interval);
            let changed = async {
                if let Some((at, _)) = &self.last {
                    time::sleep_until(*at + interval).await;
                }
                // It cannot fail: the pool's board lives as long as the process.
                let _ = reader.snapshots.changed().await;
            };
            tokio::select! {
                () = changed => {}
                _ = self.wanted.changed() => {
                    self.reader = None;
                    continue;
                }
            }
            let Some(snapshot) = reader.snapshots.borrow_and_update().clone() else { continue };
            let message = snapshot.message(viewer);
            if self.last.as_ref().is_some_and(|(_, last)| has_same_list(last, &message)) {
                continue;
            }
            self.last = Some((Instant::now(), message.clone()));
            return message;
        }
    }
}

/// Whether two messages differ in nothing but their number.
fn has_same_list(one: &str, other: &str) -> bool {
    let list = |text: &str| text.find("\"Data\":").map_or(0, |at| at);
    one[list(one)..] == other[list(other)..]
}
