//! The pods and what is known of each: its state, its epoch, its load.
//!
//! A pod's status is one word that every worker reads without a lock. `health` and `discovery` write it; the request path
//! only reads it, and says what it met through [`Pod::suspect`].

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

/// One pod as the operator names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodConfig {
    /// The name in logs, metrics and pages; unique within its pool.
    pub name: String,
    /// `host:port`; the host is a name or an address (IPv6 in brackets).
    pub authority: String,
}

/// A number that no other pod of this process has, nor ever had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodId(u32);

/// The number of a pod's present life. It grows each time the pod comes back as a new process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u32);

/// Where a pod is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// Not yet known to be healthy since the proxy or the pod began.
    Starting = 0,
    /// Serves everybody.
    Ready = 1,
    /// Keeps its clients and gets no new ones.
    Draining = 2,
    /// Serves nobody while another pod can.
    Down = 3,
}

impl State {
    pub const ALL: [State; 4] = [State::Starting, State::Ready, State::Draining, State::Down];

    pub fn name(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Ready => "ready",
            State::Draining => "draining",
            State::Down => "down",
        }
    }
}

/// All that a decision needs to know of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    pub state: State,
    /// Whether it takes connections, as far as is known. A pod that is down for its health may still take them.
    pub accepts: bool,
    pub epoch: Epoch,
}

impl Status {
    const UNKNOWN: Status = Status { state: State::Starting, accepts: true, epoch: Epoch(0) };

    /// Whether clients that belong to this pod are served by it.
    pub fn is_alive(self) -> bool {
        matches!(self.state, State::Ready | State::Draining)
    }

    fn to_word(self) -> u64 {
        (u64::from(self.epoch.0) << 16) | (u64::from(self.accepts) << 8) | self.state as u64
    }

    fn from_word(word: u64) -> Status {
        Status {
            state: State::ALL[(word & 0x3) as usize],
            accepts: word & 0x100 != 0,
            epoch: Epoch((word >> 16) as u32),
        }
    }
}

/// What a pod says of itself in `GET /System/Info/Public`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// The server's id, 32 lower-case hex digits.
    pub id: String,
    pub version: String,
}

/// Why the request path doubts a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It refused a connection: its process is gone, or does not listen.
    Refused,
    /// A connection could not be made in time, or broke before an answer.
    Broken,
}

/// One pod, shared by everybody who has to do with it.
pub struct Pod {
    pub id: PodId,
    pub name: Arc<str>,
    pub pool: Arc<str>,
    /// `host:port`.
    pub authority: Arc<str>,
    status: AtomicU64,
    changes: watch::Sender<Status>,
    info: ArcSwapOption<Info>,
    may_be_old: AtomicBool,
    drain_round: AtomicU32,
    yields: AtomicBool,
    leaves: AtomicBool,
    requests: AtomicUsize,
    sockets: AtomicUsize,
    born: Instant,
    answered_ms: AtomicU64,
    refused: AtomicBool,
    broken: AtomicBool,
    probe: Notify,
    failures: Mutex<Vec<Instant>>,
}

