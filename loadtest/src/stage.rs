//! What every run stands on: two cores, a folder for its files, the programs it may start, and waiting for them.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::client::Client;
use crate::connection::{Connection, Failure};
use crate::contender::{Backend, Contender};
use crate::launch::stay_on;
use crate::ports::Ports;
use crate::process::Process;

#[derive(Args)]
#[group(id = "stage")]
pub(crate) struct Arguments {
    /// jellypin's binary; by default the one beside this program
    #[arg(long)]
    jellypin: Option<PathBuf>,
    /// haproxy's binary
    #[arg(long, default_value = "haproxy")]
    haproxy: PathBuf,
    /// Write the raw figures to this file
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// The core of the proxy under load
    #[arg(long, default_value_t = 0)]
    proxy_core: usize,
    /// The core of the clients and the pods
    #[arg(long, default_value_t = 1)]
    load_core: usize,
}

/// Where a run takes place. This process is on the load core from here on.
pub(crate) struct Stage {
    pub(crate) jellypin: PathBuf,
    pub(crate) haproxy: PathBuf,
    proxy_core: usize,
    load_core: usize,
    folder: TempDir,
}

impl Stage {
    pub(crate) fn set(arguments: &Arguments) -> Result<Stage> {
        ensure!(arguments.proxy_core != arguments.load_core, "proxy and load need a core each");
        let jellypin = match &arguments.jellypin {
            Some(path) => path.clone(),
            None => std::env::current_exe()?.with_file_name("jellypin"),
        };
        stay_on(arguments.load_core)?;
        Ok(Stage {
            jellypin,
            haproxy: arguments.haproxy.clone(),
            proxy_core: arguments.proxy_core,
            load_core: arguments.load_core,
            folder: TempDir::with_prefix("loadtest-")?,
        })
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn start_proxy<S: AsRef<OsStr>>(
        &self,
        name: &str,
        program: &Path,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Process> {
        Process::start(name, self.proxy_core, program, arguments, self.file(&format!("{name}.log")))
    }

    /// Starts one process that plays these pods. `options` are those of `loadtest pod`.
    pub(crate) fn start_pods(&self, pods: &[Backend], options: &[String]) -> Result<Process> {
        let first = pods.first().context("no pod to start")?.name;
        let mut arguments = vec!["pod".to_owned(), "--name".to_owned(), first.to_string()];
        for pod in pods {
            arguments.extend(["--listen".to_owned(), pod.address.to_string()]);
        }
        arguments.extend_from_slice(options);
        let name = format!("pod-{first}");
        Process::start(&name, self.load_core, &std::env::current_exe()?, arguments, self.file(&format!("{name}.log")))
    }
}

/// `count` pods named a, b, c, … on free ports.
pub(crate) fn backends(count: u8, ports: &mut Ports) -> Result<Vec<Backend>> {
    ensure!((1..=26).contains(&count), "1 to 26 pods");
    ('a'..='z').take(count.into()).map(|name| Ok(Backend { name, address: ports.free()? })).collect()
}

/// The longest that anything started may take until it answers.
const PATIENCE: Duration = Duration::from_secs(15);
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// Waits until a pod's process answers.
pub(crate) async fn pod_answers(process: &mut Process, pod: Backend) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while pod_counts(pod).await.is_err() {
        process.still_runs()?;
        ensure!(Instant::now() < deadline, "pod {} does not answer", pod.name);
        sleep(BETWEEN_TRIES).await;
    }
    Ok(())
}

/// Waits until every pod has served a client through the proxy, so that none is still unknown to it when load begins.
pub(crate) async fn proxy_uses_all(contender: &mut Contender, pods: &[Backend]) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut missing: Vec<char> = pods.iter().map(|pod| pod.name).collect();
    let mut last = None;
    // Far from the numbers of the clients of a run, whose tokens shall be new to the proxy.
    for number in 1_000_000.. {
        match Client::new(contender.address, number, &["/Items?limit=1".to_owned()]).exchange().await {
            Ok(served) => missing.retain(|&name| Some(name) != served.pod),
            Err(failure) => {
                last = Some(failure);
                sleep(BETWEEN_TRIES).await;
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        contender.process.still_runs()?;
        if Instant::now() > deadline {
            let failure = last.map_or_else(|| "none".to_owned(), |failure| failure.to_string());
            let words = contender.process.last_words();
            bail!("{} never used pods {missing:?}; last failure: {failure}; it wrote:\n{words}", contender.kind.name());
        }
    }
    Ok(())
}

/// What a pod has counted, asked of the pod itself.
pub(crate) async fn pod_counts(pod: Backend) -> Result<serde_json::Value> {
    let text = ask(pod.address, "/_loadtest/counts").await?;
    serde_json::from_str(&text).context("a pod's counts")
}

async fn ask(address: SocketAddr, path: &str) -> Result<String, Failure> {
    let mut connection = Connection::open(address, 4096).await?;
    connection.send(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let head = connection.head().await?;
    connection.text(head.length).await
}
