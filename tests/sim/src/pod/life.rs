//! One process of a pod: its memory, its connections and its end.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Shared;
use super::wire::{Cut, Wire, reset_on_close};
use crate::discovery;
use crate::documents::Documents;
use crate::machine::Processor;
use crate::memory::Memory;
use crate::service;
use crate::start_up::{Phase, PhaseLengths, StartUp};

/// Kestrel takes 32 KiB of header fields and 8 KiB of request line.
const HEAD_LIMIT: usize = 40 * 1024;

/// The pause after a failed accept, so that a lack of descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// A running process.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) shared: Arc<Shared>,
    pub(crate) processor: Arc<Processor>,
    memory: Mutex<Memory>,
    phase: watch::Sender<Phase>,
    wires: Arc<Wires>,
    /// Has taken leave of its sockets.
    has_said_farewell: AtomicBool,
    /// Sockets that were opened after that.
    late_sockets: AtomicUsize,
    /// `None` once the process has ended: nothing more is spawned.
    tasks: Mutex<Option<JoinSet<()>>>,
}

/// One accepted connection, as the requests on it see it.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) life: Arc<Life>,
    pub(crate) peer: SocketAddr,
    pub(crate) cut: Arc<Cut>,
    born_in: Phase,
}

impl Connection {
    /// Whether the setup server accepted it: it alone answers on it, even after its end.
    pub(crate) fn is_of_setup_server(&self) -> bool {
        matches!(self.born_in, Phase::Setup { .. } | Phase::Closed)
    }
}

impl Life {
    /// Starts a process; must be called within a runtime.
    pub(super) fn begin(shared: &Arc<Shared>) -> io::Result<Arc<Life>> {
        let life = Arc::new(Life {
            shared: Arc::clone(shared),
            processor: Arc::new(Processor::new(shared.controls.machine())),
            memory: Mutex::default(),
            phase: watch::Sender::new(Phase::Closed),
            wires: Arc::new(Wires { shared: Arc::downgrade(shared), open: Mutex::default() }),
            has_said_farewell: AtomicBool::new(false),
            late_sockets: AtomicUsize::new(0),
            tasks: Mutex::new(Some(JoinSet::new())),
        });
        let frost = Arc::clone(&shared.frost);
        life.spawn(Arc::clone(&life.processor).drive(move || frost.is_on()));
        life.spawn(accept(Arc::clone(&life)));
        if let Some(address) = shared.settings.discovery {
            life.spawn(discovery::answer(Arc::clone(&life), address));
        }
        match shared.settings.start_up {
            StartUp::Instant => {
                life.load();
                life.enter(Phase::Running)?;
            }
            StartUp::Phased(lengths) => life.spawn(come_up(Arc::clone(&life), lengths)),
        }
        Ok(life)
    }

