//! Upgrades: pinned like requests; the tunnel opens only after the pod's own 101.

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

use super::{
    Aborted, Asking, Body, Proxy,
    again::Again,
    bind,
    exchange::{Exchange, Outcome},
    offer::Offered,
    reply::Refusal,
};
use crate::{
    affinity::{cookie::Cookies, pace::Kind},
    carryover::{Session, session::Socket},
    facade::{Facade, Replacer},
    forward::{head, outbound::Source},
    health,
    identity::message::{self, Group},
    jitter,
    pod::{Busy, Epoch, Place, Pod},
    websocket::{self, Passing, handshake},
};

/// A connection's place among those that may be open: it lasts as long as the socket that the connection becomes.
pub type Seat = Arc<dyn std::any::Any + Send + Sync>;

impl Proxy {
    /// Asks pods for the socket; an answer other than 101 goes to the client as it is.
    pub(super) async fn open_socket(
        self: &Arc<Self>,
        asking: Asking<'_>,
        (opening, seat): (OnUpgrade, Option<Seat>),
        cookies: &Cookies,
        mut exchange: Box<Exchange>,
    ) -> Result<Response<Body>, Aborted> {
        // Who joins a group meanwhile waits for it.
        let socket = asking.session().map(|session| session.socket_of(asking.teller(session)));
        let offered = self.offer(&asking, &Source::empty(), &mut exchange).await;
        let is_opened = |offered: &Offered| offered.answer.status() == StatusCode::SWITCHING_PROTOCOLS;
        let socket = socket.filter(|_| offered.as_ref().is_ok_and(is_opened));
        let offered = match offered {
            Ok(offered) => offered,
            Err(refusal) => {
                self.answer_late(&asking).await;
                return exchange.refuse(if refusal == Refusal::DeadToken { Refusal::DeadSocketToken } else { refusal });
            }
        };
        let (mut answer, decision) = (offered.answer, offered.decision);
        if answer.status() == StatusCode::FORBIDDEN {
            self.answer_late(&asking).await;
        }
        self.learn(&asking, &decision, offered.verdict, offered.token.as_ref(), answer.status());
        let pod_side = hyper::upgrade::on(&mut answer);
        let (mut head, body) = answer.into_parts();
        let opened = handshake::is_opened(&head, asking.head.headers.get(header::SEC_WEBSOCKET_KEY));
        head::to_client(&mut head.headers);
        bind(&mut head.headers, cookies, &asking, &decision);
        if !opened {
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                return exchange.refuse(Refusal::Broken);
            }
            return Ok(exchange.answer(head, body, None));
        }
        handshake::restore(&mut head.headers);
        head.version = Version::HTTP_11;
        exchange.became_socket();
        let home = Attachments::new(self, &asking, decision.pod.clone(), socket);
        tokio::spawn(self.shutdown.track(self.clone().relay((opening, seat), pod_side, home, exchange)));
        Ok(Response::from_parts(head, Body::empty()))
    }

    /// Real clients dial again at once, thousands of times a second: a refusal comes late, and one after the other.
    async fn answer_late(&self, asking: &Asking<'_>) {
        let slot = match asking.keys.identity.token.as_deref() {
            Some(token) => self.site.pace.slot(Kind::Token, token),
            None => self.site.pace.slot(Kind::Address, &asking.origin.to_string()),
        };
        time::sleep_until(slot).await;
    }

    async fn relay(
        self: Arc<Self>,
        (client, _seat): (OnUpgrade, Option<Seat>),
        pod: OnUpgrade,
        mut pods: Attachments,
        mut exchange: Box<Exchange>,
    ) {
        let (Ok(client), Ok(pod)) = (client.await, pod.await) else { return };
        let pod = websocket::pod_side(pod, &self.site.websocket).await;
        // What is under way at the pod is counted by whoever knows which pod it is.
        pods.busy = exchange.take_busy();
        let relayed = websocket::relay(client, pod, &mut pods, &self.site.websocket, &self.shutdown).await;
        self.metrics.socket_messages.inc_by(relayed.from_client.messages + relayed.from_pod.messages);
        exchange.socket_in = relayed.from_client.bytes;
        exchange.bytes_out = relayed.from_pod.bytes;
        exchange.resumed(relayed.attached);
        exchange.went_to(pods.pod.clone());
        if let Some(socket) = pods.socket.get().filter(|_| relayed.end.is_clients()) {
            socket.client_has_left();
        }
        exchange.ended(Outcome::Socket(relayed.end.name()));
    }
}

/// The pods' sides of one client's socket, one after the other.
struct Attachments {
    again: Again,
    socket: Known,
    moves: Option<watch::Receiver<Option<Place>>>,
    /// The pod of the last side, and its life at that time.
    pod: Arc<Pod>,
    life: Place,
    is_new_life: bool,
    /// The pod was alive when the side was attached: then `life` is the life that the side is of.
    is_life_sure: bool,
    /// The pod has closed the last side, and is to be probed before it is asked for another.
    was_closed: bool,
    /// No pod has taken the socket where the client lives now.
    was_in_vain: bool,
    busy: Option<Busy>,
    /// Where the side before this one stands, which still counts there.
    left: Option<(Place, Option<Busy>)>,
    facade: Arc<Facade>,
    member: Arc<Mutex<Option<Membership>>>,
}

