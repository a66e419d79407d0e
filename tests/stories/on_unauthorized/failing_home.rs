//! A home that fails is no reason to believe a stranger: its clients keep their tokens.

use std::time::Duration;

use jellyfin_sim::{FILM, Pod, Seen};
use jellypin::pod::{State, Status};
use serde_json::json;

use super::{by_query, token_of};
use crate::stories::migration::{client_of, plan};
use crate::stories::wire::{Call, HandPod};
use crate::stories::world::{Answer, Client, DEADLINE, Failed, World, body_of, millis, secs, story, until};

const INFO: &str = "/System/Info";

/// Who signs in at the pod that is played by hand.
const USER: &str = "5a1e0f3d9c7b48268f4d2a6b1c3e5f70";

/// Pods that have refused a client's request. What the proxy asks for itself does not count.
fn refused<'a>(pods: impl Iterator<Item = &'a Pod>) -> usize {
    let is_refusal = |seen: &Seen| seen.status == 401 && seen.header("x-story-request").is_some();
    pods.filter(|pod| pod.seen().iter().any(is_refusal)).count()
}

#[tokio::test]
async fn only_a_late_home_is_asked_for_its_session() {
    let plan = plan(3).first_byte(millis(300));
    story(plan.hold(millis(300)), async |world| {
        let (mut client, home) = client_of(world, "alice", "sofa").await;
        world.pod(&home).slow_first_byte(DEADLINE);
        assert_eq!(client.get("/Items").await.status, 504);
        let report = json!({"ItemId": FILM, "PositionTicks": 1});
        assert_eq!(client.post("/Sessions/Playing/Progress", report).await.status, 504);
        assert_eq!(client.get(INFO).await.status, 504);
        let playlist = client.request(http::Method::GET, &format!("/Videos/{FILM}/main.m3u8"));
        let failed = client.send(playlist, body_of("")).await.expect_err("a broken connection");
        assert!(matches!(failed, Failed::NoAnswer), "{failed:?}");
        assert_eq!(refused(world.pods_but(&home)), 0);
        world.pod(&home).slow_first_byte(Duration::ZERO);
        let items = client.get("/Items").await;
        assert_eq!((items.status, world.home(&items)), (200, home.as_str()));
    })
    .await;
}

#[tokio::test]
async fn a_client_of_a_dark_home_migrates_without_a_401() {
    // Connections are not kept, and only failures bring probes: so the request is the first to find out.
    let plan = plan(2).pod_idle(Duration::from_micros(1)).probe_interval(secs(3600));
    story(plan, async |world| {
        let (mut client, home) = client_of(world, "alice", "sofa").await;
        world.pod(&home).go_dark(true);
        let info = client.get(INFO).await;
        assert_eq!((info.status, world.saw(&info).len()), (200, 1));
        assert_eq!(refused(world.pods_but(&home)), 0);
        assert_eq!(world.proxy.pod(&home).status().state, State::Down, "it was probed at once");
        world.pod(&home).go_dark(false);
    })
    .await;
}

#[tokio::test]
async fn without_an_api_key_clients_of_a_dark_home_are_held() {
    let plan = World::plan(2).pod_idle(Duration::from_micros(1)).probe_interval(secs(3600));
    story(plan, async |world| {
        let (mut client, home) = client_of(world, "alice", "sofa").await;
        assert_eq!(client.get("/Users/Me").await.status, 200);
        world.pod(&home).go_dark(true);
        let back = async {
            until("the other pod has refused", || refused(world.pods_but(&home)) == 1).await;
            world.pod(&home).go_dark(false);
        };
        let (info, ()) = tokio::join!(client.get(INFO), back);
        assert_eq!(info.status, 200);
    })
    .await;
}

#[tokio::test]
async fn without_an_api_key_a_late_home_keeps_its_client() {
    story(World::plan(3).first_byte(millis(300)), async |world| {
        let (mut client, home) = client_of(world, "alice", "sofa").await;
        assert_eq!(client.get("/Users/Me").await.status, 200);
        for state in [State::Ready, State::Draining] {
            world.proxy.pod(&home).life.change(|status| Status { state, ..status });
            world.pod(&home).slow_first_byte(DEADLINE);
            assert_eq!(client.get("/Items").await.status, 504);
            world.pod(&home).slow_first_byte(Duration::ZERO);
            let items = client.get("/Items").await;
            assert_eq!((items.status, world.home(&items)), (200, home.as_str()));
        }
    })
    .await;
}

