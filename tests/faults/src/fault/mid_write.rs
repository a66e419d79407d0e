//! jellypin is killed while it writes: no log-in that it has acknowledged may be lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use serde_json::Value;
use tokio::time::timeout;

use crate::client::{Client, elapse, until};
use crate::stage::Stage;

/// Clients that log in one after the other.
const AT_ONCE: usize = 4;

/// How long a client may take to be served by another pod.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn kill_again_and_again(stage: &mut Stage) -> String {
    let rounds = if stage.plan.is_full { 500 } else { 20 };
    let mut acknowledged: Vec<Client> = Vec::new();
    for round in 0..rounds {
        let visitors: Vec<Vec<Client>> =
            (0..AT_ONCE).map(|_| (0..3).map(|_| stage.next_visitor(stage.proxies[0].address)).collect()).collect();
        let answered = Arc::new(AtomicUsize::new(0));
        let log_ins = visitors.into_iter().map(|visitors| {
            let answered = answered.clone();
            tokio::spawn(async move {
                let mut done = Vec::new();
                for mut client in visitors {
                    match client.log_in().await {
                        Ok(_) => {
                            answered.fetch_add(1, Ordering::Relaxed);
                            done.push(client);
                        }
                        Err(_) => break,
                    }
                }
                done
            })
        });
        let log_ins: Vec<_> = log_ins.collect();
        // Each time at another moment of the writing.
        let first = 1 + round as usize % 4;
        until("log-ins are answered", 30.0, async || answered.load(Ordering::Relaxed) >= first).await;
        elapse(Duration::from_millis((round * 7) % 40)).await;
        {
            let (fleet, proxy) = (&stage.fleet, &mut stage.proxies[0]);
            fleet.dies(proxy.address);
            proxy.kill();
        }
        for done in join_all(log_ins).await.into_iter().flatten() {
            acknowledged.extend(done);
        }
        let (fleet, proxy) = (&stage.fleet, &mut stage.proxies[0]);
        proxy.start_again().await;
        fleet.lives(proxy.address);
    }
    // Only what jellypin has kept brings a session to another pod.
    let victim = stage.victim().await;
    stage.pods[victim].kill();
    stage.until_state(victim, |state| state == "down").await;
    let count = acknowledged.len();
    let mut lost = Vec::new();
    for chunk in acknowledged.chunks_mut(16) {
        let asked = chunk.iter_mut().map(async |client| {
            let token = client.person.token();
            let answer = timeout(PATIENCE, client.send(Method::GET, "/Users/Me", Value::Null)).await;
            (token, answer.ok().and_then(Result::ok).map(|answer| answer.status))
        });
        for (token, status) in join_all(asked).await {
            token.into_iter().for_each(|token| stage.fleet.record_token(&token));
            lost.extend(Some(status).filter(|status| *status != Some(200)));
        }
    }
    let factor = stage.start_factor();
    stage.pods[victim].start_again(factor);
    stage.pods[victim].until_it_answers().await;
    format!("{rounds} kills, {count} log-ins acknowledged, lost {}{}", lost.len(), shown(&lost))
}

fn shown(lost: &[Option<u16>]) -> String {
    if lost.is_empty() { String::new() } else { format!(": {lost:?}") }
}
