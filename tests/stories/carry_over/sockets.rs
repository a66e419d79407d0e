//! A client's socket stays open while its pod is replaced.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt, future::join_all};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use super::{client_of, kill, plan};
use crate::stories::{
    wire::within,
    world::{DEADLINE, Socket, World, until},
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
    let path = format!("/socket?ApiKey={token}&deviceId=d");
    let mut socket = world.client().socket(&path).await.expect("a socket");
    next_of(&mut socket, "ForceKeepAlive").await;
    socket
}

fn sockets_at(world: &World) -> usize {
    world.pods.iter().map(|pod| pod.open_sockets()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_outlives_its_pod_however_that_ends() {
    for gracefully in [true, false] {
        let world = plan(2).start().await;
        let (mut client, home) = client_of(&world, "alice", "sofa").await;
        let mut socket = socket_of(&world, client.token.as_deref().expect("a token")).await;
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
        until("no socket is left at any pod", || sockets_at(&world) == 0).await;
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_pod_that_restarts_loses_no_socket_and_needs_no_key() {
    let world = World::plan(1).start().await;
    let (client, home) = client_of(&world, "alice", "sofa").await;
    let mut socket = socket_of(&world, client.token.as_deref().expect("a token")).await;
    for _ in 0..3 {
        kill(&world, &home).await;
        socket.send(Message::text(r#"{"MessageType":"KeepAlive"}"#)).await.expect("sent");
        world.pod(&home).start_again().await.expect("it starts");
        next_of(&mut socket, "ForceKeepAlive").await;
        next_of(&mut socket, "KeepAlive").await;
    }
    drop(socket);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_sockets_of_a_dead_pod_are_attached_anew() {
    const SOCKETS: usize = 300;
    let world = plan(3).start().await;
    let mut opening = JoinSet::new();
    for number in 0..SOCKETS {
        let mut client = world.client().without_cookies().device(&format!("device {number}"));
        opening.spawn(async move {
            client.log_in(&format!("user{number}")).await;
            let token = client.token.clone().expect("a token");
            client.socket(&format!("/socket?ApiKey={token}")).await.expect("a socket")
        });
    }
    let mut sockets = opening.join_all().await;
    join_all(sockets.iter_mut().map(|socket| next_of(socket, "ForceKeepAlive"))).await;
    let at_a = world.pod("a").open_sockets();
    let began = Instant::now();
    world.pod("a").kill().await;
    until("every socket is attached again", || sockets_at(&world) == SOCKETS).await;
    println!("{at_a} sockets of a dead pod, of {SOCKETS}: attached anew after {:?}", began.elapsed());
    for socket in &mut sockets {
        socket.send(Message::text(r#"{"MessageType":"KeepAlive"}"#)).await.expect("sent");
        next_of(socket, "KeepAlive").await;
    }
    assert!(began.elapsed() > Duration::ZERO);
    drop(sockets);
    until("no socket is left at any pod", || sockets_at(&world) == 0).await;
    world.stop().await;
}
