//! A user lives on one pod: every device of the user is there, however it signed in, and all of them move together.

use std::collections::{BTreeMap, BTreeSet};

use jellypin::pod::State;
use serde_json::json;

use super::devices_of;
use crate::stories::world::{Client, Plan, Proxy, World, story, until, until_so};

const DEVICES: usize = 8;

/// Three pods, whose users each live on one of them.
fn plan() -> Plan {
    World::plan(3).with_api_key().spread_users(&[])
}

/// The pod that serves this client now.
pub(super) async fn home_of(world: &World, client: &mut Client) -> String {
    let answer = client.get("/Users/Me").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    world.home(&answer).to_owned()
}

/// The pods that serve these clients now.
async fn homes_of(world: &World, clients: &mut [Client]) -> BTreeSet<String> {
    let mut homes = BTreeSet::new();
    for client in clients {
        homes.insert(home_of(world, client).await);
    }
    homes
}

pub(super) async fn until_at_home(world: &World, client: &mut Client, home: &str) {
    let client = tokio::sync::Mutex::new(client);
    until_so("the client lives on its user's home", async || home_of(world, &mut **client.lock().await).await == home)
        .await;
}

/// A new device that an older one lets in by Quick Connect.
async fn let_in(world: &World, by: &mut Client, device: &str) -> Client {
    let_in_new(world.client().without_cookies().device(device), by).await
}

pub(super) async fn let_in_new(mut new: Client, by: &mut Client) -> Client {
    let begun = new.post("/QuickConnect/Initiate", json!({})).await.json();
    let text = |name: &str| begun[name].as_str().expect("a text").to_owned();
    let (code, secret) = (text("Code"), text("Secret"));
    assert_eq!(by.post(&format!("/QuickConnect/Authorize?code={code}"), json!({})).await.status, 200);
    let answer = new.post("/Users/AuthenticateWithQuickConnect", json!({"Secret": secret})).await;
    new.token = answer.json()["AccessToken"].as_str().map(str::to_owned);
    assert_eq!(answer.status, 200, "{}", answer.text());
    new
}

/// The devices of a user who does not live on the leader.
pub(super) async fn elsewhere(world: &World, leader: &str) -> (String, Vec<Client>) {
    for number in 0..50 {
        let user = format!("user{number}");
        let mut devices = devices_of(world, &user, 1).await;
        if home_of(world, &mut devices[0]).await != leader {
            return (user, devices);
        }
    }
    panic!("every user lives on {leader}");
}

#[tokio::test]
async fn every_device_of_a_user_signs_in_on_one_pod() {
    story(plan(), async |world| {
        let mut pods = BTreeSet::new();
        for number in 0..12 {
            let homes = homes_of(world, &mut devices_of(world, &format!("user{number}"), 3).await).await;
            assert_eq!(homes.len(), 1, "user{number}: {homes:?}");
            pods.extend(homes);
        }
        assert_eq!(pods.len(), 3, "the users are spread over the pods");
    })
    .await;
}

#[tokio::test]
async fn a_user_moves_whole_when_the_pod_dies_and_stays_when_it_returns() {
    story(plan(), async |world| {
        let mut devices = devices_of(world, "alice", DEVICES).await;
        let home = home_of(world, &mut devices[0]).await;
        world.pod(&home).kill().await;
        world.until_state(&home, State::Down).await;
        let (first, others) = devices.split_at_mut(DEVICES / 2);
        let moved = homes_of(world, first).await;
        assert!(moved.len() == 1 && !moved.contains(&home), "{moved:?}");
        world.pod(&home).start_again().await.expect("it starts");
        world.until_state(&home, State::Ready).await;
        let to = moved.first().expect("a pod").clone();
        // The devices that had not asked meanwhile still have their tokens on the old pod.
        for device in others {
            until_at_home(world, device, &to).await;
        }
        let mut new = devices_of(world, "alice", 1).await;
        assert_eq!(home_of(world, &mut new[0]).await, to, "a log-in goes to the new home");
    })
    .await;
}

