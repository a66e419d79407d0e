//! Waits until what was started answers.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::time::{Instant, sleep};

use crate::backend::Backend;
use crate::client::Client;
use crate::connection::{Connection, Failure};
use crate::contender::Contender;
use crate::process::Process;

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
    let text = fetch(pod.address, "/_loadtest/counts").await?;
    serde_json::from_str(&text).context("a pod's counts")
}

async fn fetch(address: SocketAddr, path: &str) -> Result<String, Failure> {
    let mut connection = Connection::open(address, 4096).await?;
    connection.send(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let head = connection.head().await?;
    connection.text(head.length).await
}
