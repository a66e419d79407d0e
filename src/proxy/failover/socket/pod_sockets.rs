//! The pods' sides of one client's socket, one after the other.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use http::{StatusCode, header};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::{
    sync::{Semaphore, watch},
    time,
};

use super::{Sockets, rewriter::SocketRewriter};
use crate::{
    health, jitter,
    pod::{LoadGuard, Pod, PodInstance},
    proxy::{
        dashboard_feed::{DashboardFeed, DashboardWatch},
        failover::live::LiveStreams,
        groups::membership::Membership,
        replay::ReplayableRequest,
        request::{context::RequestContext, refusal::Refusal},
        session_lists::feed::{SessionFeed, SessionWatch},
        shared_state::SharedState,
    },
    server_id::ShownServer,
    sessions::{
        Session,
        session::{KnownSocket, Socket},
    },
    websocket::{self, MessageRewriter, OwnMessages, handshake},
};

/// The pods' sides of one client's socket, one after the other.
pub(super) struct PodSockets {
    replayable: ReplayableRequest,
    live_streams: Arc<LiveStreams>,
    reattach_permits: Arc<Semaphore>,
    pub(super) socket: KnownSocket,
    home_changes: Option<watch::Receiver<Option<PodInstance>>>,
    /// The pod of the last side; `instance` has its epoch at that time.
    pub(super) pod: Arc<Pod>,
    instance: PodInstance,
    is_new_instance: bool,
    /// The pod was alive when its side was attached, so `instance` has the epoch of that side.
    is_life_sure: bool,
    /// The pod closed the last side; jellypin probes it before it asks for another.
    was_closed: bool,
    /// The last search found no pod that accepts the socket.
    found_no_pod: bool,
    pub(super) load_guard: Option<LoadGuard>,
    /// The pod instance of the previous side, and the guard that still counts it there.
    left: Option<(PodInstance, Option<LoadGuard>)>,
    shown_server: Arc<ShownServer>,
    membership: Arc<Membership>,
    session_watch: Option<Arc<SessionWatch>>,
    dashboard_watch: Option<Arc<DashboardWatch>>,
}

/// The time over which the sockets of a dead pod begin to look for another.
const SPREAD: Duration = Duration::from_millis(200);

/// Time between two checks whether the session of a socket is known.
const LOOK: Duration = Duration::from_secs(1);

/// Longest wait for the probe of a pod that closed a socket.
const PROBED: Duration = Duration::from_secs(1);

/// Time between two attempts while no pod accepts the socket.
const PAUSE: Duration = Duration::from_millis(250);

impl PodSockets {
    pub(super) fn new(sockets: &Sockets, ctx: &RequestContext<'_>, pod: Arc<Pod>, known: Option<Socket>) -> PodSockets {
        let socket = KnownSocket::default();
        let home_changes = known.map(|known| socket.get_or_init(|| known).session().residence.home_changes());
        let shown_server = ctx.pool.shown_server.clone();
        let session_watch = SessionWatch::of(&sockets.session_lists, ctx, &socket);
        let dashboard_watch = session_watch
            .clone()
            .map(|sessions| DashboardWatch::new(&sockets.dashboard_polls, ctx.pool_index, sessions));
        let membership = Arc::new(Membership::new(sockets.shared.groups.clone(), ctx.pool.pool.name.clone()));
        let (instance, pod_is_alive) = (PodInstance::of(&pod), pod.status().is_alive());
        PodSockets {
            replayable: sockets.replayer.copy(ctx),
            live_streams: sockets.live_streams.clone(),
            reattach_permits: sockets.reattach_permits.clone(),
            socket,
            home_changes,
            pod,
            instance,
            is_new_instance: false,
            is_life_sure: pod_is_alive,
            was_closed: false,
            found_no_pod: false,
            load_guard: None,
            left: None,
            shown_server,
            membership,
            session_watch,
            dashboard_watch,
        }
    }