#[tokio::test]
async fn a_drain_moves_a_user_whole() {
    story(plan(), async |world| {
        let mut devices = devices_of(world, "alice", DEVICES).await;
        let home = home_of(world, &mut devices[0]).await;
        assert_eq!(world.proxy.post_admin(&format!("/pods/main/{home}/drain")).await.status, 202);
        until_so("everybody has left", async || {
            world.proxy.sessions().known.of_pod(&world.proxy.pod(&home)).is_empty()
        })
        .await;
        world.pod(&home).until(|pod| pod.session_devices().is_empty()).await;
        let moved = homes_of(world, &mut devices).await;
        assert!(moved.len() == 1 && !moved.contains(&home), "{moved:?}");
        let mut new = devices_of(world, "alice", 1).await;
        assert!(moved.contains(&home_of(world, &mut new[0]).await));
    })
    .await;
}

#[tokio::test]
async fn a_quick_connect_log_in_joins_the_user_once_it_is_idle() {
    story(plan(), async |world| {
        let leader = world.leader().await;
        let (user, mut devices) = elsewhere(world, &leader).await;
        let home = home_of(world, &mut devices[0]).await;
        let mut idle = let_in(world, &mut devices[0], &format!("idle television of {user}")).await;
        let mut busy = let_in(world, &mut devices[0], &format!("busy television of {user}")).await;
        let film = world.cluster.add_film("Long", std::time::Duration::from_secs(7200));
        let playing = json!({"ItemId": film, "PositionTicks": 0});
        assert_eq!(busy.post("/Sessions/Playing", playing.clone()).await.status, 204);
        until_at_home(world, &mut idle, &home).await;
        assert_eq!(home_of(world, &mut busy).await, leader, "nothing moves while it plays");
        assert_eq!(busy.post("/Sessions/Playing/Stopped", playing).await.status, 204);
        until_at_home(world, &mut busy, &home).await;
        // The leader goes on without them.
        for device in [&idle, &busy] {
            let id = device.device.clone().expect("a device");
            world.pod(&leader).until(|pod| !pod.session_devices().contains(&id)).await;
            let token = device.token.as_ref().expect("a token");
            assert!(world.cluster.tokens().contains(token), "its row is kept");
        }
    })
    .await;
}

#[tokio::test]
async fn a_member_of_a_group_is_a_guest_of_the_leader() {
    story(plan(), async |world| {
        let leader = world.leader().await;
        let (_, mut devices) = elsewhere(world, &leader).await;
        let home = home_of(world, &mut devices[0]).await;
        let mut socket = devices[0].socket("/socket").await.expect("a socket");
        let made = devices[0].post("/SyncPlay/New", json!({"GroupName": "evening"})).await;
        assert_eq!(made.status, 200, "{}", made.text());
        assert_eq!(home_of(world, &mut devices[0]).await, leader);
        assert_eq!(devices[0].post("/SyncPlay/Leave", json!({})).await.status, 204);
        until_at_home(world, &mut devices[0], &home).await;
        socket.close(None).await.expect("an open socket");
    })
    .await;
}

