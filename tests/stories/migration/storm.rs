//! Many clients lose their pod at once: how long that takes, and what it costs the pods that live on. Figures are printed, not
//! asserted.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::join_all, stream};
use jellyfin_sim::{CallTime, MintTimes, Seen};
use serde_json::json;
use tokio::task::JoinSet;

use super::{count, kill, minted, plan, start_again};
use crate::stories::world::{Client, Socket, World, elapse, millis, secs, story, until, until_so};

/// Time between two requests of a client whose pod lives.
const REST: Duration = Duration::from_millis(50);

/// The requests of all neighbours before the storm.
const CALM: usize = 200;

/// As many as somebody wants to know of: `STORY_CLIENTS=500`.
fn wanted(usual: usize) -> usize {
    std::env::var("STORY_CLIENTS").ok().and_then(|count| count.parse().ok()).unwrap_or(usual)
}

/// Clients that have logged in and whose home is this pod.
pub(crate) async fn clients_at(world: &World, pod: &str, count: usize, new: impl Fn() -> Client) -> Vec<Client> {
    let one = async |number: usize| {
        let user = format!("user{}", number % 1000);
        for attempt in 0..64 {
            let mut client = new().without_cookies().device(&format!("{number} at {pod}, {attempt}"));
            client.log_in(&user).await;
            if world.pod(pod).knows_token(client.token.as_deref().expect("a token")) {
                return client;
            }
            assert_eq!(client.post("/Sessions/Logout", json!({})).await.status, 204);
        }
        panic!("no device is at home on {pod}");
    };
    stream::iter(0..count).map(one).buffer_unordered(16).collect().await
}

pub(crate) async fn socket_of(client: &mut Client) -> Socket {
    let path = format!("/socket?ApiKey={}", client.token.as_deref().expect("a token"));
    client.socket(&path).await.expect("a socket")
}

fn at(times: &mut [Duration], share: f64) -> Duration {
    times.sort();
    times[((times.len() - 1) as f64 * share) as usize]
}

pub(crate) fn shares(mut times: Vec<Duration>) -> String {
    let most = at(&mut times, 1.0);
    format!("p50 {:.1?}, p99 {:.1?}, longest {most:.1?}", at(&mut times, 0.5), at(&mut times, 0.99))
}

/// Clients of living pods, who ask all the while.
struct Neighbours {
    tasks: JoinSet<()>,
    is_over: Arc<AtomicBool>,
    times: Arc<Mutex<Vec<Duration>>>,
}

impl Neighbours {
    fn of(clients: Vec<Client>) -> Neighbours {
        let (is_over, times) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<Duration>>>::default());
        let mut tasks = JoinSet::new();
        for mut client in clients {
            let (is_over, times) = (is_over.clone(), times.clone());
            tasks.spawn(async move {
                while !is_over.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    assert_eq!(client.get("/Items").await.status, 200, "a client of a living pod");
                    times.lock().expect("no panic").push(began.elapsed());
                    elapse(REST).await;
                }
            });
        }
        Neighbours { tasks, is_over, times }
    }

    /// How many requests they have made since the last look.
    fn count(&self) -> usize {
        self.times.lock().expect("no panic").len()
    }

    /// What their requests have taken since the last look.
    fn looked(&self) -> Vec<Duration> {
        std::mem::take(&mut self.times.lock().expect("no panic"))
    }

    async fn stop(self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.tasks.join_all().await;
    }
}

