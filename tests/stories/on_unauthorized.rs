//! A pod that does not know a client's token must not log its user out.

mod failing_home;
mod token_check;

use std::time::{Duration, Instant};

use http::Method;
use jellyfin_sim::{FILM, Pod};
use serde_json::json;

use super::world::{Answer, World, body_of, secs, story, until};
use jellypin::pod::State;

const MADE_UP: &str = "00000000000000000000000000000abc";

/// Logs a user in at a pod itself, so that the proxy has never heard of the token.
async fn token_of(world: &World, pod: &Pod, user: &str, device: &str) -> String {
    let mut direct = world.client().without_cookies().device(device).at(pod);
    direct.log_in(user).await;
    direct.token.expect("a token")
}

fn by_query(path: &str, token: &str) -> String {
    format!("{path}?ApiKey={token}")
}

fn hits(world: &World, token: &str) -> usize {
    let bears = |pod: &Pod| pod.seen().iter().filter(|seen| seen.target.contains(token)).count();
    world.pods.iter().map(bears).sum()
}

#[tokio::test]
async fn a_head_whose_pod_does_not_know_the_token_is_answered_by_another() {
    story(World::plan(2), async |world| {
        let token = token_of(world, world.pod("a"), "alice", "sofa").await;
        let path = by_query(&format!("/Videos/{FILM}/master.m3u8"), &token);
        let mut direct = world.client().without_cookies().at(world.pod("b"));
        let refused = direct.send(direct.request(Method::HEAD, &path), body_of("")).await.expect("an answer");
        assert_eq!((refused.status, refused.headers.get("content-length")), (401, None), "as Kestrel refuses");
        // The cookie leads to b.
        let mut player = world.client();
        while world.home(&player.get("/System/Info/Public").await) != "b" {
            player = world.client();
        }
        let answer = player.send(player.request(Method::HEAD, &path), body_of("")).await.expect("an answer");
        assert_eq!((answer.status, world.saw(&answer)), (200, vec!["a", "b"]));
    })
    .await;
}