impl Pod {
    pub fn new(pool: &Arc<str>, config: &PodConfig) -> Arc<Pod> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Arc::new(Pod {
            id: PodId(NEXT.fetch_add(1, Ordering::Relaxed)),
            name: config.name.as_str().into(),
            pool: pool.clone(),
            authority: config.authority.as_str().into(),
            status: AtomicU64::new(Status::UNKNOWN.to_word()),
            changes: watch::Sender::new(Status::UNKNOWN),
            info: ArcSwapOption::empty(),
            may_be_old: AtomicBool::new(true),
            drain_round: AtomicU32::new(0),
            yields: AtomicBool::new(false),
            leaves: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            sockets: AtomicUsize::new(0),
            born: Instant::now(),
            answered_ms: AtomicU64::new(0),
            refused: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            probe: Notify::new(),
            failures: Mutex::default(),
        })
    }

    /// Whether it is the pod that is configured so.
    pub fn is(&self, config: &PodConfig) -> bool {
        *self.name == *config.name && *self.authority == *config.authority
    }

    pub fn status(&self) -> Status {
        Status::from_word(self.status.load(Ordering::Acquire))
    }

    /// Changes the status as one step. Answers the status before and after.
    pub fn change(&self, to: impl FnOnce(Status) -> Status) -> (Status, Status) {
        let mut before = Status::UNKNOWN;
        let mut after = before;
        // The watch channel's own lock puts writers in one order; readers on the request path only load the word.
        self.changes.send_if_modified(|seen| {
            before = *seen;
            after = to(before);
            *seen = after;
            self.status.store(after.to_word(), Ordering::Release);
            before != after
        });
        (before, after)
    }

    /// Hears of every change of the status.
    pub fn changes(&self) -> watch::Receiver<Status> {
        self.changes.subscribe()
    }

    /// Ends when the pod serves nobody any more. Cancel safe.
    pub async fn lost(&self) {
        let mut changes = self.changes();
        // The sender lives as long as `self`, so that the wait can only end by the state.
        let _ = changes.wait_for(|status| status.state == State::Down).await;
    }

    /// What the pod says of itself, once it was asked.
    pub fn info(&self) -> Option<Arc<Info>> {
        self.info.load_full()
    }

    /// Looks at what the pod says of itself without taking it along; for the request path.
    pub fn with_info<T>(&self, look: impl FnOnce(&Info) -> T) -> Option<T> {
        self.info.load().as_deref().map(look)
    }

    /// Which of the operator's words to drain it is the last.
    pub fn drain_round(&self) -> u32 {
        self.drain_round.load(Ordering::Relaxed)
    }

    /// The operator has said when to drain it: earlier words hold no longer.
    pub fn next_drain(&self) -> u32 {
        self.drain_round.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Whether, while it drains, it gives up the lead of its pool.
    pub fn yields(&self) -> bool {
        self.yields.load(Ordering::Relaxed)
    }

    /// Says so, or takes it back. Whoever hears of the status hears of this too.
    pub fn set_yields(&self, yields: bool) {
        if self.yields.swap(yields, Ordering::Relaxed) != yields {
            self.changes.send_modify(|_| {});
        }
    }

    /// Whether its source names it no more. It serves its clients until they have left it.
    pub fn leaves(&self) -> bool {
        self.leaves.load(Ordering::Relaxed)
    }

    /// Its source names it no more. Says whether it goes on serving: then it drains.
    fn leave(&self) -> bool {
        if self.status().state == State::Ready {
            // What was said of an earlier drain holds no longer.
            self.set_yields(false);
        }
        let (_, after) = self.change(|status| match status.state {
            State::Ready | State::Draining => Status { state: State::Draining, ..status },
            State::Starting | State::Down => Status { state: State::Down, accepts: false, ..status },
        });
        self.leaves.store(after.is_alive(), Ordering::Relaxed);
        after.is_alive()
    }

    fn give_up(&self) {
        self.change(|status| Status { state: State::Down, accepts: false, ..status });
    }

    /// Its source names it again: it serves everybody.
    fn stay(&self) {
        if self.leaves.swap(false, Ordering::Relaxed) {
            self.next_drain();
            self.change(|status| match status.state {
                State::Draining => Status { state: State::Ready, ..status },
                _ => status,
            });
        }
    }

    /// Whether it is of the generation before 12.0, or may be: nothing is known of it yet.
    pub fn may_be_old(&self) -> bool {
        self.may_be_old.load(Ordering::Relaxed)
    }

    pub fn set_info(&self, info: Info) {
        self.may_be_old.store(info.version.starts_with("10."), Ordering::Relaxed);
        self.info.store(Some(Arc::new(info)));
    }

    /// The request path met a failure: the next probe comes at once and hears of it.
    pub fn suspect(&self, doubt: Doubt) {
        match doubt {
            Doubt::Refused => self.refused.store(true, Ordering::Release),
            Doubt::Broken => self.broken.store(true, Ordering::Release),
        }
        self.probe.notify_one();
    }

    /// Takes the doubt that the request path left, the heavier one first.
    pub fn take_doubt(&self) -> Option<Doubt> {
        let refused = self.refused.swap(false, Ordering::AcqRel);
        let broken = self.broken.swap(false, Ordering::AcqRel);
        if refused { Some(Doubt::Refused) } else { broken.then_some(Doubt::Broken) }
    }

    /// Ends when the request path left a doubt. Cancel safe.
    pub async fn doubted(&self) {
        self.probe.notified().await;
    }

    /// Live traffic got an answer from this pod just now.
    pub fn answered(&self) {
        self.answered_ms.store(self.born.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
    }

    /// Whether live traffic got an answer within this time.
    pub fn answered_within(&self, time: Duration) -> bool {
        let at = self.answered_ms.load(Ordering::Relaxed);
        let now = self.born.elapsed().as_millis() as u64 + 1;
        at != 0 && u128::from(now.saturating_sub(at)) <= time.as_millis()
    }

    /// Counts a failure of the gateway's kind; answers how many there were within this time.
    pub fn count_failure(&self, window: Duration) -> u32 {
        let now = Instant::now();
        let mut failures = self.failures.lock();
        failures.retain(|at| now.duration_since(*at) < window);
        failures.push(now);
        failures.len().try_into().unwrap_or(u32::MAX)
    }

    /// Requests and sockets under way.
    pub fn load(&self) -> usize {
        self.requests.load(Ordering::Relaxed) + self.sockets.load(Ordering::Relaxed)
    }

    pub fn open_sockets(&self) -> usize {
        self.sockets.load(Ordering::Relaxed)
    }

    /// Counts a request until the guard is dropped.
    pub fn count_request(self: &Arc<Self>) -> Busy {
        self.requests.fetch_add(1, Ordering::Relaxed);
        Busy { pod: self.clone(), socket: false }
    }

    /// Counts a socket until the guard is dropped.
    pub fn count_socket(self: &Arc<Self>) -> Busy {
        self.sockets.fetch_add(1, Ordering::Relaxed);
        Busy { pod: self.clone(), socket: true }
    }
}

impl fmt::Debug for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} ({})", self.pool, self.name, self.status().state.name())
    }
}

