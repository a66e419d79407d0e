//! How soon jellypin finds out that a pod is dead, or hangs.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::fleet::Pace;
use crate::pod::PodProgram;
use crate::proxy::{Kind, Programs};
use crate::stage::{Plan, Stage};

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Death {
    Killed,
    Stopped,
}

/// The times from each death of a pod until jellypin counts it as down, the shortest first.
pub async fn times(
    death: Death,
    times: usize,
    clients: usize,
    programs: &Programs,
    pod_program: &PodProgram,
) -> Vec<Duration> {
    let plan = Plan {
        kind: Kind::Jellypin,
        clients,
        replicas: 1,
        has_links: false,
        has_redis: false,
        is_full: false,
        pace: Pace::CALM,
    };
    let mut stage = Stage::set(plan, programs, pod_program).await;
    let mut took = Vec::new();
    for _ in 0..times {
        let victim = stage.victim().await;
        let began = Instant::now();
        match death {
            Death::Killed => stage.pods[victim].kill(),
            Death::Stopped => stage.pods[victim].signal(Signal::STOP),
        }
        stage.until_state(victim, |state| state == "down").await;
        took.push(began.elapsed());
        match death {
            Death::Killed => stage.pods[victim].start_again(0.0),
            Death::Stopped => stage.pods[victim].signal(Signal::CONT),
        }
        stage.until_all_ready().await;
        stage.fleet.until_all_went_on().await.unwrap_or_else(|stuck| panic!("{stuck} tasks are stuck"));
    }
    stage.strike().await;
    took.sort();
    took
}
