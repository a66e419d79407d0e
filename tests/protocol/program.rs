//! The program in a process of its own, and what its access log says.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// The longest time that a step of the program may take on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(30);

/// How often its files are looked at: another process tells nobody of its changes.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A running program; it is killed when it is dropped.
pub(super) struct Program {
    /// Where clients connect.
    pub(super) address: SocketAddr,
    child: Child,
    folder: TempDir,
}

impl Program {
    /// Starts the program before one pod, and waits until that is ready. `more` is TOML of further tables.
    pub(super) async fn start(pod: SocketAddr, more: &str) -> Program {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("jellypin.toml");
        let text = format!(
            "[listen]\nhttp = \"127.0.0.1:0\"\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             [timeouts]\nclient_header = \"2s\"\nclient_body = \"2s\"\n[pools.main.pods]\na = \"http://{pod}\"\n{more}"
        );
        fs::write(&file, text).expect("a file");
        let child = Command::new(env!("CARGO_BIN_EXE_jellypin"))
            .arg("--config")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(File::create(folder.path().join("out")).expect("a file"))
            .stderr(File::create(folder.path().join("err")).expect("a file"))
            .spawn()
            .expect("the program starts");
        let mut program = Program { address: ([127, 0, 0, 1], 0).into(), child, folder };
        let is_up = |log: &str| log.contains("pod is ready") && log.contains("serving the admin API");
        program.until("it serves, and its pod is ready", |program| is_up(&program.log())).await;
        let serving = |line: &Value| line["message"].as_str().is_some_and(|message| message.starts_with("serving "));
        let log = program.log();
        let address = lines(&log).find(serving).and_then(|line| line["address"].as_str()?.parse().ok());
        program.address = address.unwrap_or_else(|| panic!("no address: {log}"));
        program
    }

    /// The paths of the requests that it has answered or begun to, by its access log: each line is one request.
    pub(super) fn counted(&self) -> Vec<String> {
        let text = fs::read_to_string(self.file("out")).expect("the access log");
        lines(&text).filter_map(|line| Some(line["http.path"].as_str()?.to_owned())).collect()
    }

    /// Waits until something holds.
    pub(super) async fn until(&self, what: &str, holds: impl Fn(&Program) -> bool) {
        let mut looks = interval(LOOK_AGAIN);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let wait = async {
            while !holds(self) {
                looks.tick().await;
            }
        };
        assert!(timeout(DEADLINE, wait).await.is_ok(), "never came: {what}\n{}", self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.file("err")).expect("the log")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // One that has ended already cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of JSON in a text that may end within one.
fn lines(text: &str) -> impl Iterator<Item = Value> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok())
}