/// Something under way at a pod; gives itself back when dropped.
#[derive(Debug)]
pub struct Busy {
    pod: Arc<Pod>,
    socket: bool,
}

impl Busy {
    pub fn pod(&self) -> &Arc<Pod> {
        &self.pod
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let count = if self.socket { &self.pod.sockets } else { &self.pod.requests };
        count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The pods that serve a route: those that its source names, and those that serve still, though it names them no more.
pub struct Pool {
    pub name: Arc<str>,
    /// The pods' own BaseUrl: empty, or like `/jellyfin`.
    pub base_path: Arc<str>,
    pods: ArcSwap<Vec<Arc<Pod>>>,
    members: watch::Sender<()>,
    /// Of those who change the set, one after the other.
    changing: Mutex<()>,
}

impl Pool {
    pub fn new(name: &str, base_path: &str) -> Arc<Pool> {
        Arc::new(Pool {
            name: name.into(),
            base_path: base_path.into(),
            pods: ArcSwap::default(),
            members: watch::Sender::new(()),
            changing: Mutex::default(),
        })
    }

    /// The pods of this moment, in name order.
    pub fn pods(&self) -> arc_swap::Guard<Arc<Vec<Arc<Pod>>>> {
        self.pods.load()
    }

    /// The source names these. A pod that it names no more leaves, if it serves; else it is down at once, and so is one whose
    /// name is another's now.
    pub fn set_pods(&self, mut pods: Vec<Arc<Pod>>) {
        let _one = self.changing.lock();
        pods.iter().for_each(|pod| pod.stay());
        let mut leaving = Vec::new();
        for old in self.pods().iter().filter(|old| !pods.iter().any(|pod| pod.id == old.id)) {
            if pods.iter().any(|pod| pod.name == old.name) {
                old.give_up();
            } else if old.leave() {
                leaving.push(old.clone());
            }
        }
        pods.append(&mut leaving);
        self.replace(pods);
    }

    /// A pod that leaves has left: it is down. One that its source names again stays. Says whether it has left.
    pub fn let_go(&self, pod: &Pod) -> bool {
        let _one = self.changing.lock();
        if pod.leaves() {
            pod.give_up();
            self.replace(self.pods().iter().filter(|other| other.id != pod.id).cloned().collect());
        }
        pod.leaves()
    }

    fn replace(&self, mut pods: Vec<Arc<Pod>>) {
        pods.sort_by(|a, b| a.name.cmp(&b.name));
        self.pods.store(Arc::new(pods));
        self.members.send_replace(());
    }

    /// Hears of every change of the set.
    pub fn members(&self) -> watch::Receiver<()> {
        self.members.subscribe()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.name, self.pods())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str) -> Arc<Pod> {
        let config = PodConfig { name: name.into(), authority: "127.0.0.1:1".into() };
        Pod::new(&"pool".into(), &config)
    }

    #[test]
    fn a_status_survives_its_word() {
        for state in State::ALL {
            for accepts in [true, false] {
                let status = Status { state, accepts, epoch: Epoch(u32::MAX) };
                assert_eq!(Status::from_word(status.to_word()), status);
            }
        }
    }

    #[test]
    fn a_pod_that_does_not_serve_and_leaves_its_pool_is_down_and_the_others_are_untouched() {
        let (a, b) = (pod("a"), pod("b"));
        let pool = Pool::new("pool", "");
        pool.set_pods(vec![b.clone(), a.clone()]);
        assert_eq!(pool.pods()[0].name, a.name, "pods stand in name order");
        pool.set_pods(vec![b.clone()]);
        assert_eq!(a.status(), Status { state: State::Down, accepts: false, epoch: Epoch(0) });
        assert_eq!(b.status(), Status::UNKNOWN);
        assert_eq!(names(&pool), ["b"]);
    }

    fn ready(pod: &Pod) {
        pod.change(|status| Status { state: State::Ready, ..status });
    }

    fn names(pool: &Pool) -> Vec<String> {
        pool.pods().iter().map(|pod| pod.name.to_string()).collect()
    }

    #[test]
    fn a_pod_that_serves_drains_before_it_leaves_and_may_come_back() {
        let (a, b) = (pod("a"), pod("b"));
        let pool = Pool::new("pool", "");
        pool.set_pods(vec![a.clone(), b.clone()]);
        ready(&a);
        for _ in 0..2 {
            pool.set_pods(vec![b.clone()]);
            assert_eq!(
                (a.status().state, a.leaves(), names(&pool)),
                (State::Draining, true, vec!["a".into(), "b".into()])
            );
        }
        pool.set_pods(vec![a.clone(), b.clone()]);
        assert_eq!((a.status().state, a.leaves()), (State::Ready, false));
        pool.let_go(&a);
        assert_eq!(names(&pool), ["a", "b"], "it is named again");
        pool.set_pods(vec![b.clone()]);
        pool.let_go(&a);
        assert_eq!((a.status().state, names(&pool)), (State::Down, vec!["b".to_owned()]));
    }

    #[test]
    fn a_pod_whose_name_is_anothers_now_is_down_at_once() {
        let (old, new) = (pod("a"), pod("a"));
        let pool = Pool::new("pool", "");
        pool.set_pods(vec![old.clone()]);
        ready(&old);
        pool.set_pods(vec![new.clone()]);
        assert_eq!((old.status().state, pool.pods().len(), pool.pods()[0].id), (State::Down, 1, new.id));
    }

    #[test]
    fn what_is_under_way_gives_itself_back() {
        let pod = pod("a");
        let (request, socket) = (pod.count_request(), pod.count_socket());
        assert_eq!((pod.load(), pod.open_sockets()), (2, 1));
        drop(socket);
        assert_eq!((pod.load(), pod.open_sockets()), (1, 0));
        drop(request);
        assert_eq!(pod.load(), 0);
    }

    #[test]
    fn the_heavier_doubt_is_taken_first_and_both_are_gone_then() {
        let pod = pod("a");
        pod.suspect(Doubt::Broken);
        pod.suspect(Doubt::Refused);
        assert_eq!(pod.take_doubt(), Some(Doubt::Refused));
        assert_eq!(pod.take_doubt(), None);
    }
}
