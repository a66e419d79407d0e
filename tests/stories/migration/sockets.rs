//! A client's socket stays open while its pod is replaced.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt, future::join_all};
use jellyfin_sim::MintTimes;
use jellypin::pod::State;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{client_of, kill, minted, plan, storm::clients_at};
use crate::stories::{
    wire::within,
    world::{DEADLINE, Program, Socket, World, millis, secs, story, until, until_within},
};

/// The next message of this type; others are passed over.
pub(crate) async fn next_of(socket: &mut Socket, kind: &str) -> Value {
    let wait = async {
        loop {
            let message = socket.next().await.expect("the socket is open").expect("a whole message");
            let Ok(text) = message.to_text() else { continue };
            let json: Value = serde_json::from_str(text).unwrap_or_default();
            assert_ne!(json["MessageType"], "ServerShuttingDown", "that a pod ends is nothing to its clients");
            if json["MessageType"] == kind {
                return json;
            }
        }
    };
    within(DEADLINE, kind, wait).await
}

pub(crate) async fn socket_of(world: &World, token: &str) -> Socket {
    socket_of_path(world, &format!("/socket?ApiKey={token}&deviceId=d")).await
}

pub(crate) async fn socket_of_path(world: &World, path: &str) -> Socket {
    let mut socket = world.client().socket(path).await.expect("a socket");
    next_of(&mut socket, "ForceKeepAlive").await;
    socket
}

