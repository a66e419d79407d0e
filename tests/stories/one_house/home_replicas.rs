//! Replicas agree where a user lives, and none of them moves whom another one knows to be busy.

use jellypin::{
    pod::State,
    sessions::{SessionLookup, session::MoveReason},
};
use serde_json::json;

use super::{
    devices_of,
    home::{elsewhere, home_of, let_in_new, until_at_home},
};
use crate::stories::{
    redis_server::RedisServer,
    replicas::{self, known_replica, replica, until_up},
    world::{Client, Plan, Proxy, World, story, until, until_so},
};

/// Pods whose users each live on one of them.
fn plan(pods: usize, redis: &RedisServer) -> Plan {
    replicas::plan(pods, redis).with_api_key().spread_users(&[])
}

/// The pod that a user lives on, as a replica knows.
fn home_at(world: &World, proxy: &Proxy, user: &str) -> Option<String> {
    let (shared, id) = (proxy.shared(), world.cluster.user_id(user)?);
    let home = shared.user_homes.home(&shared.pins, "main", &id, |_| true)?;
    proxy.pod_names().into_iter().find(|name| proxy.pod(name).id == home.pod)
}

/// Why a client's session came to where it lives, as a replica knows.
#[track_caller]
fn moved_by(proxy: &Proxy, client: &Client) -> MoveReason {
    match proxy.sessions().known.find(client.token.as_deref().expect("a token")) {
        SessionLookup::Active(session) => session.residence.last_move().why,
        other => panic!("the session should be known: {other:?}"),
    }
}

/// Waits until both replicas know that the user lives on this pod.
async fn until_replicas_agree(world: &World, other: &Proxy, user: &str, home: &str) {
    until("the replicas agree", || {
        [&world.proxy, other].iter().all(|proxy| home_at(world, proxy, user).as_deref() == Some(home))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_has_just_started_brings_no_user_back() {
    let redis = RedisServer::start();
    story(plan(2, &redis), async |world| {
        until_up(&world.proxy).await;
        let mut phone = devices_of(world, "alice", 1).await.remove(0);
        let first = home_of(world, &mut phone).await;
        world.pod(&first).kill().await;
        world.until_state(&first, State::Down).await;
        let home = home_of(world, &mut phone).await;
        world.pod(&first).start_again().await.expect("it starts");
        world.until_state(&first, State::Ready).await;
        // It finds the pod to which the name leads, which is not the user's any more.
        let other = replica(world, |_| {}).await;
        other.until_state(&first, State::Ready).await;
        let mut tablet = other.client().without_cookies().device("tablet");
        tablet.log_in("alice").await;
        let mut through_both = tablet.moved_to(&world.proxy);
        until_at_home(world, &mut through_both, &home).await;
        until_replicas_agree(world, &other, "alice", &home).await;
        assert_eq!((home_of(world, &mut tablet).await, home_of(world, &mut phone).await), (home.clone(), home));
        assert_eq!(moved_by(&world.proxy, &phone), MoveReason::HomeGone, "nothing has moved it since");
        assert_eq!(moved_by(&other, &tablet), MoveReason::User);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_follows_a_user_whom_another_one_has_moved() {
    let redis = RedisServer::start();
    story(plan(2, &redis), async |world| {
        until_up(&world.proxy).await;
        let other = known_replica(world, |_| {}).await;
        let mut phone = devices_of(world, "alice", 1).await.remove(0);
        let first = home_of(world, &mut phone).await;
        let mut tablet = other.client().without_cookies().device("tablet");
        let answer = tablet.log_in("alice").await;
        assert_eq!(world.home(&answer), first);
        assert_eq!(home_of(world, &mut phone.moved_to(&other)).await, first);
        assert_eq!(home_at(world, &other, "alice"), Some(first.clone()));
        // Only one replica drains the pod, so the other one holds it fit all the time.
        assert_eq!(world.proxy.post_admin(&format!("/pods/main/{first}/drain")).await.status, 202);
        until_so("she has moved", async || home_of(world, &mut phone).await != first).await;
        let home = home_of(world, &mut phone).await;
        assert_eq!(world.proxy.post_admin(&format!("/pods/main/{first}/undrain")).await.status, 202);
        until_at_home(world, &mut tablet, &home).await;
        until_replicas_agree(world, &other, "alice", &home).await;
        assert_eq!(moved_by(&world.proxy, &phone), MoveReason::Drain, "nothing has moved it since");
        assert_eq!(moved_by(&other, &tablet), MoveReason::User);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_replica_moves_whom_another_one_knows_to_be_busy() {
    let redis = RedisServer::start();
    story(plan(3, &redis), async |world| {
        until_up(&world.proxy).await;
        let other = known_replica(world, |_| {}).await;
        let leader = world.leader().await;
        let (_, mut devices) = elsewhere(world, &leader).await;
        let mut guest = devices.remove(0);
        let home = home_of(world, &mut guest).await;
        let mut socket = guest.socket("/socket").await.expect("a socket");
        assert_eq!(guest.post("/SyncPlay/New", json!({"GroupName": "evening"})).await.status, 200);
        let television = |proxy: &Proxy, name: &str| proxy.client().without_cookies().device(name);
        let mut player = let_in_new(television(&world.proxy, "player"), &mut guest).await;
        let film = world.cluster.add_film("Long", std::time::Duration::from_secs(7200));
        let playing = json!({"ItemId": film, "PositionTicks": 0});
        assert_eq!(player.post("/Sessions/Playing", playing).await.status, 204);
        // One page of each comes through the other replica, which knows nothing of group and film.
        for client in [&guest, &player] {
            assert_eq!(home_of(world, &mut client.moved_to(&other)).await, leader);
        }
        let mut idle = let_in_new(television(&other, "idle"), &mut guest).await;
        until_at_home(world, &mut idle, &home).await;
        for client in [&mut guest, &mut player] {
            assert_eq!(home_of(world, client).await, leader, "it is busy");
        }

        // The same while the leader drains: only those leave it that no replica knows to be busy.
        let mut radio = None;
        for number in 100..150 {
            let mut client = television(&other, &format!("radio {number}"));
            let answer = client.log_in(&format!("user{number}")).await;
            if world.home(&answer) == leader {
                radio = Some(client);
                break;
            }
        }
        let mut radio = radio.expect("a user of the leader");
        for proxy in [&world.proxy, &other] {
            assert_eq!(proxy.post_admin(&format!("/pods/main/{leader}/drain?when=idle")).await.status, 202);
        }
        until_so("the idle one leaves", async || home_of(world, &mut radio).await != leader).await;
        for client in [&mut guest, &mut player] {
            assert_eq!(home_of(world, client).await, leader, "it is busy");
        }
        for proxy in [&world.proxy, &other] {
            assert!(!proxy.pod(&leader).drain.gives_up_lead(), "its group goes on there");
        }
        assert_eq!(guest.post("/SyncPlay/Leave", json!({})).await.status, 204);
        socket.close(None).await.expect("an open socket");
    })
    .await;
}
