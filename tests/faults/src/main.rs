//! `fault-tables`: runs faults before proxies and prints what their clients noticed.

use clap::{Parser, Subcommand};
use fault_tables::{compare, pod};

#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// The same faults before jellypin and before other proxies
    Compare(compare::Arguments),
}

fn main() {
    if pod::become_pod_if_asked() {
        return;
    }
    let Task::Compare(arguments) = Arguments::parse().task;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(compare::run(arguments));
}
