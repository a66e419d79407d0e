//! The faults that a test can switch on and off.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::clock::Clock;
use crate::machine::Machine;
use crate::mint_times::MintTimes;

/// Switches of one pod; they outlive its processes.
#[derive(Debug)]
pub(crate) struct Controls {
    degraded: AtomicBool,
    database_down: AtomicBool,
    sockets_refused: AtomicBool,
    disk_full: AtomicBool,
    http_held: watch::Sender<bool>,
    tasks_held: AtomicBool,
    triggers_held: watch::Sender<bool>,
    first_byte_delay_us: AtomicU64,
    delay_is_over: Notify,
    cut_bodies_after: AtomicU64,
    /// Bytes a second; 0 for as fast as they go.
    rate: AtomicU64,
    pub(crate) clock: Clock,
    mint_times: Mutex<MintTimes>,
    /// `None`: everything is done at once.
    machine: Mutex<Option<Machine>>,
    /// A QuickConnect code, and how many requests are still to get it.
    shared_code: Mutex<(String, usize)>,
}

/// Stands for "never".
const NOT_CUT: u64 = u64::MAX;

impl Controls {
    pub(crate) fn new() -> Controls {
        Controls {
            degraded: AtomicBool::new(false),
            database_down: AtomicBool::new(false),
            sockets_refused: AtomicBool::new(false),
            disk_full: AtomicBool::new(false),
            http_held: watch::Sender::new(false),
            tasks_held: AtomicBool::new(false),
            triggers_held: watch::Sender::new(false),
            first_byte_delay_us: AtomicU64::new(0),
            delay_is_over: Notify::new(),
            cut_bodies_after: AtomicU64::new(NOT_CUT),
            rate: AtomicU64::new(0),
            clock: Clock::default(),
            mint_times: Mutex::default(),
            machine: Mutex::default(),
            shared_code: Mutex::default(),
        }
    }

    pub(crate) fn set_degraded(&self, on: bool) {
        self.degraded.store(on, Ordering::SeqCst);
    }

    pub(crate) fn degraded(&self) -> bool {
        self.degraded.load(Ordering::SeqCst)
    }

    pub(crate) fn set_database_down(&self, on: bool) {
        self.database_down.store(on, Ordering::SeqCst);
    }

    pub(crate) fn database_down(&self) -> bool {
        self.database_down.load(Ordering::SeqCst)
    }

    pub(crate) fn set_sockets_refused(&self, on: bool) {
        self.sockets_refused.store(on, Ordering::SeqCst);
    }

    pub(crate) fn sockets_refused(&self) -> bool {
        self.sockets_refused.load(Ordering::SeqCst)
    }

    pub(crate) fn set_disk_full(&self, on: bool) {
        self.disk_full.store(on, Ordering::SeqCst);
    }

    pub(crate) fn disk_full(&self) -> bool {
        self.disk_full.load(Ordering::SeqCst)
    }

    pub(crate) fn set_http_held(&self, on: bool) {
        self.http_held.send_replace(on);
    }

    /// Waits as long as no request is answered.
    pub(crate) async fn await_http(&self) {
        if *self.http_held.borrow() {
            // The sender is this object's own.
            let _ = self.http_held.subscribe().wait_for(|held| !held).await;
        }
    }

    pub(crate) fn set_tasks_held(&self, on: bool) {
        self.tasks_held.store(on, Ordering::SeqCst);
    }

    pub(crate) fn tasks_held(&self) -> bool {
        self.tasks_held.load(Ordering::SeqCst)
    }

    pub(crate) fn set_triggers_held(&self, on: bool) {
        self.triggers_held.send_replace(on);
    }

    /// Waits as long as new triggers are held.
    pub(crate) async fn await_triggers(&self) {
        // The sender is this object's own.
        let _ = self.triggers_held.subscribe().wait_for(|held| !held).await;
    }

    pub(crate) fn set_first_byte_delay(&self, delay: Duration) {
        self.first_byte_delay_us.store(u64::try_from(delay.as_micros()).unwrap_or(u64::MAX), Ordering::SeqCst);
        if delay.is_zero() {
            self.delay_is_over.notify_waiters();
        }
    }

    /// Waits as long as answers are delayed; ends when the delay is taken back.
    pub(crate) async fn delay_first_byte(&self) {
        let over = self.delay_is_over.notified();
        let delay = Duration::from_micros(self.first_byte_delay_us.load(Ordering::SeqCst));
        if !delay.is_zero() {
            // Either way the wait is over.
            let _ = tokio::time::timeout(delay, over).await;
        }
    }

    pub(crate) fn set_mint_times(&self, times: MintTimes) {
        *self.mint_times.lock().unwrap_or_else(PoisonError::into_inner) = times;
    }

    pub(crate) fn mint_times(&self) -> MintTimes {
        *self.mint_times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_machine(&self, machine: Option<Machine>) {
        *self.machine.lock().unwrap_or_else(PoisonError::into_inner) = machine;
    }

    pub(crate) fn machine(&self) -> Option<Machine> {
        *self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_shared_code(&self, code: String, requests: usize) {
        *self.shared_code.lock().unwrap_or_else(PoisonError::into_inner) = (code, requests);
    }

    /// The code for this request, if it is to share one.
    pub(crate) fn shared_code(&self) -> Option<String> {
        let (code, requests) = &mut *self.shared_code.lock().unwrap_or_else(PoisonError::into_inner);
        *requests = requests.checked_sub(1)?;
        Some(code.clone())
    }

    pub(crate) fn set_cut(&self, bytes: Option<u64>) {
        self.cut_bodies_after.store(bytes.unwrap_or(NOT_CUT), Ordering::SeqCst);
    }

    pub(crate) fn cut(&self) -> Option<u64> {
        let bytes = self.cut_bodies_after.load(Ordering::SeqCst);
        (bytes != NOT_CUT).then_some(bytes)
    }

    pub(crate) fn set_rate(&self, bytes_a_second: Option<u64>) {
        self.rate.store(bytes_a_second.unwrap_or(0), Ordering::SeqCst);
    }

    pub(crate) fn rate(&self) -> Option<u64> {
        let rate = self.rate.load(Ordering::SeqCst);
        (rate != 0).then_some(rate)
    }
}
