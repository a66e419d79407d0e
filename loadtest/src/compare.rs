//! `loadtest compare`: the same closed loop through each proxy in turn, round after round.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::Verdict;
use crate::backend::{Backend, backends};
use crate::contender::{Contender, Duties, Kind};
use crate::drive::{Failures, Load, Tally};
use crate::ports::Ports;
use crate::process::Process;
use crate::procfs::{machine_time, processor_time};
use crate::readiness::{pod_answers, proxy_uses_all};
use crate::report::{Table, median, nanoseconds, write_json};
use crate::stage::{self, Stage};

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    stage: stage::Arguments,
    /// The proxies to compare
    #[arg(long, value_delimiter = ',', default_values = ["jellypin", "haproxy", "bare"])]
    only: Vec<Kind>,
    /// Rounds; in each, every proxy has its turn
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Measured seconds of a turn
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Seconds of load before a turn's figures begin
    #[arg(long, default_value_t = 1)]
    warm_up: u64,
    /// Kept connections, each a client of its own
    #[arg(long, default_value_t = 64)]
    connections: u64,
    /// Pods behind each proxy
    #[arg(long, default_value_t = 3)]
    pods: u8,
    /// Bytes of an answer
    #[arg(long, default_value_t = 1024)]
    bytes: u64,
    /// Each pod reports a server id of its own, which jellypin hides from clients and the others do not
    #[arg(long)]
    own_ids: bool,
    /// What is asked for; given again, each client asks in turn
    #[arg(long = "path", default_values_t = ["/Items?limit=1".to_owned()])]
    paths: Vec<String>,
    /// Every proxy writes a line for each request (the bare relay writes none)
    #[arg(long)]
    access_log: bool,
}

impl Arguments {
    /// The proxies, in the order of their turns.
    fn kinds(&self) -> impl Iterator<Item = Kind> {
        let before = self.stage.before.as_ref().map(|_| Kind::Before);
        self.only.iter().copied().chain(before)
    }
}

/// One turn of one proxy.
struct Turn {
    round: u32,
    kind: Kind,
    wall: Duration,
    /// Processor time of the proxy in it.
    proxy: Duration,
    /// Processor time of the clients and the pods.
    load: Duration,
    /// Processor time of everything on the machine that is no part of the run.
    others: Duration,
    tally: Tally,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Verdict> {
    ensure!(arguments.rounds > 0 && arguments.seconds > 0, "nothing to measure");
    let stage = Stage::set(&arguments.stage)?;
    let mut ports = Ports::new();
    let backends = backends(arguments.pods, &mut ports)?;
    let mut options = vec!["--bytes".to_owned(), arguments.bytes.to_string()];
    options.extend(arguments.own_ids.then(|| "--own-ids".to_owned()));
    let mut pods = stage.start_pods(&backends, &options)?;
    for &backend in &backends {
        pod_answers(&mut pods, backend).await?;
    }
    let mut contenders = start(&arguments, &stage, &mut ports, &backends).await?;

    let mut turns = Vec::new();
    let mut failures = Failures::default();
    for round in 1..=arguments.rounds {
        for contender in &mut contenders {
            let (turn, outside) = take_turn(&arguments, round, contender, &pods).await?;
            failures.merge(outside);
            failures.merge(turn.tally.failures.clone());
            turns.push(turn);
        }
    }
    print(&arguments, &turns, &failures);
    write_json(arguments.stage.json.as_deref(), &figures(&arguments, &turns, &failures))?;
    Ok(if failures.total() == 0 { Verdict::Passed } else { Verdict::Failed })
}

async fn start(
    arguments: &Arguments,
    stage: &Stage,
    ports: &mut Ports,
    backends: &[Backend],
) -> Result<Vec<Contender>> {
    // An older build may not know all limits of today.
    let own_limits = arguments.stage.before.is_some();
    let duties = Duties { access_log: arguments.access_log, own_limits, ..Duties::default() };
    let mut contenders = Vec::new();
    for kind in arguments.kinds() {
        let mut contender = Contender::start(kind, stage, ports, backends, duties)?;
        proxy_uses_all(&mut contender, backends).await?;
        contenders.push(contender);
    }
    Ok(contenders)
}

/// Drives one proxy for a while; also says which requests failed outside of the measured span.
async fn take_turn(
    arguments: &Arguments,
    round: u32,
    contender: &mut Contender,
    pods: &Process,
) -> Result<(Turn, Failures)> {
    let load = Load::start(contender.address, arguments.connections, &arguments.paths)?;
    sleep(Duration::from_secs(arguments.warm_up)).await;

    let (pid, ours) = (contender.process.pid(), [pods.pid(), std::process::id()]);
    let mut outside = load.take().failures;
    let (begun, machine, run, proxy) = (Instant::now(), machine_time()?, run_time(&ours)?, processor_time(pid)?);
    sleep(Duration::from_secs(arguments.seconds)).await;
    // The proxy's time and the count first and side by side, because their quotient is the figure that matters.
    let proxy = processor_time(pid)?.saturating_sub(proxy);
    let tally = load.take();
    let wall = begun.elapsed();
    let load_time = run_time(&ours)?.saturating_sub(run);
    let others = machine_time()?.saturating_sub(machine).saturating_sub(load_time + proxy);

    outside.merge(load.stop().await?.failures);
    contender.process.still_runs()?;
    Ok((Turn { round, kind: contender.kind, wall, proxy, load: load_time, others, tally }, outside))
}

fn run_time(pids: &[u32]) -> Result<Duration> {
    pids.iter().map(|&pid| processor_time(pid)).sum()
}

impl Turn {
    fn rate(&self) -> f64 {
        self.tally.served as f64 / self.wall.as_secs_f64()
    }