/// A socket among those of its client's session, once that is known.
type Known = Arc<OnceLock<Socket>>;

/// The SyncPlay group that a socket's client is a member of, and the pod in whose memory it is.
struct Membership {
    group: String,
    place: Place,
}

/// Sockets that are attached anew by one worker at once. Those of a dead pod all come at the same moment, and requests come
/// before them.
pub(super) const AT_ONCE: usize = 64;

/// The time over which the sockets of a dead pod begin to look for another.
const SPREAD: Duration = Duration::from_millis(200);

/// Time between two looks whether the session of a socket is known by now.
const LOOK: Duration = Duration::from_secs(1);

/// Longest time for a pod that has closed a socket to be probed.
const PROBED: Duration = Duration::from_secs(1);

/// Time between two attempts while no pod takes the socket.
const PAUSE: Duration = Duration::from_millis(250);

impl Attachments {
    fn new(proxy: &Arc<Proxy>, asking: &Asking<'_>, pod: Arc<Pod>, known: Option<Socket>) -> Attachments {
        let socket = Known::default();
        let moves = known.map(|known| socket.get_or_init(|| known).session().moves());
        let facade = asking.pool.facade.clone();
        let (life, pod_is_alive) = (Place::of(&pod), pod.status().is_alive());
        Attachments {
            again: Again::of(proxy, asking),
            socket,
            moves,
            pod,
            life,
            is_new_life: false,
            is_life_sure: pod_is_alive,
            was_closed: false,
            was_in_vain: false,
            busy: None,
            left: None,
            facade,
            member: Arc::default(),
        }
    }

    fn session(&self) -> Option<&Arc<Session>> {
        self.socket.get().map(Socket::session)
    }

    /// Waits until the client's session is known. Its socket may be there first, where the proxy has not seen its log-in.
    async fn until_known(&mut self) {
        if !self.again.proxy().carries_over() {
            return std::future::pending().await;
        }
        loop {
            time::sleep(LOOK).await;
            let Some(session) = self.again.session() else { continue };
            let socket = session.socket_of(self.again.teller(&session));
            // Its pod has greeted it long ago, and may have made it a member of a group; and it may live elsewhere already.
            socket.greeted(self.pod.id);
            if let Some(member) = &*self.member.lock() {
                session.joined(member.place);
            }
            self.moves = Some(session.moves());
            self.socket.get_or_init(|| socket);
            return;
        }
    }

    /// Waits until the pod that has closed the last side was probed.
    async fn probed(&self) {
        let mut probes = self.pod.probes();
        if self.pod.status().is_alive() {
            health::doubtful(&self.pod);
            // The pod holds the sender.
            let _ = time::timeout(PROBED, probes.changed()).await;
        }
    }

    /// Asks the pods once, as the client did.
    async fn ask(&mut self) -> Attempt {
        let proxy = self.again.proxy().clone();
        let answered = match self.again.ask().await {
            Ok(answered) => answered,
            Err(Refusal::DeadToken) => return Attempt::Refused,
            Err(_) => return Attempt::Nobody,
        };
        let pod = answered.offered.decision.pod.clone();
        let mut answer = answered.offered.answer;
        let upgrade = hyper::upgrade::on(&mut answer);
        let (head, _) = answer.into_parts();
        if head.status == StatusCode::FORBIDDEN {
            return Attempt::Refused;
        }
        let key = self.again.headers().get(header::SEC_WEBSOCKET_KEY).cloned();
        if !handshake::is_opened(&head, key.as_ref()) {
            return Attempt::Nobody;
        }
        let Ok(upgraded) = upgrade.await else {
            return Attempt::Nobody;
        };
        tracing::info!(from = &*self.pod.name, to = &*pod.name, "socket attached anew");
        if let Some(socket) = self.socket.get() {
            socket.leaves();
        }
        let (life, busy) = (Place::of(&pod), Some(pod.count_socket()));
        let (left, was_busy) = (std::mem::replace(&mut self.life, life), std::mem::replace(&mut self.busy, busy));
        self.is_new_life = left != life;
        self.is_life_sure = pod.status().is_alive();
        self.left = Some((left, was_busy));
        self.pod = pod;
        Attempt::Opened(Box::new(websocket::pod_side(upgraded, &proxy.site.websocket).await))
    }
}

enum Attempt {
    Opened(Box<PodSide>),
    /// The pods do not know the client.
    Refused,
    /// No pod could be asked, or none opened it.
    Nobody,
}