fn sockets_at(world: &World) -> usize {
    world.pods.iter().map(|pod| pod.open_sockets()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_outlives_its_pod() {
    for gracefully in [true, false] {
        story(plan(2), async |world| {
            let (mut client, home) = client_of(world, "alice", "sofa").await;
            let mut socket = socket_of(world, client.token.as_deref().expect("a token")).await;
            let capabilities = json!({"SupportedCommands": ["DisplayMessage"], "SupportsMediaControl": true});
            assert_eq!(client.post("/Sessions/Capabilities/Full", capabilities).await.status, 204);
            socket.send(Message::text(r#"{"MessageType":"SessionsStart","Data":"0,100"}"#)).await.expect("sent");
            world.pod(&home).until(|pod| pod.heard().iter().any(|text| text.contains("SessionsStart"))).await;
            if gracefully {
                world.pod(&home).stop().await
            } else {
                world.pod(&home).kill().await
            }
            let other = world.pods_but(&home).next().expect("another pod");
            next_of(&mut socket, "ForceKeepAlive").await;
            other.until(|pod| pod.heard().iter().any(|text| text.contains("SessionsStart"))).await;
            // Remote control reaches the client by the same socket.
            let sessions = client.get("/Sessions").await.json();
            let id = sessions[0]["Id"].as_str().expect("a session").to_owned();
            other.until(|pod| pod.seen().iter().any(|seen| seen.path() == "/Sessions/Capabilities/Full")).await;
            let message = json!({"Header": "h", "Text": "still here", "TimeoutMs": 1});
            assert_eq!(client.post(&format!("/Sessions/{id}/Message"), message).await.status, 204);
            let command = next_of(&mut socket, "GeneralCommand").await;
            assert_eq!(command["Data"]["Arguments"]["Text"], "still here");
            socket.send(Message::text(r#"{"MessageType":"KeepAlive"}"#)).await.expect("sent");
            next_of(&mut socket, "KeepAlive").await;
            drop(socket);
            until("no socket is left at any pod", || sockets_at(world) == 0).await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_single_pod_keeps_its_sockets_without_a_key() {
    story(World::plan(1), async |world| {
        let (client, home) = client_of(world, "alice", "sofa").await;
        let mut socket = socket_of(world, client.token.as_deref().expect("a token")).await;
        for _ in 0..3 {
            kill(world, &home).await;
            socket.send(Message::text(r#"{"MessageType":"KeepAlive"}"#)).await.expect("sent");
            world.pod(&home).start_again().await.expect("it starts");
            next_of(&mut socket, "ForceKeepAlive").await;
            next_of(&mut socket, "KeepAlive").await;
        }
        drop(socket);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_sockets_of_a_dead_pod_are_reattached() {
    // As many as the machine has files for, where somebody wants to know: `STORY_SOCKETS=2000`.
    let wanted = std::env::var("STORY_SOCKETS").ok().and_then(|count| count.parse().ok());
    let wanted: usize = wanted.unwrap_or(150);
    story(plan(3), async |world| {
        // A process of its own, whose memory is nobody else's.
        let mut settings = world.settings().clone();
        settings.no_access_log();
        let program = Program::start(&settings, world.folder()).await;
        let mut clients = clients_at(world, "a", wanted, || program.client()).await;
        let mut sockets: Vec<Socket> = Vec::new();
        let before = program.memory();
        for some in clients.chunks_mut(64) {
            let opened = some.iter_mut().map(async |client| {
                let path = format!("/socket?ApiKey={}", client.token.as_deref().expect("a token"));
                let mut socket = client.socket(&path).await.expect("a socket");
                next_of(&mut socket, "ForceKeepAlive").await;
                socket
            });
            sockets.extend(join_all(opened).await);
        }
        assert_eq!(world.pod("a").open_sockets(), wanted);
        let with_sockets = program.memory();
        // Where somebody wants to know: `STORY_MINTS=recorded`, as fast as a recorded pod; `STORY_MINTS=none`, at pods that were
        // restarted since and so know every token.
        let minted_how = match std::env::var("STORY_MINTS").as_deref() {
            Ok("recorded") => {
                world.pods.iter().for_each(|pod| pod.mint_times(MintTimes::RECORDED));
                "as a recorded pod does"
            }
            Ok("none") => {
                for pod in world.pods_but("a") {
                    pod.kill().await;
                    world.until_state(pod.name(), State::Down).await;
                    pod.start_again().await.expect("it starts");
                    world.until_state(pod.name(), State::Ready).await;
                }
                "since the pods know their tokens"
            }
            _ => "as fast as the simulated pods can",
        };
        world.pods.iter().for_each(|pod| pod.clear_seen());
        world.pod("a").kill().await;
        let began = Instant::now();
        let (mut during, mut half) = (0, None);
        until_within(secs(120), "every socket is attached again", || {
            during = during.max(program.memory());
            let attached = sockets_at(world);
            half = half.or((attached * 2 >= wanted).then(|| began.elapsed()));
            attached == wanted
        })
        .await;
        println!(
            "{wanted} sockets of one pod that dies, {} minted {}: half reattached after {:.2?}, all after {:.2?}\n\
             \x20 memory of the proxy: {before} KiB without sockets, {with_sockets} with them, {during} at most meanwhile, {} afterwards",
            minted(world),
            minted_how,
            half.unwrap_or_default(),
            began.elapsed(),
            program.memory()
        );
        for socket in &mut sockets {
            socket.send(Message::text(r#"{"MessageType":"KeepAlive"}"#)).await.expect("sent");
            next_of(socket, "KeepAlive").await;
        }
        drop(sockets);
        until("no socket is left at any pod", || sockets_at(world) == 0).await;
        drop(program);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_follows_though_the_new_pod_refuses_it_first() {
    story(plan(2).hold(millis(500)), async |world| {
        let (client, home) = client_of(world, "alice", "sofa").await;
        let mut socket = socket_of(world, client.token.as_deref().expect("a token")).await;
        let other = world.pods_but(&home).next().expect("another pod");
        other.refuse_sockets(true);
        world.proxy.post_admin(&format!("/pods/main/{home}/drain")).await;
        until("it was asked", || other.seen().iter().any(|seen| seen.path() == "/socket")).await;
        let asked = Instant::now();
        until("it is asked no more, in one go", || asked.elapsed() > Duration::from_secs(2)).await;
        other.refuse_sockets(false);
        next_of(&mut socket, "ForceKeepAlive").await;
        other.until(|pod| pod.open_sockets() == 1).await;
        world.pod(&home).until(|pod| pod.open_sockets() == 0).await;
        drop(socket);
    })
    .await;
}
