//! A process's work on its machine as time passes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::schedule::{Schedule, Ticket};
use super::{Machine, Work};

/// How often the schedule is looked at while there is work.
const TICK: Duration = Duration::from_millis(2);

/// The most time that passes at one look: what the test's own machine is late with is not the pod's time.
const LONGEST: Duration = Duration::from_millis(20);

/// The processor of one process.
#[derive(Debug)]
pub(crate) struct Processor {
    /// Whether there is a machine at all.
    is_on: AtomicBool,
    state: Mutex<State>,
    work_came: Notify,
}

#[derive(Debug)]
struct State {
    machine: Option<Machine>,
    schedule: Schedule,
    /// Until when time has passed in the schedule.
    passed: Instant,
    done: HashMap<Ticket, oneshot::Sender<Thread>>,
}

/// One of the pool's threads, until it is dropped.
#[derive(Debug)]
pub(crate) struct Thread(Option<Arc<Processor>>);

impl Processor {
    pub(crate) fn new(machine: Option<Machine>) -> Processor {
        let state = State { machine, schedule: Schedule::default(), passed: Instant::now(), done: HashMap::default() };
        Processor { is_on: AtomicBool::new(machine.is_some()), state: Mutex::new(state), work_came: Notify::new() }
    }

    /// Sets the machine, or takes it away: then everything is done at once.
    pub(crate) fn set_machine(&self, machine: Option<Machine>) {
        let mut state = self.state();
        state.machine = machine;
        self.is_on.store(machine.is_some(), Ordering::Release);
        if machine.is_none() {
            state.done.clear();
            state.schedule = Schedule::default();
        }
    }

    /// Waits until this work is done, and keeps its thread. It goes on if the asker leaves: Jellyfin seldom looks.
    pub(crate) async fn run(self: &Arc<Self>, work: Work) -> Thread {
        if !self.is_on.load(Ordering::Acquire) {
            return Thread(None);
        }
        let (done, is_done) = oneshot::channel();
        {
            let mut state = self.state();
            let Some(machine) = state.machine else { return Thread(None) };
            if state.schedule.is_idle() {
                let rested = state.passed.elapsed();
                state.schedule.rest(rested);
                state.passed = Instant::now();
            }
            let ticket = state.schedule.add(work, &machine);
            state.done.insert(ticket, done);
        }
        self.work_came.notify_one();
        is_done.await.unwrap_or(Thread(None))
    }

    /// A film is watched.
    pub(crate) fn watch(&self, film: &str) {
        let mut state = self.state();
        if state.machine.is_some() {
            state.schedule.watch(film);
            self.work_came.notify_one();
        }
    }

    /// Does the work, for ever. `is_stopped` tells whether the process is stopped: then no time passes for it.
    pub(crate) async fn drive(self: Arc<Self>, is_stopped: impl Fn() -> bool) {
        loop {
            let is_idle = self.state().schedule.is_idle();
            if is_idle {
                self.work_came.notified().await;
            }
            tokio::time::sleep(TICK).await;
            drop(self.advance(is_stopped()));
        }
    }

    /// Lets the time pass since the last look; gives the threads that nobody waits for.
    fn advance(self: &Arc<Self>, is_stopped: bool) -> Vec<Thread> {
        let state = &mut *self.state();
        let time = state.passed.elapsed().min(LONGEST);
        state.passed = Instant::now();
        let Some(machine) = state.machine.filter(|_| !is_stopped) else { return Vec::new() };
        let mut left = Vec::new();
        for (ticket, keeps_thread) in state.schedule.advance(time, &machine) {
            let thread = Thread(keeps_thread.then(|| Arc::clone(self)));
            // The thread of work whose asker has left comes back.
            match state.done.remove(&ticket) {
                Some(done) => left.extend(done.send(thread).err()),
                None => left.push(thread),
            }
        }
        left
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        let Some(processor) = &self.0 else { return };
        let state = &mut *processor.state();
        if let Some(machine) = state.machine {
            state.schedule.free_thread(&machine);
        }
    }
}
