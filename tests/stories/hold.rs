//! What cannot be answered at the moment waits: a pod that restarts costs its clients nothing but time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::Method;
use jellyfin_sim::{FILM, PhaseLengths, StartUp};
use jellypin::pod::State;
use jellypin::proxy::{HELD, HELD_KIB, SharedState};
use serde_json::json;
use tokio::task::JoinSet;

use super::world::{Answer, Client, Plan, World, body_of, elapse, millis, secs, story, until};

const OPEN: &str = "/Branding/Configuration";

fn shared(world: &World) -> &SharedState {
    world.proxy.shared()
}

fn held(world: &World) -> usize {
    HELD - shared(world).hold_permits.available_permits()
}

/// A world whose only pod is away.
async fn deserted(plan: Plan) -> World {
    let world = plan.start().await;
    world.pod("a").kill().await;
    world.until_state("a", State::Down).await;
    world
}

/// A world of one pod that starts as a real one does, in a quarter of the time.
async fn slow_starter() -> World {
    let phases = PhaseLengths::RECORDED.scaled(0.25);
    let world = World::plan(1).build(move |pod| pod.start_up(StartUp::Phased(phases))).start().await;
    world.until_state("a", State::Ready).await;
    world
}

/// Asks again and again until it is told that it is over; every answer must have this status. Counts them.
async fn never_fails(over: &AtomicBool, count: &AtomicUsize, status: u16, mut ask: impl AsyncFnMut() -> Answer) {
    while !over.load(Ordering::Relaxed) {
        let answer = ask().await;
        assert_eq!(answer.status, status, "{}", String::from_utf8_lossy(&answer.body));
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits until each of them has come so much further.
async fn until_all_went_on(counts: &[AtomicUsize], by: usize) {
    let now = || counts.iter().map(|count| count.load(Ordering::Relaxed));
    let before: Vec<usize> = now().collect();
    until("every client is served", || now().zip(&before).all(|(now, before)| now >= before + by)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarting_single_pod_costs_clients_only_time() {
    story(slow_starter().await, async |world| {
        let pod = world.pod("a");
        let over = AtomicBool::new(false);
        let counts: [AtomicUsize; 4] = Default::default();
        let mut clients: Vec<Client> = Vec::new();
        for number in 0..4 {
            let mut client = world.client().device(&format!("device {number}"));
            client.log_in(&format!("user{number}")).await;
            clients.push(client);
        }
        let film = format!("/Videos/{FILM}/stream?static=true");
        let busy = clients.iter_mut().enumerate().map(|(number, client)| {
            let (over, count, film) = (&over, &counts[number], &film);
            async move {
                match number {
                    0 => never_fails(over, count, 200, async || client.get("/Users/Me").await).await,
                    1 => never_fails(over, count, 200, async || client.get(OPEN).await).await,
                    2 => {
                        let progress = json!({"ItemId": FILM, "PositionTicks": 10});
                        never_fails(over, count, 204, async || {
                            client.post("/Sessions/Playing/Progress", progress.clone()).await
                        })
                        .await
                    }
                    _ => {
                        never_fails(over, count, 206, async || client.get_with(film, &[("range", "bytes=0-999")]).await)
                            .await
                    }
                }
            }
        });
        let restarts = async {
            for _ in 0..2 {
                until_all_went_on(&counts, 10).await;
                pod.kill().await;
                world.until_state("a", State::Down).await;
                pod.start_again().await.expect("a start");
                world.until_state("a", State::Starting).await;
                world.until_state("a", State::Ready).await;
            }
            until_all_went_on(&counts, 10).await;
            over.store(true, Ordering::Relaxed);
        };
        tokio::join!(join_all(busy), restarts);
        println!("{counts:?} requests over two restarts, none failed");
        assert_eq!(held(world), 0);
        assert_eq!(shared(world).hold_kib_permits.available_permits(), HELD_KIB);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_set_up_server_never_answers_for_the_pod() {
    let phases = PhaseLengths { host_after: Duration::ZERO, ..PhaseLengths::RECORDED.scaled(0.25) };
    story(World::plan(1).build(move |pod| pod.start_up(StartUp::Phased(phases))), async |world| {
        let mut asked = JoinSet::new();
        // The first start is the proxy's too.
        for start in 0..3 {
            if start > 0 {
                world.pod("a").kill().await;
                world.until_state("a", State::Down).await;
                world.pod("a").start_again().await.expect("a start");
            }
            while world.proxy.pod("a").status().state != State::Ready {
                let mut newcomer = world.client();
                asked.spawn(async move { newcomer.get("/System/Info/Public").await });
                elapse(millis(20)).await;
            }
        }
        let answers = asked.join_all().await;
        for info in &answers {
            assert_eq!((info.status, &info.json()["StartupWizardCompleted"]), (200, &json!(true)), "{}", info.text());
        }
        let is_told = |seen: &&jellyfin_sim::Seen| {
            seen.path() == "/System/Info/Public" && seen.status == 200 && seen.header("x-story-request").is_some()
        };
        let early = world.pod("a").seen().iter().filter(is_told).count() - answers.len();
        assert!(early > 0, "the set-up server was asked");
        println!("{} newcomers in three starts, {early} of them answered by the set-up server first", answers.len());
    })
    .await;
}

#[tokio::test]
async fn a_post_and_a_socket_wait_for_a_pod() {
    story(slow_starter().await, async |world| {
        let mut client = world.client().device("sofa");
        client.log_in("alice").await;
        let (mut poster, pod) = (client.twin(), world.pod("a"));
        pod.kill().await;
        world.until_state("a", State::Down).await;
        let request = poster.request(Method::POST, "/_sim/sink");
        let sent = async { poster.send(request, body_of(vec![7; 60_000])).await.expect("an answer") };
        let returned = async {
            until("room is taken for the body", || shared(world).hold_kib_permits.available_permits() <= HELD_KIB - 58)
                .await;
            pod.start_again().await.expect("a start");
            world.until_state("a", State::Starting).await;
            client.socket("/socket").await.expect("a socket")
        };
        let (answer, socket) = tokio::join!(sent, returned);
        assert_eq!((answer.status, answer.json()["bytes"].as_u64()), (200, Some(60_000)));
        let times = pod.seen().iter().filter(|seen| seen.path() == "/_sim/sink").count();
        assert_eq!(times, 1, "it was carried out once");
        drop(socket);
    })
    .await;
}

#[tokio::test]
async fn health_questions_are_not_held() {
    story(deserted(World::plan(1)).await, async |world| {
        let mut client = world.client();
        for path in ["/health", "/System/Ping"] {
            let began = Instant::now();
            assert_eq!(client.get(path).await.status, 503, "{path}");
            assert!(began.elapsed() < Duration::from_secs(2), "{path}");
        }
    })
    .await;
}

#[tokio::test]
async fn without_room_requests_are_not_held() {
    story(deserted(World::plan(1)).await, async |world| {
        let is_refused = |answer: Answer| {
            assert_eq!((answer.status, answer.header("retry-after")), (503, "1"));
        };
        let all = shared(world).hold_permits.acquire_many(HELD as u32).await.expect("all the room");
        is_refused(world.client().get(OPEN).await);
        drop(all);
        let all = shared(world)
            .hold_kib_permits
            .acquire_many(HELD_KIB as u32 - 10)
            .await
            .expect("nearly all the room for bodies");
        let mut client = world.client();
        let large = client.request(Method::POST, "/_sim/sink");
        is_refused(client.send(large, body_of(vec![7; 20_000])).await.expect("an answer"));
        drop(all);
        assert_eq!(held(world), 0);
    })
    .await;
}

/// Asks for something that is held, without waiting for it.
async fn ask_and_be_held(world: &World) -> tokio::task::JoinHandle<Answer> {
    let mut client = world.client();
    let before = held(world);
    let asked = tokio::spawn(async move { client.get(OPEN).await });
    until("the request is held", || held(world) > before).await;
    asked
}

#[tokio::test]
async fn a_client_that_disconnects_frees_its_hold() {
    story(deserted(World::plan(1)).await, async |world| {
        let asked = ask_and_be_held(world).await;
        asked.abort();
        until("the room is free", || held(world) == 0).await;
        let line = world.proxy.lines_of(OPEN, 1).await.remove(0);
        assert_eq!(line["outcome"], "client_gone");
    })
    .await;
}

#[tokio::test]
async fn a_stopping_proxy_ends_holds() {
    story(deserted(World::plan(1)).await, async |world| {
        let asked = [ask_and_be_held(world).await, ask_and_be_held(world).await];
        let began = Instant::now();
        world.proxy.stop().await;
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        for asked in asked {
            let answer = asked.await.expect("an answer");
            assert_eq!((answer.status, answer.header("retry-after")), (503, "1"));
        }
    })
    .await;
}

#[tokio::test]
async fn an_answer_says_how_long_its_request_waited_if_it_is_to() {
    for (tells, plan) in [(true, World::plan(1).server_timing(true)), (false, World::plan(1))] {
        story(deserted(plan).await, async |world| {
            let waiting = ask_and_be_held(world).await;
            world.pods[0].start_again().await.expect("a pod starts again");
            let answer = waiting.await.expect("an answer");
            let told = answer.headers.get("server-timing").map(|told| told.to_str().expect("a text"));
            assert_eq!(told.is_some(), tells, "{told:?}");
            let is_whole = |told: &str| told.starts_with("held;dur=") && told.contains(";desc=\"");
            assert!(told.is_none_or(is_whole), "{told:?}");
            let at_once = world.client().get(OPEN).await;
            assert!(!at_once.headers.contains_key("server-timing"), "nothing waited");
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_for_its_turn_when_the_pod_died_is_done_by_its_next_process() {
    story(World::plan(1).probe_interval(secs(3600)), async |world| {
        let mut alice = world.client().without_cookies().device("sofa");
        alice.log_in("alice").await;
        let pod = world.proxy.pod("a");
        pod.concurrency.set_limit(0);
        let dies = async {
            until("it waits for its turn", || pod.concurrency.waiting() > 0).await;
            world.pod("a").kill().await;
            world.until_state("a", State::Down).await;
            world.pod("a").start_again().await.expect("a start");
        };
        // It does harm twice, and no pod had it.
        let asked = alice.post("/Playlists", json!({"Name": "Evening", "Ids": [FILM], "MediaType": "Video"}));
        let (made, ()) = tokio::join!(asked, dies);
        assert_eq!(made.status, 200, "{}", made.text());
    })
    .await;
}
