//! `loadtest floods`: what some clients notice while another address attacks the proxy, one kind of attack after the other.
//!
//! The clients come from 127.0.0.1, the attacker from 127.0.0.2. It is a process of its own with the least priority, so that
//! clients and pods, which share its core, are late for the proxy's sake alone.

pub(crate) mod attacker;
mod kinds;

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::Verdict;
use crate::backend::backends;
use crate::contender::{Contender, Duties, Kind};
use crate::drive::{Load, Tally};
use crate::ports::Ports;
use crate::procfs::{forget_peak, memory};
use crate::readiness::{pod_answers, proxy_uses_all};
use crate::report::{Table, mebibytes, nanoseconds, write_json};
use crate::stage::{self, Stage};
use kinds::Attack;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    stage: stage::Arguments,
    /// The proxy in front of the pods
    #[arg(long, default_value = "jellypin")]
    proxy: Kind,
    /// Clients that keep asking while the proxy is attacked
    #[arg(long, default_value_t = 16)]
    clients: u64,
    /// Milliseconds that a client rests between an answer and its next request
    #[arg(long, default_value_t = 10)]
    rest_ms: u64,
    /// Seconds of each attack, and of the calm before it
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Connections of the attacker, where an attack is made of connections
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Only these attacks; given again, each of them
    #[arg(long = "only")]
    only: Vec<Attack>,
}

/// What the clients saw while one thing went on.
struct Phase {
    attack: Attack,
    calm: Tally,
    attacked: Tally,
    peak: u64,
    /// What the attacker counted of its own doings, as it said at the end.
    done: String,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Verdict> {
    let stage = Stage::set(&arguments.stage)?;
    let mut ports = Ports::new();
    let backends = backends(2, &mut ports)?;
    let mut pods = stage.start_pods(&backends, &[])?;
    for backend in &backends {
        pod_answers(&mut pods, *backend).await?;
    }
    let duties = Duties { own_limits: true, ..Duties::default() };
    let mut contender = Contender::start(arguments.proxy, &stage, &mut ports, &backends, duties)?;
    proxy_uses_all(&mut contender, &backends).await?;

    let paths = ["/Items?limit=1", "/Users/Me"].map(str::to_owned);
    let load =
        Load::start_resting(contender.address, arguments.clients, &paths, Duration::from_millis(arguments.rest_ms))?;
    sleep(Duration::from_secs(1)).await;
    let mut phases = Vec::new();
    let attacks = if arguments.only.is_empty() { Attack::ALL.to_vec() } else { arguments.only.clone() };
    for attack in attacks {
        phases.push(attack_with(attack, &arguments, &stage, &mut contender, &load).await?);
    }
    let rest = load.stop().await?;
    contender.process.still_runs()?;

    let failed = rest.failures.total() + phases.iter().map(|phase| failures(phase).0).sum::<u64>();
    print(&arguments, &phases);
    write_json(arguments.stage.json.as_deref(), &figures(&arguments, &phases))?;
    ensure!(
        phases.iter().all(|phase| phase.calm.served > 0),
        "no request was answered in the calm: nothing was measured"
    );
    Ok(if failed == 0 { Verdict::Passed } else { Verdict::Failed })
}

async fn attack_with(
    attack: Attack,
    arguments: &Arguments,
    stage: &Stage,
    contender: &mut Contender,
    load: &Load,
) -> Result<Phase> {
    eprintln!("{}: {} s of calm, {} s of attack", attack.name(), arguments.seconds, arguments.seconds);
    // The end of the attack before is no part of this calm.
    sleep(Duration::from_secs(1)).await;
    load.take();
    sleep(Duration::from_secs(arguments.seconds)).await;
    let calm = load.take();
    let pid = contender.process.pid();
    forget_peak(pid)?;
    let order = attacker::Order {
        attack,
        target: contender.address,
        seconds: arguments.seconds,
        connections: arguments.connections,
    };
    let mut attacker = stage.start_attacker(&order.arguments())?;
    attacker.ends(Duration::from_secs(arguments.seconds + 30)).await?;
    let attacked = load.take();
    contender.process.still_runs()?;
    Ok(Phase { attack, calm, attacked, peak: memory(pid)?.peak, done: last_line(&attacker.last_words()) })
}

fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or_default().to_owned()
}

/// Failed requests of the clients, and what they were.
fn failures(phase: &Phase) -> (u64, Vec<String>) {
    let mut all = phase.calm.failures.clone();
    all.merge(phase.attacked.failures.clone());
    (all.total(), all.kinds().iter().map(|(kind, count)| format!("{count} × {kind}")).collect())
}

fn print(arguments: &Arguments, phases: &[Phase]) {
    println!(
        "{}: {} clients that rest {} ms; {} s of calm and {} s of attack each",
        arguments.proxy.name(),
        arguments.clients,
        arguments.rest_ms,
        arguments.seconds,
        arguments.seconds
    );
    let headings = ["attack", "p50 calm", "p50", "p99 calm", "p99", "most", "failed", "proxy's peak MiB", "attacker"];
    let mut table = Table::new(&headings);
    for phase in phases {
        let time = |tally: &Tally, quantile| nanoseconds(tally.latency.value_at_quantile(quantile) as f64);
        table.row(vec![
            phase.attack.name().to_owned(),
            time(&phase.calm, 0.5),
            time(&phase.attacked, 0.5),
            time(&phase.calm, 0.99),
            time(&phase.attacked, 0.99),
            time(&phase.attacked, 1.0),
            failures(phase).0.to_string(),
            mebibytes(phase.peak),
            phase.done.clone(),
        ]);
    }
    table.print();
    for phase in phases {
        for kind in failures(phase).1 {
            println!("FAILED beside {}: {kind}", phase.attack.name());
        }
    }
}

fn figures(arguments: &Arguments, phases: &[Phase]) -> Value {
    let tally = |tally: &Tally| {
        json!({
            "served": tally.served,
            "failed": tally.failures.total(),
            "p50_ns": tally.latency.value_at_quantile(0.5),
            "p99_ns": tally.latency.value_at_quantile(0.99),
            "max_ns": tally.latency.max(),
        })
    };
    let phases: Vec<Value> = phases
        .iter()
        .map(|phase| {
            json!({
                "attack": phase.attack.name(),
                "calm": tally(&phase.calm),
                "attacked": tally(&phase.attacked),
                "peak_bytes": phase.peak,
                "attacker": phase.done,
            })
        })
        .collect();
    json!({ "proxy": arguments.proxy.name(), "clients": arguments.clients, "seconds": arguments.seconds, "phases": phases })
}
