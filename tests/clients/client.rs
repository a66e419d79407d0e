//! The scripts of this folder as child processes of a test.

use std::{
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use serde_json::Value;

/// The longest that a client may take to its next line; only one that has gone wrong comes near it.
const LINE_LIMIT: Duration = Duration::from_secs(90);

/// A real client with the script that tells its story.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Client {
    /// The script's file name without its ending; also the DeviceId of its runs.
    pub(crate) name: &'static str,
    needs: &'static [Need],
}

#[derive(Clone, Copy, Debug)]
enum Need {
    Venv,
    Node,
    Axe,
    Program(&'static str),
}

pub(crate) const APICLIENT_PYTHON: Client = Client { name: "apiclient_python", needs: &[Need::Venv] };
pub(crate) const AIOJELLYFIN: Client = Client { name: "aiojellyfin_client", needs: &[Need::Venv] };
pub(crate) const MPV: Client = Client { name: "mpv_story", needs: &[Need::Venv, Need::Program("mpv")] };
pub(crate) const MPV_LIVE: Client = Client { name: "mpv_live", needs: &[Need::Venv, Need::Program("mpv")] };
pub(crate) const MPV_SHIM: Client = Client { name: "mpv_shim", needs: &[Need::Venv] };
pub(crate) const SDK: Client = Client { name: "sdk", needs: &[Need::Node] };
pub(crate) const DASHBOARD: Client =
    Client { name: "dashboard", needs: &[Need::Node, Need::Axe, Need::Program("chromium")] };
pub(crate) const CHROMIUM: Client = Client { name: "chromium", needs: &[Need::Node, Need::Program("chromium")] };

impl Client {
    /// Starts the story against `url` as the user alice.
    ///
    /// # Panics
    /// When a program that the script needs is not installed.
    pub(crate) fn start(self, url: &str, options: &[&str]) -> Running {
        for need in self.needs {
            need.check();
        }
        let mut child = self
            .command()
            .args(["--url", url, "--user", "alice", "--password", "alice-pw", "--device", self.name])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: cannot be started: {error}", self.name));
        let lines = gather(child.stdout.take().expect("the output is a pipe"));
        let errors = gather(child.stderr.take().expect("the error output is a pipe"));
        let stdin = child.stdin.take();
        Running { client: self, child, stdin, lines, errors }
    }

    /// The whole story at once, for a client that is not held.
    pub(crate) fn run(self, url: &str, options: &[&str]) -> Report {
        self.start(url, options).report()
    }

    fn command(self) -> Command {
        let folder = folder();
        if self.needs.contains(&Need::Venv) {
            let mut command = Command::new(venv_python());
            command.arg(folder.join(self.name).with_extension("py"));
            return command;
        }
        let mut command = Command::new("node");
        // Node 20 has the WebSocket of the web behind a flag; later ones take the flag and have it anyway.
        command.arg("--experimental-websocket").arg(folder.join(self.name).with_extension("mjs"));
        command
    }
}

impl PartialEq for Need {
    fn eq(&self, other: &Need) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl Need {
    fn check(self) {
        let missing = match self {
            Need::Venv => (!venv_python().exists()).then_some("the Python clients"),
            Need::Node => (!folder().join("node_modules/playwright-core").exists() || !on_path("node"))
                .then_some("the Node clients"),
            Need::Axe => (!folder().join("node_modules/axe-core").exists()).then_some("axe-core"),
            Need::Program(program) => (!on_path(program)).then_some(program),
        };
        if let Some(missing) = missing {
            panic!("{missing} cannot be found: run tests/install, which installs what the tests need");
        }
    }
}

/// A story that is being told.
pub(crate) struct Running {
    client: Client,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    errors: Receiver<String>,
}

impl Running {
    /// Waits until a client started with `--hold` is at work.
    pub(crate) fn until_holding(&mut self) {
        let line = self.line();
        if line["holding"] != true {
            panic!("{}: ended before it could be held: {line}\n{}", self.client.name, self.complaints());
        }
    }

    /// Ends the hold and waits for the report.
    pub(crate) fn release(mut self) -> Report {
        if let Some(mut stdin) = self.stdin.take() {
            // A client that has died says so better by its report than by this pipe.
            let _ = stdin.write_all(b"enough\n");
        }
        self.report()
    }

    /// Waits for the report and the end of the process.
    pub(crate) fn report(mut self) -> Report {
        let line = self.line();
        let status = self.child.wait().unwrap_or_else(|error| panic!("{}: {error}", self.client.name));
        Report { client: self.client, line, succeeded: status.success(), complaints: self.complaints() }
    }

    fn line(&mut self) -> Value {
        let line = self.lines.recv_timeout(LINE_LIMIT).unwrap_or_else(|error| {
            let what = match error {
                RecvTimeoutError::Timeout => "said nothing in time",
                RecvTimeoutError::Disconnected => "ended without a report",
            };
            panic!("{}: {what}\n{}", self.client.name, self.complaints())
        });
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{}: {error} in {line}", self.client.name))
    }

    /// What the client wrote to its error output so far.
    fn complaints(&self) -> String {
        self.errors.try_iter().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A story that is over is not hurt by it; one that failed must not play its film into the next test.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a client said at its end.
#[derive(Debug)]
pub(crate) struct Report {
    client: Client,
    /// The line as it came; `README.md` beside this file tells its fields.
    pub(crate) line: Value,
    succeeded: bool,
    complaints: String,
}

impl Report {
    /// Demands that every step worked.
    #[track_caller]
    pub(crate) fn must_have_worked(&self) {
        let all = self.line["steps"]
            .as_array()
            .is_some_and(|steps| !steps.is_empty() && steps.iter().all(|step| step["ok"] == true));
        if !(self.succeeded && all) {
            panic!("{}: {}\n{}\n{}", self.client.name, self.line["failed"], self.line, self.complaints);
        }
    }

    /// Demands that a held client saw nothing of what was done meanwhile.
    #[track_caller]
    pub(crate) fn must_have_noticed_nothing(&self) {
        assert!(self.held("calls").as_u64() > Some(10), "it hardly worked: {self:?}");
        for count in ["failed_calls", "socket_closed"] {
            assert!(self.held(count).as_u64().unwrap_or(0) == 0, "{count}: {self:?}");
        }
        assert!(self.held("token_lost") == false, "{self:?}");
        assert!(self.held("film_ended").as_array().is_none_or(Vec::is_empty), "{self:?}");
    }

    /// The step that failed and why.
    pub(crate) fn failed(&self) -> Option<&str> {
        self.line["failed"].as_str()
    }

    /// A field of what happened during the hold.
    pub(crate) fn held(&self, field: &str) -> &Value {
        &self.line["hold"][field]
    }
}

fn gather(output: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

fn venv_python() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/clients/venv/bin/python")
}

fn on_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}
