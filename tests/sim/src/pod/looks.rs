//! What a test sees of a pod, and waits for.

use std::future::Future;
use std::panic::Location;
use std::time::Duration;

use serde_json::Value;

use super::{Life, Pod};
use crate::seen::Seen;
use crate::user_data::UserData;

/// How long [`Pod::until`] waits before it gives up.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long it waits for news before it looks again all the same.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

impl Pod {
    /// Every request since the start or the last [`Pod::clear_seen`].
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.record().all()
    }

    /// Every message that came over a WebSocket since then, in order.
    pub fn heard(&self) -> Vec<String> {
        self.shared.record().heard()
    }

    /// Forgets the requests and messages seen so far.
    pub fn clear_seen(&self) {
        self.shared.record().clear();
    }

    /// Whether requests are remembered, by default yes; load tests turn it off.
    pub fn set_recording(&self, on: bool) {
        self.shared.record().set_recording(on);
    }

    /// The WebSockets open now.
    pub fn open_sockets(&self) -> usize {
        self.with_life(Life::open_sockets).unwrap_or(0)
    }

    /// The WebSockets that were opened after the process has taken leave: it waits for them.
    pub fn late_sockets(&self) -> usize {
        self.with_life(Life::late_sockets).unwrap_or(0)
    }

    /// The ids of the devices whose sessions the pod has, of all users.
    pub fn session_devices(&self) -> Vec<String> {
        let devices = |life: &Life| {
            life.expire_sessions();
            let memory = life.memory();
            memory.sessions.all().into_iter().map(|session| session.client_headers.device_id.clone()).collect()
        };
        self.with_life(devices).unwrap_or_default()
    }

    /// The sessions that the pod lists to an administrator, as it writes them.
    pub fn sessions(&self) -> Vec<Value> {
        let dtos = |life: &Life| {
            life.expire_sessions();
            let memory = life.memory();
            memory.sessions.all().into_iter().map(|session| session.dto(&life.shared.settings)).collect()
        };
        self.with_life(dtos).unwrap_or_default()
    }

    /// A document of the pod's configuration: `system`, `network`, `encoding`, `branding` and so on.
    pub fn document(&self, key: &str) -> Option<Value> {
        self.shared.documents().get(key).cloned()
    }

    /// The names of the libraries that are defined on the pod's disk.
    pub fn libraries(&self) -> Vec<String> {
        self.shared.disk.files().libraries.keys().cloned().collect()
    }

    /// The row of a user (by name) and an item that the pod shows by the item's id, if the item was read there before.
    pub fn cached_user_data(&self, user: &str, item: &str) -> Option<UserData> {
        let user = self.shared.cluster.user_id(user)?;
        self.with_life(|life| life.memory().caches.cached(item).map(|item| item.user_data(&user)))?
    }

    /// The play sessions that players have reported on, or ended, since the process began.
    pub fn reported_play_sessions(&self) -> Vec<String> {
        self.with_life(|life| life.memory().jobs.heard_of().to_vec()).unwrap_or_default()
    }

    /// The TCP connections open now, WebSockets among them.
    pub fn open_connections(&self) -> usize {
        self.with_life(Life::open_connections).unwrap_or(0)
    }

    /// Whether the pod's own memory holds the token.
    pub fn knows_token(&self, token: &str) -> bool {
        self.with_life(|life| life.memory().devices.knows(token)).unwrap_or(false)
    }

    /// Waits until `what` holds, looking again whenever something happened to the pod.
    ///
    /// # Panics
    /// After 10 s, naming the line that waited and what the pod saw last.
    #[track_caller]
    pub fn until(&self, what: impl Fn(&Pod) -> bool) -> impl Future<Output = ()> {
        let caller = Location::caller();
        async move {
            let wait = async {
                loop {
                    let changed = self.shared.changed.notified();
                    tokio::pin!(changed);
                    changed.as_mut().enable();
                    if what(self) {
                        return;
                    }
                    // Not every state tells of its change, so a look now and then is kept as well.
                    let _ = tokio::time::timeout(LOOK_AGAIN, changed).await;
                }
            };
            if tokio::time::timeout(DEADLINE, wait).await.is_err() {
                panic!("pod {} never came to the state waited for at {caller}: {}", self.name(), self.summary());
            }
        }
    }

    fn summary(&self) -> String {
        let last: Vec<String> = self
            .seen()
            .iter()
            .rev()
            .take(5)
            .map(|seen| format!("{} {} -> {}", seen.method, seen.path(), seen.status))
            .collect();
        format!(
            "running {}, ready {}, {} connections, {} sockets, last requests (newest first) {last:?}",
            self.is_running(),
            self.is_ready(),
            self.open_connections(),
            self.open_sockets(),
        )
    }
}
