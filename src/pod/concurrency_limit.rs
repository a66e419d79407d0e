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
    /// An idle socket is attached again.
    Idle,
}

/// Requests at once that a pod with a long life gets at first.
const FIRST: usize = 128;

/// The same for a pod that has just begun: its code is cold.
const FIRST_COLD: usize = 16;

/// The fewest, and the most.
const FEWEST: usize = 8;
const MOST: usize = 4096;

/// One of so many slots goes to the least urgent that wait: what is served late is served.
const FAIR: u32 = 4;

/// What a pod's health check shows of how much it has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// It could take more.
    Little,
    /// It has enough.
    Enough,
    /// It cannot keep up.
    TooMuch,
}

/// A pod's requests under way before their answers' heads, and those that wait.
#[derive(Debug)]
pub struct ConcurrencyLimit {
    limit: AtomicUsize,
    under_way: AtomicUsize,
    /// The most that were under way since the limit was last looked at.
    peak: AtomicUsize,
    waiting: AtomicUsize,
    queues: Mutex<Queues>,
}

/// Those that wait, by their urgency.
#[derive(Debug, Default)]
struct Queues {
    lines: [VecDeque<oneshot::Sender<Slot>>; 3],
    /// Slots that were given out to them.
    turns: u32,
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
    /// Too many that are as urgent wait already.
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
            if self.waiting.load(Ordering::SeqCst) >= queue && !self.turn_away(&mut queues, urgency) {
                return Admitted::Full;
            }
        }
        let (sender, slot) = oneshot::channel();
        queues.lines[urgency.line()].push_back(sender);
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
    pub fn adapt(self: &Arc<Self>, pressure: Pressure) {
        let peak = self.peak.swap(self.under_way(), Ordering::Relaxed);
        self.set_limit(next_limit(self.limit(), peak, self.waiting(), pressure));
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
        self.try_take_of(urgency.share_of(self.limit()))
    }

    fn try_take_of(self: &Arc<Self>, most: usize) -> Option<Slot> {
        let taken = self
            .under_way
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| (count < most).then_some(count + 1));
        self.count(taken.ok()? + 1);
        Some(Slot(Some(self.clone())))
    }

    fn count(&self, under_way: usize) {
        self.peak.fetch_max(under_way, Ordering::Relaxed);
    }

    fn serve(self: &Arc<Self>, queues: &mut Queues) {
        const LINES: [Urgency; 3] = [Urgency::Interactive, Urgency::Background, Urgency::Idle];
        loop {
            let is_fair_turn = queues.turns % FAIR == FAIR - 1;
            let waits = |urgency: &Urgency| !queues.lines[urgency.line()].is_empty();
            let taken = match is_fair_turn {
                true => LINES
                    .into_iter()
                    .rfind(waits)
                    .and_then(|urgency| self.try_take_of(self.limit()).map(|slot| (urgency, slot))),
                false => LINES
                    .into_iter()
                    .filter(waits)
                    .find_map(|urgency| self.try_take(urgency).map(|slot| (urgency, slot))),
            };
            let Some((urgency, slot)) = taken else { return };
            let line = &mut queues.lines[urgency.line()];
            let Some(next) = line.pop_front() else { return };
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            match next.send(slot) {
                Ok(()) => queues.turns = queues.turns.wrapping_add(1),
                // It has left. Dropping its slot would ask for the queues, which are held.
                Err(mut slot) => {
                    if slot.0.take().is_some() {
                        self.under_way.fetch_sub(1, Ordering::SeqCst);
                    }
                }
            }
        }
    }

    /// Makes room for one that is more urgent: the newest of the least urgent that wait has waited in
    /// vain. Returns whether there was one.
    fn turn_away(&self, queues: &mut Queues, urgency: Urgency) -> bool {
        let mut less_urgent = queues.lines.iter_mut().skip(urgency.line() + 1).rev();
        // Dropping the sender tells it.
        let is_gone = less_urgent.find_map(VecDeque::pop_back).is_some();
        self.waiting.fetch_sub(usize::from(is_gone), Ordering::SeqCst);
        is_gone
    }

    fn forget_gone(&self, queues: &mut Queues) {
        for line in &mut queues.lines {
            let before = line.len();
            line.retain(|next| !next.is_closed());
            self.waiting.fetch_sub(before - line.len(), Ordering::SeqCst);
        }
    }
}

impl Urgency {
    fn line(self) -> usize {
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
/// nothing shows what the pod could take; one at which requests wait doubles while the pod is quick.
fn next_limit(limit: usize, peak: usize, waiting: usize, pressure: Pressure) -> usize {
    let step = (limit / 8).max(1);
    let next = match pressure {
        Pressure::TooMuch => limit.min(peak.max(FEWEST)) * 7 / 10,
        Pressure::Enough if waiting > 0 => limit + step,
        Pressure::Little if waiting > 0 => limit * 2,
        Pressure::Little if peak * 5 >= limit * 4 => limit + step,
        Pressure::Enough | Pressure::Little => limit,
    };
    next.clamp(FEWEST, MOST)
}

#[cfg(test)]
mod tests;