    fn shared(&self) -> &SharedState {
        &self.replayable.replayer().shared
    }

    fn session(&self) -> Option<&Arc<Session>> {
        self.socket.get().map(Socket::session)
    }

    /// Waits until the client's session is known. The socket may come first, if the proxy has not
    /// seen the log-in.
    async fn await_session(&mut self) {
        if self.shared().api_key().is_none() {
            return std::future::pending().await;
        }
        loop {
            time::sleep(LOOK).await;
            let Some(session) = self.replayable.session() else { continue };
            let socket = session.socket_of(self.replayable.reported_by(&session));
            // The pod greeted the socket long ago, and may have put the client in a group. The
            // session may also live elsewhere already.
            socket.record_greeting(self.pod.id);
            self.membership.enroll(&socket);
            self.home_changes = Some(session.residence.home_changes());
            self.socket.get_or_init(|| socket);
            return;
        }
    }

    /// Waits until jellypin has probed the pod that closed the last side.
    async fn probed(&self) {
        let mut probes = self.pod.suspicions.probes();
        if self.pod.status().is_alive() {
            health::report_suspect(&self.pod);
            // The wait cannot fail: the pod holds the sender.
            let _ = time::timeout(PROBED, probes.changed()).await;
        }
    }

    /// Repeats the client's upgrade request once.
    async fn attach_once(&mut self) -> AttachOutcome {
        let replayed = match self.replayable.send().await {
            Ok(replayed) => replayed,
            Err(Refusal::DeadToken) => return AttachOutcome::Refused,
            Err(_) => return AttachOutcome::Nobody,
        };
        let pod = replayed.attempt.decision.pod.clone();
        let mut answer = replayed.attempt.answer;
        let upgrade = hyper::upgrade::on(&mut answer);
        let (head, _) = answer.into_parts();
        if head.status == StatusCode::FORBIDDEN {
            return AttachOutcome::Refused;
        }
        let key = self.replayable.headers().get(header::SEC_WEBSOCKET_KEY).cloned();
        if !handshake::is_opened(&head, key.as_ref()) {
            return AttachOutcome::Nobody;
        }
        let Ok(upgraded) = upgrade.await else {
            return AttachOutcome::Nobody;
        };
        tracing::info!(from = &*self.pod.name, to = &*pod.name, "WebSocket re-attached");
        if let Some(socket) = self.socket.get() {
            socket.mark_detached();
        }
        let (instance, load_guard) = (PodInstance::of(&pod), Some(LoadGuard::of_socket(&pod)));
        let (left, was_busy) =
            (std::mem::replace(&mut self.instance, instance), std::mem::replace(&mut self.load_guard, load_guard));
        self.is_new_instance = left != instance;
        self.is_life_sure = pod.status().is_alive();
        self.left = Some((left, was_busy));
        self.pod = pod;
        AttachOutcome::Opened(Box::new(websocket::pod_side(upgraded, &self.shared().websocket).await))
    }
}

enum AttachOutcome {
    Opened(Box<PodSide>),
    /// The pods do not know the client.
    Refused,
    /// No pod answered, or none opened the socket.
    Nobody,
}

