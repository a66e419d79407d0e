//! Faults of the network between jellypin and a pod.

use std::time::Duration;

use jellyfin_sim::{Cluster, Pod};

use crate::client::elapse;
use crate::link::Mode;
use crate::stage::Stage;

async fn on_link(stage: &mut Stage, mode: Mode, time: Duration) -> usize {
    let victim = stage.victim().await;
    stage.links[victim].set(mode);
    elapse(time).await;
    stage.links[victim].set(Mode::Pass);
    victim
}

pub(super) async fn accept_slowly(stage: &mut Stage) -> String {
    let victim = stage.victim().await;
    // What is connected already is not concerned, so that all connect again.
    let (target, time) = (stage.pods[victim].address, stage.lasts(3.0, 15.0));
    stage.links[victim].set(Mode::SlowAccept(Duration::from_secs(2)));
    stage.links[victim].lead_to(target);
    elapse(time).await;
    stage.links[victim].set(Mode::Pass);
    String::new()
}

pub(super) async fn half_open(stage: &mut Stage) -> String {
    let victim = stage.victim().await;
    stage.links[victim].forget_connections();
    // Nobody notices before jellypin's own bound of 15 s.
    elapse(stage.lasts(16.0, 30.0)).await;
    String::new()
}

pub(super) async fn reset_in_head(stage: &mut Stage) -> String {
    let time = stage.lasts(2.0, 15.0);
    on_link(stage, Mode::ResetInHead, time).await;
    String::new()
}

pub(super) async fn reset_in_body(stage: &mut Stage) -> String {
    let time = stage.lasts(2.0, 15.0);
    on_link(stage, Mode::ResetInBody(20_000), time).await;
    String::new()
}

pub(super) async fn cut_off(stage: &mut Stage) -> String {
    let victim = stage.victim().await;
    stage.links[victim].set(Mode::Cut);
    let after = stage.until_state(victim, |state| state == "down").await;
    elapse(stage.lasts(0.5, 10.0)).await;
    stage.links[victim].set(Mode::Pass);
    stage.until_state(victim, |state| state == "ready").await;
    format!("found out after {} ms", after.as_millis())
}

/// A Jellyfin of another house, with users of the same names, takes the address.
pub(super) async fn other_server(stage: &mut Stage) -> String {
    let victim = stage.victim().await;
    let stranger = Pod::builder(&Cluster::new()).name("stranger").start().await.expect("another server");
    stage.links[victim].lead_to(stranger.address());
    elapse(stage.lasts(3.0, 15.0)).await;
    stage.links[victim].lead_to(stage.pods[victim].address);
    String::new()
}
