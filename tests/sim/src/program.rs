//! The program `jellyfin-sim`: pods as a process of their own, so that one can be killed as a process is.
//! Other programs can become it.
//!
//! Prints a line for each pod: its name, its address, and the address of its control port if it has one. SIGTERM and
//! SIGINT stop the pods as SIGTERM stops a Jellyfin.

mod control;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::cluster::Cluster;
use crate::generation::Generation;
use crate::mint_times::MintTimes;
use crate::pod::Pod;
use crate::start_up::{PhaseLengths, StartUp};

type Failure = Box<dyn std::error::Error>;

/// Simulated Jellyfin pods for the tests of a proxy
#[derive(Parser)]
#[command(name = "jellyfin-sim", version)]
struct Options {
    /// Name of the pod; of several, the names are a, b, c and so on
    #[arg(long, default_value = "a")]
    name: String,
    /// Where the pod listens; further pods take the ports after it
    #[arg(long, default_value = "127.0.0.1:8101")]
    listen: SocketAddr,
    /// Where the control port listens; further pods take the ports after it
    #[arg(long)]
    control: Option<SocketAddr>,
    /// Directory of the shared database; without it the database is in memory
    #[arg(long)]
    data: Option<PathBuf>,
    /// Server id, 32 hex; by default one made of the name
    #[arg(long)]
    server_id: Option<String>,
    /// Which Jellyfin to play: 12.0 or 10.11
    #[arg(long, default_value = "12.0")]
    generation: Generation,
    /// Base URL, with a leading slash
    #[arg(long, default_value = "")]
    base_url: String,
    /// How many pods to run in this process
    #[arg(long, default_value_t = 1)]
    pods: u16,
    /// Start through the recorded phases, their lengths times this factor
    #[arg(long)]
    phased: Option<f64>,
    /// Take as long for the making of sessions as a recorded pod
    #[arg(long)]
    mint_times: bool,
    /// Seconds of silence after which a socket is lost
    #[arg(long, default_value_t = 60.0)]
    keep_alive: f64,
    /// Accept legacy carriers of a token, or not
    #[arg(long)]
    legacy_authorization: Option<bool>,
    /// Turn QuickConnect off
    #[arg(long)]
    no_quick_connect: bool,
    /// Believe X-Forwarded-For and X-Forwarded-Proto
    #[arg(long)]
    known_proxies: bool,
    /// Length of the bulk item's file in bytes
    #[arg(long, default_value_t = 10 << 30)]
    bulk_size: u64,
    /// Play the build with one catalogue writer, which is the first of the pods
    #[arg(long)]
    single_writer: bool,
    /// Remember every request for /seen; off, so that load gathers no memory
    #[arg(long)]
    record: bool,
    /// Worker threads
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

/// Runs pods until SIGTERM or SIGINT. The first argument is the program's own name.
///
/// # Errors
/// When a pod cannot be started.
pub fn run_program(arguments: impl IntoIterator<Item = OsString>) -> Result<(), Failure> {
    let options = Options::parse_from(arguments);
    let runtime = match options.threads {
        0 | 1 => tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        threads => tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?,
    };
    runtime.block_on(run(options))
}

async fn run(options: Options) -> Result<(), Failure> {
    let cluster = match &options.data {
        Some(dir) => Cluster::open(dir)?,
        None => Cluster::new(),
    };
    println!("api-key {}", cluster.api_key());
    let mut pods = Vec::new();
    for number in 0..options.pods {
        let pod = Arc::new(start(&options, &cluster, number).await?);
        match options.control.map(|address| nth(address, number)) {
            Some(address) => {
                let address = control::serve(Arc::clone(&pod), address).await?;
                println!("pod {} http://{} control http://{address}", pod.name(), pod.address());
            }
            None => println!("pod {} http://{}", pod.name(), pod.address()),
        }
        pods.push(pod);
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    for pod in pods {
        pod.stop().await;
    }
    Ok(())
}

async fn start(options: &Options, cluster: &Cluster, number: u16) -> Result<Pod, Failure> {
    let name = match options.pods {
        1 => options.name.clone(),
        _ => char::from_u32(u32::from('a') + u32::from(number)).unwrap_or('z').to_string(),
    };
    let start_up = match options.phased {
        Some(factor) => StartUp::Phased(PhaseLengths::RECORDED.scaled(factor)),
        None => StartUp::Instant,
    };
    let mut builder = Pod::builder(cluster)
        .name(name)
        .listen(nth(options.listen, number))
        .server_id(options.server_id.as_deref())
        .generation(options.generation)
        .base_url(&options.base_url)
        .start_up(start_up)
        .keep_alive(Duration::from_secs_f64(options.keep_alive))
        .quick_connect_enabled(!options.no_quick_connect)
        .known_proxies(options.known_proxies)
        .bulk_size(options.bulk_size);
    if options.single_writer {
        builder = builder.single_writer(true);
    }
    if let Some(on) = options.legacy_authorization {
        builder = builder.legacy_authorization(on);
    }
    let pod = builder.start().await?;
    pod.set_recording(options.record);
    if options.mint_times {
        pod.mint_times(MintTimes::RECORDED);
    }
    Ok(pod)
}

/// The address of a pod among several; port 0 stays 0, a free one for each.
fn nth(mut address: SocketAddr, number: u16) -> SocketAddr {
    if address.port() != 0 {
        address.set_port(address.port().saturating_add(number));
    }
    address
}
