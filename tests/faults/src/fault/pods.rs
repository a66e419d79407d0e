//! Faults of pods and of their database.

use std::time::Duration;

use rustix::process::Signal;

use crate::client::elapse;
use crate::proxy::Kind;
use crate::stage::Stage;

/// jellypin alone says when.
fn found(stage: &Stage, after: Duration) -> String {
    if stage.plan.kind == Kind::Jellypin { format!("found out after {} ms", after.as_millis()) } else { String::new() }
}

pub(super) async fn kill(stage: &mut Stage) -> String {
    let victim = stage.victim().await;
    stage.pods[victim].kill();
    let after = stage.until_state(victim, |state| state == "down").await;
    elapse(stage.lasts(1.0, 10.0)).await;
    start_again(stage, victim).await;
    found(stage, after)
}

async fn start_again(stage: &mut Stage, pod: usize) {
    let factor = stage.start_factor();
    stage.pods[pod].start_again(factor);
    stage.pods[pod].until_it_answers().await;
    stage.until_state(pod, |state| state == "ready").await;
}

pub(super) async fn terminate(stage: &mut Stage) -> String {
    let victim = stage.victim().await;
    stage.pods[victim].stop().await;
    start_again(stage, victim).await;
    String::new()
}

pub(super) async fn restart_all(stage: &mut Stage) -> String {
    for pod in 0..stage.pods.len() {
        stage.pods[pod].stop().await;
        start_again(stage, pod).await;
        elapse(stage.lasts(1.0, 5.0)).await;
    }
    String::new()
}

pub(super) async fn hang(stage: &mut Stage) -> String {
    let victim = stage.victim().await;
    stage.pods[victim].signal(Signal::STOP);
    let after = stage.until_state(victim, |state| state == "down").await;
    // Other proxies do not say when they have found it out.
    let gate = if stage.plan.kind == Kind::Jellypin { 0.5 } else { 8.0 };
    elapse(stage.lasts(gate, 15.0).saturating_sub(after)).await;
    stage.pods[victim].signal(Signal::CONT);
    stage.until_state(victim, |state| state == "ready").await;
    found(stage, after)
}

async fn control_for(stage: &mut Stage, on: &str, off: &str, time: Duration) -> String {
    let victim = stage.victim().await;
    stage.pods[victim].control(on).await;
    elapse(time).await;
    stage.pods[victim].control(off).await;
    String::new()
}

pub(super) async fn slow(stage: &mut Stage) -> String {
    let time = stage.lasts(4.0, 15.0);
    control_for(stage, "/slow?ms=3000", "/slow?ms=0", time).await
}

pub(super) async fn starve(stage: &mut Stage) -> String {
    let time = stage.lasts(4.0, 20.0);
    stage.control_all("/cores?of=2").await;
    control_for(stage, "/cores?of=0.2", "/cores?of=2", time).await;
    elapse(Duration::from_secs(1)).await;
    stage.control_all("/cores?of=").await;
    String::new()
}

pub(super) async fn fill_disk(stage: &mut Stage) -> String {
    let time = stage.lasts(2.0, 10.0);
    control_for(stage, "/disk?full=1", "/disk?full=0", time).await
}

async fn control_all_for(stage: &mut Stage, on: &str, off: &str, time: Duration) -> String {
    let before = sockets(stage).await;
    stage.control_all(on).await;
    elapse(time).await;
    stage.control_all(off).await;
    let after = sockets(stage).await;
    // The pods are alike, so moving helps nobody.
    if before == after { "nobody moved".to_owned() } else { format!("sockets {before:?}, then {after:?}") }
}

async fn sockets(stage: &Stage) -> Vec<u64> {
    let mut sockets = Vec::new();
    for pod in &stage.pods {
        sockets.push(pod.sockets().await);
    }
    sockets
}

pub(super) async fn stop_database(stage: &mut Stage) -> String {
    let time = stage.lasts(2.0, 10.0);
    control_all_for(stage, "/database?down=1", "/database?down=0", time).await
}

pub(super) async fn hang_database(stage: &mut Stage) -> String {
    let time = stage.lasts(4.0, 14.0);
    control_all_for(stage, "/database/hang?on=1", "/database/hang?on=0", time).await
}

pub(super) async fn slow_database(stage: &mut Stage) -> String {
    let time = stage.lasts(3.0, 15.0);
    control_all_for(stage, "/database/slow?ms=700", "/database/slow?ms=0", time).await
}
