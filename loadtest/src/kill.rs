//! `loadtest kill`: one of three pods dies under load and comes back, and what the clients saw of it.
//!
//! The pods are processes of their own, killed with SIGKILL: what the kernel then does to connections, it does here.

mod witness;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::Verdict;
use crate::backend::backends;
use crate::client::Client;
use crate::connection::Failure;
use crate::contender::{Contender, Duties, Kind};
use crate::drive::PAUSE_AFTER_FAILURE;
use crate::ports::Ports;
use crate::procfs::refused_dials;
use crate::readiness::{pod_answers, pod_counts, proxy_uses_all};
use crate::report::{Table, nanoseconds, write_json};
use crate::stage::{self, Stage};
use witness::Witness;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    stage: stage::Arguments,
    /// The proxy in front of the pods
    #[arg(long, default_value = "jellypin")]
    proxy: Kind,
    /// Clients, each with its own token, device and cookie jar
    #[arg(long, default_value_t = 200)]
    clients: usize,
    /// Milliseconds that a client rests between an answer and its next request
    #[arg(long, default_value_t = 0)]
    rest_ms: u64,
    /// Seconds from the start to the end
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Second at which a pod is killed
    #[arg(long, default_value_t = 10)]
    kill_at: u64,
    /// Second at which it is started again
    #[arg(long, default_value_t = 20)]
    restart_at: u64,
    /// Milliseconds from then until it is ready
    #[arg(long, default_value_t = 3000)]
    starting_ms: u64,
    /// What is asked for with GET; given again, each client asks in turn
    #[arg(long = "path", default_values_t = ["/Items?limit=1", "/Users/Me", "/System/Info", "/UserViews"].map(str::to_owned))]
    paths: Vec<String>,
}

/// The longest that a client waits for an answer, about what real ones do.
const CLIENT_PATIENCE: Duration = Duration::from_secs(30);