impl websocket::PodSides<TokioIo<Upgraded>> for PodSockets {
    async fn attach(&mut self) -> Option<PodSide> {
        // The client comes back to the process that has taken this one's place. Two processes that
        // mint for one session would end each other's tokens.
        if self.replayable.replayer().shutdown.is_leaving() {
            return None;
        }
        self.found_no_pod = false;
        let end = time::Instant::now() + self.replayable.replayer().hold();
        if std::mem::take(&mut self.was_closed) {
            self.probed().await;
        }
        if !self.pod.status().is_alive() {
            // Held requests go first: they find the client's new home.
            time::sleep(SPREAD.mul_f64(jitter::fraction())).await;
        }
        while time::Instant::now() < end && !self.replayable.replayer().shutdown.is_stopping() {
            if self.is_signed_out() {
                return None;
            }
            let attempt = {
                // This cannot fail: the semaphore is never closed.
                let reattach_permits = self.reattach_permits.clone();
                let _permit = reattach_permits.acquire().await;
                self.attach_once().await
            };
            match attempt {
                AttachOutcome::Opened(side) => return Some(*side),
                // Without a known session every pod is asked. Their refusal is final unless the
                // socket's pod is on its way back.
                AttachOutcome::Refused if self.socket.get().is_none() && self.pod.status().is_alive() => return None,
                AttachOutcome::Refused | AttachOutcome::Nobody => time::sleep(PAUSE).await,
            }
        }
        self.found_no_pod = true;
        None
    }

    async fn await_move(&mut self) {
        loop {
            let Some(home_changes) = &mut self.home_changes else {
                self.await_session().await;
                continue;
            };
            let hold = self.replayable.replayer().hold();
            tokio::select! {
                changed = home_changes.changed() => {
                    if changed.is_err() {
                        return std::future::pending().await;
                    }
                    let home = *home_changes.borrow_and_update();
                    // An ended session has no home, and no pod accepts its socket.
                    if home.is_none_or(|home| home.pod != self.pod.id) {
                        return;
                    }
                }
                // Try again if the new home did not accept the socket. The client would get no
                // messages from there while the old pod lives on.
                () = time::sleep(hold), if self.found_no_pod => {
                    self.found_no_pod = false;
                    if home_changes.borrow().is_some_and(|home| home.pod != self.pod.id) {
                        return;
                    }
                }
            }
        }
    }

    fn closed(&mut self) {
        self.was_closed = true;
    }

    fn on_lost(&mut self) {
        self.load_guard = None;
        if let Some(socket) = self.socket.get() {
            socket.mark_detached();
        }
    }

    fn linger(&mut self) -> impl Future<Output = ()> + Send + 'static {
        let (live_streams, shutdown) = (self.live_streams.clone(), self.replayable.replayer().shutdown.clone());
        let (session, left) = (self.session().cloned(), self.left.take());
        async move {
            // `_busy` counts the socket at the old pod until this wait ends.
            let (Some(session), Some((from, _busy))) = (session, left) else { return };
            tokio::select! {
                () = live_streams.restart_channels(&session, from) => {}
                () = shutdown.stopping() => {}
            }
        }
    }

    fn notice(&mut self) -> Option<String> {
        // A group that does not go on where its member does ends for it, as if it had left.
        let pools = self.replayable.pool();
        let will_move = |place| {
            let leader = pools.leader.current();
            self.shared().api_key().is_some() && self.shared().groups.are_to_move(&pools.pool, place, leader.as_deref())
        };
        self.membership.attached(self.socket.get(), PodInstance::of(&self.pod), will_move)
    }

    fn is_signed_out(&self) -> bool {
        self.session().is_some_and(|session| session.is_ended())
    }

    fn is_new_instance(&self) -> bool {
        self.is_new_instance
    }

    fn own_messages(&self) -> impl OwnMessages + 'static {
        let dashboard = self.dashboard_watch.as_ref().map(DashboardFeed::new);
        (self.session_watch.clone().map(SessionFeed::new), (dashboard, self.membership.news()))
    }

    fn rewriter(&self) -> impl MessageRewriter + 'static {
        SocketRewriter {
            shown_server: self.shown_server.clone(),
            pod: self.pod.clone(),
            socket: self.socket.clone(),
            is_greeted: AtomicBool::new(false),
            membership: self.membership.clone(),
            session_watch: self.session_watch.clone(),
            dashboard_watch: self.dashboard_watch.clone(),
            epoch: self.is_life_sure.then_some(self.instance.epoch),
        }
    }
}

/// A pod's side of a socket.
type PodSide = websocket::PodSide<TokioIo<Upgraded>>;
