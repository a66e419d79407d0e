//! A proxy in front of the pods, in a process of its own: jellypin, or another one with a sticky cookie and health checks.

mod others;

use std::ffi::OsString;
use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;
use http::Method;
use serde_json::Value;

use crate::client::{Client, until};
use crate::process::{Process, free_port, ignoring_file_limits};

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Kind {
    Jellypin,
    Haproxy,
    Nginx,
    Traefik,
    Envoy,
    Caddy,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Jellypin => "jellypin",
            Kind::Haproxy => "haproxy",
            Kind::Nginx => "nginx",
            Kind::Traefik => "traefik",
            Kind::Envoy => "envoy",
            Kind::Caddy => "caddy",
        }
    }
}

/// Where the programs are; a name alone is looked for on the path.
#[derive(Clone, Debug)]
pub struct Programs {
    pub jellypin: PathBuf,
    /// A folder that is looked into before the path.
    pub others: Option<PathBuf>,
}

impl Programs {
    /// The program of a proxy.
    pub fn of(&self, kind: Kind) -> PathBuf {
        if kind == Kind::Jellypin {
            return self.jellypin.clone();
        }
        let beside = self.others.as_ref().map(|folder| folder.join(kind.name()));
        beside.filter(|path| path.exists()).unwrap_or_else(|| kind.name().into())
    }
}

/// What a proxy needs to know of its world.
#[derive(Clone)]
pub struct Surroundings {
    pub pods: Vec<(&'static str, SocketAddr)>,
    pub folder: PathBuf,
    pub api_key: String,
    pub redis: Option<SocketAddr>,
}

pub struct Proxy {
    pub kind: Kind,
    pub address: SocketAddr,
    admin: SocketAddr,
    program: PathBuf,
    name: String,
    configuration: PathBuf,
    surroundings: Surroundings,
    process: Option<Process>,
}

impl Proxy {
    /// Starts a proxy and waits until it serves with all pods.
    pub async fn start(kind: Kind, programs: &Programs, number: usize, surroundings: Surroundings) -> Proxy {
        let (address, admin, name) = (free_port(), free_port(), format!("{}-{number}", kind.name()));
        // Some judge a file by its ending.
        let ending = if matches!(kind, Kind::Traefik | Kind::Envoy) { "yml" } else { "conf" };
        let configuration = surroundings.folder.join(format!("{name}.{ending}"));
        let text = match kind {
            Kind::Jellypin => jellypin(address, admin, &name, &surroundings),
            kind => others::configuration(kind, address, &surroundings),
        };
        fs::write(&configuration, text).expect("a file");
        let program = programs.of(kind);
        let mut proxy = Proxy { kind, address, admin, program, name, configuration, surroundings, process: None };
        proxy.start_again().await;
        proxy
    }

    /// Starts it at the addresses that it had.
    pub async fn start_again(&mut self) {
        self.run(ignoring_file_limits(&self.program));
        self.until_ready().await;
    }

    /// The same on a disk that takes nothing.
    pub async fn start_without_disk(&mut self) {
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$0\" \"$@\""]).arg(&self.program);
        self.run(command);
        self.until_ready().await;
    }

    fn run(&mut self, mut command: Command) {
        let configuration = self.configuration.clone().into_os_string();
        match self.kind {
            Kind::Jellypin => drop(command.arg("--config").arg(configuration)),
            kind => drop(command.args(others::arguments(kind, self.address, &configuration))),
        }
        command.current_dir(&self.surroundings.folder);
        self.process = Some(Process::start(command, &self.surroundings.folder, &self.name));
    }

    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it was started")
    }

    pub fn kill(&mut self) {
        self.process().kill();
    }

    async fn until_ready(&mut self) {
        let (kind, count, address) = (self.kind, self.surroundings.pods.len(), self.address);
        let mut in_a_row = 0;
        let name = self.name.clone();
        until(&format!("{name} is ready"), 60.0, async || {
            if self.process().has_ended() {
                panic!("{name} ended by itself: {}", self.process().log());
            }
            if kind == Kind::Jellypin {
                return self.states().await.iter().filter(|state| *state == "ready").count() == count;
            }
            let answer = Client::of_nobody(address).send(Method::GET, "/System/Info/Public", Value::Null).await;
            in_a_row = if answer.is_ok_and(|answer| answer.status == 200) { in_a_row + 1 } else { 0 };
            in_a_row > 20
        })
        .await;
    }

    /// What jellypin thinks of each pod, in their order.
    pub async fn states(&self) -> Vec<String> {
        let answer = Client::of_nobody(self.admin).send(Method::GET, "/pods", Value::Null).await;
        let page = answer.map(|answer| answer.json()).unwrap_or_default();
        let pods = page.as_array().map(Vec::as_slice).unwrap_or_default();
        pods.iter().map(|pod| pod["state"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Where it keeps what it knows.
    pub fn state_folder(&self) -> PathBuf {
        state_folder(&self.surroundings.folder, &self.name)
    }
}

fn state_folder(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("state-{name}"))
}

/// jellypin as an operator sets it up: defaults, but for what a world needs whose clients share a machine.
fn jellypin(listen: SocketAddr, admin: SocketAddr, name: &str, surroundings: &Surroundings) -> String {
    let Surroundings { pods, folder, api_key, redis } = surroundings;
    let mut text = format!(
        "[listen]\nhttp = \"{listen}\"\nworkers = 1\n[admin]\nlisten = \"{admin}\"\n[jellyfin]\napi_key = \"{api_key}\"\n\
         [affinity]\nkeys = [\"a key of more than sixteen bytes\"]\n"
    );
    // Writing to a string cannot fail.
    if let Some(redis) = redis {
        let _ = write!(text, "[redis]\nurl = \"redis://{redis}\"\n[leader]\nmode = \"elect\"\n");
    }
    let _ = write!(text, "[state]\npath = \"{}\"\n", state_folder(folder, name).display());
    text += "[pools.main.pods]\n";
    for (name, address) in pods {
        let _ = writeln!(text, "{name} = \"http://{address}\"");
    }
    text
}

/// Words of a command line.
fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}
