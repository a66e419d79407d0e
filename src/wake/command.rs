//! A program that wakes a machine, or puts it to sleep.

use std::{
    env,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{Act, Machine};

/// Time between two looks whether the program has ended.
const LOOK: Duration = Duration::from_millis(20);

/// Runs the program without a shell: the act is its last argument, and stands in its environment
/// with the names of pod and pool. The proxy's own environment may hold secrets; of that the program
/// gets `PATH` alone.
pub(super) async fn run(words: &[String], act: Act, machine: &Machine, longest: Duration) -> Result<(), String> {
    let [program, arguments @ ..] = words else { return Ok(()) };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .arg(act.as_str())
        .env_clear()
        .envs(env::var_os("PATH").map(|path| ("PATH", path)))
        .env("JELLYPIN_ACT", act.as_str())
        .env("JELLYPIN_POD", &machine.pod)
        .env("JELLYPIN_POOL", &machine.pool)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let (ended, end) = oneshot::channel();
    // A thread of its own: the runtime would wait for one of its own threads before it ends.
    let waits = move || drop(ended.send(wait(command, longest)));
    thread::Builder::new().name("wake".to_owned()).spawn(waits).map_err(|error| error.to_string())?;
    end.await.unwrap_or_else(|_| Err("it could not be waited for".to_owned()))
}

fn wait(mut command: Command, longest: Duration) -> Result<(), String> {
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let began = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(status.to_string()),
            Ok(None) if began.elapsed() < longest => thread::sleep(LOOK),
            Ok(None) => {
                // It may have ended just now.
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("it ran for longer than {longest:?}"));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}
