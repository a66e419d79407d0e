//! One real client approves the QuickConnect code of another.

use std::time::Instant;

use serde_json::json;

use super::{Library, Redis, Visitors, World, device_on};

/// 100 codes, each shown by a new device of one library and approved by a user of the other, homed on different pods.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quick_connect_between_two_libraries() {
    const RUNS: usize = 100;
    let world = World::start().await;
    let leader = world.leader();
    let elsewhere = if leader == "b" { "c" } else { "b" };
    let (mut sdk, mut python) = (Library::sdk(&world.url(0)), Library::python(&world.url(0)));
    let visitors = Visitors::come(&world);
    let approver = device_on(elsewhere, "approver");
    sdk.does(&approver, "log_in", json!({"user": "alice", "password": "alice-pw"}));
    let mut failed = Vec::new();
    let began = Instant::now();
    for run in 0..RUNS {
        let flow =
            Flow { sdk: &mut sdk, python: &mut python, approver: &approver, device: &format!("new-device-{run}") };
        failed.extend(flow.run(|| {}).err());
    }
    println!(
        "QuickConnect, approver on {elsewhere}, leader {leader}: {RUNS} runs, {} failed, {:.0} ms a run",
        failed.len(),
        began.elapsed().as_secs_f64() * 1000.0 / RUNS as f64
    );
    assert_eq!(failed, Vec::<String>::new());
    let at_home = world.pods.iter().find(|pod| pod.name() == elsewhere).expect("the pod");
    assert!(at_home.seen().iter().any(|seen| seen.path() == "/Users/Me"), "the approver lives on {elsewhere}");
    // The leader dies between Initiate and Authorize: the flow ends as on a real pod, and the next one works.
    let code = python.does("unlucky", "begin", json!({}))["code"].clone();
    world.pods.iter().find(|pod| pod.name() == leader).expect("the leader").kill().await;
    let failed = sdk.tries(&approver, "authorize", json!({"code": code}));
    assert!(failed.as_ref().is_err_and(|error| error.contains("404")), "{failed:?}");
    assert_eq!(sdk.does(&approver, "me", json!({}))["name"], "alice");
    let code = python.does("lucky", "begin", json!({}))["code"].clone();
    sdk.does(&approver, "authorize", json!({"code": code}));
    assert_eq!(python.does("lucky", "finish", json!({}))["name"], "alice");
    visitors.leave("QuickConnect");
    drop((sdk, python));
    world.stop().await;
}

/// One code: shown by a device of one library, approved by a user of the other.
struct Flow<'a> {
    sdk: &'a mut Library,
    python: &'a mut Library,
    approver: &'a str,
    device: &'a str,
}

impl Flow<'_> {
    /// From the code to a working session; says what failed. Something may happen while the code is shown.
    fn run(self, meanwhile: impl FnOnce()) -> Result<(), String> {
        let Flow { sdk, python, approver, device } = self;
        let code = python.tries(device, "begin", json!({}))?["code"].clone();
        python.tries(device, "state", json!({}))?;
        meanwhile();
        let approved = sdk.tries(approver, "authorize", json!({"code": code}))?;
        let state = python.tries(device, "state", json!({}))?;
        let finished = python.tries(device, "finish", json!({}))?;
        let is_good = approved["authorized"] == true && state["authenticated"] == true && finished["name"] == "alice";
        is_good.then_some(()).ok_or(format!("{approved} {state} {finished}"))
    }
}

/// The device comes through one replica, and who approves its code through the other; Redis is killed before the code is made,
/// or while it is shown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quick_connect_between_two_replicas_while_redis_is_killed() {
    const RUNS: usize = 20;
    let mut redis = Redis::start();
    let world = World::elects(&redis).await;
    redis.until_asked(2).await;
    let leader = world.leader();
    let elsewhere = if leader == "b" { "c" } else { "b" };
    let (mut sdk, mut python) = (Library::sdk(&world.url(0)), Library::python(&world.url(1)));
    let visitors = Visitors::come(&world);
    let approver = device_on(elsewhere, "approver");
    sdk.does(&approver, "log_in", json!({"user": "alice", "password": "alice-pw"}));
    let mut failed = Vec::new();
    for run in 0..RUNS {
        let is_before = run % 2 == 0;
        if is_before {
            redis.kill();
        }
        let flow =
            Flow { sdk: &mut sdk, python: &mut python, approver: &approver, device: &format!("new-device-{run}") };
        failed.extend(flow.run(|| redis.kill()).err());
        redis.start_again();
        redis.until_asked(2).await;
    }
    println!(
        "QuickConnect through two replicas, Redis killed before Initiate or between it and Authorize: {RUNS} runs, {} failed",
        failed.len()
    );
    assert_eq!(failed, Vec::<String>::new());
    visitors.leave("QuickConnect while Redis is killed");
    drop((sdk, python));
    world.stop().await;
}
