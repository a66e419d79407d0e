//! A pod in the hands of a test: started, broken, killed, started again, and asked what it saw.

mod builder;
mod controls;
mod door;
#[cfg(test)]
mod in_step_tests;
mod life;
#[cfg(test)]
mod single_writer_tests;
#[cfg(test)]
mod tests;
mod wire;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

pub use builder::PodBuilder;
pub(crate) use builder::Settings;
pub(crate) use controls::Controls;
pub(crate) use life::{Connection, Life};
pub(crate) use wire::Cut;

use crate::cluster::Cluster;
use crate::disk::Disk;
use crate::documents::Documents;
use crate::machine::Machine;
use crate::mint_times::MintTimes;
use crate::playback_state;
use crate::quick_connect::new_code;
use crate::scheduled_tasks;
use crate::seen::{Record, Seen};
use crate::start_up::Phase;
use crate::user_data::UserData;
use door::Door;
use wire::Frost;

/// How long [`Pod::until`] waits before it gives up.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long it waits for news before it looks again all the same.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A simulated pod; dropping it stops it.
#[derive(Debug)]
pub struct Pod {
    shared: Arc<Shared>,
    life: Arc<Mutex<Option<Arc<Life>>>>,
    runtime: Handle,
    restarts: AbortHandle,
}

/// What outlives the pod's processes.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) cluster: Cluster,
    pub(crate) controls: Controls,
    record: Mutex<Record>,
    discovery: Mutex<Option<SocketAddr>>,
    pub(crate) disk: Disk,
    documents: Mutex<Documents>,
    changed: Notify,
    restart: Notify,
    frost: Arc<Frost>,
    door: Door,
}

impl Pod {
    /// Begins the description of a pod of `cluster`.
    pub fn builder(cluster: &Cluster) -> PodBuilder {
        PodBuilder::new(cluster)
    }

    fn start(cluster: Cluster, settings: Settings, address: SocketAddr) -> io::Result<Pod> {
        let disk = if settings.shares_folders { cluster.disk().clone() } else { Disk::new() };
        let documents = Documents::read(&disk, &settings);
        let shared = Arc::new(Shared {
            settings,
            cluster,
            controls: Controls::new(),
            record: Mutex::default(),
            discovery: Mutex::default(),
            disk,
            documents: Mutex::new(documents),
            changed: Notify::new(),
            restart: Notify::new(),
            frost: Arc::default(),
            door: Door::new(address)?,
        });
        let life = Arc::new(Mutex::new(Some(Life::begin(&shared)?)));
        let restarts = tokio::spawn(restart_when_asked(Arc::clone(&shared), Arc::clone(&life))).abort_handle();
        Ok(Pod { shared, life, runtime: Handle::current(), restarts })
    }

    /// The pod's name.
    pub fn name(&self) -> &str {
        &self.shared.settings.name
    }

    /// Where the pod listens; the port stays the same over [`Pod::kill`] and [`Pod::start_again`].
    pub fn address(&self) -> SocketAddr {
        self.shared.door.address()
    }

    /// The server id that the pod reports.
    pub fn server_id(&self) -> &str {
        &self.shared.settings.server_id
    }

    /// Where the pod answers clients that look for servers by UDP, if it does.
    pub fn discovery_address(&self) -> Option<SocketAddr> {
        *self.shared.discovery.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cluster that the pod belongs to.
    pub fn cluster(&self) -> &Cluster {
        &self.shared.cluster
    }

    /// Ends the process as SIGKILL does: connections are refused, existing ones reset, the memory is lost.
    pub async fn kill(&self) {
        let life = self.life().take();
        if let Some(life) = life {
            life.kill().await;
        }
        self.shared.frost.set(false);
    }

    /// Ends the process as SIGTERM does: sockets are told and closed with 1000, then it is gone.
    pub async fn stop(&self) {
        let life = self.life().clone();
        if let Some(life) = life {
            life.stop().await;
        }
        self.life().take();
        self.shared.frost.set(false);
    }

    /// Starts a new process on the same port, which loads the token rows again.
    ///
    /// # Errors
    /// When the pod runs, or the port cannot be opened.
    pub async fn start_again(&self) -> io::Result<()> {
        let mut life = self.life();
        if life.is_some() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the pod runs"));
        }
        *life = Some(Life::begin(&self.shared)?);
        drop(life);
        self.shared.tell();
        Ok(())
    }

    /// Whether a process runs, ready or not.
    pub fn is_running(&self) -> bool {
        self.life().is_some()
    }

    /// Whether the process is past its start.
    pub fn is_ready(&self) -> bool {
        self.with_life(|life| life.phase() == Phase::Running).unwrap_or(false)
    }

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

