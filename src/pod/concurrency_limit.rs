//! How much a pod is given to do at once, and who waits meanwhile.
//!
//! A request counts until its answer's head. How many may count grows and shrinks with what the
//! pod's health checks take: they wait in the same queue as everything else that the pod does. So
//! an overloaded pod's queue is kept here, where requests are told apart.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// What a request is for, the most urgent first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Urgency {
    /// Somebody watches or listens, or loses the session if it fails. It never waits.
    Playing,
    /// Somebody looks at the page that it is for.
    #[default]
    Interactive,
    /// A picture, or something that nobody waits for.
    Background,
    /// An idle socket is attached anew.
    Idle,
}

/// Requests at once that a pod with a long life gets at first.
const FIRST: usize = 128;

/// The same for a pod that has just begun: its code is cold.
const FIRST_COLD: usize = 16;

/// The fewest, and the most.
const FEWEST: usize = 6;
const MOST: usize = 4096;

/// A pod's requests under way before their answers' heads, and those that wait.
#[derive(Debug)]
pub struct ConcurrencyLimit {
    limit: AtomicUsize,
    under_way: AtomicUsize,
    /// The most that were under way since the limit was last looked at.
    peak: AtomicUsize,
    waiting: AtomicUsize,
    queues: Mutex<[VecDeque<oneshot::Sender<Slot>>; 3]>,
}

/// A request's slot, until it is dropped.
#[derive(Debug)]
pub struct Slot(Option<Arc<ConcurrencyLimit>>);

/// A request that waits for its slot. Dropping it leaves the queue.
#[derive(Debug)]
pub struct Waiting {
    slot: oneshot::Receiver<Slot>,
}

/// What becomes of a request at once.
#[derive(Debug)]
pub enum Admitted {
    Now(Slot),
    Later(Waiting),
    /// Too many wait already.
    Full,
}

impl Default for ConcurrencyLimit {
    fn default() -> ConcurrencyLimit {
        ConcurrencyLimit {
            limit: AtomicUsize::new(FIRST),
            under_way: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            queues: Mutex::default(),
        }
    }
}

impl ConcurrencyLimit {
    /// Takes a slot, or a place in the queue, in which so many may wait. Without a queue this is two
    /// atomic steps.
    pub fn admit(self: &Arc<Self>, urgency: Urgency, queue: usize) -> Admitted {
        if urgency == Urgency::Playing {
            self.count(self.under_way.fetch_add(1, Ordering::SeqCst) + 1);
            return Admitted::Now(Slot(Some(self.clone())));
        }
        if self.waiting.load(Ordering::SeqCst) == 0
            && let Some(slot) = self.try_take(urgency)
        {
            return Admitted::Now(slot);
        }
        let mut queues = self.queues.lock();
        if self.waiting.load(Ordering::SeqCst) >= queue {
            // Those that have left still stand in the queue.
            self.forget_gone(&mut queues);
            if self.waiting.load(Ordering::SeqCst) >= queue {
                return Admitted::Full;
            }
        }
        let (sender, slot) = oneshot::channel();
        queues[urgency.queue()].push_back(sender);
        self.waiting.fetch_add(1, Ordering::SeqCst);
        // A slot may have come free since the look at it.
        self.serve(&mut queues);
        Admitted::Later(Waiting { slot })
    }

    /// How many may be under way.
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Requests under way.
    pub fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    /// Looks at the limit, after a health check or while one is late.
    pub fn adapt(self: &Arc<Self>, is_congested: bool) {
        let peak = self.peak.swap(self.under_way(), Ordering::Relaxed);
        self.set_limit(next_limit(self.limit(), peak, self.waiting(), is_congested));
    }

    /// A new process begins.
    pub fn begin_cold(self: &Arc<Self>) {
        self.set_limit(FIRST_COLD);
    }

    /// Sets the limit, and lets in those that it admits.
    pub fn set_limit(self: &Arc<Self>, limit: usize) {
        self.limit.store(limit, Ordering::SeqCst);
        self.serve_waiting();
    }

    /// Lets in those that the limit admits by now.
    fn serve_waiting(self: &Arc<Self>) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.serve(&mut self.queues.lock());
        }
    }

    fn try_take(self: &Arc<Self>, urgency: Urgency) -> Option<Slot> {
        let most = urgency.share_of(self.limit());
        let taken = self
            .under_way
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| (count < most).then_some(count + 1));
        self.count(taken.ok()? + 1);
        Some(Slot(Some(self.clone())))
    }

    fn count(&self, under_way: usize) {
        self.peak.fetch_max(under_way, Ordering::Relaxed);
    }

    fn serve(self: &Arc<Self>, queues: &mut [VecDeque<oneshot::Sender<Slot>>; 3]) {
        for urgency in [Urgency::Interactive, Urgency::Background, Urgency::Idle] {
            while let Some(next) = queues[urgency.queue()].pop_front() {
                if next.is_closed() {
                    self.waiting.fetch_sub(1, Ordering::SeqCst);
                    continue;
                }
                let Some(slot) = self.try_take(urgency) else {
                    queues[urgency.queue()].push_front(next);
                    break;
                };
                self.waiting.fetch_sub(1, Ordering::SeqCst);
                if let Err(mut slot) = next.send(slot)
                    && slot.0.take().is_some()
                {
                    // It left just now. Dropping its slot would ask for the queues, which are held.
                    self.under_way.fetch_sub(1, Ordering::SeqCst);
                }
            }
        }
    }

    fn forget_gone(&self, queues: &mut [VecDeque<oneshot::Sender<Slot>>; 3]) {
        for queue in queues {
            let before = queue.len();
            queue.retain(|next| !next.is_closed());
            self.waiting.fetch_sub(before - queue.len(), Ordering::SeqCst);
        }
    }
}

