//! Restarts without end: pods, and the proxy itself, are restarted under clients at work, which notice nothing of it.

mod fleet;
mod hand_over;
mod reloads;
mod removal;
mod roll;
mod show;
mod sleep;
mod standby;
mod twins;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fleet::{Fleet, Pace, Saw, Work};
use futures_util::future::join_all;
use jellyfin_sim::{PhaseLengths, StartUp};
use jellypin::pod::State;
use serde_json::Value;

use super::redis_server::RedisServer;
use super::replicas;
use super::world::{Client, Plan, Program, Settings, World, how_often, millis, secs, story, until, until_so};

/// A start as a real pod's, in a twentieth of the time; the proxy looks oftener too.
fn quick_starters(plan: Plan) -> Plan {
    starters(plan, 0.05).probe_interval(millis(200))
}

fn starters(plan: Plan, share: f64) -> Plan {
    let phases = PhaseLengths::RECORDED.scaled(share);
    plan.build(move |pod| pod.start_up(StartUp::Phased(phases)).bulk_size(1 << 30))
}

async fn started(plan: Plan) -> World {
    let world = plan.start().await;
    for pod in &world.pods {
        world.until_state(pod.name(), State::Ready).await;
    }
    world
}

/// How long the long stories are: `ROLLING_MINUTES` (10) under `ROLLING_CLIENTS` (200).
fn long() -> (Duration, usize) {
    let number = |name, otherwise| std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"));
    (Duration::from_secs_f64(60.0 * number("ROLLING_MINUTES", 10.0)), number("ROLLING_CLIENTS", 200.0) as usize)
}

/// Takes a pod's process away, by SIGKILL or by SIGTERM.
async fn end(pod: &jellyfin_sim::Pod, gracefully: bool) {
    if gracefully {
        pod.stop().await;
    } else {
        pod.kill().await;
    }
}

