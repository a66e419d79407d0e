//! Becomes another program, bound to one core and to the life of the process that asked for it.
//!
//! The binding is done here, in the process that is about to become the program, because doing it between fork and
//! exec would need `unsafe`. The process id stays the same over the exec, so the one who asked knows it.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::Verdict;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The core on which the program runs
    #[arg(long)]
    core: usize,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("binding to the parent's life")?;
    stay_on(arguments.core)?;
    match become_program(&arguments.command)? {}
}

/// Binds the calling process, which has one thread, to a core.
pub(crate) fn stay_on(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).with_context(|| format!("binding to core {core}"))
}

fn become_program(command: &[OsString]) -> Result<Infallible> {
    let (program, arguments) = command.split_first().context("no program given")?;
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("starting {}", program.display()))
}