impl Urgency {
    fn queue(self) -> usize {
        match self {
            Urgency::Playing | Urgency::Interactive => 0,
            Urgency::Background => 1,
            Urgency::Idle => 2,
        }
    }

    /// How much of the limit these may fill: the rest is for those that are more urgent.
    fn share_of(self, limit: usize) -> usize {
        match self {
            Urgency::Playing => usize::MAX,
            Urgency::Interactive => limit,
            Urgency::Background => (limit * 3 / 4).max(1),
            Urgency::Idle => (limit / 2).max(1),
        }
    }
}

impl Waiting {
    /// Waits for the slot, for no longer than this. Cancel safe.
    pub async fn slot(&mut self, longest: Duration) -> Option<Slot> {
        tokio::time::timeout(longest, &mut self.slot).await.ok()?.ok()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(limit) = &self.0 {
            limit.under_way.fetch_sub(1, Ordering::SeqCst);
            limit.serve_waiting();
        }
    }
}

/// The rule: additive increase, multiplicative decrease. A limit that is not reached stays, since
/// nothing shows what the pod could take; one at which requests wait doubles.
fn next_limit(limit: usize, peak: usize, waiting: usize, is_congested: bool) -> usize {
    let next = match is_congested {
        true => limit.min(peak.max(FEWEST)) * 7 / 10,
        false if waiting > 0 => limit * 2,
        false if peak * 5 >= limit * 4 => limit + (limit / 8).max(1),
        false => limit,
    };
    next.clamp(FEWEST, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: usize = 100;

    fn with_limit(limit: usize) -> Arc<ConcurrencyLimit> {
        let concurrency = Arc::new(ConcurrencyLimit::default());
        concurrency.set_limit(limit);
        concurrency
    }

    fn slot(admitted: Admitted) -> Slot {
        match admitted {
            Admitted::Now(slot) => slot,
            other => panic!("it should not wait: {other:?}"),
        }
    }

    fn waiting(admitted: Admitted) -> Waiting {
        match admitted {
            Admitted::Later(waiting) => waiting,
            other => panic!("it should wait: {other:?}"),
        }
    }

    #[test]
    fn the_limit_shrinks_fast_grows_slowly_and_stays_where_nothing_is_known() {
        for (limit, peak, waiting, is_congested, next) in [
            (128, 10, 0, false, 128),
            (128, 110, 0, false, 144),
            (128, 128, 5, false, 256),
            (128, 128, 5, true, 89),
            (128, 10, 0, true, 7),
            (6, 6, 50, true, 6),
            (4096, 4096, 1, false, 4096),
        ] {
            assert_eq!(next_limit(limit, peak, waiting, is_congested), next, "{limit}, {peak}, {waiting}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_wait_go_by_what_they_are_and_then_by_their_turn() {
        let limit = with_limit(8);
        let mut slots: Vec<Slot> = (0..8).map(|_| slot(limit.admit(Urgency::Interactive, QUEUE))).collect();
        let mut idle = waiting(limit.admit(Urgency::Idle, QUEUE));
        let mut picture = waiting(limit.admit(Urgency::Background, QUEUE));
        let mut page = waiting(limit.admit(Urgency::Interactive, QUEUE));
        let film = slot(limit.admit(Urgency::Playing, QUEUE));
        assert_eq!((limit.waiting(), limit.under_way()), (3, 9));
        let soon = Duration::from_millis(1);
        drop(film);
        assert!(page.slot(soon).await.is_none(), "eight are under way");
        slots.pop();
        let page = page.slot(soon).await.expect("the page goes first");
        assert!(picture.slot(soon).await.is_none() && idle.slot(soon).await.is_none());
        slots.truncate(4);
        let picture = picture.slot(soon).await.expect("then the picture");
        assert!(idle.slot(soon).await.is_none(), "six are under way, and four at most with an idle socket");
        drop((page, picture));
        slots.pop();
        assert!(idle.slot(soon).await.is_some());
        drop(slots);
        assert_eq!((limit.waiting(), limit.under_way()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_leaves_the_queue_takes_no_slot_with_it() {
        let limit = with_limit(1);
        let first = slot(limit.admit(Urgency::Interactive, QUEUE));
        let gone = waiting(limit.admit(Urgency::Interactive, 2));
        let mut stays = waiting(limit.admit(Urgency::Interactive, 2));
        assert!(matches!(limit.admit(Urgency::Interactive, 2), Admitted::Full));
        drop(gone);
        let mut late = waiting(limit.admit(Urgency::Interactive, 2));
        drop(first);
        let second = stays.slot(Duration::from_millis(1)).await.expect("its turn");
        drop(second);
        assert!(late.slot(Duration::from_millis(1)).await.is_some());
        assert_eq!((limit.waiting(), limit.under_way()), (0, 0));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_slot_is_lost_among_many_threads() {
        let limit = with_limit(3);
        let tasks = (0..64).map(|number| {
            let limit = limit.clone();
            tokio::spawn(async move {
                for turn in 0..50 {
                    let urgency = [Urgency::Interactive, Urgency::Background, Urgency::Idle][(number + turn) % 3];
                    let slot = match limit.admit(urgency, QUEUE) {
                        Admitted::Now(slot) => Some(slot),
                        Admitted::Later(mut waiting) => waiting.slot(Duration::from_secs(30)).await,
                        Admitted::Full => None,
                    };
                    assert!(slot.is_some() && limit.under_way() <= 3);
                    tokio::task::yield_now().await;
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.expect("no panic");
        }
        assert_eq!((limit.waiting(), limit.under_way()), (0, 0));
    }
}
