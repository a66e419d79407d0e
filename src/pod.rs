//! The pods and what is known of each: its state, its epoch, its load.
//!
//! A pod's status is one word that every worker reads without a lock. `health` and `discovery`
//! write it. The request path only reads it, and reports failures through [`Pod::suspect`].

mod concurrency_limit;
mod extra_calls;
mod instance;
mod pool;
mod status;
mod vitals;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::{self, Instant},
};

pub use concurrency_limit::{Admitted, ConcurrencyLimit, Pressure, Slot, Urgency, Waiting};
pub use extra_calls::ExtraCalls;
pub use instance::PodInstance;
pub use pool::{Pool, Pools};
pub use status::{Epoch, State, Status};
pub use vitals::{Condition, Moment};

use vitals::Vitals;

/// One pod as the operator names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodConfig {
    /// The name in logs, metrics and pages; unique within its pool.
    pub name: String,
    /// `host:port`; the host is a name or an address (IPv6 in brackets).
    pub authority: String,
}

/// A number that no other pod of this process has or ever had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodId(u32);

/// What a pod reports about itself in `GET /System/Info/Public`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// The server's id, 32 lower-case hex digits.
    pub id: String,
    pub version: String,
    /// The server's name, which its administrator gives it.
    pub name: String,
    /// Whether its set-up wizard was completed, as it believes.
    pub is_set_up: Option<bool>,
}

/// Why the request path suspects a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspicion {
    /// It refused a connection: its process is gone, or does not listen.
    Refused,
    /// Its process announced its end on its sockets: it listens only for a moment more.
    Farewell,
    /// A connection could not be made in time, or broke before an answer, or an answer came too
    /// late.
    Broken,
}

/// Time between two checks whether a pod that is down still answers its probes.
const LOOK: Duration = Duration::from_millis(500);

/// Sockets that are pinged at once to see whether their pod lives.
const CALLED_SOCKETS: usize = 3;