#[tokio::test]
async fn refusals_count_nothing_while_a_possible_home_is_late() {
    story(World::plan(3).first_byte(millis(300)), async |world| {
        for home in ["a", "b", "c"] {
            let token = token_of(world, world.pod(home), "alice", home).await;
            world.pod(home).slow_first_byte(DEADLINE);
            let mut client = world.client().without_cookies();
            assert_eq!(client.get(&by_query("/Items", &token)).await.status, 504);
            world.pod(home).slow_first_byte(Duration::ZERO);
            assert_eq!(client.get(&by_query("/Items", &token)).await.status, 200);
        }
    })
    .await;
}

/// A client whose home the test plays; the other pod, `a`, does not know it.
async fn with_a_home_by_hand() -> (World, HandPod, Client) {
    let mut pod = HandPod::start().await;
    let plan = plan(1).pod("z", pod.address);
    let plan = plan.first_byte(millis(1500)).hold(secs(1));
    // Each request comes over a connection of its own.
    let world = plan.pod_idle(Duration::from_micros(1)).start().await;
    world.until_state("z", State::Ready).await;
    for number in 0.. {
        let mut client = world.client().without_cookies().device(&format!("device {number}"));
        let is_there = {
            let mut log_in = std::pin::pin!(client.log_in("alice"));
            tokio::select! {
                _ = &mut log_in => false,
                call = next_of_clients(&mut pod) => {
                    admit(call, number).await;
                    // The proxy asks whose token that is before the client hears of it.
                    tokio::select! {
                        _ = &mut log_in => true,
                        call = next_of_clients(&mut pod) => panic!("the client asks for {}", call.target()),
                    }
                }
            }
        };
        if is_there {
            return (world, pod, client);
        }
    }
    unreachable!("some device is placed there")
}

/// Answers a log-in.
async fn admit(mut call: Call, number: u32) {
    let device = format!("\"DeviceId\":\"device {number}\",\"DeviceName\":\"Test\"");
    let user = format!("\"UserId\":\"{USER}\"");
    let session = format!("{{{user},{device},\"Client\":\"Story\",\"ApplicationVersion\":\"1.0\"}}");
    let token = "\"AccessToken\":\"0123456789abcdef0123456789abcdef\"";
    let body = format!("{{\"SessionInfo\":{session},{token}}}");
    let head = format!("Content-Type: application/json\r\nContent-Length: {}", body.len());
    call.wire.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}")).await;
}

/// The next request of a client. Of what the proxy asks for itself the pod knows whose token it has made.
async fn next_of_clients(pod: &mut HandPod) -> Call {
    loop {
        let mut call = pod.call().await;
        if call.field("x-story-request").is_some() {
            return call;
        }
        match call.target() {
            "/Users/Me" => call.reply("200 OK", &format!("{{\"Id\":\"{USER}\"}}")).await,
            _ => call.reply("404 Not Found", "").await,
        }
    }
}

/// The next request of a client, unless the client is answered before.
async fn next_call(pod: &mut HandPod, answered: &mut (impl Future<Output = Answer> + Unpin)) -> Call {
    tokio::select! {
        call = next_of_clients(pod) => call,
        answer = answered => panic!("answered with {}", answer.status),
    }
}

#[tokio::test]
async fn a_refusal_on_startup_paths_is_checked_at_the_late_home() {
    let (world, mut pod, mut client) = with_a_home_by_hand().await;
    story(world, async |world| {
        let mut info = Box::pin(client.get(INFO));
        let unanswered = next_call(&mut pod, &mut info).await;
        next_call(&mut pod, &mut info).await.reply("200 OK", "{}").await;
        assert_eq!(info.await.status, 200);
        assert_eq!(refused(world.pods.iter()), 0);
        drop(unanswered);
    })
    .await;
}

#[tokio::test]
async fn an_error_of_the_home_is_not_a_refusal() {
    let (world, mut pod, mut client) = with_a_home_by_hand().await;
    story(world, async |world| {
        // The last is what Roku asks for.
        for path in [INFO, "/Users/Me", "/Users/5a1e0f3d9c7b48268f4d2a6b1c3e5f70"] {
            let mut info = Box::pin(client.get(path));
            next_call(&mut pod, &mut info).await.reply("500 Internal Server Error", "").await;
            next_call(&mut pod, &mut info).await.reply("200 OK", "{}").await;
            assert_eq!(info.await.status, 200, "{path}");
        }
        assert_eq!(refused(world.pods.iter()), 0);
    })
    .await;
}

#[tokio::test]
async fn a_report_on_a_broken_connection_is_sent_again() {
    let (world, mut pod, mut client) = with_a_home_by_hand().await;
    story(world, async |world| {
        let mut report = Box::pin(client.post("/Sessions/Playing/Progress", json!({"ItemId": FILM})));
        drop(next_call(&mut pod, &mut report).await);
        next_call(&mut pod, &mut report).await.reply("204 No Content", "").await;
        assert_eq!(report.await.status, 204);
        assert_eq!(refused(world.pods.iter()), 0);
    })
    .await;
}
