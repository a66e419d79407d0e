//! A client whose requests and socket go through different replicas.

use jellypin::leader::Mode;
use std::time::Duration;

use jellypin::sessions::SessionLookup;
use tokio::time::{Instant, timeout};

use super::*;
use crate::stories::{
    migration::revocation::at_home,
    redis_server::RedisServer,
    replicas::{plan, replica, until_up},
    world::{Proxy, story, until_so},
};

const ROUNDS: usize = 20;

/// How long an update that the pod has sent is waited for.
const LOST: Duration = Duration::from_secs(3);

/// Waits until a replica knows whose token this is.
pub(super) async fn until_known(there: &mut Client, replica: &Proxy) {
    let token = there.token.clone().expect("a token");
    let sessions = &replica.shared().sessions;
    let is_known = async || {
        there.get("/Users/Me").await;
        matches!(sessions.known.find(&token), SessionLookup::Active(_))
    };
    until_so("the replica knows the client", is_known).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_at_another_replica_learns_of_the_join() {
    let redis = RedisServer::start();
    story(plan(3, &redis).with_api_key().leader_mode(Mode::Elect), async |world| {
        until_up(&world.proxy).await;
        let other = replica(world, |_| {}).await;
        let leader = world.leader().await;
        let elsewhere: Vec<String> = world.pods_but(&leader).map(|pod| pod.name().to_owned()).collect();
        let (mut members, mut group, mut lost, mut took) = (Vec::new(), None::<String>, 0, Vec::new());
        for round in 0..ROUNDS {
            let mut client = at_home(world, &format!("user{round}"), &elsewhere[round % 2]).await;
            let mut there = client.moved_to(&other);
            until_known(&mut there, &other).await;
            let path = format!("/socket?ApiKey={}&deviceId=d", client.token.as_deref().expect("a token"));
            let mut socket = there.socket(&path).await.expect("a socket");
            next_of(&mut socket, "ForceKeepAlive").await;
            let began = Instant::now();
            let joined = match &group {
                Some(group) if round % 2 == 1 => client.post("/SyncPlay/Join", json!({"GroupId": group})).await,
                _ => client.post("/SyncPlay/New", json!({"GroupName": "evening"})).await,
            };
            took.push(began.elapsed());
            assert!([200, 204].contains(&joined.status), "{}", joined.text());
            if joined.status == 200 {
                group = joined.json()["GroupId"].as_str().map(str::to_owned);
            }
            let hears =
                async { while next_of(&mut socket, "SyncPlayGroupUpdate").await["Data"]["Type"] != "GroupJoined" {} };
            lost += usize::from(timeout(LOST, hears).await.is_err());
            // It stays a member while its socket is open.
            members.push((client, socket));
        }
        took.sort();
        println!(
            "{ROUNDS} clients with their sockets at another replica: {lost} never heard that they had joined; New and Join took {:.0} ms, \
             {:.0} ms at most",
            took[ROUNDS / 2].as_secs_f64() * 1000.0,
            took[ROUNDS - 1].as_secs_f64() * 1000.0
        );
        assert_eq!(lost, 0);
        drop(members);
    })
    .await;
}
