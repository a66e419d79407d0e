//! What a test does to a pod that runs.

use std::time::Duration;

use serde_json::Value;

use super::Pod;
use crate::machine::Machine;
use crate::mint_times::MintTimes;
use crate::playback_state;
use crate::quick_connect::new_code;
use crate::scheduled_tasks;

impl Pod {
    /// On: connections are accepted and kept, and nothing is answered any more, as after SIGSTOP. A kill ends it.
    pub fn hang(&self, on: bool) {
        self.shared.frost.set(on);
    }

    /// On: the pod hangs, and new connections are neither made nor refused, as after its machine has lost its power.
    pub fn go_dark(&self, on: bool) {
        self.hang(on);
        let _runtime = self.runtime.enter();
        if let Err(error) = self.shared.door.set_dark(on) {
            panic!("pod {}: the port cannot be had: {error}", self.name());
        }
    }

    /// On: new connections are refused, existing ones go on.
    pub fn refuse(&self, on: bool) {
        let _runtime = self.runtime.enter();
        if let Err(error) = self.shared.door.set_refused(on) {
            panic!("pod {}: the port cannot be opened again: {error}", self.name());
        }
    }

    /// On: no new WebSocket is opened, as by a pod that is overloaded or behind something that knows none.
    pub fn refuse_sockets(&self, on: bool) {
        self.shared.controls.set_sockets_refused(on);
    }

    /// On: no request is answered, a health check neither, while open sockets go on: as when the thread pool is used up.
    pub fn hold_http(&self, on: bool) {
        self.shared.controls.set_http_held(on);
    }

    /// On: the pod's own disk takes nothing more. The database is on another machine. Not recorded: what needs the disk fails.
    pub fn fill_disk(&self, on: bool) {
        self.shared.controls.set_disk_full(on);
    }

    /// On: a task that is begun goes on until this is switched off.
    pub fn hold_tasks(&self, on: bool) {
        self.shared.controls.set_tasks_held(on);
        if !on && let Some(life) = self.life().as_ref() {
            life.memory().tasks.end_all();
        }
    }

    /// On: new triggers of tasks are taken only once this is switched off. A caller that leaves meanwhile has set nothing.
    pub fn hold_triggers(&self, on: bool) {
        self.shared.controls.set_triggers_held(on);
    }

    /// The time of every trigger comes. Gives the ids of the tasks that run.
    pub fn let_triggers_come_due(&self) -> Vec<String> {
        self.with_life(scheduled_tasks::come_due).unwrap_or_default()
    }

    /// The triggers of a task, by the task's id.
    pub fn triggers(&self, task: &str) -> Option<Value> {
        self.with_life(|life| scheduled_tasks::dto(life, task)["Triggers"].clone())
    }

    /// Begins a recording, which ends with the process: `/LiveTv/LiveRecordings/{id}/stream` gives it.
    pub fn record(&self, id: &str) {
        self.with_life(|life| life.memory().live_streams.record(id));
    }

    /// Delays the first byte of every answer but that of `/health`; zero ends it, for those that wait too.
    pub fn slow_first_byte(&self, delay: Duration) {
        self.shared.controls.set_first_byte_delay(delay);
    }

    /// What minting takes from now on, by default nothing; over the pod's processes, each of which compiles again.
    pub fn mint_times(&self, times: MintTimes) {
        self.shared.controls.set_mint_times(times);
    }

    /// The machine that the pod runs on from now on, by default none: then everything is done at once. A process that starts on it
    /// is cold. Fewer cores than before starve a process that runs.
    pub fn run_on(&self, machine: Option<Machine>) {
        self.shared.controls.set_machine(machine);
        self.with_life(|life| life.processor.set_machine(machine));
    }

    /// Gives this QuickConnect code to the next request for one.
    pub fn next_code(&self, code: &str) {
        self.shared.controls.set_shared_code(code.to_owned(), 1);
    }

    /// So many requests to connect get one code among them, as happens by chance: codes are short.
    pub fn share_code(&self, requests: usize) {
        self.shared.controls.set_shared_code(new_code(), requests);
    }

    /// Resets the connection after so many bytes of a body; `None` ends it.
    pub fn cut_bodies_after(&self, bytes: Option<u64>) {
        self.shared.controls.set_cut(bytes);
    }

    /// Bodies leave at so many bytes a second, as over a slow line; `None` ends it.
    pub fn limit_rate(&self, bytes_a_second: Option<u64>) {
        self.shared.controls.set_rate(bytes_a_second);
    }

    /// On: `/health` answers 200 `Degraded`.
    pub fn degrade(&self, on: bool) {
        self.shared.controls.set_degraded(on);
    }

    /// On: `/health` answers 503 `Unhealthy`, and 500 whatever comes with a token or key, but what needs no database. The
    /// rest goes on.
    pub fn database_down(&self, on: bool) {
        self.shared.controls.set_database_down(on);
    }

    /// Sets the clock by which the pod dates its answers, answers `GetUtcTime`, and stamps what it tells SyncPlay groups before the true time by so
    /// many milliseconds, or behind it.
    pub fn set_clock_ahead(&self, milliseconds: i64) {
        self.shared.controls.clock.set_ahead(milliseconds * 1000);
    }

    /// The idle check five minutes after the last report of every player: the pod itself says `Stopped` for them, at the
    /// position where they would be.
    pub fn stop_idle_players(&self) {
        if let Some(life) = self.life().clone() {
            playback_state::stop_idle(&life);
        }
    }
}