#[tokio::test]
async fn the_devices_of_a_spread_user_are_placed_one_by_one() {
    story(plan().spread_users(&["USER7"]), async |world| {
        let spread = homes_of(world, &mut devices_of(world, "user7", 12).await).await;
        assert!(spread.len() > 1, "{spread:?}");
        let alice = homes_of(world, &mut devices_of(world, "alice", 12).await).await;
        assert_eq!(alice.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn replicas_that_share_nothing_place_a_user_alike() {
    story(plan(), async |world| {
        let other = world.replica(|settings| settings.spread_users(&[])).await;
        for number in 0..10 {
            let user = format!("user{number}");
            // A pod that one replica finds slow gets fewer users there.
            let is_even = |proxy: &Proxy| ["a", "b", "c"].iter().all(|pod| proxy.pod(pod).vitals.halvings() == 0);
            until("all pods have their whole share", || is_even(&world.proxy) && is_even(&other)).await;
            let mut here = world.client().without_cookies().device("here");
            let mut there = other.client().without_cookies().device("there");
            let homes = (here.log_in(&user).await, there.log_in(&user).await);
            assert_eq!(world.home(&homes.0), world.home(&homes.1));
        }
    })
    .await;
}

/// How many users live on each pod, and how many of them play.
async fn balance(world: &World, users: usize, plays: impl Fn(usize) -> bool) -> BTreeMap<String, (usize, usize)> {
    let film = world.cluster.add_film("Long", std::time::Duration::from_secs(7200));
    let mut pods: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for number in 0..users {
        let mut device = world.client().without_cookies().device(&format!("d{number}"));
        let answer = device.log_in(&format!("user{number}")).await;
        let of_pod = pods.entry(world.home(&answer).to_owned()).or_default();
        of_pod.0 += 1;
        if plays(number) {
            of_pod.1 += 1;
            let report = json!({"ItemId": film, "PositionTicks": 0});
            assert_eq!(device.post("/Sessions/Playing", report).await.status, 204);
        }
    }
    pods
}

#[tokio::test]
async fn two_hundred_users_are_balanced_by_what_they_do() {
    story(plan(), async |world| {
        let pods = balance(world, 200, |number| number % 7 == 0 && number < 210).await;
        // A user who plays counts as four.
        let weights: Vec<usize> = pods.values().map(|(users, playing)| users + 3 * playing).collect();
        let (most, all) = (*weights.iter().max().expect("a pod"), weights.iter().sum::<usize>());
        println!("200 users on three pods, {pods:?} (of them playing): max/mean {:.2}", 3.0 * most as f64 / all as f64);
        assert!(pods.len() == 3 && most * 3 * 100 <= all * 130, "{pods:?}");
    })
    .await;
}

#[tokio::test]
async fn a_few_users_are_balanced_too() {
    story(plan(), async |world| {
        let pods = balance(world, 6, |_| false).await;
        assert!(pods.values().all(|(users, _)| *users <= 3) && pods.len() > 1, "{pods:?}");
    })
    .await;
}

#[tokio::test]
async fn users_who_sign_in_by_quick_connect_alone_do_not_all_live_on_the_leader() {
    story(plan(), async |world| {
        let leader = world.leader().await;
        let mut homes = BTreeSet::new();
        let mut televisions = Vec::new();
        for number in 0..6 {
            // Nobody of these has ever signed in by name through the proxy.
            let user = format!("user{number}");
            let mut phone = world.client().without_cookies().device(&format!("phone {number}")).at(world.pod(&leader));
            phone.log_in(&user).await;
            televisions.push(let_in(world, &mut phone, &format!("television {number}")).await);
        }
        until_so("they are spread", async || {
            homes = homes_of(world, &mut televisions).await;
            homes.len() > 1
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn devices_of_a_spread_user_that_sign_in_by_quick_connect_leave_the_leader() {
    story(plan().spread_users(&["user7"]), async |world| {
        let leader = world.leader().await;
        let mut phone = world.client().without_cookies().device("phone").at(world.pod(&leader));
        phone.log_in("user7").await;
        let mut televisions = Vec::new();
        for number in 0..6 {
            televisions.push(let_in(world, &mut phone, &format!("television {number}")).await);
        }
        until_so("they are placed one by one", async || homes_of(world, &mut televisions).await.len() > 1).await;
    })
    .await;
}

#[tokio::test]
async fn a_log_in_goes_to_its_own_user_whosever_token_comes_with_it() {
    story(plan(), async |world| {
        let mut alice = devices_of(world, "alice", 1).await.remove(0);
        let of_alice = home_of(world, &mut alice).await;
        let (user, mut devices) = elsewhere(world, &of_alice).await;
        let home = home_of(world, &mut devices[0]).await;
        // The television was alice's until now, and its app says so.
        let mut television = world.client().without_cookies().device("television");
        television.token = alice.token.clone();
        let answer = television.post("/Users/AuthenticateByName", json!({"Username": user, "Pw": "pw"})).await;
        assert_eq!((answer.status, world.home(&answer)), (200, home.as_str()));
        assert_eq!(home_of(world, &mut alice).await, of_alice, "she stays where she is");
    })
    .await;
}

#[tokio::test]
async fn after_a_restart_a_log_in_goes_to_the_user_and_not_where_the_name_was_last() {
    story(plan(), async |world| {
        let mut device = devices_of(world, "alice", 1).await.remove(0);
        let first = home_of(world, &mut device).await;
        world.pod(&first).kill().await;
        world.until_state(&first, State::Down).await;
        let home = home_of(world, &mut device).await;
        world.pod(&first).start_again().await.expect("it starts");
        world.restart(|_| {}).await;
        for pod in ["a", "b", "c"] {
            world.until_state(pod, State::Ready).await;
        }
        let homes = world.proxy.shared().user_homes.clone();
        until("the proxy knows whose name it is", || homes.id_of("main", "alice").is_some()).await;
        let mut new = world.client().without_cookies().device("new");
        let answer = new.log_in("alice").await;
        assert_eq!(world.home(&answer), home);
    })
    .await;
}
