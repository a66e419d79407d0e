//! Large bodies from the client's end: downloads that may stop reading, uploads to a pod that may.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::client::Identity;
use crate::connection::Connection;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Direction {
    Download,
    Upload,
}

/// Some equal transfers at the same time.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    pub(super) direction: Direction,
    pub(super) peers: u64,
    /// Bytes of each one's body.
    pub(super) bytes: u64,
    /// For how long the reading end stops in the middle; zero is full speed.
    pub(super) stall: Duration,
}

impl Plan {
    pub(super) fn name(self) -> String {
        let (transfer, reader) = match self.direction {
            Direction::Download => ("download", "clients"),
            Direction::Upload => ("upload", "pod"),
        };
        if self.stall.is_zero() {
            format!("{transfer}, full speed")
        } else {
            format!("{} × {transfer}, {reader} stop for {} s", self.peers, self.stall.as_secs())
        }
    }
}

const BUFFER_BYTES: usize = 256 * 1024;
/// A stalling reader takes this much first, so that the transfer is under way.
const READ_BEFORE_STALL: u64 = 1024 * 1024;

/// Carries out all transfers of a plan; `moved` counts the bytes that the clients have read or written.
pub(super) async fn carry_out(plan: Plan, proxy: SocketAddr, moved: Rc<Cell<u64>>) -> Result<()> {
    let mut transfers = JoinSet::new();
    for number in 0..plan.peers {
        let identity = Identity::new(number);
        match plan.direction {
            Direction::Download => transfers.spawn_local(download(plan, proxy, identity, moved.clone())),
            Direction::Upload => transfers.spawn_local(upload(plan, proxy, identity, moved.clone())),
        };
    }
    while let Some(ended) = transfers.join_next().await {
        ended??;
    }
    Ok(())
}

async fn download(plan: Plan, proxy: SocketAddr, identity: Identity, moved: Rc<Cell<u64>>) -> Result<()> {
    let mut connection = Connection::open(proxy, BUFFER_BYTES).await?;
    let request = format!(
        "GET /Items/f137a2dd21bbc1b99aa5c0f6bf02a805/Download?bytes={} HTTP/1.1\r\nHost: {proxy}\r\n{}\r\n\r\n",
        plan.bytes,
        identity.authorization()
    );
    connection.send(request.as_bytes()).await?;
    let head = connection.head().await?;
    ensure!(head.status == 200, "a download was answered with {}", head.status);
    ensure!(head.length == plan.bytes, "a download of {} bytes instead of {}", head.length, plan.bytes);

    let (mut remaining, mut stall) = (plan.bytes, plan.stall);
    while remaining > 0 {
        let read = connection.body(remaining).await?;
        remaining -= read;
        moved.set(moved.get() + read);
        if plan.bytes - remaining >= READ_BEFORE_STALL && !stall.is_zero() {
            sleep(std::mem::take(&mut stall)).await;
        }
    }
    Ok(())
}

async fn upload(plan: Plan, proxy: SocketAddr, identity: Identity, moved: Rc<Cell<u64>>) -> Result<()> {
    let mut connection = Connection::open(proxy, BUFFER_BYTES).await?;
    let stall = if plan.stall.is_zero() { String::new() } else { format!("?stall_ms={}", plan.stall.as_millis()) };
    let request = format!(
        "POST /_loadtest/sink{stall} HTTP/1.1\r\nHost: {proxy}\r\nContent-Type: application/octet-stream\r\n\
         Content-Length: {}\r\n{}\r\n\r\n",
        plan.bytes,
        identity.authorization()
    );
    connection.send(request.as_bytes()).await?;
    let piece = vec![b'.'; BUFFER_BYTES];
    let mut remaining = plan.bytes;
    while remaining > 0 {
        let length = piece.len().min(usize::try_from(remaining).unwrap_or(usize::MAX));
        connection.send(&piece[..length]).await?;
        remaining -= length as u64;
        moved.set(moved.get() + length as u64);
    }
    let head = connection.head().await?;
    ensure!(head.status == 200, "an upload was answered with {}", head.status);
    let answer: serde_json::Value = serde_json::from_str(&connection.text(head.length).await?)?;
    ensure!(answer["bytes"].as_u64() == Some(plan.bytes), "of an upload of {} bytes the pod got {answer}", plan.bytes);
    Ok(())
}
