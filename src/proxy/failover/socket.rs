//! WebSocket upgrades: pinned like requests. The tunnel opens only after the pod's own 101.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Response, StatusCode, Version, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{sync::watch, time};

use crate::{
    affinity::{cookie::Cookies, reject_pacer::Kind},
    forward::{head, outbound::ReplayBody},
    health,
    jellyfin::message::{self, Group},
    jitter,
    pod::{Epoch, LoadGuard, Pod, PodInstance},
    proxy::{
        Aborted, Body, Proxy, RequestContext, bind,
        dispatch::{Attempt, replay::ReplayableRequest},
        pod_client::Caller,
        request::{
            record::{Outcome, RequestRecord},
            refusal::Refusal,
        },
        session_lists::feed::{SessionFeed, SessionWatch},
    },
    server_id::{Replacer, ShownServer},
    sessions::{Session, Token, session::Socket},
    websocket::{self, MessageRewriter, OwnMessages, handshake},
};

/// A connection's place among those that may be open. It lasts as long as the socket that the
/// connection becomes.
pub type ConnectionPermit = Arc<dyn std::any::Any + Send + Sync>;

impl Proxy {
    /// Dispatches the upgrade to pods. An answer other than 101 goes to the client as it is.
    pub(in crate::proxy) async fn open_socket(
        self: &Arc<Self>,
        ctx: RequestContext<'_>,
        (opening, permit): (OnUpgrade, Option<ConnectionPermit>),
        cookies: &Cookies,
        mut record: Box<RequestRecord>,
    ) -> Result<Response<Body>, Aborted> {
        // Registered before the dispatch: a client that joins a group meanwhile waits for this
        // socket.
        let socket = ctx.session().map(|session| session.socket_of(ctx.reported_by(session)));
        let attempt = self.dispatch(&ctx, &ReplayBody::empty(), &mut record).await;
        let is_opened = |attempt: &Attempt| attempt.answer.status() == StatusCode::SWITCHING_PROTOCOLS;
        let socket = socket.filter(|_| attempt.as_ref().is_ok_and(is_opened));
        let attempt = match attempt {
            Ok(attempt) => attempt,
            Err(refusal) => {
                self.delay_rejection(&ctx).await;
                return record.into_refusal(if refusal == Refusal::DeadToken {
                    Refusal::DeadSocketToken
                } else {
                    refusal
                });
            }
        };
        let (mut answer, decision) = (attempt.answer, attempt.decision);
        if answer.status() == StatusCode::FORBIDDEN {
            self.delay_rejection(&ctx).await;
        }
        self.learn_from_head(&ctx, &decision, attempt.verdict, attempt.token.as_ref(), answer.status());
        let pod_side = hyper::upgrade::on(&mut answer);
        let (mut head, body) = answer.into_parts();
        let opened = handshake::is_opened(&head, ctx.head.headers.get(header::SEC_WEBSOCKET_KEY));
        head::to_client(&mut head.headers);
        bind(&mut head.headers, cookies, &ctx, &decision);
        if !opened {
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                return record.into_refusal(Refusal::Broken);
            }
            return Ok(record.into_answer(head, body, None));
        }
        handshake::restore(&mut head.headers);
        head.version = Version::HTTP_11;
        record.count_as_socket();
        let home = PodSockets::new(self, &ctx, decision.pod.clone(), socket);
        tokio::spawn(self.shutdown.track(self.clone().relay((opening, permit), pod_side, home, record)));
        Ok(Response::from_parts(head, Body::empty()))
    }

    /// Delays a client's refusals, one after the other. Real clients dial again at once, thousands
    /// of times a second.
    async fn delay_rejection(&self, ctx: &RequestContext<'_>) {
        let slot = match ctx.keys.identity.token.as_deref() {
            Some(token) => self.shared.reject_pacer.slot(Kind::Token, token),
            None => self.shared.reject_pacer.slot(Kind::Address, &ctx.origin.to_string()),
        };
        time::sleep_until(slot).await;
    }

    async fn relay(
        self: Arc<Self>,
        (client, _seat): (OnUpgrade, Option<ConnectionPermit>),
        pod: OnUpgrade,
        mut pods: PodSockets,
        mut record: Box<RequestRecord>,
    ) {
        let (Ok(client), Ok(pod)) = (client.await, pod.await) else { return };
        let pod = websocket::pod_side(pod, &self.shared.websocket).await;
        // `PodSockets` knows the current pod, so it holds the guard that counts the socket there.
        pods.load_guard = record.take_load_guard();
        let relayed = websocket::relay(client, pod, &mut pods, &self.shared.websocket, &self.shutdown).await;
        self.metrics.socket_messages.inc_by(relayed.from_client.messages + relayed.from_pod.messages);
        record.socket_in = relayed.from_client.bytes;
        record.bytes_out = relayed.from_pod.bytes;
        record.record_resumption(relayed.attached);
        record.set_pod(pods.pod.clone());
        if let Some(socket) = pods.socket.get().filter(|_| relayed.end.is_clients()) {
            socket.client_has_left();
        }
        record.set_outcome(Outcome::Socket(relayed.end.as_str()));
    }
}

