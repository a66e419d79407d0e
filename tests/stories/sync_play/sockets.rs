//! Who joins is heard of by its socket, wherever that is on its way at the time.

use jellypin::{leader::Mode, pod::State};
use std::time::Duration;

use http::Method;
use jellyfin_sim::Pod;
use jellypin::proxy::HELD;
use tokio::{join, task::JoinHandle, time::timeout};

use super::{replicas::until_known, *};
use crate::stories::{
    migration::{kill, revocation::at_home},
    redis_server::RedisServer,
    replicas::{plan as plan_of_replicas, replica, until_up},
    world::{Proxy, World, body_of, story, until},
};

const ROUNDS: usize = 5;

/// How long a pod takes for a handshake in whose midst its client moves.
const HANDSHAKE: Duration = Duration::from_secs(1);

/// How long an update that the pod has sent is waited for.
const LOST: Duration = Duration::from_secs(3);

/// A client at home on this pod whose socket is asked for there, and not answered yet.
async fn dialling(world: &World, home: &Pod) -> (Client, JoinHandle<Socket>) {
    let client = at_home(world, "alice", home.name()).await;
    let path = format!("/socket?ApiKey={}&deviceId=d", client.token.as_deref().expect("a token"));
    home.clear_seen();
    home.slow_first_byte(HANDSHAKE);
    let mut twin = client.twin();
    let socket = tokio::spawn(async move { twin.socket(&path).await.expect("a socket") });
    home.until(|pod| pod.seen().iter().any(|seen| seen.path() == "/socket")).await;
    (client, socket)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_opening_during_a_join_learns_of_it() {
    story(plan(3), async |world| {
        let leader = world.leader().await;
        let home = world.pods_but(&leader).next().expect("another pod");
        let (mut client, socket) = dialling(world, home).await;
        let (new, socket) = join!(client.post("/SyncPlay/New", json!({"GroupName": "evening"})), socket);
        assert_eq!(new.status, 200, "{}", new.text());
        let mut socket = socket.expect("a socket");
        while next_of(&mut socket, "SyncPlayGroupUpdate").await["Data"]["Type"] != "GroupJoined" {}
        drop(socket);
        home.slow_first_byte(Duration::ZERO);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_opening_during_a_migration_migrates() {
    story(plan(2), async |world| {
        let (a, b) = (world.pod("a"), world.pod("b"));
        let (client, socket) = dialling(world, b).await;
        let shared = world.proxy.shared();
        let SessionLookup::Active(session) = shared.sessions.known.find(client.token.as_deref().expect("a token"))
        else {
            panic!("it is known")
        };
        let drain = world.proxy.operators().request(Method::POST, "/pods/main/b/drain");
        let drained = world.proxy.operators().send(drain, body_of("")).await.expect("an answer");
        assert_eq!(drained.status, 202);
        until("the client lives elsewhere", || session.home().is_some_and(|home| home.pod == world.proxy.pod("a").id))
            .await;
        let mut socket = socket.await.expect("a socket");
        next_of(&mut socket, "ForceKeepAlive").await;
        a.until(|pod| pod.open_sockets() == 1).await;
        b.until(|pod| pod.open_sockets() == 0).await;
        drop(socket);
        b.slow_first_byte(Duration::ZERO);
    })
    .await;
}

/// Clients that make a group each while their only pod restarts, and whose sockets are at this proxy.
async fn restart(world: &World, at: &Proxy) {
    let (mut lost, pod, is_here) = (0, world.pod("a"), std::ptr::eq(at, &world.proxy));
    for round in 0..ROUNDS {
        let mut member = Member::new(world, round).await;
        if !is_here {
            let mut there = member.client.moved_to(at);
            until_known(&mut there, at).await;
            let path = format!("/socket?ApiKey={}&deviceId=d", member.client.token.as_deref().expect("a token"));
            member.socket = there.socket(&path).await.expect("a socket");
            next_of(&mut member.socket, "ForceKeepAlive").await;
            pod.until(|pod| pod.open_sockets() == 1).await;
        }
        kill(world, "a").await;
        at.until_state("a", State::Down).await;
        let shared = world.proxy.shared();
        // The call, and the socket where that is here too.
        let held = if is_here { 2 } else { 1 };
        let (new, started) = join!(member.does("New", json!({"GroupName": "evening"})), async {
            until("the call is held", || HELD - shared.hold_permits.available_permits() == held).await;
            pod.start_again().await
        });
        started.expect("it starts");
        assert_eq!(new.status, 200, "{}", new.text());
        let hears = async {
            while next_of(&mut member.socket, "SyncPlayGroupUpdate").await["Data"]["Type"] != "GroupJoined" {}
        };
        lost += usize::from(timeout(LOST, hears).await.is_err());
        drop(member);
        pod.until(|pod| pod.open_sockets() == 0).await;
    }
    assert_eq!(lost, 0, "of {ROUNDS} that made a group as their pod restarted have never heard of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_founder_during_a_restart_learns_of_the_group() {
    story(plan(1), async |world| {
        restart(world, &world.proxy).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_founder_with_a_socket_at_another_replica_learns_of_the_group() {
    let redis = RedisServer::start();
    story(plan_of_replicas(1, &redis).with_api_key().leader_mode(Mode::Elect), async |world| {
        until_up(&world.proxy).await;
        let other = replica(world, |_| {}).await;
        restart(world, &other).await;
    })
    .await;
}