async fn all_stale(pods: usize) {
    const CLIENTS: usize = 100;
    story(World::plan(pods), async |world| {
        let mut spent = 0;
        for i in 0..CLIENTS {
            let home = &world.pods[i % pods];
            let token = token_of(world, home, &format!("user{i}"), &format!("device {i}")).await;
            let mut client = world.client().without_cookies();
            let first = client.get(&by_query("/Users/Me", &token)).await;
            assert_eq!(first.status, 200, "client {i}");
            spent += hits(world, &token);
            let second = client.get(&by_query("/Items", &token)).await;
            assert_eq!((second.status, world.home(&second)), (200, home.name()), "and it is known from then on");
        }
        println!(
            "{pods} pods, {CLIENTS} clients with stale pins: {CLIENTS} answered without a 401, {spent} pod requests"
        );
        assert!(spent <= CLIENTS * pods, "no pod is asked twice");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_stale_pin_is_corrected_at_once_on_three_pods() {
    all_stale(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_stale_pin_is_corrected_at_once_on_eight_pods() {
    all_stale(8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_requests_with_a_stale_pin_share_one_pod() {
    story(World::plan(8), async |world| {
        let token = token_of(world, world.pod("e"), "alice", "sofa").await;
        let ask = |_| {
            let mut client = world.client().without_cookies();
            let target = by_query("/Items", &token);
            async move { client.get(&target).await }
        };
        let answers: Vec<Answer> = futures_util::future::join_all((0..50).map(ask)).await;
        for answer in &answers {
            assert_eq!(answer.status, 200);
            assert_eq!(world.saw(answer).into_iter().filter(|pod| *pod == "e").count(), 1);
        }
        println!("50 parallel requests with an unknown token, 8 pods: {} pod requests", hits(world, &token));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_token_costs_each_pod_one_request_and_then_none() {
    story(World::plan(3), async |world| {
        let mut client = world.client().without_cookies();
        let target = by_query("/Users/Me", MADE_UP);
        let mut refused = async || {
            let answer = client.get(&target).await;
            assert_eq!((answer.status, answer.text(), answer.header("content-length")), (401, "", "0"));
            assert_eq!(answer.header("www-authenticate"), "");
        };
        refused().await;
        assert_eq!(hits(world, MADE_UP), 3);
        for _ in 0..20 {
            refused().await;
        }
        assert_eq!(hits(world, MADE_UP), 3, "nobody is asked again");
        world.pod("b").kill().await;
        world.until_state("b", State::Down).await;
        world.pod("b").clear_seen();
        world.pod("b").start_again().await.expect("b starts");
        world.until_state("b", State::Ready).await;
        refused().await;
        refused().await;
        assert_eq!(hits(world, MADE_UP), 3, "only the restarted pod was asked once more");
    })
    .await;
}

/// Asks with so many tokens that nobody ever made, over some connections at once.
async fn ask_with_made_up_tokens(world: &World, tokens: usize, path: &str, expected: u16) {
    const CONNECTIONS: usize = 8;
    let ask = async |first: usize| {
        let mut client = world.client().without_cookies();
        for token in (first..tokens).step_by(CONNECTIONS) {
            assert_eq!(client.get(&by_query(path, &format!("{token:032x}"))).await.status, expected);
        }
    };
    futures_util::future::join_all((0..CONNECTIONS).map(ask)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn made_up_tokens_do_not_multiply_the_load() {
    const TOKENS: usize = 2000;
    story(World::plan(3), async |world| {
        let began = Instant::now();
        ask_with_made_up_tokens(world, TOKENS, "/Users/Me", 401).await;
        let spent: usize =
            world.pods.iter().map(|pod| pod.seen().iter().filter(|seen| seen.path() == "/Users/Me").count()).sum();
        let extra = 1024 + 32 * (began.elapsed().as_secs() as usize + 1);
        println!("{TOKENS} made-up tokens from one address, 3 pods: {spent} pod requests");
        assert!(spent <= TOKENS + extra, "{spent} requests for {TOKENS} tokens");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_small_body_is_sent_to_the_next_pod() {
    story(World::plan(3), async |world| {
        let token = token_of(world, world.pod("b"), "alice", "sofa").await;
        let mut client = world.client().without_cookies();
        let progress = json!({"ItemId": FILM, "PositionTicks": 10});
        let answer = client.post(&by_query("/Sessions/Playing/Progress", &token), progress).await;
        assert_eq!(answer.status, 204);
        assert_eq!(world.saw(&answer).into_iter().filter(|pod| *pod == "b").count(), 1);

        let other = token_of(world, world.pod("a"), "bob", "bed").await;
        let large = "x".repeat(200_000);
        let mut seen = 0;
        for device in ["1", "2", "3", "4", "5", "6", "7", "8"] {
            let target = format!("/ClientLog/Document?ApiKey={other}&deviceId={device}");
            let mut client = world.client().without_cookies();
            let request = client.request(Method::POST, &target).header("content-type", "text/plain");
            let answer = client.send(request, body_of(large.clone())).await.expect("an answer");
            seen += usize::from(answer.status == 401);
            if answer.status != 401 {
                break;
            }
        }
        assert_eq!(hits(world, &other), seen + 1, "each was offered once");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_reaches_one_pod() {
    story(World::plan(3), async |world| {
        let mut client = world.client().device("sofa");
        let answer = client.post("/Users/AuthenticateByName", json!({"Username": "alice", "Pw": "wrong"})).await;
        assert_eq!((answer.status, answer.text()), (401, "Error processing request."));
        assert_eq!(world.saw(&answer).len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logged_out_token_stays_dead_on_pods_that_know_it() {
    story(World::plan(2), async |world| {
        let mut client = world.client().without_cookies().device("sofa");
        let answer = client.log_in("alice").await;
        let home = world.home(&answer).to_owned();
        let other = world.pods_but(&home).next().expect("another pod");
        other.kill().await;
        world.until_state(other.name(), State::Down).await;
        other.start_again().await.expect("the pod starts");
        world.until_state(other.name(), State::Ready).await;
        let token = client.token.clone().expect("a token");
        assert!(other.knows_token(&token), "a restarted pod reads every row");
        assert_eq!(client.post("/Sessions/Logout", json!({})).await.status, 204);
        assert!(!other.knows_token(&token), "every pod has heard of the log-out");
        let lines = world.proxy.lines_of("/Sessions/Logout", 1).await;
        assert_eq!(lines[0]["fan_out"], format!("{}=204", other.name()));
        for path in ["/Users/Me", "/Items", "/System/Info"] {
            assert_eq!(client.get(path).await.status, 401, "{path}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_with_only_a_token_finds_its_pod() {
    story(World::plan(5), async |world| {
        let token = token_of(world, world.pod("d"), "alice", "sofa").await;
        let mut client = world.client().without_cookies();
        let _socket = client.socket(&by_query("/socket", &token)).await.expect("a socket");
        until("the socket is open at its home", || world.pod("d").open_sockets() == 1).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_socket_is_answered_late() {
    story(World::plan(3), async |world| {
        let mut client = world.client().without_cookies();
        for dial in 1..=3 {
            let began = Instant::now();
            let refused = client.socket(&by_query("/socket", MADE_UP)).await.expect_err("a refusal");
            assert_eq!(refused, 403);
            assert!(
                began.elapsed() >= Duration::from_millis(900),
                "dial {dial} was answered after {:?}",
                began.elapsed()
            );
        }
        assert_eq!(hits(world, MADE_UP), 3);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_held_while_its_pod_restarts() {
    story(World::plan(3), async |world| {
        let mut client = world.client().without_cookies().device("sofa");
        let answer = client.log_in("alice").await;
        let home = world.home(&answer).to_owned();
        assert_eq!(client.get("/Users/Me").await.status, 200);
        world.pod(&home).kill().await;
        let asked = ["/System/Info", "/Users/Me", "/Items", "/Sessions"].map(|path| {
            let mut client = client.twin();
            tokio::spawn(async move { client.get(path).await.status })
        });
        until("every other pod has refused", || {
            world.pods_but(&home).all(|pod| pod.seen().iter().any(|seen| seen.status == 401))
        })
        .await;
        world.pod(&home).start_again().await.expect("the pod starts");
        for status in asked {
            assert_eq!(status.await.expect("an answer"), 200);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_stays_down_costs_one_hold() {
    story(World::plan(3).hold(secs(1)), async |world| {
        let mut client = world.client().without_cookies().device("sofa");
        let answer = client.log_in("alice").await;
        let home = world.home(&answer).to_owned();
        assert_eq!(client.get("/Users/Me").await.status, 200);
        world.pod(&home).kill().await;
        let began = Instant::now();
        assert_eq!(client.get("/Users/Me").await.status, 401);
        assert!(began.elapsed() >= Duration::from_millis(900));
        let refused = client.get("/Users/Me").await;
        assert_eq!(refused.status, 401);
        assert!(world.saw(&refused).is_empty(), "no pod is asked for a token that all have refused");
        let again = client.log_in("alice").await;
        assert_eq!(client.get("/Users/Me").await.status, 200, "the log-in went to {}", world.home(&again));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_stale_row_is_not_shown_to_the_client() {
    story(World::plan(2), async |world| {
        let (a, b) = (world.pod("a"), world.pod("b"));
        let token = token_of(world, a, "alice", "sofa").await;
        let mut client = world.client().without_cookies().device("sofa");
        client.token = Some(token.clone());
        assert_eq!(client.get("/Users/Me").await.status, 200);
        b.kill().await;
        world.until_state("b", State::Down).await;
        b.start_again().await.expect("b starts");
        world.until_state("b", State::Ready).await;
        token_of(world, b, "alice", "sofa").await;
        let version = |version| {
            format!(
                "MediaBrowser Client=\"c\", Device=\"d\", DeviceId=\"sofa\", Version=\"{version}\", Token=\"{token}\""
            )
        };
        let mut renewed = world.client().without_cookies();
        let answer = renewed.get_with("/Users/Me", &[("authorization", &version("2.0"))]).await;
        assert_eq!(answer.status, 200);
        let seen: Vec<u16> =
            a.seen().iter().filter(|seen| seen.path() == "/Users/Me").map(|seen| seen.status).collect();
        assert!(seen.contains(&500), "the pod did answer with its single 500: {seen:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_new_home_gets_the_clients_capabilities() {
    story(World::plan(2), async |world| {
        let mut client = world.client().without_cookies().device("sofa");
        let log_in = client.log_in("alice").await;
        let home = world.home(&log_in).to_owned();
        let can = json!({"SupportedCommands": ["Play"], "SupportsMediaControl": true});
        assert_eq!(client.post("/Sessions/Capabilities/Full", can).await.status, 204);
        // The other pod has read the token's row, having started after the log-in.
        let other = world.pods_but(&home).next().expect("another pod");
        other.kill().await;
        other.start_again().await.expect("it starts");
        world.until_state(other.name(), State::Ready).await;
        world.pod(&home).kill().await;
        assert_eq!(client.get("/Users/Me").await.status, 200);
        other.until(|pod| pod.seen().iter().any(|seen| seen.path() == "/Sessions/Capabilities/Full")).await;
        let sessions = client.get("/Sessions").await.json();
        assert_eq!(sessions[0]["Capabilities"]["SupportedCommands"][0], "Play");
    })
    .await;
}