/// One pod, shared by all parts of the proxy.
pub struct Pod {
    pub id: PodId,
    pub name: Arc<str>,
    pub pool: Arc<str>,
    /// `host:port`.
    pub authority: Arc<str>,
    status: AtomicU64,
    changes: watch::Sender<Status>,
    /// When its state last changed, in milliseconds of Unix time.
    since_ms: AtomicU64,
    info: ArcSwapOption<Info>,
    may_be_legacy: AtomicBool,
    drain_round: AtomicU32,
    gives_up_lead: AtomicBool,
    is_removed: AtomicBool,
    requests: AtomicUsize,
    sockets: AtomicUsize,
    vitals: Vitals,
    concurrency: Arc<ConcurrencyLimit>,
    extra_calls: ExtraCalls,
    /// Asks sockets to show whether it lives.
    socket_call: Notify,
    refused: AtomicBool,
    broken: AtomicBool,
    answers_checks: AtomicBool,
    farewell: AtomicBool,
    is_over: AtomicBool,
    probe: Notify,
    probes: watch::Sender<()>,
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
            since_ms: AtomicU64::new(unix_ms()),
            info: ArcSwapOption::empty(),
            may_be_legacy: AtomicBool::new(true),
            drain_round: AtomicU32::new(0),
            gives_up_lead: AtomicBool::new(false),
            is_removed: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            sockets: AtomicUsize::new(0),
            vitals: Vitals::default(),
            concurrency: Arc::default(),
            extra_calls: ExtraCalls::default(),
            socket_call: Notify::new(),
            refused: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            answers_checks: AtomicBool::new(true),
            farewell: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            probe: Notify::new(),
            probes: watch::Sender::new(()),
            failures: Mutex::default(),
        })
    }

    /// Whether it is the pod that this configuration names.
    pub fn matches(&self, config: &PodConfig) -> bool {
        *self.name == *config.name && *self.authority == *config.authority
    }

    /// The part that a decision reads: one load of one word.
    pub fn status(&self) -> Status {
        Status::from_word(self.status.load(Ordering::Acquire))
    }

    /// Changes the status in one step. Returns the status before and after.
    pub fn change(&self, to: impl FnOnce(Status) -> Status) -> (Status, Status) {
        let mut before = Status::UNKNOWN;
        let mut after = before;
        // The watch channel's lock puts writers in one order; readers on the request path only load
        // the word.
        self.changes.send_if_modified(|seen| {
            before = *seen;
            after = to(before);
            *seen = after;
            if before.state != after.state {
                self.since_ms.store(unix_ms(), Ordering::Relaxed);
            }
            self.status.store(after.to_word(), Ordering::Release);
            before != after
        });
        (before, after)
    }

    /// When its state last changed, for people to read.
    pub fn since(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.since_ms.load(Ordering::Relaxed))
    }

    /// Reports every change of the status.
    pub fn changes(&self) -> watch::Receiver<Status> {
        self.changes.subscribe()
    }

    /// Ends when the pod is down and either refuses connections or does not answer its probes. A
    /// pod that reports that it is unhealthy, such as without its database, lives and may still
    /// answer. A pod that announced its end may still answer the requests it has. Cancel safe.
    pub async fn await_down(&self) {
        loop {
            self.until(|status| status.state == State::Down && !self.is_over()).await;
            if !self.status().accepts || !self.answers_checks.load(Ordering::Relaxed) {
                return;
            }
            let ended = self.until(|status| status.state != State::Down || !status.accepts);
            // A pod that falls silent changes no status, so this looks again.
            let _ = time::timeout(LOOK, ended).await;
        }
    }

    /// Ends when the pod is not down. Cancel safe.
    pub async fn back(&self) {
        self.until(|status| status.state != State::Down).await;
    }

    /// Records whether the pod answered its last probe, however late, healthy or not.
    pub fn set_answers_checks(&self, answers: bool) {
        self.answers_checks.store(answers, Ordering::Relaxed);
    }

    /// Ends when the pod is down and takes no connections. Cancel safe.
    pub async fn await_unreachable(&self) {
        self.until(|status| status.state == State::Down && !status.accepts).await;
    }

    async fn until(&self, holds: impl Fn(&Status) -> bool) {
        let mut changes = self.changes();
        // The sender lives as long as `self`, so only the status can end the wait.
        let _ = changes.wait_for(holds).await;
    }

    /// What the pod reports about itself, once the prober has asked it.
    pub fn info(&self) -> Option<Arc<Info>> {
        self.info.load_full()
    }

    /// Passes the pod's info to `look` without a new reference; for the request path.
    pub fn with_info<T>(&self, look: impl FnOnce(&Info) -> T) -> Option<T> {
        self.info.load().as_deref().map(look)
    }

    /// The number of the operator's last order to drain it.
    pub fn drain_round(&self) -> u32 {
        self.drain_round.load(Ordering::Relaxed)
    }

    /// Begins the operator's new order to drain it, which replaces earlier ones.
    pub fn begin_drain_round(&self) -> u32 {
        self.drain_round.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Whether it gives up the lead of its pool while it drains.
    pub fn gives_up_lead(&self) -> bool {
        self.gives_up_lead.load(Ordering::Relaxed)
    }

    /// Sets or clears that. Receivers of status changes are notified of this too.
    pub fn set_gives_up_lead(&self, yields: bool) {
        if self.gives_up_lead.swap(yields, Ordering::Relaxed) != yields {
            self.changes.send_modify(|_| {});
        }
    }

    /// Whether its source no longer names it. It serves its clients until they have moved away.
    pub fn is_removed(&self) -> bool {
        self.is_removed.load(Ordering::Relaxed)
    }

    /// Its source no longer names it. Returns whether it continues to serve: then it drains.
    fn remove(&self) -> bool {
        if self.status().state == State::Ready {
            // What the operator ordered for an earlier drain no longer holds.
            self.set_gives_up_lead(false);
        }
        let (_, after) = self.change(|status| match status.state {
            State::Ready | State::Draining => Status { state: State::Draining, ..status },
            State::Starting | State::Down => Status { state: State::Down, accepts: false, ..status },
        });
        self.is_removed.store(after.is_alive(), Ordering::Relaxed);
        after.is_alive()
    }

    fn set_down(&self) {
        self.change(|status| Status { state: State::Down, accepts: false, ..status });
    }

    /// Its source names it again: it serves all clients.
    fn keep(&self) {
        if self.is_removed.swap(false, Ordering::Relaxed) {
            self.begin_drain_round();
            self.change(|status| match status.state {
                State::Draining => Status { state: State::Ready, ..status },
                _ => status,
            });
        }
    }

    /// Whether its version is before 12.0, or may be because it has not reported one yet.
    pub fn may_be_legacy(&self) -> bool {
        self.may_be_legacy.load(Ordering::Relaxed)
    }

    /// Its set-up wizard was completed just now.
    pub fn was_set_up(&self) {
        if let Some(info) = self.info() {
            self.info.store(Some(Arc::new(Info { is_set_up: Some(true), ..(*info).clone() })));
        }
    }

    /// Stores what the pod reported about itself.
    pub fn set_info(&self, info: Info) {
        self.may_be_legacy.store(info.version.starts_with("10."), Ordering::Relaxed);
        self.info.store(Some(Arc::new(info)));
    }

    /// Whether the pod's present process announced its end: it takes no new request and no new
    /// socket. This holds until the prober sees that the process has ended.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// A socket of epoch `of` received the pod's farewell; `None` stands for the present epoch.
    /// Returns the status before and after, if that is news. A late farewell says nothing about the
    /// next epoch.
    pub fn end_life(&self, of: Option<Epoch>) -> Option<(Status, Status)> {
        let mut is_news = false;
        let changed = self.change(|status| {
            is_news = status.state != State::Starting
                && status.accepts
                && !self.is_over()
                && of.is_none_or(|epoch| epoch == status.epoch);
            if !is_news {
                return status;
            }
            // A reader that sees the new status must see this too.
            self.is_over.store(true, Ordering::Release);
            Status { state: State::Down, ..status }
        });
        if is_news {
            self.suspect(Suspicion::Farewell);
        }
        is_news.then_some(changed)
    }

    /// The process that announced its end has ended.
    pub fn life_has_ended(&self) {
        if self.is_over.swap(false, Ordering::AcqRel) {
            self.changes.send_modify(|_| {});
        }
    }

    /// Reports the end of each probe.
    pub fn probes(&self) -> watch::Receiver<()> {
        self.probes.subscribe()
    }

    /// A probe has ended, and its result is applied.
    pub fn was_probed(&self) {
        self.probes.send_replace(());
    }

    /// Records a failure that the request path met: the next probe comes at once and takes it into
    /// account.
    pub fn suspect(&self, doubt: Suspicion) {
        match doubt {
            Suspicion::Refused => self.refused.store(true, Ordering::Release),
            Suspicion::Farewell => self.farewell.store(true, Ordering::Release),
            Suspicion::Broken => self.broken.store(true, Ordering::Release),
        }
        self.probe.notify_one();
    }

    /// Lets the prober probe now.
    pub fn probe_now(&self) {
        self.probe.notify_one();
    }

    /// Whether the request path found that no process listens, since the last probe.
    pub fn is_suspected_gone(&self) -> bool {
        self.refused.load(Ordering::Acquire)
    }

    /// Takes the suspicion that the request path left, the gravest first.
    pub fn take_suspicion(&self) -> Option<Suspicion> {
        let refused = self.refused.swap(false, Ordering::AcqRel);
        let farewell = self.farewell.swap(false, Ordering::AcqRel);
        let broken = self.broken.swap(false, Ordering::AcqRel);
        let lighter = || if farewell { Some(Suspicion::Farewell) } else { broken.then_some(Suspicion::Broken) };
        if refused { Some(Suspicion::Refused) } else { lighter() }
    }

    /// Ends when the request path left a suspicion. Cancel safe.
    pub async fn await_suspicion(&self) {
        self.probe.notified().await;
    }

    /// The pod has just answered something, whatever it was. Bytes of a body are no sign of life: the
    /// kernel may have kept them since before the process stopped.
    pub fn record_life(&self) {
        self.vitals.record_life();
    }

    /// Has some of its sockets pinged, another time others: a pong shows that it lives.
    pub fn call_sockets(&self) {
        (0..self.sockets.load(Ordering::Relaxed).min(CALLED_SOCKETS)).for_each(|_| self.socket_call.notify_one());
    }

    /// Waits until this socket is to be pinged. Cancel safe.
    pub async fn await_socket_call(&self) {
        self.socket_call.notified().await;
    }

    /// Whether it has answered anything since.
    pub fn was_heard_since(&self, moment: Moment) -> bool {
        self.vitals.was_heard_since(moment)
    }

    /// A health check that began at this moment was answered well, however late.
    pub fn record_good_check(&self, began: Moment) {
        self.vitals.record_good_check(began);
    }

    /// Whether a health check that began since was answered well, however late.
    pub fn was_checked_since(&self, moment: Moment) -> bool {
        self.vitals.was_checked_since(moment)
    }

    /// How much it is given to do at once.
    pub fn concurrency(&self) -> &Arc<ConcurrencyLimit> {
        &self.concurrency
    }

    /// How much jellypin may ask of it beyond what clients ask.
    pub fn extra_calls(&self) -> &ExtraCalls {
        &self.extra_calls
    }

    /// How it does while it serves.
    pub fn condition(&self) -> Condition {
        self.vitals.condition()
    }

    /// Sets that; returns what it was.
    pub fn set_condition(&self, condition: Condition) -> Condition {
        self.vitals.set_condition(condition)
    }

    /// Whether it serves and is likely to answer.
    pub fn can_answer(&self) -> bool {
        self.status().is_alive() && matches!(self.condition(), Condition::Well | Condition::Late)
    }

    /// What its health checks take at present.
    pub fn check_time(&self) -> Duration {
        self.vitals.check_time()
    }

    pub fn set_check_time(&self, time: Duration) {
        self.vitals.set_check_time(time);
    }

    /// How often its share of new clients is halved, since it is slow, cold or busy.
    pub fn halvings(&self) -> u8 {
        self.vitals.halvings()
    }

    pub fn set_halvings(&self, halvings: u8) {
        self.vitals.set_halvings(halvings);
    }

    /// Sessions on it that play something, at the last count.
    pub fn playing(&self) -> usize {
        self.vitals.playing()
    }

    pub fn set_playing(&self, sessions: usize) {
        self.vitals.set_playing(sessions);
    }

    /// Counts a gateway-type failure; returns how many there were within this time.
    pub fn count_failure(&self, window: Duration) -> u32 {
        let now = Instant::now();
        let mut failures = self.failures.lock();
        failures.retain(|at| now.duration_since(*at) < window);
        failures.push(now);
        failures.len().try_into().unwrap_or(u32::MAX)
    }

    /// Requests and sockets in progress.
    pub fn load(&self) -> usize {
        self.requests.load(Ordering::Relaxed) + self.sockets.load(Ordering::Relaxed)
    }

    /// Open sockets.
    pub fn open_sockets(&self) -> usize {
        self.sockets.load(Ordering::Relaxed)
    }

    /// Counts a request until the guard is dropped.
    pub fn count_request(self: &Arc<Self>) -> LoadGuard {
        self.requests.fetch_add(1, Ordering::Relaxed);
        LoadGuard { pod: self.clone(), socket: false }
    }

    /// Counts a socket until the guard is dropped.
    pub fn count_socket(self: &Arc<Self>) -> LoadGuard {
        self.sockets.fetch_add(1, Ordering::Relaxed);
        LoadGuard { pod: self.clone(), socket: true }
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

impl fmt::Debug for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} ({})", self.pool, self.name, self.status().state.as_str())
    }
}

