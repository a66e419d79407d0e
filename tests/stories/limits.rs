//! Limits: one address cannot take what others need, and guessing passwords is slow.

mod admin;
mod log_in;
mod stored;

use std::time::Duration;

use http::Method;
use jellypin::{limits::Kind, pod::State};
use serde_json::json;

use super::{
    wire::{self, End, HandPod, within},
    world::{ANY_PORT, Certificate, Client, DEADLINE, Failed, World, body_of, millis, secs, story, until, until_so},
};

const PUBLIC: &str = "/System/Info/Public";

/// Addresses of this machine are proxies here, so that clients can come from anywhere.
const TRUSTED: &[&str] = &["127.0.0.0/8"];

async fn limited(world: &World, what: &str, scope: &str) -> f64 {
    world.proxy.metric("jellypin_limited_total", &[("what", what), ("scope", scope)]).await
}

fn asks(path: &str, address: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: {address}\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_connections_harms_no_other_address() {
    let plan = World::plan(1).max_connections(100).connections_per_address(20);
    story(plan.uncounted(), async |world| {
        let address = world.proxy.address;
        let mut flood = Vec::new();
        for _ in 0..500 {
            flood.push(End::connect_from([127, 0, 0, 2], address).await);
        }
        until_so("the rest is turned away", async || limited(world, "connections", "address").await == 480.0).await;
        assert_eq!(world.proxy.metric("jellypin_client_connections", &[]).await, 20.0);
        let mut others = world.client();
        for _ in 0..10 {
            others = others.twin();
            assert_eq!(others.get(PUBLIC).await.status, 200);
        }
        drop(flood);
        until_so("the flood is gone", async || world.proxy.metric("jellypin_client_connections", &[]).await <= 11.0)
            .await;
        let mut again = End::connect_from([127, 0, 0, 2], address).await;
        again.send(asks(PUBLIC, "")).await;
        assert_eq!(again.answer().await.status, 200, "the address has its room again");
        drop((again, others));
    })
    .await;
}

#[tokio::test]
async fn handshakes_of_an_address_are_limited() {
    let folder = tempfile::tempdir().expect("a folder");
    let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    std::fs::write(&chain, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    let plan = World::plan(1).https(ANY_PORT);
    let plan = plan.certificates(&[Certificate { chain, key }]);
    story(plan.handshakes_per_address(1).uncounted(), async |world| {
        let address = world.proxy.addresses[1];
        let silent = End::connect(address).await;
        until_so("it is there", async || world.proxy.metric("jellypin_client_connections", &[]).await == 1.0).await;
        let mut second = End::connect(address).await;
        assert_eq!(within(DEADLINE, "the end", second.try_bytes(1)).await, None, "one is enough");
        assert_eq!(limited(world, "handshakes", "address").await, 1.0);
        assert_eq!(world.client().get(PUBLIC).await.status, 200, "who needs none is served");
        drop((silent, second));
    })
    .await;
}

#[tokio::test]
async fn requests_are_counted_by_the_forwarded_address() {
    let mut pod = HandPod::start().await;
    let plan = wire::before(&pod).trusted_proxies(TRUSTED);
    story(plan.requests_per_address(2).requests(4).uncounted(), async |world| {
        let mut under_way = Vec::new();
        for _ in 0..2 {
            let mut end = wire::client(world).await;
            end.send(asks("/x", "203.0.113.7")).await;
            under_way.push((end, pod.call().await));
        }
        let mut third = wire::client(world).await;
        third.send(asks("/x", "203.0.113.7")).await;
        let refused = third.answer().await;
        assert_eq!((refused.status, refused.field("retry-after")), (429, Some("1")));
        assert_eq!(limited(world, "requests", "address").await, 1.0);
        for address in ["198.51.100.9", "198.51.100.10"] {
            let mut end = wire::client(world).await;
            end.send(asks("/x", address)).await;
            under_way.push((end, pod.call().await));
        }
        let mut fifth = wire::client(world).await;
        fifth.send(asks("/x", "198.51.100.11")).await;
        let refused = fifth.answer().await;
        assert_eq!((refused.status, refused.field("retry-after")), (503, Some("1")));
        assert_eq!(limited(world, "requests", "all").await, 1.0);
        for (end, call) in &mut under_way {
            call.wire.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").await;
            assert_eq!(end.answer().await.status, 200);
        }
        third.send(asks("/x", "203.0.113.7")).await;
        let mut call = pod.call().await;
        call.reply("200 OK", "ok").await;
        assert_eq!(third.answer().await.status, 200, "there is room again, on the same connection");
        let lines = world.proxy.lines_of("/x", 7).await;
        let of = |outcome: &str| lines.iter().filter(|line| line["outcome"] == outcome).count();
        assert_eq!((of("limit_of_address"), of("limit_of_all"), of("complete")), (1, 1, 5));
        drop((third, fifth, under_way, call));
    })
    .await;
}

#[tokio::test]
async fn a_request_that_goes_on_without_its_client_counts() {
    let mut pod = HandPod::start().await;
    // It may end sessions, so it goes on whatever becomes of its client.
    let asks = "POST /Users/Password HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}";
    let answer = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
    story(wire::before(&pod).requests_per_address(2), async |world| {
        let mut under_way = Vec::new();
        for _ in 0..2 {
            let mut end = wire::client(world).await;
            end.send(asks).await;
            under_way.push(pod.call().await);
            end.reset();
            until_so("the client is gone", async || {
                world.proxy.metric("jellypin_client_connections", &[]).await == 0.0
            })
            .await;
        }
        let mut third = wire::client(world).await;
        third.send(asks).await;
        assert_eq!(third.answer().await.status, 429);
        assert!(pod.is_idle(), "the pod has no more of them than the limit allows");
        for call in &mut under_way {
            call.wire.send(answer).await;
        }
        until("they are over", || world.proxy.shared().limits.in_progress(Kind::Requests) == 0).await;
        third.send(asks).await;
        let mut call = pod.call().await;
        call.wire.send(answer).await;
        assert_eq!(third.answer().await.status, 204);
        drop((third, under_way, call));
    })
    .await;
}

#[tokio::test]
async fn sockets_of_an_address_are_limited() {
    story(World::plan(1).sockets_per_address(2), async |world| {
        let mut client = world.client();
        client.log_in("alice").await;
        let one = client.socket("/socket").await.expect("a socket");
        let other = client.socket("/socket").await.expect("a socket");
        assert_eq!(client.socket("/socket").await.expect_err("no room").as_u16(), 429);
        assert_eq!(client.get("/Users/Me").await.status, 200, "requests have room of their own");
        drop(one);
        until_so("there is room again", async || match client.socket("/socket").await {
            Ok(socket) => {
                drop(socket);
                true
            }
            Err(status) => {
                assert_eq!(status.as_u16(), 429);
                false
            }
        })
        .await;
        drop(other);
    })
    .await;
}

#[tokio::test]
async fn held_requests_of_an_address_are_limited() {
    let plan = World::plan(1).trusted_proxies(TRUSTED).holds_per_address(1);
    story(plan.uncounted(), async |world| {
        world.pod("a").kill().await;
        world.until_state("a", State::Down).await;
        let held = world.proxy.shared().clone();
        let free = held.hold_permits.available_permits();
        let mut first = wire::client(world).await;
        first.send(asks("/Branding/Configuration", "203.0.113.7")).await;
        until("it is held", || held.hold_permits.available_permits() == free - 1).await;
        let mut second = wire::client(world).await;
        second.send(asks("/Branding/Configuration", "203.0.113.7")).await;
        assert_eq!(second.answer().await.status, 503, "its address has one already");
        let mut third = wire::client(world).await;
        third.send(asks("/Branding/Configuration", "198.51.100.9")).await;
        until("another address has its own", || held.hold_permits.available_permits() == free - 2).await;
        assert_eq!(limited(world, "holds", "address").await, 1.0);
        drop((first, second, third));
        until("nobody is held", || held.hold_permits.available_permits() == free).await;
        world.proxy.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_body_that_never_begins_is_the_clients_fault() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod).client_body(millis(200)), async |world| {
        for (line, path) in [("POST", "/x"), ("PUT", "/x"), ("POST", "/Users/AuthenticateByName")] {
            let mut end = wire::client(world).await;
            end.send(format!("{line} {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n")).await;
            let answer = end.answer().await;
            assert_eq!((answer.status, answer.field("connection")), (408, Some("close")), "{line} {path}");
            drop(pod.call().await);
        }
        let lines = world.proxy.lines_of("/x", 2).await;
        assert!(lines.iter().all(|line| line["outcome"] == "client_silent"), "{lines:?}");
        assert_eq!(world.proxy.pod("a").status().state, State::Ready);
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_drops_a_silent_client_stays_in_service() {
    let mut pod = HandPod::start().await;
    // Probes that would put it right again are far away.
    let plan = wire::before(&pod).probe_interval(secs(60));
    story(plan, async |world| {
        world.until_state("a", State::Ready).await;
        let epoch = world.proxy.pod("a").status().epoch;
        let mut changes = world.proxy.pod("a").life.changes();
        changes.mark_unchanged();
        let mut silent = Vec::new();
        for _ in 0..5 {
            let mut end = wire::client(world).await;
            end.send("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n").await;
            drop(pod.call().await);
            silent.push(end);
        }
        for mut end in silent {
            let status = end.answer().await.status;
            assert!(matches!(status, 408 | 502), "{status}");
        }
        assert!(!changes.has_changed().expect("a pod"), "{:?}", world.proxy.pod("a"));
        assert_eq!(world.proxy.pod("a").status().epoch, epoch);
    })
    .await;
}

#[tokio::test]
async fn a_pods_408_reaches_the_client() {
    story(World::plan(2).uncounted(), async |world| {
        let mut end = wire::client(world).await;
        end.send("POST /Users/ForgotPassword HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n").await;
        let answer = within(Duration::from_secs(20), "an answer", end.answer()).await;
        assert_eq!(answer.status, 408);
        for pod in ["a", "b"] {
            assert_eq!(world.proxy.pod(pod).status().state, State::Ready, "{pod}");
        }
    })
    .await;
}

#[tokio::test]
async fn long_fields_are_cut_in_the_access_log() {
    story(World::plan(1), async |world| {
        let mut client = world.client();
        let agent = "Player/".to_owned() + &"x".repeat(5000);
        client.host = format!("{}.example.org", "h".repeat(240));
        let path = format!("/{}", "y".repeat(5000));
        let request = client.request(Method::GET, &path).header("user-agent", &agent);
        let answer: Result<_, Failed> = client.send(request, body_of("")).await;
        answer.expect("an answer");
        until("the line is written", || !world.proxy.lines().is_empty()).await;
        let line = world.proxy.lines().remove(0);
        assert_eq!(line["http.path"], path[..1024]);
        assert_eq!(line["http.user_agent"], agent[..256]);
        assert_eq!(line["http.host"], client.host[..252]);
    })
    .await;
}

/// Asks for a page of the admin listener under a host, with further headers.
async fn ask_admin(world: &World, method: Method, path: &str, host: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let mut operator: Client = world.proxy.operators();
    operator.host = host.to_owned();
    let request = operator.request(method, path);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let answer = within(DEADLINE, "an answer", operator.send(request, body_of(""))).await.expect("an answer");
    (answer.status, answer.text().to_owned())
}

/// The body of a log-in.
fn log_in_body(user: &str, password: &str) -> serde_json::Value {
    json!({"Username": user, "Pw": password})
}