    fn microseconds_a_request(&self) -> f64 {
        self.proxy.as_secs_f64() * 1e6 / self.tally.served.max(1) as f64
    }

    fn load_busy(&self) -> f64 {
        self.load.as_secs_f64() / self.wall.as_secs_f64()
    }

    fn busy(&self) -> f64 {
        self.proxy.as_secs_f64() / self.wall.as_secs_f64()
    }

    fn other_work(&self) -> f64 {
        self.others.as_secs_f64() / self.wall.as_secs_f64()
    }

    fn latency(&self, quantile: f64) -> f64 {
        self.tally.latency.value_at_quantile(quantile) as f64
    }
}

/// The median over a proxy's turns.
fn over(turns: &[Turn], kind: Kind, figure: impl Fn(&Turn) -> f64) -> f64 {
    median(turns.iter().filter(|turn| turn.kind == kind).map(figure))
}

/// The median over the rounds of a proxy's figure divided by haproxy's in the same round, if haproxy took part.
fn beside_haproxy(turns: &[Turn], kind: Kind, figure: impl Fn(&Turn) -> f64) -> Option<f64> {
    let rounds = turns.iter().filter(|turn| turn.kind == kind).filter_map(|turn| {
        let other = turns.iter().find(|other| other.kind == Kind::Haproxy && other.round == turn.round)?;
        Some(figure(turn) / figure(other))
    });
    let ratios: Vec<f64> = rounds.filter(|ratio| ratio.is_finite()).collect();
    (!ratios.is_empty()).then(|| median(ratios))
}

fn print(arguments: &Arguments, turns: &[Turn], failures: &Failures) {
    let Arguments { rounds, seconds, connections, pods, bytes, .. } = arguments;
    println!("{connections} clients, {pods} pods, answers of {bytes} B; medians of {rounds} turns of {seconds} s each");
    let mut table = Table::new(&[
        "proxy",
        "req/s",
        "/haproxy",
        "CPU µs/req",
        "/haproxy",
        "least",
        "most",
        "proxy busy",
        "load busy",
        "p50",
        "p99",
        "p99.9",
        "failed",
    ]);
    for kind in arguments.kinds() {
        let of_kind = || turns.iter().filter(|turn| turn.kind == kind);
        let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        let costs = || of_kind().map(Turn::microseconds_a_request);
        table.row(vec![
            kind.name().to_owned(),
            format!("{:.0}", over(turns, kind, Turn::rate)),
            ratio(beside_haproxy(turns, kind, Turn::rate)),
            format!("{:.1}", over(turns, kind, Turn::microseconds_a_request)),
            ratio(beside_haproxy(turns, kind, Turn::microseconds_a_request)),
            format!("{:.1}", costs().fold(f64::INFINITY, f64::min)),
            format!("{:.1}", costs().fold(0.0, f64::max)),
            format!("{:.0} %", over(turns, kind, Turn::busy) * 100.0),
            format!("{:.0} %", over(turns, kind, Turn::load_busy) * 100.0),
            nanoseconds(over(turns, kind, |turn| turn.latency(0.5))),
            nanoseconds(over(turns, kind, |turn| turn.latency(0.99))),
            nanoseconds(over(turns, kind, |turn| turn.latency(0.999))),
            of_kind().map(|turn| turn.tally.failures.total()).sum::<u64>().to_string(),
        ]);
    }
    table.print();
    let (usual, most) =
        (median(turns.iter().map(Turn::other_work)), turns.iter().map(Turn::other_work).fold(0.0, f64::max));
    println!("other work on this machine: {:.0} % of a core, at most {:.0} %", usual * 100.0, most * 100.0);
    for (kind, count) in failures.kinds() {
        println!("FAILED requests, warm-up included: {count} × {kind}");
    }
}

fn figures(arguments: &Arguments, turns: &[Turn], failures: &Failures) -> Value {
    let turns: Vec<Value> = turns
        .iter()
        .map(|turn| {
            json!({
                "round": turn.round,
                "proxy": turn.kind.name(),
                "wall_s": turn.wall.as_secs_f64(),
                "served": turn.tally.served,
                "requests_per_s": turn.rate(),
                "cpu_us_per_request": turn.microseconds_a_request(),
                "proxy_busy": turn.busy(),
                "load_busy": turn.load_busy(),
                "other_work_cores": turn.other_work(),
                "p50_ns": turn.latency(0.5),
                "p99_ns": turn.latency(0.99),
                "p999_ns": turn.latency(0.999),
                "max_ns": turn.tally.latency.max(),
                "failed": turn.tally.failures.kinds(),
            })
        })
        .collect();
    json!({
        "connections": arguments.connections,
        "pods": arguments.pods,
        "bytes": arguments.bytes,
        "own_ids": arguments.own_ids,
        "paths": arguments.paths,
        "access_log": arguments.access_log,
        "failed": failures.kinds(),
        "turns": turns,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(round: u32, kind: Kind, proxy_ms: u64) -> Turn {
        let latency = hdrhistogram::Histogram::new(3).expect("three digits are valid");
        let tally = Tally { served: 1000, failures: Failures::default(), latency };
        let wall = Duration::from_secs(1);
        Turn {
            round,
            kind,
            wall,
            proxy: Duration::from_millis(proxy_ms),
            load: Duration::ZERO,
            others: Duration::ZERO,
            tally,
        }
    }

    #[test]
    fn a_ratio_is_taken_within_each_round() {
        let turns = [
            turn(1, Kind::Jellypin, 20),
            turn(1, Kind::Haproxy, 10),
            turn(2, Kind::Jellypin, 60),
            turn(2, Kind::Haproxy, 20),
            turn(3, Kind::Jellypin, 80),
            turn(3, Kind::Haproxy, 40),
        ];
        assert_eq!(beside_haproxy(&turns, Kind::Jellypin, Turn::microseconds_a_request), Some(2.0));
        assert_eq!(beside_haproxy(&turns[..1], Kind::Jellypin, Turn::rate), None);
        assert_eq!(over(&turns, Kind::Jellypin, Turn::microseconds_a_request), 60.0);
    }
}
