//! The attacking process: it floods until its time is over, and says what came of it.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use rustix::process::{Resource, getrlimit, nice, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::kinds::Attack;
use crate::Verdict;

/// What the attacker is to do.
#[derive(Args, Clone)]
#[group(id = "order")]
pub(crate) struct Order {
    /// The kind of attack
    #[arg(long)]
    pub(super) attack: Attack,
    /// The proxy's address
    #[arg(long)]
    pub(super) target: SocketAddr,
    /// Seconds until it ends
    #[arg(long)]
    pub(super) seconds: u64,
    /// Connections at once
    #[arg(long)]
    pub(super) connections: usize,
}

impl Order {
    pub(super) fn arguments(&self) -> Vec<String> {
        let options = [
            ("--attack", self.attack.name().to_owned()),
            ("--target", self.target.to_string()),
            ("--seconds", self.seconds.to_string()),
            ("--connections", self.connections.to_string()),
        ];
        options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
    }
}

/// The attacker's own address, which is not that of the clients.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// Connections that are being opened at the same moment, which is what a listener's queue takes.
const OPENED_AT_ONCE: usize = 64;

/// What came of it.
#[derive(Default)]
struct Done {
    opened: Cell<u64>,
    refused: Cell<u64>,
    /// Ended by the proxy.
    ended: Cell<u64>,
    answered: Cell<u64>,
    sent: Cell<u64>,
}

fn count(counter: &Cell<u64>, more: u64) {
    counter.set(counter.get() + more);
}

pub(crate) async fn run(order: Order) -> Result<Verdict> {
    nice(19)?;
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files)?;

    let end = Instant::now() + Duration::from_secs(order.seconds);
    let done = Rc::new(Done::default());
    let mut connections = JoinSet::new();
    let all = order.attack.connections(order.connections);
    let openers = Rc::new(tokio::sync::Semaphore::new(OPENED_AT_ONCE));
    for _ in 0..all {
        connections.spawn_local(keep_attacking(order.clone(), end, done.clone(), openers.clone()));
    }
    sleep_until(end).await;
    connections.shutdown().await;
    println!(
        "{} opened, {} refused, {} ended by the proxy, {} answers, {:.1} MiB sent",
        done.opened.get(),
        done.refused.get(),
        done.ended.get(),
        done.answered.get(),
        done.sent.get() as f64 / (1024.0 * 1024.0)
    );
    Ok(Verdict::Passed)
}

/// One connection after the other: each lasts until the proxy ends it.
async fn keep_attacking(order: Order, end: Instant, done: Rc<Done>, openers: Rc<tokio::sync::Semaphore>) {
    while Instant::now() < end {
        let opened = {
            let _turn = openers.acquire().await;
            timeout_at(end, open(order.target)).await
        };
        match opened {
            Ok(Ok(stream)) => {
                count(&done.opened, 1);
                attack(stream, order.attack, &done).await;
                count(&done.ended, 1);
            }
            Ok(Err(_)) => count(&done.refused, 1),
            Err(_) => return,
        }
        // Who is sent away comes again at once, and leaves others their turn.
        sleep(Duration::from_millis(if order.attack.rests() { 1000 } else { 1 })).await;
    }
}

async fn open(target: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(ADDRESS, 0))?;
    socket.connect(target).await
}

/// Sends until the connection ends.
async fn attack(stream: TcpStream, attack: Attack, done: &Done) {
    let (mut read, mut write) = stream.into_split();
    let mut bytes = attack.first();
    let mut buffer = vec![0; if attack.rests() { 512 } else { 16 * 1024 }];
    for turn in 0.. {
        bytes.extend(attack.next(turn));
        let mut rest = &bytes[..];
        // What the proxy says is read all the while, so that it never waits for that.
        while !rest.is_empty() {
            tokio::select! {
                written = write.write(rest) => match written {
                    Ok(written) if written > 0 => {
                        count(&done.sent, written as u64);
                        rest = &rest[written..];
                    }
                    _ => return,
                },
                read = read.read(&mut buffer) => if !matches!(read, Ok(read) if read > 0) { return },
            }
        }
        bytes.clear();
        if attack.asks() {
            match read.read(&mut buffer).await {
                Ok(read) if read > 0 => count(&done.answered, 1),
                _ => return,
            }
        } else if attack.rests() {
            tokio::select! {
                () = sleep(Duration::from_secs(1)) => {}
                read = read.read(&mut buffer) => if !matches!(read, Ok(read) if read > 0) { return },
            }
        }
    }
}
