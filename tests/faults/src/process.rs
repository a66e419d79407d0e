//! A child process whose output is kept, and which is killed with its guard.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

/// A running child; dropping it kills it.
pub struct Process {
    child: Child,
    errors: PathBuf,
}

impl Process {
    /// Starts a program whose output goes to files of this name; they grow over restarts.
    pub fn start(mut command: Command, folder: &Path, name: &str) -> Process {
        let file = |end: &str| {
            let path = folder.join(format!("{name}.{end}"));
            (File::options().create(true).append(true).open(&path).expect("a file for output"), path)
        };
        let ((output, _), (error, errors)) = (file("out"), file("err"));
        let child = command.stdin(Stdio::null()).stdout(output).stderr(error).spawn();
        let child = child.unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Process { child, errors }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("a living process");
    }

    /// SIGKILL; afterwards its ports refuse.
    pub fn kill(&mut self) {
        // One that has ended already cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }

    /// From now on no file of the process may grow beyond so many bytes, as on a full disk; `None` takes the bound back. The
    /// process has to ignore SIGXFSZ.
    pub fn limit_files(&self, bytes: Option<u64>) {
        let limit = Rlimit { current: bytes, maximum: None };
        prlimit(Some(self.pid()), Resource::Fsize, limit).expect("a limit");
    }

    /// What it wrote to standard error.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.errors).expect("the log")
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A command whose process ignores SIGXFSZ.
pub(crate) fn ignoring_file_limits(program: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(program);
    command
}

/// A port of 127.0.0.1 that nobody listens on, below those that the kernel gives to outgoing connections: one of these could be
/// taken while its pod is dead.
pub(crate) fn free_port() -> SocketAddr {
    const FIRST: u16 = 10_000;
    const SPAN: u16 = 22_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes side by side begin at different places.
    let offset = std::process::id().wrapping_mul(61) as u16;
    loop {
        let port = FIRST + offset.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % SPAN;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