    /// Every request since the start or the last [`Pod::clear_seen`].
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.record().all()
    }

    /// Every message that came over a WebSocket since then, in order.
    pub fn heard(&self) -> Vec<String> {
        self.shared.record().heard()
    }

    /// Forgets the requests and messages seen so far.
    pub fn clear_seen(&self) {
        self.shared.record().clear();
    }

    /// Whether requests are remembered, by default yes; load tests turn it off.
    pub fn set_recording(&self, on: bool) {
        self.shared.record().set_recording(on);
    }

    /// The WebSockets open now.
    pub fn open_sockets(&self) -> usize {
        self.with_life(Life::open_sockets).unwrap_or(0)
    }

    /// The WebSockets that were opened after the process has taken leave: it waits for them.
    pub fn late_sockets(&self) -> usize {
        self.with_life(Life::late_sockets).unwrap_or(0)
    }

    /// The ids of the devices whose sessions the pod has, of all users.
    pub fn session_devices(&self) -> Vec<String> {
        let devices = |life: &Life| {
            life.expire_sessions();
            let memory = life.memory();
            memory.sessions.all().into_iter().map(|session| session.client_headers.device_id.clone()).collect()
        };
        self.with_life(devices).unwrap_or_default()
    }

    /// The sessions that the pod lists to an administrator, as it writes them.
    pub fn sessions(&self) -> Vec<Value> {
        let dtos = |life: &Life| {
            life.expire_sessions();
            let memory = life.memory();
            memory.sessions.all().into_iter().map(|session| session.dto(&life.shared.settings)).collect()
        };
        self.with_life(dtos).unwrap_or_default()
    }

    /// A document of the pod's configuration: `system`, `network`, `encoding`, `branding` and so on.
    pub fn document(&self, key: &str) -> Option<Value> {
        self.shared.documents().get(key).cloned()
    }

    /// The names of the libraries that are defined on the pod's disk.
    pub fn libraries(&self) -> Vec<String> {
        self.shared.disk.files().libraries.keys().cloned().collect()
    }

    /// The row of a user (by name) and an item that the pod shows by the item's id, if the item was read there before.
    pub fn cached_user_data(&self, user: &str, item: &str) -> Option<UserData> {
        let user = self.shared.cluster.user_id(user)?;
        self.with_life(|life| life.memory().caches.cached(item).map(|item| item.user_data(&user)))?
    }

    /// The play sessions that players have reported on, or ended, since the process began.
    pub fn reported_play_sessions(&self) -> Vec<String> {
        self.with_life(|life| life.memory().jobs.heard_of().to_vec()).unwrap_or_default()
    }

    /// The idle check five minutes after the last report of every player: the pod itself says `Stopped` for them, at the
    /// position where they would be.
    pub fn stop_idle_players(&self) {
        if let Some(life) = self.life().clone() {
            playback_state::stop_idle(&life);
        }
    }

    /// The TCP connections open now, WebSockets among them.
    pub fn open_connections(&self) -> usize {
        self.with_life(Life::open_connections).unwrap_or(0)
    }

    /// Whether the pod's own memory holds the token.
    pub fn knows_token(&self, token: &str) -> bool {
        self.with_life(|life| life.memory().devices.knows(token)).unwrap_or(false)
    }

    /// Waits until `what` holds, looking again whenever something happened to the pod.
    ///
    /// # Panics
    /// After 10 s, naming the line that waited and what the pod saw last.
    #[track_caller]
    pub fn until(&self, what: impl Fn(&Pod) -> bool) -> impl Future<Output = ()> {
        let caller = Location::caller();
        async move {
            let wait = async {
                loop {
                    let changed = self.shared.changed.notified();
                    tokio::pin!(changed);
                    changed.as_mut().enable();
                    if what(self) {
                        return;
                    }
                    // Not every state tells of its change, so a look now and then is kept as well.
                    let _ = tokio::time::timeout(LOOK_AGAIN, changed).await;
                }
            };
            if tokio::time::timeout(DEADLINE, wait).await.is_err() {
                panic!("pod {} never came to the state waited for at {caller}: {}", self.name(), self.summary());
            }
        }
    }

    fn summary(&self) -> String {
        let last: Vec<String> = self
            .seen()
            .iter()
            .rev()
            .take(5)
            .map(|seen| format!("{} {} -> {}", seen.method, seen.path(), seen.status))
            .collect();
        format!(
            "running {}, ready {}, {} connections, {} sockets, last requests (newest first) {last:?}",
            self.is_running(),
            self.is_ready(),
            self.open_connections(),
            self.open_sockets(),
        )
    }

    fn life(&self) -> MutexGuard<'_, Option<Arc<Life>>> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_life<T>(&self, look: impl FnOnce(&Life) -> T) -> Option<T> {
        let life = self.life().clone();
        life.map(|life| look(&life))
    }
}

/// `POST /System/Restart`: a process after the other on the same port. A moment passes, so that the answer still goes out.
async fn restart_when_asked(shared: Arc<Shared>, life: Arc<Mutex<Option<Arc<Life>>>>) {
    let now = || life.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        shared.restart.notified().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let running = now().clone();
        let Some(running) = running else { continue };
        running.stop().await;
        let mut life = now();
        // It may have been killed meanwhile.
        if life.as_ref().is_some_and(|life| Arc::ptr_eq(life, &running)) {
            *life = Life::begin(&shared).ok();
        }
        drop(life);
        shared.tell();
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.restarts.abort();
        if let Some(life) = self.life().take() {
            life.abandon();
        }
    }
}

impl Shared {
    /// Asks the process to restart.
    pub(crate) fn restart(&self) {
        self.restart.notify_one();
    }

    pub(crate) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets those who wait for a state look again.
    pub(crate) fn tell(&self) {
        self.changed.notify_waiters();
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.door.address()
    }

    /// The configuration of the process.
    pub(crate) fn documents(&self) -> MutexGuard<'_, Documents> {
        self.documents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_discovery(&self, address: Option<SocketAddr>) {
        *self.discovery.lock().unwrap_or_else(PoisonError::into_inner) = address;
        self.tell();
    }
}