/// Restarts a pod and waits until the proxy holds it ready.
async fn restart(world: &World, pod: &str, gracefully: bool) {
    let simulated = world.pod(pod);
    end(simulated, gracefully).await;
    world.until_state(pod, State::Down).await;
    simulated.start_again().await.expect("it starts");
    world.until_state(pod, State::Ready).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_clients_survive_restarts_of_one_pod() {
    story(started(quick_starters(World::plan(1))).await, async |world| {
        let fleet = Fleet::start(50, Work::CallsAndSocket, Pace::BRISK, &[world.client()]).await;
        let began = Instant::now();
        let restarts = how_often("STORY_RESTARTS", 8);
        for turn in 0..restarts {
            restart(world, "a", turn % 2 == 1).await;
            fleet.until_all_went_on().await;
        }
        let saw = fleet.stop().await;
        println!("one pod restarted {restarts} times in {:?} under 50 clients, no API key: {saw}", began.elapsed());
        saw.must_be_nothing();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_pods_restarted_in_turn_lose_nothing() {
    story(started(quick_starters(World::plan(3)).with_api_key()).await, async |world| {
        let fleet = Fleet::start(24, Work::Everything, Pace::BRISK, &[world.client()]).await;
        let began = Instant::now();
        // Each pod ends in both ways.
        let restarts = how_often("STORY_RESTARTS", 9);
        for turn in 0..restarts {
            restart(world, ["a", "b", "c"][turn % 3], turn % 2 == 1).await;
            fleet.until_all_went_on().await;
        }
        let saw = fleet.stop().await;
        println!("three pods restarted {restarts} times in {:?} under 24 clients with API key: {saw}", began.elapsed());
        saw.must_be_nothing();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes ten minutes"]
async fn three_pods_restarted_in_turn_for_long() {
    let (time, clients) = long();
    story(started(starters(World::plan(3), 0.5).with_api_key()).await, async |world| {
        let fleet = Fleet::start(clients, Work::Everything, Pace::REAL, &[world.client()]).await;
        let began = Instant::now();
        let mut restarts = 0;
        while began.elapsed() < time {
            restart(world, ["a", "b", "c"][restarts % 3], restarts % 2 == 1).await;
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
    })
    .await;
}

/// The program in the place of the proxy in this process, at an address that it keeps.
struct Outside {
    program: Program,
    settings: Settings,
    address: SocketAddr,
}

impl Outside {
    async fn start(world: &World, settings: &Settings) -> Outside {
        let program = Program::start(settings, world.folder()).await;
        let (address, mut settings) = (program.addresses()[0], settings.clone());
        settings.http(address);
        Outside { program, settings, address }
    }

    fn client(&self) -> Client {
        self.program.client()
    }

    /// Is killed, under these clients.
    async fn die(&mut self, fleet: &Fleet) {
        fleet.dies(self.address);
        self.program.signal("KILL");
        self.program.ended().await;
    }

    async fn come_back(&mut self, world: &World, fleet: &Fleet) {
        self.program = Program::start(&self.settings, world.folder()).await;
        fleet.lives(self.address);
    }

    /// Reloads its configuration, which is what `settings` say now.
    async fn reload(&self) {
        // It was, or it could not be.
        let times = || self.program.log().matches(" reloaded").count();
        let before = times();
        self.program.rewrite(&self.settings);
        self.program.signal("HUP");
        until("the configuration is read", || times() > before).await;
    }

    /// Waits until it holds a pod for this.
    async fn until_state(&self, pod: &str, state: State) {
        let is_so = |page: &Value| page["name"] == pod && page["state"] == state.as_str();
        self.until_page(&format!("{pod} is {}", state.as_str()), |pods| pods.iter().any(is_so)).await;
    }

    /// Waits until these are its pods.
    async fn until_pods(&self, names: &[&str]) {
        self.until_page(&format!("the pods are {names:?}"), |pods| pods.iter().map(|pod| &pod["name"]).eq(names)).await;
    }

    async fn until_page(&self, what: &str, is_so: impl Fn(&[Value]) -> bool) {
        let mut operators = Client::at_address(self.program.addresses()[1]);
        until_so(what, async || is_so(operators.get("/pods").await.json().as_array().expect("pods"))).await;
    }
}

/// Ends and starts a pod, and kills a proxy and starts it again: in the same moment, when the clients are at home elsewhere, or
/// while the pod starts, by turns.
async fn restart_both(world: &World, proxies: &mut [Outside], fleet: &Fleet, turn: usize) {
    let pod = world.pod(["a", "b", "c"][turn % 3]);
    let proxy = turn % proxies.len();
    end(pod, turn % 2 == 1).await;
    if turn / 2 % 3 == 1 {
        fleet.until_all_went_on().await;
    }
    if turn / 2 % 3 == 2 {
        pod.start_again().await.expect("it starts");
    }
    proxies[proxy].die(fleet).await;
    if proxies.len() > 1 {
        // The other one serves everybody.
        fleet.until_all_went_on().await;
    }
    proxies[proxy].come_back(world, fleet).await;
    fleet.until_all_went_on().await;
    if turn / 2 % 3 != 2 {
        pod.start_again().await.expect("it starts");
    }
    for proxy in proxies {
        proxy.until_state(pod.name(), State::Ready).await;
    }
    fleet.until_all_went_on().await;
    world.pods.iter().for_each(|pod| pod.clear_seen());
}

/// Under which clients, how fast, and for how long: so many turns at least.
struct Run {
    clients: usize,
    pace: Pace,
    turns: usize,
    time: Duration,
}

impl Run {
    const SHORT: Run = Run { clients: 24, pace: Pace::BRISK, turns: 6, time: Duration::ZERO };

    fn long() -> Run {
        let (time, clients) = long();
        Run { clients, pace: Pace::REAL, turns: 0, time }
    }
}

/// Of what was under way through a proxy that is killed nobody can save the connections; but nobody is logged out, and whatever
/// is repeated goes on.
async fn kill_proxies(world: World, replicas: usize, run: Run) -> (Saw, usize, Duration) {
    story(world, async |world| {
        let settings = world.settings().clone();
        world.proxy.stop().await;
        let mut proxies = Vec::new();
        for _ in 0..replicas {
            proxies.push(Outside::start(world, &settings).await);
        }
        let clients: Vec<Client> = proxies.iter().map(Outside::client).collect();
        let fleet = Fleet::start(run.clients, Work::Everything, run.pace, &clients).await;
        let (began, mut turns) = (Instant::now(), 0);
        while turns < run.turns || began.elapsed() < run.time {
            restart_both(world, &mut proxies, &fleet, turns).await;
            turns += 1;
        }
        let saw = fleet.stop().await;
        let took = began.elapsed();
        drop(proxies);
        (saw, turns, took)
    })
    .await
}

async fn kill_the_only_proxy(plan: Plan, run: Run) {
    let clients = run.clients;
    let world = started(plan.with_api_key().state_path("state")).await;
    let (saw, turns, took) = kill_proxies(world, 1, run).await;
    println!(
        "{turns} times a pod restarted and the proxy killed in {took:?} under {clients} clients, state on disk: {saw}"
    );
    saw.must_be_nothing();
}

async fn kill_one_of_two_replicas(plan: impl FnOnce(&RedisServer) -> Plan, run: Run) {
    let clients = run.clients;
    let redis = RedisServer::start();
    let world = started(plan(&redis).with_api_key()).await;
    let (saw, turns, took) = kill_proxies(world, 2, run).await;
    println!(
        "{turns} times a pod restarted and one of two replicas killed in {took:?} under {clients} clients, with Redis: {saw}"
    );
    saw.must_be_nothing();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_killed_among_restarting_pods_ends_no_session() {
    kill_the_only_proxy(quick_starters(World::plan(3)), Run::SHORT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_killed_among_restarting_pods_ends_no_session() {
    kill_one_of_two_replicas(|redis| quick_starters(replicas::plan(3, redis)), Run::SHORT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes ten minutes"]
async fn a_proxy_killed_among_restarting_pods_for_long() {
    kill_the_only_proxy(starters(World::plan(3), 0.5), Run::long()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes ten minutes"]
async fn a_replica_killed_among_restarting_pods_for_long() {
    kill_one_of_two_replicas(|redis| starters(replicas::plan(3, redis), 0.5), Run::long()).await;
}

/// What a cluster without the pods' API key costs when a pod dies for good: whose pod it was has to log in again, and nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_key_only_the_clients_of_a_dead_pod_log_in_again() {
    story(World::plan(3).hold(secs(1)), async |world| {
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
    })
    .await;
}
