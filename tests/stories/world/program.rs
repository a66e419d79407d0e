//! The program as an operator runs it: a process with a configuration file, whose output is kept.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{Client, Settings, until};

const BINARY: &str = env!("CARGO_BIN_EXE_jellypin");

/// A running program; it is killed when it is dropped.
pub(crate) struct Program {
    child: Child,
    path: PathBuf,
    output: PathBuf,
    errors: PathBuf,
}

impl Program {
    /// Runs the program to its end with these arguments.
    pub(crate) fn run(arguments: &[&str]) -> Output {
        Command::new(BINARY).args(arguments).stdin(Stdio::null()).output().expect("the program runs")
    }

    /// What `jellypin check` says of a configuration: its exit code, and its output with its errors.
    pub(crate) fn check(settings: &Settings, folder: &Path) -> (Option<i32>, String) {
        let file = Program::file(settings, folder);
        let checked = Program::run(&["check", "--config", &file.to_string_lossy()]);
        let said = [&checked.stdout[..], &checked.stderr].concat();
        (checked.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    /// Writes a configuration file and gives its path.
    pub(crate) fn file(settings: &Settings, folder: &Path) -> PathBuf {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let path = folder.join(format!("program-{}.toml", NUMBER.fetch_add(1, Ordering::Relaxed)));
        std::fs::write(&path, settings.text()).expect("a file");
        path
    }

    /// Starts the program and waits until it serves.
    pub(crate) async fn start(settings: &Settings, folder: &Path) -> Program {
        Program::start_as(Command::new(BINARY), settings, folder).await
    }

    /// The same with so many file handles at most.
    pub(crate) async fn start_with_files(settings: &Settings, folder: &Path, files: u32) -> Program {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\""), BINARY]);
        Program::start_as(command, settings, folder).await
    }

    /// The same with so many file handles at first, and more on demand.
    pub(crate) async fn start_with_few_files(settings: &Settings, folder: &Path, files: u32) -> Program {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -Sn {files} && exec \"$0\" \"$@\""), BINARY]);
        Program::start_as(command, settings, folder).await
    }

    /// Starts the program with this configuration file, and waits until it serves.
    pub(crate) async fn start_with(path: &Path) -> Program {
        Program::start_at(Command::new(BINARY), path.to_owned()).await
    }

    async fn start_as(command: Command, settings: &Settings, folder: &Path) -> Program {
        Program::start_at(command, Program::file(settings, folder)).await
    }

    async fn start_at(mut command: Command, path: PathBuf) -> Program {
        let (output, errors) = (path.with_extension("out"), path.with_extension("err"));
        let child = command
            .arg("--config")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(File::create(&output).expect("a file"))
            .stderr(File::create(&errors).expect("a file"))
            .spawn()
            .expect("the program starts");
        let program = Program { child, path, output, errors };
        until("the program serves operators", || program.log().contains("serving the admin API")).await;
        program
    }

    /// Its configuration file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes its configuration file again.
    pub(crate) fn rewrite(&self, settings: &Settings) {
        std::fs::write(&self.path, settings.text()).expect("a file");
    }

    /// The addresses that it serves, in the order of its log: those for clients, then the admin API.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let log = self.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        lines
            .filter(|line| line["message"].as_str().is_some_and(|message| message.starts_with("serving ")))
            .filter_map(|line| line["address"].as_str()?.parse().ok())
            .collect()
    }

    /// The address of its admin API.
    pub(crate) fn admin(&self) -> SocketAddr {
        let log = self.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let mut admin = lines.filter(|line| line["message"] == "serving the admin API");
        admin.next().and_then(|line| line["address"].as_str()?.parse().ok()).expect("an admin address")
    }

    /// A client of its first address.
    pub(crate) fn client(&self) -> Client {
        Client::at_address(self.addresses()[0])
    }

    /// What it wrote to standard error.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.errors).expect("the log")
    }

    /// What it wrote to standard output: the access log, unless it goes elsewhere.
    pub(crate) fn output(&self) -> String {
        std::fs::read_to_string(&self.output).expect("the output")
    }

    /// Sends a signal: `TERM`, `HUP`.
    pub(crate) fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &command]).status().expect("a shell").success(), "{command}");
    }

    /// Sends a signal to the process that serves now.
    pub(crate) fn signal_last(&self, name: &str) {
        let pid = self.successors().last().copied().unwrap_or(self.child.id());
        let command = format!("kill -{name} {pid}");
        assert!(Command::new("sh").args(["-c", &command]).status().expect("a shell").success(), "{command}");
    }

    /// How often another process has taken its place.
    pub(crate) fn hand_overs(&self) -> usize {
        self.successors().len()
    }

    /// The processes that have taken its place, one after the other.
    fn successors(&self) -> Vec<u32> {
        let log = self.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        lines.filter_map(|line| line["process.pid"].as_u64()?.try_into().ok()).collect()
    }

    /// How many files it may have open: the soft limit and the hard one.
    pub(crate) fn open_files(&self) -> [String; 2] {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", self.child.id())).expect("its limits");
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("a limit of files");
        let mut words = line.split_whitespace().map(str::to_owned);
        [words.next().expect("a limit"), words.next().expect("a limit")]
    }

    /// What it holds of the machine's memory, in KiB.
    pub(crate) fn memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// The processor time that it has used.
    pub(crate) fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("its times");
        // The name stands in parentheses and may hold anything; the times are the 12th and 13th behind it.
        let (_, behind) = stat.rsplit_once(')').expect("a name");
        let ticks: u64 = behind.split_whitespace().skip(11).take(2).filter_map(|time| time.parse::<u64>().ok()).sum();
        // Linux shows hundredths of a second, whatever its clock.
        Duration::from_millis(ticks * 10)
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        until("the program ends", || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        })
        .await;
        status.expect("it has ended")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        for pid in self.successors() {
            let _ = Command::new("sh").args(["-c", &format!("kill -KILL {pid}")]).stderr(Stdio::null()).status();
        }
        // One that has ended already cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
