//! A pod is drained for an upgrade: its clients leave it, and none of them notices.

use futures_util::StreamExt;
use http::Method;
use jellypin::{health, pod::State};
use serde_json::{Value, json};

use super::sockets::{next_of, socket_of};
use super::{client_of, plan, revocation::at_home};
use crate::stories::world::{Client, World, body_of, story, until_so};

pub(crate) async fn page(world: &World, pod: &str) -> Value {
    let pods = world.proxy.ask_admin("/pods").await.json();
    pods.as_array().expect("pods").iter().find(|page| page["name"] == pod).expect("the pod").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_a_drained_pod_lose_nothing() {
    story(plan(3), async |world| {
        let mut clients = Vec::new();
        for number in 0..12 {
            let (client, home) = client_of(world, &format!("user{number}"), &format!("device {number}")).await;
            let socket = socket_of(world, client.token.as_deref().expect("a token")).await;
            clients.push((client, home, socket));
        }
        let lives = world.proxy.ask_admin("/sessions").await;
        let shows = |client: &Client| client.token.as_deref().is_some_and(|token| lives.text().contains(token));
        assert!(!clients.iter().any(|(client, ..)| shows(client)), "no token is shown");
        let lives = lives.json();
        let homes = |device: &str| {
            lives.as_array().expect("sessions").iter().filter(|page| page["device_id"] == device).count()
        };
        assert!((0..12).all(|number| homes(&format!("device {number}")) == 1), "{lives}");
        let of_first =
            lives.as_array().expect("sessions").iter().find(|page| page["device_id"] == "device 0").expect("one");
        assert_eq!((&of_first["pod"], &of_first["sockets"]), (&json!(clients[0].1), &json!(1)), "{of_first}");
        assert_eq!((&of_first["why"], &of_first["from"]), (&json!("first"), &Value::Null), "{of_first}");
        for (client, ..) in &mut clients {
            assert_eq!(client.get("/Users/Me").await.status, 200);
        }
        assert_eq!(world.proxy.post_admin("/pods/main/a/drain").await.status, 202);
        world.pod("a").until(|pod| pod.open_sockets() == 0).await;
        for (client, home, socket) in &mut clients {
            let me = client.get("/Users/Me").await;
            assert_eq!(me.status, 200);
            assert_ne!(world.home(&me), "a");
            if home == "a" {
                next_of(socket, "ForceKeepAlive").await;
            } else {
                assert_eq!(world.home(&me), home, "nobody else is moved");
            }
        }
        let lives = world.proxy.ask_admin("/sessions").await.json();
        for (client, home, _) in &clients {
            let device = client.device.as_deref().expect("a device");
            let lives =
                lives.as_array().expect("sessions").iter().find(|page| page["device_id"] == device).expect("one");
            let came = if home == "a" { (json!("drain"), json!("a")) } else { (json!("first"), Value::Null) };
            assert_eq!((&lives["why"], &lives["from"]), (&came.0, &came.1), "{lives}");
        }
        let drained = page(world, "a").await;
        assert_eq!((drained["state"].as_str(), drained["sessions"].as_u64()), (Some("draining"), Some(0)));
        // It is restarted, and serves everybody again.
        world.pod("a").stop().await;
        world.until_state("a", State::Down).await;
        world.pod("a").start_again().await.expect("it starts");
        world.until_state("a", State::Ready).await;
        for (client, _, socket) in &mut clients {
            assert_eq!(client.get("/Users/Me").await.status, 200);
            let message = futures_util::future::poll_immediate(socket.next()).await;
            assert!(!matches!(message, Some(None)), "the socket is open");
        }
        drop(clients);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_leaves_a_draining_pod_after_the_film() {
    story(plan(2), async |world| {
        let (mut client, home) = client_of(world, "alice", "sofa").await;
        let report = json!({"ItemId": jellyfin_sim::FILM, "PositionTicks": 1});
        assert_eq!(client.post("/Sessions/Playing", report.clone()).await.status, 204);
        assert_eq!(world.proxy.post_admin(&format!("/pods/main/{home}/drain?when=idle")).await.status, 202);
        for _ in 0..5 {
            let progress = client.post("/Sessions/Playing/Progress", report.clone()).await;
            assert_eq!((progress.status, world.home(&progress)), (204, home.as_str()));
        }
        assert_eq!(client.post("/Sessions/Playing/Stopped", report).await.status, 204);
        let pod = world.proxy.pod(&home);
        assert_eq!(pod.status().state, State::Draining);
        until_so("no session is left", async || page(world, &home).await["sessions"] == 0).await;
        let me = client.get("/Users/Me").await;
        assert_ne!((me.status, world.home(&me)), (200, home.as_str()));
        assert_eq!(world.proxy.post_admin(&format!("/pods/main/{home}/undrain")).await.status, 202);
        assert_eq!(pod.status().state, State::Ready);
    })
    .await;
}

#[tokio::test]
async fn only_an_operator_drains() {
    story(plan(1), async |world| {
        assert_eq!(world.proxy.post_admin("/pods/main/nobody/drain").await.status, 404);
        assert_eq!(world.proxy.post_admin("/pods/main/a/drain?when=later").await.status, 400);
        let undrained = world.proxy.post_admin("/pods/main/a/undrain").await;
        assert_eq!(
            (undrained.status, undrained.text()),
            (200, "a is ready and does not drain\n"),
            "nothing is to be done"
        );
        assert_eq!(world.proxy.post_admin("/elsewhere").await.status, 404);
        let mut operator = world.proxy.operators();
        let request = operator.request(Method::POST, "/pods/main/a/drain").header("origin", "http://evil.example");
        assert_eq!(operator.send(request, body_of("")).await.expect("an answer").status, 403);
        world.pod("a").kill().await;
        world.until_state("a", State::Down).await;
        assert_eq!(world.proxy.post_admin("/pods/main/a/drain").await.status, 409);
        let undrained = world.proxy.post_admin("/pods/main/a/undrain").await;
        assert_eq!((undrained.status, undrained.text()), (200, "a is down and does not drain\n"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_outlasts_a_broken_connection_and_ends_with_the_process() {
    story(plan(2), async |world| {
        let alice = at_home(world, "alice", "a").await;
        let pod = world.proxy.pod("a");
        assert_eq!(world.proxy.post_admin("/pods/main/a/drain").await.status, 202);
        health::broken(&pod);
        world.until_state("a", State::Draining).await;
        until_so("its clients leave it all the same", async || page(world, "a").await["sessions"] == 0).await;
        health::broken(&pod);
        world.until_state("a", State::Draining).await;
        assert_eq!(pod.status().epoch.0, 1, "it was the same process all the time");
        super::kill(world, "a").await;
        super::start_again(world, "a").await;

        // One that is down for a moment can be told so too.
        assert_eq!(world.proxy.post_admin("/pods/main/a/drain").await.status, 202);
        health::broken(&pod);
        let undrained = world.proxy.post_admin("/pods/main/a/undrain").await;
        assert_eq!((undrained.status, undrained.text()), (202, "a will not drain when it is back\n"));
        world.until_state("a", State::Ready).await;
        drop(alice);
    })
    .await;
}
