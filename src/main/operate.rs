//! A running proxy obeys its operator: signals, changed files, and requests at the admin API.

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use jellypin::{
    admin::{OperatorRequest, Wanted},
    app::{self, App},
    config::{self, Keys, Loaded, ProcessEnvironment},
};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{successor::Successor, systemd, watch::Watch};

/// The exit code of a stop that is no ordinary one.
pub(super) const FAILED: u8 = 1;

/// The handled signals: TERM and INT stop, HUP reloads, USR2 hands over to a new process.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    upgrade: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            upgrade: signal(SignalKind::user_defined2())?,
        })
    }
}

/// The proxy, and the configuration that it goes by.
pub(super) struct Operator {
    app: App,
    path: PathBuf,
    keys: Keys,
    watches_files: bool,
    watch: Watch,
}

/// What ends the loop.
enum Next {
    Reload(&'static str),
    OperatorRequest(OperatorRequest),
    HandOver,
    Stop,
}

impl Operator {
    /// `watch` was begun before the configuration was read.
    pub(super) fn new(app: App, path: &Path, (keys, watches_files): (Keys, bool), watch: Watch) -> Operator {
        Operator { app, path: path.to_owned(), keys, watches_files, watch }
    }

    /// Obeys until the proxy has stopped.
    pub(super) async fn obey(mut self, mut signals: Signals) -> ExitCode {
        let mut is_leaving = false;
        while !is_leaving {
            let next = tokio::select! {
                _ = signals.hangup.recv() => Next::Reload("signal"),
                () = self.watch.changed(), if self.watches_files => Next::Reload("file"),
                _ = signals.upgrade.recv() => Next::HandOver,
                Some(operator_request) = self.app.operator_requests.recv() => Next::OperatorRequest(operator_request),
                _ = signals.terminate.recv() => Next::Stop,
                _ = signals.interrupt.recv() => Next::Stop,
            };
            match next {
                // The log has said why it failed.
                Next::Reload(by) => drop(self.reload(by).await),
                Next::OperatorRequest(OperatorRequest { what, answer }) => {
                    let said = match what {
                        Wanted::Reload => self.reload("admin").await,
                        Wanted::Difference => self.difference(),
                        Wanted::HandOver => self.hand_over().await,
                    };
                    is_leaving = what == Wanted::HandOver && said.is_ok();
                    // The operator may have left.
                    let _ = answer.send(said);
                }
                Next::HandOver => is_leaving = self.hand_over().await.is_ok(),
                Next::Stop => break,
            }
        }
        if is_leaving {
            tokio::select! {
                () = self.app.await_end() => {}
                _ = signals.terminate.recv() => {}
                _ = signals.interrupt.recv() => {}
            }
        }
        if !is_leaving {
            systemd::stops();
        }
        tracing::info!("stopping");
        tokio::select! {
            () = self.app.stop() => {
                tracing::info!("stopped");
                ExitCode::SUCCESS
            }
            _ = signals.terminate.recv() => second(),
            _ = signals.interrupt.recv() => second(),
        }
    }

    /// Brings the configuration into use as its files say now, whole or not at all. Says what has
    /// changed.
    async fn reload(&mut self, by: &'static str) -> Result<String, String> {
        systemd::reloads();
        let reloaded = self.try_to_reload().await;
        systemd::ready();
        self.app.metrics.reload_success.set(reloaded.is_ok().into());
        match &reloaded {
            Ok(changes) => {
                let waiting: Vec<_> = changes.iter().filter(|change| change.waits.is_some()).collect();
                let waiting: Vec<_> = waiting.into_iter().map(|change| change.key.as_str()).collect();
                let changed: Vec<_> = changes.iter().map(|change| change.key.as_str()).collect();
                tracing::info!(by, ?changed, "the configuration was reloaded");
                if !waiting.is_empty() {
                    tracing::warn!(?waiting, "some changed keys wait for the next start");
                }
            }
            Err(error) => {
                tracing::error!(by, %error, "the configuration could not be reloaded; the previous one stays");
            }
        }
        reloaded.map(|changes| said(&changes)).map_err(|error| format!("{error}\n"))
    }

    async fn try_to_reload(&mut self) -> Result<Vec<config::Change>, String> {
        self.watch.look();
        let loaded = config::load_with_keys(&self.path, &ProcessEnvironment).map_err(|error| error.to_string())?;
        let Loaded { config, keys, files, .. } = loaded;
        let watches_files = config.watches_files;
        self.app.reload(config).await.map_err(|error| match error {
            app::Error::Bind(error) => config::cannot_bind(&self.path, &error).to_string(),
            error => format!("{}: {error}", self.path.display()),
        })?;
        self.watch.follow(files);
        self.watches_files = watches_files;
        let changes = self.keys.changes(&keys);
        self.keys = self.keys.after(&keys);
        Ok(changes)
    }

    /// Lets a new process take this one's place. If it cannot, this one goes on.
    async fn hand_over(&mut self) -> Result<String, String> {
        match self.try_to_hand_over().await {
            Ok(pid) => {
                tracing::info!(process.pid = pid, "another process serves; what is under way ends here");
                Ok(format!("process {pid} serves\n"))
            }
            Err(error) => {
                tracing::error!(%error, "no other process could take over; this one goes on");
                Err(format!("no other process could take over: {error}\n"))
            }
        }
    }

    async fn try_to_hand_over(&mut self) -> io::Result<u32> {
        if self.app.is_rolling() {
            return Err(io::Error::other("pods are being restarted one after the other; try again when that is over"));
        }
        let successor = Successor::start()?;
        successor.prepare(self.app.sockets()?).await?;
        let served = match self.app.pause().await {
            true => successor.serve().await,
            false => Err(io::Error::other("sessions still move, or the files could not be closed; try again")),
        };
        match served {
            Ok(pid) => {
                systemd::is_now(pid);
                self.app.stop_serving();
            }
            Err(_) => self.app.resume(),
        }
        served
    }

    /// What a reload would change now.
    fn difference(&self) -> Result<String, String> {
        let loaded = config::load_with_keys(&self.path, &ProcessEnvironment).map_err(|error| format!("{error}\n"))?;
        Ok(said(&self.keys.changes(&loaded.keys)))
    }
}

fn said(changes: &[config::Change]) -> String {
    match changes {
        [] => "nothing differs\n".to_owned(),
        some => some.iter().map(|change| format!("{change}\n")).collect(),
    }
}

fn second() -> ExitCode {
    tracing::warn!("stopped at once, by a second signal");
    ExitCode::from(FAILED)
}