/// The pods' sides of one client's socket, one after the other.
struct PodSockets {
    replayable: ReplayableRequest,
    socket: KnownSocket,
    home_changes: Option<watch::Receiver<Option<PodInstance>>>,
    /// The pod of the last side; `instance` has its epoch at that time.
    pod: Arc<Pod>,
    instance: PodInstance,
    is_new_instance: bool,
    /// The pod was alive when its side was attached, so `instance` has the epoch of that side.
    is_life_sure: bool,
    /// The pod closed the last side; jellypin probes it before it asks for another.
    was_closed: bool,
    /// The last search found no pod that accepts the socket.
    found_no_pod: bool,
    load_guard: Option<LoadGuard>,
    /// The pod instance of the previous side, and the guard that still counts it there.
    left: Option<(PodInstance, Option<LoadGuard>)>,
    shown_server: Arc<ShownServer>,
    member: Arc<Mutex<Option<Membership>>>,
    /// Whether the client listens to the list of sessions. `None` if only its pod could tell it.
    session_watch: Option<Arc<SessionWatch>>,
}

/// The client's socket in its session, once the session is known.
pub(in crate::proxy) type KnownSocket = Arc<OnceLock<Socket>>;

/// The SyncPlay group of a socket's client, and the pod whose memory holds the group.
struct Membership {
    group: String,
    place: PodInstance,
}

/// Sockets that one worker re-attaches at once. Those of a dead pod all come at the same moment,
/// and requests go first.
pub(in crate::proxy) const AT_ONCE: usize = 64;

/// The time over which the sockets of a dead pod begin to look for another.
const SPREAD: Duration = Duration::from_millis(200);

/// Time between two checks whether the session of a socket is known.
const LOOK: Duration = Duration::from_secs(1);

/// Longest wait for the probe of a pod that closed a socket.
const PROBED: Duration = Duration::from_secs(1);

/// Time between two attempts while no pod accepts the socket.
const PAUSE: Duration = Duration::from_millis(250);

impl PodSockets {
    fn new(proxy: &Arc<Proxy>, ctx: &RequestContext<'_>, pod: Arc<Pod>, known: Option<Socket>) -> PodSockets {
        let socket = KnownSocket::default();
        let home_changes = known.map(|known| socket.get_or_init(|| known).session().home_changes());
        let shown_server = ctx.pool.shown_server.clone();
        let session_watch = proxy.session_lists.key_for(ctx.pool).is_some().then(|| {
            let own_token = ctx.keys.identity.token.as_deref().map(Token::new);
            let lists = proxy.session_lists.clone();
            SessionWatch::new(lists, ctx.pool_index, Caller::of(ctx), own_token, socket.clone())
        });
        let (instance, pod_is_alive) = (PodInstance::of(&pod), pod.status().is_alive());
        PodSockets {
            replayable: ReplayableRequest::new(proxy, ctx),
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
            member: Arc::default(),
            session_watch,
        }
    }

    fn session(&self) -> Option<&Arc<Session>> {
        self.socket.get().map(Socket::session)
    }

    /// Waits until the client's session is known. The socket may come first, if the proxy has not
    /// seen the log-in.
    async fn await_session(&mut self) {
        if !self.replayable.proxy().can_migrate() {
            return std::future::pending().await;
        }
        loop {
            time::sleep(LOOK).await;
            let Some(session) = self.replayable.session() else { continue };
            let socket = session.socket_of(self.replayable.reported_by(&session));
            // The pod greeted the socket long ago, and may have put the client in a group. The
            // session may also live elsewhere already.
            socket.record_greeting(self.pod.id);
            if let Some(member) = &*self.member.lock() {
                session.record_group_joined(member.place);
            }
            self.home_changes = Some(session.home_changes());
            self.socket.get_or_init(|| socket);
            return;
        }
    }

    /// Waits until jellypin has probed the pod that closed the last side.
    async fn probed(&self) {
        let mut probes = self.pod.probes();
        if self.pod.status().is_alive() {
            health::report_suspect(&self.pod);
            // The wait cannot fail: the pod holds the sender.
            let _ = time::timeout(PROBED, probes.changed()).await;
        }
    }

