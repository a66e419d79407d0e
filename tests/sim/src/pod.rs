//! A pod in the hands of a test: started, broken, killed, started again, and asked what it saw.

mod builder;
mod controls;
mod door;
mod faults;
#[cfg(test)]
mod in_step_tests;
mod life;
mod looks;
#[cfg(test)]
mod single_writer_tests;
#[cfg(test)]
mod tests;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
use crate::seen::Record;
use crate::start_up::Phase;
use door::Door;
use wire::Frost;

/// Between the answer to `POST /System/Restart` and the end of the process.
const RESTARTS_AFTER: Duration = Duration::from_millis(100);

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
        self.shared.notify_changed();
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
        tokio::time::sleep(RESTARTS_AFTER).await;
        let running = now().clone();
        let Some(running) = running else { continue };
        running.stop().await;
        let mut life = now();
        // It may have been killed meanwhile.
        if life.as_ref().is_some_and(|life| Arc::ptr_eq(life, &running)) {
            *life = Life::begin(&shared).ok();
        }
        drop(life);
        shared.notify_changed();
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
    pub(crate) fn notify_changed(&self) {
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
        self.notify_changed();
    }
}