    /// What the process holds in its own memory.
    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes an entry of the shared activity log, and tells this process's own sockets of it
    /// (`ActivityManager.CreateAsync`).
    pub(crate) fn write_activity(&self, kind: &str, name: String, user: &str, item: Option<&str>) {
        self.shared.cluster.change(|database| database.activity.add(kind, name, user, item));
        self.memory().activity_changes.send_modify(|count| *count += 1);
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    pub(crate) fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Runs a task that ends with the process.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tasks) = tasks.as_mut() {
            while tasks.try_join_next().is_some() {}
            tasks.spawn(task);
        }
    }

    /// Whether the process has ended; what breaks off from then on is not the client's doing.
    pub(crate) fn has_ended(&self) -> bool {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Whether its sockets were told that it ends.
    pub(crate) fn has_said_farewell(&self) -> bool {
        self.has_said_farewell.load(Ordering::SeqCst)
    }

    /// A socket was opened after the farewell.
    pub(crate) fn take_late_socket(&self) {
        self.late_sockets.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn late_sockets(&self) -> usize {
        self.late_sockets.load(Ordering::SeqCst)
    }

    /// Forgets the sessions without a socket whose clients were not heard of for long.
    pub(crate) fn expire_sessions(&self) {
        let mut guard = self.memory();
        let memory = &mut *guard;
        for session in memory.sessions.expire(self.shared.settings.session_idle) {
            memory.sync_play.session_ended(&memory.sessions, &session);
        }
    }

    pub(super) fn open_connections(&self) -> usize {
        self.wires.all().len()
    }

    pub(super) fn open_sockets(&self) -> usize {
        self.memory().sessions.open_sockets()
    }

    /// SIGKILL.
    pub(super) async fn kill(&self) {
        if let Some(mut tasks) = self.cut_off() {
            tasks.shutdown().await;
        }
        self.forget();
    }

    /// SIGTERM: the sockets are told, a moment later nothing listens any more. A socket that is opened in that moment is accepted
    /// and never served, and the process waits for it.
    pub(super) async fn stop(&self) {
        self.has_said_farewell.store(true, Ordering::SeqCst);
        self.memory().sessions.shut_down();
        self.shared.notify_changed();
        tokio::time::sleep(self.shared.settings.listens_on).await;
        // A port that cannot be closed has no listener left either way.
        let _ = self.shared.door.set_wanted(false);
        self.phase.send_replace(Phase::Stopping);
        self.shared.notify_changed();
        let idle = async {
            loop {
                let changed = self.shared.changed.notified();
                if self.open_connections() == 0 {
                    return;
                }
                changed.await;
            }
        };
        // What is still in flight after the grace is broken off, as Kestrel does.
        let _ = tokio::time::timeout(self.shared.settings.stop_grace, idle).await;
        if self.late_sockets() > 0 {
            tokio::time::sleep(self.shared.settings.late_socket).await;
        }
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut tasks) = tasks {
            tasks.shutdown().await;
        }
        self.forget();
    }

    /// Ends everything without waiting for it.
    pub(super) fn abandon(&self) {
        if let Some(mut tasks) = self.cut_off() {
            tasks.abort_all();
        }
        self.forget();
    }

    fn cut_off(&self) -> Option<JoinSet<()>> {
        let _ = self.shared.door.set_wanted(false);
        for stream in self.wires.all() {
            reset_on_close(&stream);
        }
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn forget(&self) {
        let settings = &self.shared.settings;
        self.shared.cluster.seat().leave(&settings.name, settings.hls_lease);
        *self.memory() = Memory::default();
        self.shared.notify_changed();
    }

    fn load(&self) {
        let (rows, names) =
            self.shared.cluster.read(|database| (database.devices.clone(), database.device_names.clone()));
        let users = self.shared.cluster.read(|database| database.users.iter().map(|user| user.id.clone()).collect());
        let disk = &self.shared.disk;
        *self.shared.documents() = Documents::read(disk, &self.shared.settings);
        let libraries = disk.files().libraries.clone();
        let triggers = disk.files().triggers.clone();
        let mut memory = self.memory();
        memory.devices.load(rows);
        memory.device_names = names;
        memory.libraries = libraries;
        memory.users_at_start = users;
        memory.tasks.triggers = triggers;
        drop(memory);
        let settings = &self.shared.settings;
        if settings.single_writer {
            // It tries to get the lock, whether it does or not.
            let _ = self.shared.cluster.seat().is_writer(&settings.name, settings.fail_over);
        }
    }

    fn enter(&self, phase: Phase) -> io::Result<()> {
        self.phase.send_replace(phase);
        self.shared.door.set_wanted(phase != Phase::Closed)?;
        self.shared.notify_changed();
        Ok(())
    }
}

/// A phased start, as `recordings/04-start-up` shows it.
async fn come_up(life: Arc<Life>, lengths: PhaseLengths) {
    let phases = [
        (Phase::Closed, lengths.refused),
        (Phase::Setup { host: false }, lengths.host_after.min(lengths.setup)),
        (Phase::Setup { host: true }, lengths.setup.saturating_sub(lengths.host_after)),
        (Phase::Closed, lengths.gap),
        (Phase::Core, lengths.core),
    ];
    for (phase, length) in phases {
        // A host that comes to be as the setup server ends is never seen beside it.
        if phase == (Phase::Setup { host: true }) && length.is_zero() {
            continue;
        }
        if phase == Phase::Core {
            life.load();
        }
        if let Err(error) = life.enter(phase) {
            eprintln!("pod {}: the port cannot be opened: {error}", life.shared.settings.name);
            return;
        }
        tokio::time::sleep(length).await;
    }
    // The port is open already.
    let _ = life.enter(Phase::Running);
}

async fn accept(life: Arc<Life>) {
    loop {
        // An error of one connection (reset before it was accepted) is no reason to stop accepting.
        match life.shared.door.accept().await {
            Ok((stream, peer)) => life.spawn(serve(Arc::clone(&life), stream, peer, life.phase())),
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn serve(life: Arc<Life>, stream: TcpStream, peer: SocketAddr, born_in: Phase) {
    // Delayed small writes would only slow the tests down.
    let _ = stream.set_nodelay(true);
    let stream = Arc::new(stream);
    let cut = Arc::<Cut>::default();
    let registered = life.wires.add(&stream);
    let wire = Wire::new(stream, Arc::clone(&life.shared.frost), Arc::clone(&cut), registered);
    let mut phases = life.phases();
    let connection = Connection { life, peer, cut, born_in };
    let of_setup_server = connection.is_of_setup_server();
    let answer = service_fn(move |request| service::answer(connection.clone(), request));
    let mut served = pin!(
        http1::Builder::new()
            .title_case_headers(true)
            .max_buf_size(HEAD_LIMIT)
            .serve_connection(TokioIo::new(wire), answer)
            .with_upgrades()
    );
    // The setup server's connections do not live on after it, nor any after a stop.
    let over =
        phases.wait_for(|now| *now == Phase::Stopping || (of_setup_server && !matches!(now, Phase::Setup { .. })));
    tokio::select! {
        // The phase comes first, so that an answer which waited for it already says that the connection ends.
        biased;
        _ = over => served.as_mut().graceful_shutdown(),
        // A connection that ends in an error was broken by the peer or by a control: both are what was asked for.
        _ = served.as_mut() => return,
    }
    // What is in flight is still answered.
    let _ = served.await;
}

/// The open connections of a process.
#[derive(Debug)]
struct Wires {
    shared: Weak<Shared>,
    open: Mutex<(u64, HashMap<u64, Weak<TcpStream>>)>,
}

/// Takes a connection out of the list when it is dropped.
#[derive(Debug)]
pub(super) struct Registered {
    number: u64,
    wires: Arc<Wires>,
}

impl Wires {
    fn add(self: &Arc<Self>, stream: &Arc<TcpStream>) -> Registered {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.0 += 1;
        let number = open.0;
        open.1.insert(number, Arc::downgrade(stream));
        drop(open);
        self.notify_changed();
        Registered { number, wires: Arc::clone(self) }
    }

    fn all(&self) -> Vec<Arc<TcpStream>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.1.values().filter_map(Weak::upgrade).collect()
    }

    fn notify_changed(&self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.notify_changed();
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.wires.open.lock().unwrap_or_else(PoisonError::into_inner).1.remove(&self.number);
        self.wires.notify_changed();
    }
}