    /// Repeats the client's upgrade request once.
    async fn attach_once(&mut self) -> AttachOutcome {
        let proxy = self.replayable.proxy().clone();
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
        let (instance, load_guard) = (PodInstance::of(&pod), Some(pod.count_socket()));
        let (left, was_busy) =
            (std::mem::replace(&mut self.instance, instance), std::mem::replace(&mut self.load_guard, load_guard));
        self.is_new_instance = left != instance;
        self.is_life_sure = pod.status().is_alive();
        self.left = Some((left, was_busy));
        self.pod = pod;
        AttachOutcome::Opened(Box::new(websocket::pod_side(upgraded, &proxy.shared.websocket).await))
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
        self.found_no_pod = false;
        let proxy = self.replayable.proxy().clone();
        let end = time::Instant::now() + proxy.shared.forward.hold;
        if std::mem::take(&mut self.was_closed) {
            self.probed().await;
        }
        if !self.pod.status().is_alive() {
            // Held requests go first: they find the client's new home.
            time::sleep(SPREAD.mul_f64(jitter::fraction())).await;
        }
        while time::Instant::now() < end && !proxy.shutdown.is_stopping() {
            if self.is_signed_out() {
                return None;
            }
            let attempt = {
                // This cannot fail: the semaphore is never closed.
                let _turn = proxy.reattach_permits.acquire().await;
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
            let hold = self.replayable.proxy().shared.forward.hold;
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
        let (proxy, session, left) = (self.replayable.proxy().clone(), self.session().cloned(), self.left.take());
        async move {
            // `_busy` counts the socket at the old pod until this wait ends.
            let (Some(session), Some((from, _busy))) = (session, left) else { return };
            tokio::select! {
                () = proxy.restart_channels(&session, from) => {}
                () = proxy.shutdown.stopping() => {}
            }
        }
    }

    fn notice(&mut self) -> Option<String> {
        let place = PodInstance::of(&self.pod);
        // A group dies with its pod, so its members get the same message as if they had left.
        let member = self.member.lock().take_if(|member| member.place != place)?;
        if let Some(session) = self.session() {
            session.record_group_left(member.place);
        }
        Some(message::group_left(&member.group))
    }

    fn is_signed_out(&self) -> bool {
        self.session().is_some_and(|session| session.is_ended())
    }

    fn is_new_instance(&self) -> bool {
        self.is_new_instance
    }

    fn own_messages(&self) -> impl OwnMessages + 'static {
        self.session_watch.clone().map(SessionFeed::new)
    }

    fn rewriter(&self) -> impl MessageRewriter + 'static {
        SocketRewriter {
            shown_server: self.shown_server.clone(),
            pod: self.pod.clone(),
            socket: self.socket.clone(),
            is_greeted: AtomicBool::new(false),
            member: self.member.clone(),
            session_watch: self.session_watch.clone(),
            epoch: self.is_life_sure.then_some(self.instance.epoch),
        }
    }
}

/// Shows the pool's server id in a pod's messages. Also learns the client's greeting and group from
/// them.
struct SocketRewriter {
    shown_server: Arc<ShownServer>,
    pod: Arc<Pod>,
    socket: KnownSocket,
    is_greeted: AtomicBool,
    /// The pod's epoch at this side, if it is known.
    epoch: Option<Epoch>,
    member: Arc<Mutex<Option<Membership>>>,
    session_watch: Option<Arc<SessionWatch>>,
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
            socket.session().count_remote_control();
        }
        let Some(heard) = message::group(text) else { return };
        let (place, known) = (PodInstance::of(&self.pod), self.socket.get().map(Socket::session).into_iter());
        match heard {
            Group::Joined(group) => {
                known.for_each(|session| session.record_group_joined(place));
                *self.member.lock() = Some(Membership { group, place });
            }
            Group::Left => {
                known.for_each(|session| session.record_group_left(place));
                *self.member.lock() = None;
            }
        }
    }
}

/// A pod's side of a socket.
type PodSide = websocket::PodSide<TokioIo<Upgraded>>;

impl MessageRewriter for SocketRewriter {
    fn to_client(&self, text: &str) -> Option<String> {
        self.observe(text);
        self.shown_server.message_to_client(&self.pod, text)
    }

    fn pieces_to_client(&self) -> Option<Replacer> {
        // A message this long is never about a group.
        self.greet();
        self.shown_server.id_rewriter(&self.pod).map(|id_rewriter| id_rewriter.pieces_to_client())
    }

    fn is_replaced(&self, text: &str) -> bool {
        self.session_watch.as_ref().is_some_and(|watch| message::is_session_list(text) && watch.takes_list())
    }

    fn is_replaced_from(&self, first: &[u8]) -> bool {
        self.session_watch.as_ref().is_some_and(|watch| message::begins_session_list(first) && watch.takes_list())
    }

    fn to_pod(&self, text: &str) -> Option<String> {
        if let Some(watch) = &self.session_watch {
            watch.read_from_client(text, &self.pod);
        }
        self.shown_server.message_to_pod(&self.pod, text)
    }

    fn farewell(&self) {
        health::farewell(&self.pod, self.epoch);
    }
}
