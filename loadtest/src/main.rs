//! `loadtest`: drives load through jellypin and, in the same run, through other proxies, and prints figures.
//!
//! Everything a run starts (pods, proxies) is a child process that ends with the run, whichever way the run ends.

mod backend;
mod bare;
mod bodies;
mod client;
mod compare;
mod connection;
mod contender;
mod drive;
mod floods;
mod kill;
mod launch;
mod pod;
mod ports;
mod process;
mod procfs;
mod readiness;
mod report;
mod stage;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Requests a second, latency and processor time of each proxy under the same closed loop
    Compare(compare::Arguments),
    /// One of three pods dies and comes back while clients keep asking
    Kill(kill::Arguments),
    /// Large bodies both ways, to fast and to stalled peers, and the memory of the proxy meanwhile
    Bodies(bodies::Arguments),
    /// What clients notice while another address floods the proxy
    Floods(floods::Arguments),
    /// A pod with nothing behind it: answers health, public info, counts, and bytes
    Pod(pod::Arguments),
    /// The least relay that can stand between a client and a pod: the floor of `compare`
    Bare(bare::Arguments),
    /// The attacking address of `floods`
    #[command(hide = true)]
    Attack(floods::attacker::Order),
    /// Start a program on one core, to die with the process that asked for it
    #[command(hide = true)]
    Launch(launch::Arguments),
}

/// What a finished run says of itself: figures were printed either way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Passed,
    Failed,
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(Verdict::Passed) => ExitCode::SUCCESS,
        Ok(Verdict::Failed) => ExitCode::from(1),
        Err(error) => {
            eprintln!("loadtest: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(task: Task) -> Result<Verdict> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    // Children are started by this thread alone, because the kernel ends them with the thread that started them.
    LocalSet::new().block_on(&runtime, async {
        tokio::select! {
            verdict = perform(task) => verdict,
            stopped = interrupted() => stopped,
        }
    })
}

async fn perform(task: Task) -> Result<Verdict> {
    match task {
        Task::Compare(arguments) => compare::run(arguments).await,
        Task::Kill(arguments) => kill::run(arguments).await,
        Task::Bodies(arguments) => bodies::run(arguments).await,
        Task::Floods(arguments) => floods::run(arguments).await,
        Task::Attack(order) => floods::attacker::run(order).await,
        Task::Pod(arguments) => pod::run(arguments).await,
        Task::Bare(arguments) => bare::run(arguments).await,
        Task::Launch(arguments) => launch::run(&arguments),
    }
}

/// Ends the run on SIGINT and SIGTERM the way an error does, so that every guard is dropped.
async fn interrupted() -> Result<Verdict> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("told to end"),
    }
}
