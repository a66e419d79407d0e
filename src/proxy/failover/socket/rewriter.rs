//! What passes through a client's socket: rewritten for the client, and learned from.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::{
    health,
    jellyfin::{message, sync_play},
    pod::{Epoch, Pod},
    proxy::{dashboard_feed::DashboardWatch, groups::membership::Membership, session_lists::feed::SessionWatch},
    server_id::{Replacer, ShownServer},
    sessions::session::KnownSocket,
    websocket::{ForClient, MessageRewriter},
};

/// Shows the pool's server id in a pod's messages. Also learns the client's greeting and group from
/// them.
pub(super) struct SocketRewriter {
    pub(super) shown_server: Arc<ShownServer>,
    pub(super) pod: Arc<Pod>,
    pub(super) socket: KnownSocket,
    pub(super) is_greeted: AtomicBool,
    /// The pod's epoch at this side, if it is known.
    pub(super) epoch: Option<Epoch>,
    pub(super) membership: Arc<Membership>,
    /// What the client hears of sessions; `None` if its pod alone tells it.
    pub(super) session_watch: Option<Arc<SessionWatch>>,
    /// The same of the activity log and of tasks.
    pub(super) dashboard_watch: Option<Arc<DashboardWatch>>,
}

impl SocketRewriter {
    fn greet(&self) {
        if !self.is_greeted.swap(true, Ordering::Relaxed)
            && let Some(socket) = self.socket.get()
        {
            socket.record_greeting(self.pod.id);
        }
    }

    fn observe(&self, text: &str) {
        self.greet();
        if message::is_remote_control(text)
            && let Some(socket) = self.socket.get()
        {
            socket.session().sockets.count_remote_control();
        }
    }
}

impl MessageRewriter for SocketRewriter {
    fn to_client(&self, text: &str) -> ForClient {
        let is_replaced =
            self.session_watch.as_ref().is_some_and(|watch| message::is_session_list(text) && watch.takes_list())
                || self.dashboard_watch.as_ref().is_some_and(|watch| watch.replaces(text));
        if is_replaced {
            return ForClient::Nothing;
        }
        self.observe(text);
        let heard = match sync_play::is_about_group(text) {
            true => self.membership.receive(self.socket.get(), &self.pod, text),
            false => ForClient::Same,
        };
        let shown = |text| self.shown_server.message_to_client(&self.pod, text).map(ForClient::Changed);
        match heard {
            ForClient::Same => shown(text).unwrap_or(ForClient::Same),
            ForClient::Changed(text) => shown(&text).unwrap_or(ForClient::Changed(text)),
            ForClient::Nothing => ForClient::Nothing,
        }
    }

    fn pieces_to_client(&self) -> Option<Replacer> {
        // A message this long is never about a group.
        self.greet();
        self.shown_server.id_rewriter(&self.pod).map(|id_rewriter| id_rewriter.pieces_to_client())
    }

    fn is_replaced_from(&self, first: &[u8]) -> bool {
        self.session_watch.as_ref().is_some_and(|watch| message::begins_session_list(first) && watch.takes_list())
            || self.dashboard_watch.as_ref().is_some_and(|watch| watch.replaces_from(first))
    }

    fn to_pod(&self, text: &str) -> Option<String> {
        if let Some(watch) = &self.session_watch {
            watch.read_from_client(text, &self.pod);
        }
        if let Some(watch) = &self.dashboard_watch {
            watch.read_from_client(text, &self.pod);
        }
        self.shown_server.message_to_pod(&self.pod, text)
    }

    fn on_pod_message(&self) {
        self.pod.vitals.record_life();
    }

    async fn await_call(&self) {
        self.pod.load.await_socket_call().await;
    }

    fn farewell(&self) {
        health::farewell(&self.pod, self.epoch);
    }
}