/// What was counted beside the clients' own account.
struct Counted {
    refused_dials: u64,
    /// The restarted pod's counts.
    restarted: Value,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Verdict> {
    ensure!(
        arguments.kill_at < arguments.restart_at && arguments.restart_at < arguments.seconds,
        "the order is: start, kill, restart, end"
    );
    let stage = Stage::set(&arguments.stage)?;
    let mut ports = Ports::new();
    let backends = backends(3, &mut ports)?;
    let mut pods = Vec::new();
    for backend in &backends {
        let mut pod = stage.start_pods(&[*backend], &[])?;
        pod_answers(&mut pod, *backend).await?;
        pods.push(pod);
    }
    let duties = Duties { fail_over: true, ..Duties::default() };
    let mut contender = Contender::start(arguments.proxy, &stage, &mut ports, &backends, duties)?;
    proxy_uses_all(&mut contender, &backends).await?;

    let victim = *backends.first().context("no pod")?;
    let witness = Rc::new(RefCell::new(Witness::new(victim.name, arguments.clients)));
    let mut clients = start_clients(&arguments, contender.address, &witness);

    let begun = Instant::now();
    sleep(Duration::from_secs(arguments.kill_at)).await;
    let refused = refused_dials()?;
    witness.borrow_mut().pod_dies();
    pods.first_mut().context("no pod")?.kill()?;

    sleep(Duration::from_secs(arguments.restart_at).saturating_sub(begun.elapsed())).await;
    let refused_dials = refused_dials()?.saturating_sub(refused);
    pods[0] = stage.start_pods(&[victim], &["--starting-ms".to_owned(), arguments.starting_ms.to_string()])?;

    sleep(Duration::from_secs(arguments.seconds).saturating_sub(begun.elapsed())).await;
    witness.borrow_mut().stop();
    while let Some(ended) = clients.join_next().await {
        ended?;
    }
    contender.process.still_runs()?;
    let counted = Counted { refused_dials, restarted: pod_counts(victim).await? };

    let witness = witness.borrow();
    print(&arguments, &witness, &counted);
    write_json(arguments.stage.json.as_deref(), &figures(&arguments, &witness, &counted))?;
    ensure!(witness.orphans() > 0, "no client had its home on the pod that died: nothing was measured");
    let passed = witness.failed() == 0 && witness.stranded() == 0;
    Ok(if passed { Verdict::Passed } else { Verdict::Failed })
}

fn start_clients(arguments: &Arguments, proxy: SocketAddr, witness: &Rc<RefCell<Witness>>) -> JoinSet<()> {
    let rest = Duration::from_millis(arguments.rest_ms);
    let mut clients = JoinSet::new();
    for number in 0..arguments.clients {
        let client = Client::new(proxy, number as u64, &arguments.paths);
        clients.spawn_local(keep_asking(number, client, rest, witness.clone()));
    }
    clients
}

async fn keep_asking(number: usize, mut client: Client, rest: Duration, witness: Rc<RefCell<Witness>>) {
    while !witness.borrow().stopping() {
        let begun = Instant::now();
        let outcome = timeout(CLIENT_PATIENCE, client.exchange()).await.unwrap_or(Err(Failure::TimedOut));
        let failed = outcome.is_err();
        witness.borrow_mut().saw(number, begun.elapsed(), outcome);
        let pause = if failed { PAUSE_AFTER_FAILURE } else { rest };
        if !pause.is_zero() {
            sleep(pause).await;
        }
    }
}

fn print(arguments: &Arguments, witness: &Witness, counted: &Counted) {
    println!(
        "{}: {} clients for {} s; one of 3 pods killed at {} s, started again at {} s, ready {} ms later",
        arguments.proxy.name(),
        arguments.clients,
        arguments.seconds,
        arguments.kill_at,
        arguments.restart_at,
        arguments.starting_ms
    );
    let time = |quantile| nanoseconds(witness.recovery(quantile).as_nanos() as f64);
    let mut table = Table::new(&["figure", "value"]);
    let mut row = |name: &str, value: String| table.row(vec![name.to_owned(), value]);
    row("requests", (witness.served() + witness.failed()).to_string());
    row("failed (all of them idempotent)", witness.failed().to_string());
    row("slowest request", nanoseconds(witness.slowest().as_nanos() as f64));
    row("clients of the pod that died", witness.orphans().to_string());
    row("  from the kill to their next answer: p50", time(0.5));
    row("  p99", time(0.99));
    row("  most", time(1.0));
    row("  never answered elsewhere", witness.stranded().to_string());
    row("moves of clients whose pod lived", witness.needless_moves().to_string());
    row("refused dials while it was dead (probes too)", counted.refused_dials.to_string());
    row("requests to it after the restart, not yet ready", counted.restarted["early"].to_string());
    row("requests to it after the restart, in all", counted.restarted["requests"].to_string());
    table.print();
    for (kind, seen) in witness.failures() {
        println!("FAILED requests: {} × {kind}, {:+.3} s to {:+.3} s from the kill", seen.count, seen.first, seen.last);
    }
}

fn figures(arguments: &Arguments, witness: &Witness, counted: &Counted) -> Value {
    let failures: Vec<Value> = witness
        .failures()
        .map(|(kind, seen)| json!({"kind": kind, "count": seen.count, "first_s": seen.first, "last_s": seen.last}))
        .collect();
    json!({
        "proxy": arguments.proxy.name(),
        "clients": arguments.clients,
        "rest_ms": arguments.rest_ms,
        "seconds": arguments.seconds,
        "kill_at_s": arguments.kill_at,
        "restart_at_s": arguments.restart_at,
        "starting_ms": arguments.starting_ms,
        "served": witness.served(),
        "failed": witness.failed(),
        "failures": failures,
        "slowest_s": witness.slowest().as_secs_f64(),
        "orphans": witness.orphans(),
        "recovery_p50_s": witness.recovery(0.5).as_secs_f64(),
        "recovery_p99_s": witness.recovery(0.99).as_secs_f64(),
        "recovery_max_s": witness.recovery(1.0).as_secs_f64(),
        "stranded": witness.stranded(),
        "needless_moves": witness.needless_moves(),
        "refused_dials": counted.refused_dials,
        "restarted_pod": counted.restarted,
    })
}
