//! A simulated pod in a process of its own: it dies, stops and starts as a process does.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use http::Method;
use rustix::process::{Signal, set_parent_process_death_signal};
use serde_json::Value;

use crate::client::{Client, until};
use crate::process::{Process, free_port};

/// Holds the arguments of a process that is to become pods.
const VARIABLE: &str = "FAULT_TABLES_POD";

/// Becomes pods if this process was started for that, and returns when they have ended.
pub fn become_pod_if_asked() -> bool {
    let Some(arguments) = std::env::var_os(VARIABLE) else { return false };
    // A run that is killed leaves no pods behind.
    set_parent_process_death_signal(Some(Signal::KILL)).expect("the parent's life");
    let arguments = arguments.into_string().expect("a text");
    jellyfin_sim::run_program(arguments.split('\n').map(OsString::from)).expect("the pod runs");
    true
}

/// How a process is started that becomes a pod: by default this program itself.
#[derive(Clone)]
pub struct PodProgram {
    pub arguments: Vec<String>,
}

pub struct PodProcess {
    pub name: &'static str,
    pub address: SocketAddr,
    control: SocketAddr,
    program: PodProgram,
    data: PathBuf,
    folder: PathBuf,
    process: Option<Process>,
}

impl PodProcess {
    /// Starts a pod of the cluster that is kept in `data`.
    pub async fn start(program: &PodProgram, name: &'static str, data: &Path, folder: &Path) -> PodProcess {
        let (address, control, program) = (free_port(), free_port(), program.clone());
        let (data, folder) = (data.to_owned(), folder.to_owned());
        let mut pod = PodProcess { name, address, control, program, data, folder, process: None };
        pod.run(None);
        pod.until_it_answers().await;
        pod
    }

    /// Starts a new process, which takes so many times as long to be ready as a recorded one.
    pub fn start_again(&mut self, factor: f64) {
        self.run(Some(factor));
    }

    fn run(&mut self, phased: Option<f64>) {
        let mut words = vec!["jellyfin-sim".to_owned(), "--name".to_owned(), self.name.to_owned()];
        words.extend(["--listen".to_owned(), self.address.to_string()]);
        words.extend(["--control".to_owned(), self.control.to_string()]);
        words.extend(["--data".to_owned(), self.data.display().to_string()]);
        words.extend(phased.into_iter().flat_map(|factor| ["--phased".to_owned(), factor.to_string()]));
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(&self.program.arguments).env(VARIABLE, words.join("\n"));
        self.process = Some(Process::start(command, &self.folder, &format!("pod-{}", self.name)));
    }

    pub fn kill(&mut self) {
        self.process().kill();
    }

    pub fn signal(&mut self, signal: Signal) {
        self.process().signal(signal);
    }

    /// SIGTERM, then its end.
    pub async fn stop(&mut self) {
        self.signal(Signal::TERM);
        let process = self.process();
        until("the pod ends", 30.0, async || process.has_ended()).await;
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it was started")
    }

    /// Asks its control port for something: `/slow?ms=500`.
    pub async fn control(&self, path: &str) {
        let answer = Client::of_nobody(self.control).send(Method::POST, path, Value::Null).await;
        assert!(answer.is_ok_and(|answer| answer.status == 200), "{path} at {}", self.name);
    }

    /// Its open sockets.
    pub async fn sockets(&self) -> u64 {
        let answer = Client::of_nobody(self.control).send(Method::GET, "/state", Value::Null).await;
        answer.map_or(0, |answer| answer.json()["sockets"].as_u64().unwrap_or_default())
    }

    pub async fn until_it_answers(&self) {
        until("the pod is ready", 60.0, async || {
            let answer = Client::of_nobody(self.address).send(Method::GET, "/health", Value::Null).await;
            answer.is_ok_and(|answer| &*answer.body == b"Healthy")
        })
        .await;
    }
}
