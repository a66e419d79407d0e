//! `loadtest bodies`: large bodies through a proxy, both ways, and the memory that it takes meanwhile.
//!
//! A proxy that relays with back-pressure needs the same memory for a gigabyte as for a kilobyte, and a peer that stops
//! reading stops the other side within a few buffers.

mod transfer;

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use crate::Verdict;
use crate::backend::{Backend, backends};
use crate::contender::{Contender, Duties, Kind};
use crate::ports::Ports;
use crate::procfs::{forget_peak, memory, processor_time};
use crate::readiness::{pod_answers, pod_counts, proxy_uses_all};
use crate::report::{Table, mebibytes, write_json};
use crate::stage::{self, Stage};
use transfer::{Direction, Plan};

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    stage: stage::Arguments,
    /// The proxy under load
    #[arg(long, default_value = "jellypin")]
    proxy: Kind,
    /// MiB of the full-speed bodies, and of all the stalled ones together
    #[arg(long, default_value_t = 2048)]
    mebibytes: u64,
    /// Peers that stall at the same time
    #[arg(long, default_value_t = 8)]
    stalled: u64,
    /// Seconds for which they do not read
    #[arg(long, default_value_t = 5)]
    stall_seconds: u64,
}

const SAMPLE_EVERY: Duration = Duration::from_millis(50);

/// What one kind of transfer took.
struct Measured {
    plan: Plan,
    wall: Duration,
    processor: Duration,
    /// Resident memory of the proxy before it.
    before: u64,
    /// The most that a sample showed.
    sampled: u64,
    /// The most that the kernel knows of.
    peak: u64,
    /// The most bytes that had left the sender and not reached the reader: in buffers of the proxy and the kernel.
    in_flight: u64,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Verdict> {
    ensure!(arguments.mebibytes > 0 && arguments.stalled > 0, "nothing to transfer");
    let stage = Stage::set(&arguments.stage)?;
    let mut ports = Ports::new();
    let backends = backends(1, &mut ports)?;
    let pod = backends[0];
    let mut process = stage.start_pods(&backends, &[])?;
    pod_answers(&mut process, pod).await?;
    let mut contender = Contender::start(arguments.proxy, &stage, &mut ports, &backends, Duties::default())?;
    proxy_uses_all(&mut contender, &backends).await?;

    let idle = memory(contender.process.pid())?.resident;
    let mut all = Vec::new();
    for plan in plans(&arguments) {
        all.push(measure(plan, &contender, pod).await?);
        contender.process.still_runs()?;
    }
    print(&arguments, idle, &all);
    write_json(arguments.stage.json.as_deref(), &figures(&arguments, idle, &all))?;
    Ok(Verdict::Passed)
}

fn plans(arguments: &Arguments) -> [Plan; 4] {
    let bytes = arguments.mebibytes * 1024 * 1024;
    let whole = |direction| Plan { direction, peers: 1, bytes, stall: Duration::ZERO };
    let stalled = |direction| Plan {
        direction,
        peers: arguments.stalled,
        bytes: bytes / arguments.stalled,
        stall: Duration::from_secs(arguments.stall_seconds),
    };
    [whole(Direction::Download), whole(Direction::Upload), stalled(Direction::Download), stalled(Direction::Upload)]
}

/// Carries out a plan and watches the proxy meanwhile.
async fn measure(plan: Plan, contender: &Contender, pod: Backend) -> Result<Measured> {
    let pid = contender.process.pid();
    forget_peak(pid)?;
    let before = memory(pid)?.resident;
    let (begun, processor) = (Instant::now(), processor_time(pid)?);
    // The pod counts from its start, the clients from the start of this plan.
    let earlier = pod_bytes(pod, plan.direction).await?;
    let moved = Rc::new(Cell::new(0));
    let work = transfer::carry_out(plan, contender.address, moved.clone());
    tokio::pin!(work);

    let (mut sampled, mut in_flight) = (before, 0);
    let mut ticks = interval(SAMPLE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            outcome = &mut work => break outcome?,
            _ = ticks.tick() => sampled = sampled.max(memory(pid)?.resident),
        }
        // Asked beside the work, not instead of it: the transfers go on while the pod answers.
        tokio::select! {
            outcome = &mut work => break outcome?,
            bytes = pod_bytes(pod, plan.direction) => {
                let at_pod = bytes?.saturating_sub(earlier);
                in_flight = in_flight.max(at_pod.abs_diff(moved.get()));
            }
        }
    }
    let (wall, processor) = (begun.elapsed(), processor_time(pid)?.saturating_sub(processor));
    Ok(Measured { plan, wall, processor, before, sampled, peak: memory(pid)?.peak, in_flight })
}

/// Bytes of bodies that went through the pod in this direction since it started.
async fn pod_bytes(pod: Backend, direction: Direction) -> Result<u64> {
    let counts = pod_counts(pod).await?;
    let field = match direction {
        Direction::Download => "bytes_out",
        Direction::Upload => "bytes_in",
    };
    Ok(counts[field].as_u64().unwrap_or(0))
}

impl Measured {
    fn total(&self) -> u64 {
        self.plan.bytes * self.plan.peers
    }

    fn grown(&self) -> u64 {
        self.sampled.max(self.peak).saturating_sub(self.before)
    }

    fn gibibytes(&self) -> f64 {
        self.total() as f64 / (1024.0 * 1024.0 * 1024.0)
    }
}

fn print(arguments: &Arguments, idle: u64, all: &[Measured]) {
    println!("{}: memory in MiB; idle {}", arguments.proxy.name(), mebibytes(idle));
    let mut table = Table::new(&[
        "bodies",
        "MiB",
        "MiB/s",
        "CPU s/GiB",
        "RSS before",
        "most sampled",
        "VmHWM",
        "grown",
        "in flight",
    ]);
    for measured in all {
        table.row(vec![
            measured.plan.name(),
            mebibytes(measured.total()),
            format!("{:.0}", measured.gibibytes() * 1024.0 / measured.wall.as_secs_f64()),
            format!("{:.2}", measured.processor.as_secs_f64() / measured.gibibytes()),
            mebibytes(measured.before),
            mebibytes(measured.sampled),
            mebibytes(measured.peak),
            mebibytes(measured.grown()),
            mebibytes(measured.in_flight),
        ]);
    }
    table.print();
}

fn figures(arguments: &Arguments, idle: u64, all: &[Measured]) -> Value {
    let all: Vec<Value> = all
        .iter()
        .map(|measured| {
            json!({
                "bodies": measured.plan.name(),
                "bytes": measured.total(),
                "peers": measured.plan.peers,
                "stall_s": measured.plan.stall.as_secs_f64(),
                "wall_s": measured.wall.as_secs_f64(),
                "cpu_s": measured.processor.as_secs_f64(),
                "rss_before_bytes": measured.before,
                "rss_most_sampled_bytes": measured.sampled,
                "rss_peak_bytes": measured.peak,
                "in_flight_bytes": measured.in_flight,
            })
        })
        .collect();
    json!({"proxy": arguments.proxy.name(), "idle_bytes": idle, "transfers": all})
}