impl websocket::Pods<TokioIo<Upgraded>> for Attachments {
    async fn attach(&mut self) -> Option<PodSide> {
        self.was_in_vain = false;
        let proxy = self.again.proxy().clone();
        let end = time::Instant::now() + proxy.site.forward.hold;
        if std::mem::take(&mut self.was_closed) {
            self.probed().await;
        }
        if !self.pod.status().is_alive() {
            // Requests that are held find the client's new home first.
            time::sleep(SPREAD.mul_f64(jitter::fraction())).await;
        }
        while time::Instant::now() < end && !proxy.shutdown.is_stopping() {
            if self.is_over() {
                return None;
            }
            let attempt = {
                // Nobody closes the semaphore.
                let _turn = proxy.attaching.acquire().await;
                self.ask().await
            };
            match attempt {
                Attempt::Opened(side) => return Some(*side),
                // Where every pod is asked already, a refusal is final unless its home is on its way back.
                Attempt::Refused if self.socket.get().is_none() && self.pod.status().is_alive() => return None,
                Attempt::Refused | Attempt::Nobody => time::sleep(PAUSE).await,
            }
        }
        self.was_in_vain = true;
        None
    }

    async fn moved(&mut self) {
        loop {
            let Some(moves) = &mut self.moves else {
                self.until_known().await;
                continue;
            };
            let hold = self.again.proxy().site.forward.hold;
            tokio::select! {
                changed = moves.changed() => {
                    if changed.is_err() {
                        return std::future::pending().await;
                    }
                    let home = *moves.borrow_and_update();
                    // A session that was ended has no home, and nobody takes its socket.
                    if home.is_none_or(|home| home.pod != self.pod.id) {
                        return;
                    }
                }
                // Who lives where nobody would take his socket would be deaf for as long as the pod before lives on.
                () = time::sleep(hold), if self.was_in_vain => {
                    self.was_in_vain = false;
                    if moves.borrow().is_some_and(|home| home.pod != self.pod.id) {
                        return;
                    }
                }
            }
        }
    }

    fn closed(&mut self) {
        self.was_closed = true;
    }

    fn lost(&mut self) {
        self.busy = None;
        if let Some(socket) = self.socket.get() {
            socket.leaves();
        }
    }

    fn left(&mut self) -> impl Future<Output = ()> + Send + 'static {
        let (proxy, session, left) = (self.again.proxy().clone(), self.session().cloned(), self.left.take());
        async move {
            // The one of these two that is counted there is let go with the wait.
            let (Some(session), Some((from, _busy))) = (session, left) else { return };
            tokio::select! {
                () = proxy.bring_channels(&session, from) => {}
                () = proxy.shutdown.stopping() => {}
            }
        }
    }

    fn word(&mut self) -> Option<String> {
        let place = Place::of(&self.pod);
        // A group dies with its pod, and its members are told as if they had left.
        let member = self.member.lock().take_if(|member| member.place != place)?;
        if let Some(session) = self.session() {
            session.left(member.place);
        }
        Some(message::group_left(&member.group))
    }

    fn is_over(&self) -> bool {
        self.session().is_some_and(|session| session.is_dead())
    }

    fn is_new_life(&self) -> bool {
        self.is_new_life
    }

    fn passing(&self) -> impl Passing + 'static {
        Face {
            facade: self.facade.clone(),
            pod: self.pod.clone(),
            socket: self.socket.clone(),
            is_greeted: AtomicBool::new(false),
            member: self.member.clone(),
            epoch: self.is_life_sure.then_some(self.life.epoch),
        }
    }
}

/// Shows the one server in a pod's messages, and hears what they say of the client's standing there.
struct Face {
    facade: Arc<Facade>,
    pod: Arc<Pod>,
    socket: Known,
    is_greeted: AtomicBool,
    /// The pod's life that the side is of, if it is known.
    epoch: Option<Epoch>,
    member: Arc<Mutex<Option<Membership>>>,
}

impl Face {
    fn greet(&self) {
        if !self.is_greeted.swap(true, Ordering::Relaxed)
            && let Some(socket) = self.socket.get()
        {
            socket.greeted(self.pod.id);
        }
    }

    fn hear(&self, text: &str) {
        self.greet();
        let Some(heard) = message::group(text) else { return };
        let (place, known) = (Place::of(&self.pod), self.socket.get().map(Socket::session).into_iter());
        match heard {
            Group::Joined(group) => {
                known.for_each(|session| session.joined(place));
                *self.member.lock() = Some(Membership { group, place });
            }
            Group::Left => {
                known.for_each(|session| session.left(place));
                *self.member.lock() = None;
            }
        }
    }
}

/// A pod's side of a socket.
type PodSide = websocket::PodSide<TokioIo<Upgraded>>;

impl Passing for Face {
    fn to_client(&self, text: &str) -> Option<String> {
        self.hear(text);
        self.facade.message_to_client(&self.pod, text)
    }

    fn pieces_to_client(&self) -> Option<Replacer> {
        // A message this long tells nothing of a group.
        self.greet();
        self.facade.guise(&self.pod).map(|guise| guise.pieces_to_client())
    }

    fn to_pod(&self, text: &str) -> Option<String> {
        self.facade.message_to_pod(&self.pod, text)
    }

    fn farewell(&self) {
        health::farewell(&self.pod, self.epoch);
    }
}
