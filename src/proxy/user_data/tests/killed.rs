//! One user writes through pods that die at any moment, with clients' writes and the proxy's own calls
//! under way.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::{
    assert_in_step,
    at_once::{others_write, sessions_move},
    id,
    model::{Model, Pods, any_act},
    run, until_in_step, write,
};
use crate::{proxy::user_data::carry::Carrier, shutdown::Shutdown};

/// So many schedules of the same scene, each from the number that it begins with.
const SCHEDULES: u64 = 50;

#[test]
fn a_pod_that_dies_at_any_moment_loses_nothing_that_was_answered() {
    (0..schedules()).for_each(|seed| run(pods_die(seed, false)));
}

#[test]
fn nor_does_a_session_that_moves_while_pods_die() {
    (0..schedules()).for_each(|seed| run(pods_die(seed, true)));
}

/// `SCHEDULES=20000` looks longer.
fn schedules() -> u64 {
    std::env::var("SCHEDULES").ok().and_then(|number| number.parse().ok()).unwrap_or(SCHEDULES)
}

async fn pods_die(seed: u64, moves: bool) {
    let model = Model::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), 3);
    let (pods, items) = (Pods(model.clone()), 2);
    let carrier = Carrier::new(Arc::default(), pods.clone(), Shutdown::new());
    // All pods have all rows in memory.
    for (pod, item) in (0..3).flat_map(|pod| (0..items).map(move |item| (pod, id(item)))) {
        model.lock().row(pod, item);
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let others = tokio::spawn(others_write(pods.clone(), items));
    let mover = moves.then(|| tokio::spawn(sessions_move(carrier.clone(), pods.clone(), items)));
    let killer = tokio::spawn(one_after_the_other(pods.clone(), is_over.clone()));
    for _ in 0..20 {
        let (item, act) = {
            let mut model = model.lock();
            let act = any_act(&mut model);
            (id(model.draw(items)), act)
        };
        // The client repeats what was not answered.
        loop {
            let pod = model.lock().draw(3) as usize;
            let is_there = model.lock().seems_alive(pod);
            if is_there && write(&carrier, &pods, pod, item, act.clone()).await {
                break;
            }
            pods.pause().await;
        }
        pods.pause().await;
    }
    is_over.store(true, Ordering::Relaxed);
    for task in [Some(others), mover, Some(killer)].into_iter().flatten() {
        task.await.expect("a task");
    }
    until_in_step(&carrier).await;
    println!("schedule {seed}");
    assert_in_step(&model.lock(), items);
}

/// Pods die one after the other. The proxy notices a while later, and a new process comes up.
async fn one_after_the_other(pods: Pods, is_over: Arc<AtomicBool>) {
    while !is_over.load(Ordering::Relaxed) {
        let (pod, pauses) = {
            let mut model = pods.0.lock();
            (model.draw(3) as usize, model.draw(12))
        };
        for _ in 0..pauses {
            pods.pause().await;
        }
        pods.0.lock().kill(pod);
        pods.pause().await;
        pods.0.lock().pods[pod].is_missed = false;
        pods.pause().await;
        pods.0.lock().start_again(pod);
    }
}
