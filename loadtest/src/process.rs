//! A child process that is killed when its guard goes.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::time::sleep;

/// A running child. Dropping it kills it; if this process is itself killed, the kernel does (see `launch`).
pub(crate) struct Process {
    name: String,
    child: Child,
    output: PathBuf,
}

impl Process {
    /// Starts `program` bound to `core`; what it writes goes to `output`, which grows over restarts.
    pub(crate) fn start<S: AsRef<OsStr>>(
        name: &str,
        core: usize,
        program: &Path,
        arguments: impl IntoIterator<Item = S>,
        output: PathBuf,
    ) -> Result<Process> {
        let written = File::options()
            .create(true)
            .append(true)
            .open(&output)
            .with_context(|| format!("opening {}", output.display()))?;
        let child = Command::new(std::env::current_exe()?)
            .args(["launch", "--core", &core.to_string(), "--"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(written.try_clone()?)
            .stderr(written)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        Ok(Process { name: name.to_owned(), child, output })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, then waits until the process is gone: after this its port refuses.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill().with_context(|| format!("killing {}", self.name))?;
        self.child.wait().with_context(|| format!("waiting for {}", self.name))?;
        Ok(())
    }

    /// Waits until the child has ended by itself; an error if it failed, or has not ended by then.
    pub(crate) async fn ends(&mut self, within: Duration) -> Result<()> {
        let end = Instant::now() + within;
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("{} failed ({status}):\n{}", self.name, self.last_words()),
                None if Instant::now() > end => bail!("{} does not end", self.name),
                None => sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// An error that carries the child's last words if it has ended by itself.
    pub(crate) fn still_runs(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait()? else {
            return Ok(());
        };
        bail!("{} ended by itself ({status}):\n{}", self.name, self.last_words())
    }

    /// The last lines that the child wrote, or nothing if they cannot be read: they only adorn an error.
    pub(crate) fn last_words(&self) -> String {
        let written = end_of_file(&self.output).unwrap_or_default();
        let text = String::from_utf8_lossy(&written);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// The end of a file that may be an access log of many megabytes.
fn end_of_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let begin = file.metadata()?.len().saturating_sub(8 * 1024);
    file.seek(SeekFrom::Start(begin))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing is left to do if it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