/// A call of the proxy's own for the sake of a session.
fn is_own_call(seen: &Seen) -> bool {
    let is_for_all = ["/health", "/System/Info", "/System/Info/Public", "/QuickConnect/Enabled"].contains(&seen.path());
    !seen.headers.contains_key("x-story-request") && !is_for_all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_clients_is_served() {
    let clients_wanted = wanted(20);
    story(plan(3), async |world| {
        let mut clients = clients_at(world, "a", clients_wanted, || world.client()).await;
        let neighbours = join_all(["b", "c"].map(|pod| clients_at(world, pod, 10, || world.client())))
            .await
            .into_iter()
            .flatten()
            .collect();
        let sockets = join_all(clients.iter_mut().step_by(2).map(socket_of)).await;
        until("every socket is at its pod", || world.pod("a").open_sockets() == sockets.len()).await;
        world.pods.iter().for_each(|pod| pod.mint_times(MintTimes::RECORDED));
        let neighbours = Neighbours::of(neighbours);
        until("the neighbours have asked for a while", || neighbours.count() >= CALM).await;
        let calm = neighbours.looked();
        world.pods.iter().for_each(|pod| pod.clear_seen());
        world.pod("a").kill().await;
        let began = Instant::now();
        let asked = clients.iter_mut().map(async |client| {
            let answer = client.get("/Users/Me").await;
            assert_eq!(answer.status, 200);
            began.elapsed()
        });
        let times = join_all(asked).await;
        let stormy = neighbours.looked();
        let living = || world.pods_but("a").map(|pod| pod.open_sockets()).sum::<usize>();
        until("every socket is attached again", || living() == sockets.len()).await;
        let attached = began.elapsed();
        neighbours.stop().await;
        let own: usize = world.pods_but("a").map(|pod| pod.seen().iter().filter(|seen| is_own_call(seen)).count()).sum();
        println!(
            "{clients_wanted} clients of a pod that dies, {} with a socket; two pods live on, each of which mints as a recorded one\n\
             \x20 their requests: {}; all sockets attached after {attached:.1?}; {} mints\n\
             \x20 requests of 20 clients of the living pods: before {}; meanwhile {}\n\
             \x20 calls of the proxy's own at the living pods for each client: {:.2}",
            sockets.len(),
            shares(times),
            minted(world),
            shares(calm),
            shares(stormy),
            own as f64 / clients_wanted as f64,
        );
        assert_eq!(minted(world), clients_wanted, "one mint for each");
        drop(sockets);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_migrate_before_idle_sockets() {
    const SOCKETS: usize = 100;
    story(plan(2), async |world| {
        let mut clients = clients_at(world, "a", SOCKETS, || world.client()).await;
        let sockets = join_all(clients.iter_mut().map(socket_of)).await;
        let (a, b) = (world.pod("a"), world.pod("b"));
        a.until(|pod| pod.open_sockets() == SOCKETS).await;
        b.mint_times(MintTimes::RECORDED);
        a.kill().await;
        b.until(|pod| pod.open_sockets() >= 5).await;
        let asked = clients.iter_mut().take(10).map(async |client| client.get("/Users/Me").await.status);
        assert_eq!(join_all(asked).await, [200; 10]);
        let attached = b.open_sockets();
        println!("ten requests were answered when {attached} of {SOCKETS} idle sockets were reattached");
        assert!(attached < SOCKETS / 2, "{attached}: they waited in the sockets' queue");
        b.until(|pod| pod.open_sockets() == SOCKETS).await;
        drop(sockets);
    })
    .await;
}

/// Restarts a pod, whose first mint is slow then; with the proxy's warm-up or without any.
async fn restart_cold(world: &World, pod: &str, warms: bool) {
    kill(world, pod).await;
    world.pods.iter().for_each(|pod| pod.clear_seen());
    start_again(world, pod).await;
    if warms {
        world.pod(pod).until(|pod| count(pod, "/Users/AuthenticateWithQuickConnect") == 1).await;
    }
}

/// The three calls, made past the proxy.
async fn mint_at(world: &World, pod: &str) -> Duration {
    let mut client = world.client().without_cookies().device("cold").at(world.pod(pod));
    let mut admin = world.client().without_cookies().at(world.pod(pod));
    admin.token = Some(world.cluster.api_key());
    let user = world.cluster.user_id("alice").expect("a user");
    let began = Instant::now();
    let code = client.post("/QuickConnect/Initiate", json!({})).await.json();
    let text = |name: &str| code[name].as_str().expect("a text").to_owned();
    let authorize = format!("/QuickConnect/Authorize?code={}&userId={user}", text("Code"));
    assert_eq!(admin.post(&authorize, json!({})).await.status, 200);
    let secret = json!({"Secret": text("Secret")});
    assert_eq!(client.post("/Users/AuthenticateWithQuickConnect", secret).await.status, 200);
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_to_a_cold_pod_costs_one_request_some_milliseconds() {
    const COLD: usize = 3;
    let (warmed, carried, usual) = story(plan(2), async |world| {
        world.pods.iter().for_each(|pod| pod.mint_times(MintTimes::RECORDED));
        let mut clients = clients_at(world, "a", COLD, || world.client()).await;
        let mut warmed = Vec::new();
        for (number, client) in clients.iter_mut().enumerate() {
            restart_cold(world, "b", true).await;
            // Pod b has not read the row of this log-in, so that it has to mint.
            client.log_in(&format!("user{number}")).await;
            kill(world, "a").await;
            let began = Instant::now();
            assert_eq!(client.get("/Users/Me").await.status, 200);
            warmed.push(began.elapsed());
            assert_eq!(minted(world), 1);
            start_again(world, "a").await;
        }
        let mut clients = clients_at(world, "a", wanted(20), || world.client()).await;
        kill(world, "a").await;
        let (mut carried, mut usual) = (Vec::new(), Vec::new());
        for client in &mut clients {
            for times in [&mut carried, &mut usual] {
                let began = Instant::now();
                assert_eq!(client.get("/Users/Me").await.status, 200);
                times.push(began.elapsed());
            }
        }
        (warmed, carried, usual)
    })
    .await;
    let mut unwarmed = Vec::new();
    story(World::plan(1), async |world| {
        world.pod("a").mint_times(MintTimes::RECORDED);
        for _ in 0..COLD {
            restart_cold(world, "a", false).await;
            unwarmed.push(mint_at(world, "a").await);
        }
    })
    .await;
    println!(
        "a request that migrates its client, on a pod that mints as a recorded one: {}\n\
         \x20 as the first after its start: {}; the three calls with no warm-up before them: {}\n\
         \x20 the client's next request: {}",
        shares(carried),
        shares(warmed),
        shares(unwarmed),
        shares(usual)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_a_new_session_for_longer_than_a_request_may_wait() {
    const CLIENTS: usize = 12;
    story(plan(2).queue_time(millis(700)), async |world| {
        let mut clients = clients_at(world, "a", CLIENTS, || world.client()).await;
        let session = CallTime { usual: millis(400), ..CallTime::default() };
        world.pod("b").mint_times(MintTimes { session, ..MintTimes::default() });
        kill(world, "a").await;
        let asked = clients.iter_mut().map(async |client| {
            let began = Instant::now();
            let answer = client.get("/Items").await;
            (answer.status, answer.header("retry-after").to_owned(), began.elapsed())
        });
        let mut refused = 0;
        for (status, retry_after, took) in join_all(asked).await {
            refused += usize::from(status == 503);
            assert!(status == 200 || (status, &*retry_after) == (503, "5"), "{status} {retry_after}");
            assert!(took < secs(4), "{took:?}");
        }
        assert!(refused > 0, "not all can be moved so soon");
        // The moves go on meanwhile.
        for client in &mut clients {
            until_so("it is served", async || client.get("/Items").await.status == 200).await;
        }
        assert_eq!(minted(world), CLIENTS);
    })
    .await;
}
