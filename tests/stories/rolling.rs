//! Restarts without end: pods, and the proxy itself, are restarted under clients at work, which notice nothing of it.

mod fleet;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fleet::{Fleet, Work};
use futures_util::future::join_all;
use jellyfin_sim::{PhaseLengths, StartUp};
use jellypin::pod::State;

use super::world::{Plan, Program, World, until};

/// A start as a real pod's, in a twentieth of the time; the proxy looks oftener too.
fn quick_starters(plan: Plan) -> Plan {
    let phases = PhaseLengths::RECORDED.scaled(0.05);
    plan.set("health.interval", "\"200ms\"").build(move |pod| pod.start_up(StartUp::Phased(phases)).bulk_size(1 << 30))
}

async fn started(plan: Plan) -> World {
    let world = quick_starters(plan).start().await;
    for pod in &world.pods {
        world.until_state(pod.name(), State::Ready).await;
    }
    world
}

/// Restarts a pod, by SIGKILL or by SIGTERM, and waits until the proxy holds it ready.
async fn restart(world: &World, pod: &str, gracefully: bool) {
    let simulated = world.pod(pod);
    if gracefully {
        simulated.stop().await;
    } else {
        simulated.kill().await;
    }
    world.until_state(pod, State::Down).await;
    simulated.start_again().await.expect("it starts");
    world.until_state(pod, State::Ready).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_pod_restarted_twenty_times_under_fifty_clients_needs_no_key() {
    let world = started(World::plan(1)).await;
    let fleet = Fleet::start(50, Work::CallsAndSocket, || world.client()).await;
    let began = Instant::now();
    for turn in 0..20 {
        restart(&world, "a", turn % 2 == 1).await;
        fleet.until_all_went_on().await;
    }
    let saw = fleet.stop().await;
    println!("one pod restarted 20 times in {:?} under 50 clients, no API key: {saw}", began.elapsed());
    saw.must_be_nothing();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_pods_restarted_in_turn_lose_nobody_and_nothing() {
    let world = started(World::plan(3).with_api_key()).await;
    let fleet = Fleet::start(24, Work::Everything, || world.client()).await;
    let began = Instant::now();
    for turn in 0..30 {
        restart(&world, ["a", "b", "c"][turn % 3], turn % 2 == 1).await;
        fleet.until_all_went_on().await;
    }
    let saw = fleet.stop().await;
    println!("three pods restarted 30 times in {:?} under 24 clients with API key: {saw}", began.elapsed());
    saw.must_be_nothing();
    world.stop().await;
}

/// The same for as long as one likes: `ROLLING_MINUTES` (10) under `ROLLING_CLIENTS` (200).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes ten minutes"]
async fn three_pods_restarted_in_turn_for_long() {
    let number = |name, otherwise| std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"));
    let minutes = number("ROLLING_MINUTES", 10.0);
    let clients = number("ROLLING_CLIENTS", 200.0) as usize;
    let world = started(World::plan(3).with_api_key()).await;
    let fleet = Fleet::start(clients, Work::Everything, || world.client()).await;
    let began = Instant::now();
    let mut restarts = 0;
    while began.elapsed() < Duration::from_secs_f64(60.0 * minutes) {
        restart(&world, ["a", "b", "c"][restarts % 3], restarts % 2 == 1).await;
        fleet.until_all_went_on().await;
        restarts += 1;
        // What the pods have seen would fill the memory.
        world.pods.iter().for_each(|pod| pod.clear_seen());
    }
    let saw = fleet.stop().await;
    println!(
        "three pods restarted {restarts} times in {:?} under {clients} clients with API key: {saw}",
        began.elapsed()
    );
    saw.must_be_nothing();
    world.stop().await;
}

/// Of what was under way through the proxy nobody can save the connections; but nobody is logged out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_is_killed_among_restarted_pods_logs_nobody_out() {
    let mut world = started(World::plan(3).with_api_key().set("state.path", "\"state\"")).await;
    // The program takes the place of the proxy in this process, with its state.
    world.proxy.stop().await;
    let mut settings = world.settings().clone();
    let mut program = Program::start(&settings, world.folder()).await;
    let address = program.addresses()[0];
    settings.set("listen.http", &format!("\"{address}\""));
    let fleet = Fleet::start(24, Work::CallsAndSocket, || program.client()).await;
    for turn in 0..6 {
        let pod = world.pod(["a", "b", "c"][turn % 3]);
        pod.kill().await;
        fleet.until_all_went_on().await;
        program.signal("KILL");
        program.ended().await;
        program = Program::start(&settings, world.folder()).await;
        fleet.until_all_went_on().await;
        pod.start_again().await.expect("it starts");
        pod.until(|pod| pod.is_ready()).await;
        let ready = || program.log().contains(&format!("\"pod.name\":\"{}\"", pod.name()));
        until("the proxy knows the pod", ready).await;
        fleet.until_all_went_on().await;
    }
    let saw = fleet.stop().await;
    println!("six times a pod and then the proxy killed under 24 clients, state on disk: {saw}");
    assert_eq!(saw.logged_out, 0, "{saw}");
    // Each client has one call under way, and dials while nobody listens.
    assert_eq!(saw.refused, 0, "{saw}");
    assert!(saw.longest_wait < Duration::from_secs(10), "{saw}");
    drop(program);
    world.stop().await;
}

/// What a cluster without the pods' API key costs when a pod dies for good: whose pod it was has to log in again, and nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_key_only_the_clients_of_a_dead_pod_log_in_again() {
    let world = World::plan(3).set("timeouts.hold", "\"1s\"").start().await;
    let mut clients = Vec::new();
    for number in 0..30 {
        let mut client = world.client().without_cookies().device(&format!("device {number}"));
        let log_in = client.log_in(&format!("user{number}")).await;
        let home = world.home(&log_in).to_owned();
        clients.push((client, home));
    }
    world.pod("a").kill().await;
    world.until_state("a", State::Down).await;
    let asked = clients.iter_mut().map(|(client, home)| async move {
        let answer = client.get("/Users/Me").await;
        (home.clone(), answer.status)
    });
    let mut table = BTreeMap::new();
    for (home, status) in join_all(asked).await {
        *table.entry((home, status)).or_insert(0) += 1;
    }
    for ((home, status), clients) in &table {
        let why =
            if *status == 401 { "log in again: no living pod has their token in memory" } else { "notice nothing" };
        println!("pod a killed, no API key: {clients} clients of pod {home} got {status} and {why}");
    }
    assert!(table.keys().all(|(home, status)| (*status == 401) == (home == "a")), "{table:?}");
    world.stop().await;
}