/// Counts a request or socket in progress until it is dropped.
#[derive(Debug)]
pub struct LoadGuard {
    pod: Arc<Pod>,
    socket: bool,
}

impl LoadGuard {
    pub fn pod(&self) -> &Arc<Pod> {
        &self.pod
    }
}

impl Drop for LoadGuard {
    fn drop(&mut self) {
        let count = if self.socket { &self.pod.sockets } else { &self.pod.requests };
        count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn pod(name: &str) -> Arc<Pod> {
        let config = PodConfig { name: name.into(), authority: "127.0.0.1:1".into() };
        Pod::new(&"pool".into(), &config)
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
    fn a_farewell_ends_the_life_that_says_it_and_no_other() {
        let pod = pod("a");
        let ready = |epoch| pod.change(|_| Status { state: State::Ready, accepts: true, epoch: Epoch(epoch) });
        ready(1);
        assert!(pod.end_life(Some(Epoch(1))).is_some() && pod.is_over());
        assert_eq!(pod.status(), Status { state: State::Down, accepts: true, epoch: Epoch(1) });
        assert!(pod.end_life(Some(Epoch(1))).is_none(), "its other sockets hear it too");
        assert_eq!(pod.take_suspicion(), Some(Suspicion::Farewell));
        pod.life_has_ended();
        ready(2);
        assert!(pod.end_life(Some(Epoch(1))).is_none() && !pod.is_over(), "one that is heard late");
        assert!(pod.end_life(None).is_some(), "one of a socket that was opened while it started");
    }

    #[test]
    fn the_heavier_doubt_is_taken_first_and_both_are_gone_then() {
        let pod = pod("a");
        pod.suspect(Suspicion::Broken);
        pod.suspect(Suspicion::Refused);
        pod.suspect(Suspicion::Farewell);
        assert_eq!(pod.take_suspicion(), Some(Suspicion::Refused));
        assert_eq!(pod.take_suspicion(), None);
    }
}
