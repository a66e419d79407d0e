//! A pod that gets SIGTERM announces its end on its sockets and listens for a moment more. A socket that is
//! dialled in that moment is never served, and keeps the process for Kestrel's 30 s.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use jellyfin_sim::{FILM, PhaseLengths, StartUp};
use jellypin::{health, pod::State};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::migration::sockets::{next_of, socket_of};
use super::migration::{client_of, plan};
use super::wire::within;
use super::world::{Client, DEADLINE, World, elapse, millis, secs, story, until, until_within};

/// A pod that listens long enough after its shutdown notice that every client which would dial it does.
const LISTENS_ON: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_announced_its_end_gets_no_new_request() {
    story(plan(2).build(|pod| pod.listens_on(LISTENS_ON)), async |world| {
        let (mut client, home) = client_of(world, "alice", "sofa").await;
        let token = client.token.clone().expect("a token");
        let mut socket = socket_of(world, &token).await;
        let pod = world.pod(&home);
        let dying = async {
            pod.stop().await;
            pod.is_running()
        };
        let others = async {
            world.until_state(&home, State::Down).await;
            assert!(pod.is_running(), "it is there still, and listens");
            // The socket that heard it, one that is dialled now, and a request: all go on at the other pod.
            next_of(&mut socket, "ForceKeepAlive").await;
            let second = socket_of(world, &token).await;
            let me = client.get("/Users/Me").await;
            assert_eq!(me.status, 200);
            assert_ne!(world.home(&me), home);
            assert_eq!(pod.late_sockets(), 0, "nobody has dialled it again");
            assert!(pod.is_running());
            second
        };
        let (_, second) = within(DEADLINE, "the process ends", async { tokio::join!(dying, others) }).await;
        drop((socket, second));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_under_way_at_a_stopping_pod_are_answered() {
    story(plan(1).build(|pod| pod.stop_grace(DEADLINE)), async |world| {
        let (mut client, _) = client_of(world, "alice", "sofa").await;
        let socket = socket_of(world, client.token.as_deref().expect("a token")).await;
        let pod = world.pod("a");
        pod.slow_first_byte(Duration::from_secs(1));
        pod.clear_seen();
        let (answer, ()) = tokio::join!(client.get("/Items"), async {
            pod.until(|pod| pod.seen().iter().any(|seen| seen.path() == "/Items")).await;
            pod.stop().await;
        });
        assert_eq!((answer.status, world.saw(&answer).len()), (200, 1), "by the life that was asked");
        drop(socket);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_closed_without_notice_is_dialled_after_a_probe() {
    // The checks come by themselves so seldom that only what asks for one brings it.
    story(plan(1).probe_interval(secs(30)), async |world| {
        let (client, _) = client_of(world, "alice", "sofa").await;
        let mut socket = socket_of(world, client.token.as_deref().expect("a token")).await;
        let pod = world.pod("a");
        pod.clear_seen();
        // An empty message closes the socket, and is nobody else's affair.
        socket.send(Message::text("")).await.expect("sent");
        next_of(&mut socket, "ForceKeepAlive").await;
        let seen = pod.seen();
        let at = |path: &str| seen.iter().position(|seen| seen.path() == path);
        assert!(at("/health").is_some_and(|probed| at("/socket").is_some_and(|dialled| probed < dialled)), "{seen:?}");
        drop(socket);
    })
    .await;
}

/// Asks again and again; gives the longest time from one answer to the next.
async fn longest_gap(over: &AtomicBool, mut ask: impl AsyncFnMut() -> u16, expected: u16) -> Duration {
    let (mut longest, mut last) = (Duration::ZERO, Instant::now());
    while !over.load(Ordering::Relaxed) {
        assert_eq!(ask().await, expected);
        longest = longest.max(last.elapsed());
        last = Instant::now();
        elapse(millis(20)).await;
    }
    longest
}

/// At full size, where somebody wants to know: `STORY_RESTARTS=20`, with the lengths of a recorded start.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_by_sigterm_lasts_no_longer_than_the_pods_own() {
    let restarts = std::env::var("STORY_RESTARTS").ok().and_then(|count| count.parse().ok());
    let phases = PhaseLengths::RECORDED.scaled(if restarts.is_some() { 1.0 } else { 0.1 });
    story(World::plan(1).build(move |pod| pod.start_up(StartUp::Phased(phases))), async |world| {
        world.until_state("a", State::Ready).await;
        let pod = world.pod("a");
        let (mut client, _) = client_of(world, "alice", "sofa").await;
        let mut player: Client = client.twin();
        let token = client.token.clone().expect("a token");
        let mut worst = (Duration::ZERO, Duration::ZERO);
        let mut socket = socket_of(world, &token).await;
        for _ in 0..restarts.unwrap_or(2) {
            let over = AtomicBool::new(false);
            let film = format!("/Videos/{FILM}/stream?static=true");
            let range = ["bytes=0-999"];
            let films = longest_gap(&over, async || player.get_with(&film, &[("range", range[0])]).await.status, 206);
            let report = json!({"ItemId": FILM, "PositionTicks": 10});
            let reports = longest_gap(
                &over,
                async || client.post("/Sessions/Playing/Progress", report.clone()).await.status,
                204,
            );
            let restart = async {
                let began = Instant::now();
                // One that waits for a socket which nobody serves takes 30 s.
                within(DEADLINE, "the process ends", pod.stop()).await;
                pod.start_again().await.expect("it starts");
                let start_up = DEADLINE + Duration::from_secs(10);
                until_within(start_up, "it is ready", || pod.is_ready()).await;
                let own = began.elapsed();
                next_of(&mut socket, "ForceKeepAlive").await;
                let away = began.elapsed();
                socket.send(Message::text(r#"{"MessageType":"KeepAlive"}"#)).await.expect("sent");
                next_of(&mut socket, "KeepAlive").await;
                until("it is ready to the proxy", || world.proxy.pod("a").status().state == State::Ready).await;
                over.store(true, Ordering::Relaxed);
                (own, away)
            };
            let (film, report, (own, away)) = tokio::join!(films, reports, restart);
            println!("restart {own:.2?}; away: film {film:.2?}, reports {report:.2?}, socket {away:.2?}");
            let longest = film.max(report).max(away).saturating_sub(own);
            worst = worst.max((longest, own));
        }
        println!("longest time beyond the pod's own restart: {:.2?} (of {:.2?})", worst.0, worst.1);
        assert!(worst.0 < Duration::from_secs(3), "{worst:?}");
        let message = futures_util::future::poll_immediate(socket.next()).await;
        assert!(!matches!(message, Some(None)), "the socket is open");
        drop(socket);
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_refuses_after_its_farewell_serves_again_in_its_next_life() {
    story(World::plan(1), async |world| {
        let pod = world.proxy.pod("a");
        world.pod("a").kill().await;
        // Both come before a probe ends, as when one is under way for longer than the pod listens on.
        health::farewell(&pod, None);
        health::refused(&pod);
        world.until_state("a", State::Down).await;
        world.pod("a").start_again().await.expect("a start");
        world.until_state("a", State::Ready).await;
        until("its end is over", || !pod.life.is_over()).await;
        assert_eq!(world.client().get("/Branding/Configuration").await.status, 200);
    })
    .await;
}
