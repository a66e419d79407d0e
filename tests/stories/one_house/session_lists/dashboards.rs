//! A dashboard that listens is sent the sessions of all pods.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt, future::join_all};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{asked_by_key, device, devices, one_on_each, token_socket};
use crate::stories::{
    migration::{plan, revocation::at_home, sockets::next_of},
    wire::within,
    world::{Client, DEADLINE, Program, Socket, World, story, until},
};

async fn listen(socket: &mut Socket, milliseconds: u32) {
    let text = format!(r#"{{"MessageType":"SessionsStart","Data":"0,{milliseconds}"}}"#);
    socket.send(Message::text(text)).await.expect("sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dashboard_hears_of_sessions_on_other_pods() {
    story(plan(3), async |world| {
        let root = at_home(world, "root", "a").await;
        let mut socket = token_socket(world, &root).await;
        assert_eq!(asked_by_key(world), 0, "nobody listens");
        listen(&mut socket, 100).await;
        let first = next_of(&mut socket, "Sessions").await;
        assert_eq!(devices(&first["Data"]), [device(&root)]);
        let mut clients = one_on_each(world).await;
        let expected: BTreeSet<String> = clients.iter().chain([&root]).map(device).collect();
        heard(&mut socket, |list| devices(list).into_iter().collect::<BTreeSet<_>>() == expected).await;
        let report = json!({"ItemId": "f5c2a9d8e7b64c3a9d1e0f2b4a6c8d7e", "PositionTicks": 0});
        assert_eq!(clients[2].post("/Sessions/Playing", report).await.status, 204);
        let of_c = device(&clients[2]);
        let plays = |row: &Value| row["DeviceId"] == *of_c && row["PlayState"]["PositionTicks"].is_number();
        heard(&mut socket, |list| list.as_array().is_some_and(|rows| rows.iter().any(plays))).await;

        // A user hears of the own sessions only, on whatever pod they are.
        let mut own = token_socket(world, &clients[0]).await;
        listen(&mut own, 100).await;
        let listening = |text: &String| text.contains("SessionsStart");
        world.pod("a").until(|pod| pod.heard().iter().filter(|text| listening(text)).count() == 2).await;
        assert_eq!(clients[0].post("/Sessions/Capabilities/Full", json!({})).await.status, 204);
        let mine = BTreeSet::from([device(&clients[0])]);
        heard(&mut own, |list| devices(list).into_iter().collect::<BTreeSet<_>>() == mine).await;

        for mut socket in [socket, own] {
            socket.send(Message::text(r#"{"MessageType":"SessionsStop"}"#)).await.expect("sent");
            until("the pod has heard it", || {
                world.pods.iter().any(|pod| pod.heard().iter().any(|text| text.contains("SessionsStop")))
            })
            .await;
        }
        until_quiet(world).await;
    })
    .await;
}

/// Waits until no pod has been asked by the key for a second.
async fn until_quiet(world: &World) {
    let (mut last, mut since) = (asked_by_key(world), Instant::now());
    until("the polls have ended", || {
        let now = asked_by_key(world);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        since.elapsed() > Duration::from_secs(1)
    })
    .await;
}

/// Reads lists until one is right.
async fn heard(socket: &mut Socket, is_right: impl Fn(&Value) -> bool) {
    let wait = async {
        loop {
            let message = next_of(socket, "Sessions").await;
            if is_right(&message["Data"]) {
                return;
            }
        }
    };
    within(DEADLINE, "the right list", wait).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listening_socket_goes_on_after_its_pod_has_died() {
    story(plan(3), async |world| {
        let root = at_home(world, "root", "a").await;
        let other = at_home(world, "alice", "b").await;
        let mut socket = token_socket(world, &root).await;
        listen(&mut socket, 100).await;
        let both = BTreeSet::from([device(&root), device(&other)]);
        heard(&mut socket, |list| devices(list).into_iter().collect::<BTreeSet<_>>() == both).await;
        world.pod("a").kill().await;
        let late = at_home(world, "bob", "c").await;
        heard(&mut socket, |list| devices(list).contains(&device(&late))).await;
        drop(socket);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_dashboards_cost_the_pods_as_much_as_one() {
    // `STORY_SESSIONS=300 STORY_DASHBOARDS=30` for the figures.
    let wanted =
        |name: &str, default: usize| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (sessions, dashboards) = (wanted("STORY_SESSIONS", 30), wanted("STORY_DASHBOARDS", 5));
    story(plan(3).sockets_per_address(10_000), async |world| {
    // A process of its own, so that its processor time and memory can be told.
    let program = Program::start(world.settings(), world.folder()).await;
    let mut clients: Vec<Client> = Vec::new();
    for number in 0..sessions {
        let mut client = program.client().without_cookies().device(&format!("device {number}"));
        client.log_in(&format!("user{}", number % 100)).await;
        clients.push(client);
    }
    let mut sockets = Vec::new();
    for number in 0..dashboards {
        let mut root = program.client().without_cookies().device(&format!("dashboard {number}"));
        root.log_in("root").await;
        let path = format!("/socket?ApiKey={}", root.token.as_deref().expect("a token"));
        let mut socket = root.twin().socket(&path).await.expect("a socket");
        listen(&mut socket, 500).await;
        sockets.push(socket);
    }
    let (before, began, used) = (asked_by_key(world), Instant::now(), program.processor_time());
    let counted = join_all(sockets.iter_mut().map(async |socket| {
        let (mut lists, mut longest) = (0, 0);
        while began.elapsed() < Duration::from_secs(3) {
            let Ok(Some(Ok(message))) = tokio::time::timeout(Duration::from_secs(3), socket.next()).await else {
                break;
            };
            if message.to_text().is_ok_and(|text| text.contains(r#""MessageType":"Sessions""#)) {
                lists += 1;
                longest = longest.max(message.len());
            }
        }
        (lists, longest)
    }));
    let reports = async {
        let mut number = 0;
        while began.elapsed() < Duration::from_secs(3) {
            let client = &mut clients[number % sessions];
            assert_eq!(client.post("/Sessions/Viewing", json!({})).await.status, 204);
            number += 1;
        }
        number
    };
    let (counted, reported) = tokio::join!(counted, reports);
    let seconds = began.elapsed().as_secs_f64();
    let calls = (asked_by_key(world) - before) as f64 / seconds;
    let (used, memory) = ((program.processor_time() - used).as_secs_f64() / seconds, program.memory() >> 10);
    let lists: usize = counted.iter().map(|(lists, _)| lists).sum();
    let longest = counted.iter().map(|(_, longest)| *longest).max().unwrap_or(0);
    println!(
        "{sessions} sessions on 3 pods, {dashboards} dashboards: {calls:.1} calls to pods a second, {:.1} lists a second to clients of {} KiB at most; \
         the proxy ({number} reports a second) uses {:.0} % of a core and {memory} MiB",
        lists as f64 / seconds,
        longest >> 10,
        used * 100.0,
        number = (reported as f64 / seconds) as usize,
    );
    assert!(calls <= 3.0 * 4.5, "a few calls to each pod: {calls}");
    assert!(counted.iter().all(|(lists, _)| *lists > 0), "{counted:?}");
    drop((sockets, program));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_key_that_pods_refuse_a_dashboard_hears_of_its_own_pod() {
    let key = "0123456789abcdef0123456789abcdef";
    story(World::plan(2).api_key(key), async |world| {
        let mut root = at_home(world, "root", "a").await;
        let mut socket = token_socket(world, &root).await;
        listen(&mut socket, 100).await;
        world.pod("a").until(|pod| pod.heard().iter().any(|text| text.contains("SessionsStart"))).await;
        assert_eq!(root.post("/Sessions/Capabilities/Full", json!({})).await.status, 204);
        heard(&mut socket, |list| devices(list) == [device(&root)]).await;
        assert_eq!(devices(&root.get("/Sessions").await.json()), [device(&root)]);
        drop(socket);
    })
    .await;
}
