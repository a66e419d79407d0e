//! Every session is seen, on whatever pod it lives.

mod as_one_pod;
mod dashboards;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::stories::{
    migration::{plan, revocation::at_home, sockets::socket_of},
    world::{Client, Socket, World, secs, story, until},
};

/// The devices of a list, in its order.
fn devices(list: &Value) -> Vec<String> {
    let rows = list.as_array().expect("a list");
    let device = |row: &Value| row["DeviceId"].as_str().or(row["deviceId"].as_str()).map(str::to_owned);
    rows.iter().map(|row| device(row).expect("a device")).collect()
}

fn set(devices: &[String]) -> BTreeSet<&str> {
    devices.iter().map(String::as_str).collect()
}

fn device(client: &Client) -> String {
    client.device.clone().expect("a device")
}

/// One client on each pod, each of another user, in the order of the pods.
async fn one_on_each(world: &World) -> Vec<Client> {
    let mut clients = Vec::new();
    for (number, pod) in world.pods.iter().enumerate() {
        clients.push(at_home(world, &format!("user{number}"), pod.name()).await);
    }
    clients
}

/// Requests for a pod's list that came by the API key.
fn asked_by_key(world: &World) -> usize {
    let key = world.cluster.api_key();
    let is_by_key = |seen: &&jellyfin_sim::Seen| {
        seen.path() == "/Sessions" && seen.header("authorization").is_some_and(|line| line.contains(&key))
    };
    world.pods.iter().map(|pod| pod.seen().iter().filter(is_by_key).count()).sum()
}

async fn token_socket(world: &World, client: &Client) -> Socket {
    socket_of(world, client.token.as_deref().expect("a token")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_sees_all_sessions_and_a_user_the_own_ones() {
    story(plan(3), async |world| {
        let mut clients = one_on_each(world).await;
        let mut root = at_home(world, "root", "b").await;
        // The last active one stands first, as a pod orders its own.
        for client in clients.iter_mut().rev() {
            assert_eq!(client.post("/Sessions/Viewing", json!({})).await.status, 204);
        }
        let answer = root.get("/Sessions").await;
        let list = answer.json();
        let listed = devices(&list);
        let expected: Vec<String> = clients.iter().map(device).collect();
        let of_clients: Vec<_> = listed.iter().filter(|listed| **listed != device(&root)).cloned().collect();
        assert_eq!(of_clients, expected, "in the order of activity");
        assert!(listed.contains(&device(&root)));
        let servers: BTreeSet<_> =
            list.as_array().expect("a list").iter().map(|row| row["ServerId"].to_string()).collect();
        assert_eq!(servers.len(), 1, "all are of the one server: {servers:?}");
        assert_eq!(answer.header("content-length"), answer.body.len().to_string());
        let line = world.proxy.lines_of("/Sessions", 1).await.remove(0);
        let told = line["fan_out"].as_str().expect("what the others answered").to_owned();
        assert_eq!(told.split(' ').collect::<BTreeSet<_>>(), BTreeSet::from(["a=200", "c=200"]), "{line}");

        let own = devices(&clients[2].get("/Sessions").await.json());
        assert_eq!(own, [device(&clients[2])]);
        // A session that jellypin has not seen is listed too.
        let mut stranger = world.client().without_cookies().device("stranger").at(world.pod("a"));
        stranger.log_in("user2").await;
        let own = devices(&clients[2].get("/Sessions").await.json());
        assert_eq!(set(&own), BTreeSet::from([&*device(&clients[2]), "stranger"]));
        let one = root.get("/Sessions?deviceId=stranger").await.json();
        assert_eq!(devices(&one), ["stranger"]);
        drop(stranger);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_has_the_case_that_the_client_asks_for() {
    story(plan(2), async |world| {
        at_home(world, "alice", "a").await;
        let mut root = at_home(world, "root", "b").await;
        let camel = [("accept", "application/json; profile=\"CamelCase\"")];
        let list = root.get_with("/Sessions", &camel).await.json();
        let rows = list.as_array().expect("a list");
        assert_eq!(rows.len(), 2, "{list}");
        assert!(rows.iter().all(|row| row["deviceId"].is_string() && row["DeviceId"].is_null()), "{list}");
        let list = root.get_with("/Devices", &camel).await.json();
        let rows = list["items"].as_array().expect("a list");
        assert!(rows.len() == 2 && list["totalRecordCount"] == 2, "{list}");
        assert!(rows.iter().all(|row| row["lastUserName"].is_string()), "{list}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_of_all_pods_are_shown_to_administrators_only() {
    story(plan(2), async |world| {
        let mut alice = at_home(world, "alice", "a").await;
        let mut root = at_home(world, "root", "b").await;
        let mut key = world.client().without_cookies();
        key.token = Some(world.cluster.api_key());
        let info = format!("/Devices/Info?id={}", device(&alice).replace(' ', "%20"));
        for caller in [&mut root, &mut key] {
            let list = caller.get("/Devices").await.json();
            assert_eq!(list["TotalRecordCount"], 2, "{list}");
            let one = caller.get(&info).await;
            assert_eq!((one.status, &one.json()["LastUserName"]), (200, &json!("alice")));
            assert_eq!(caller.get("/Devices/Info?id=nobody%27s").await.status, 404);
        }
        world.pods.iter().for_each(jellyfin_sim::Pod::clear_seen);
        let mut nobody = world.client();
        for (caller, status) in [(&mut alice, 403), (&mut nobody, 401)] {
            for path in ["/Devices", &info, "/Devices/Info?id=nobody%27s"] {
                assert_eq!(caller.get(path).await.status, status, "{path}");
            }
        }
        let key = world.cluster.api_key();
        let is_by_key =
            |seen: &jellyfin_sim::Seen| seen.header("authorization").is_some_and(|line| line.contains(&key));
        assert!(!world.pods.iter().any(|pod| pod.seen().iter().any(is_by_key)), "the key looks for nobody");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_has_moved_is_listed_once() {
    story(plan(2), async |world| {
        let mut alice = at_home(world, "alice", "a").await;
        assert_eq!(alice.post("/Sessions/Viewing", json!({})).await.status, 204);
        let mut root = at_home(world, "root", "b").await;
        // The old pod lives on, and still lists the device.
        assert_eq!(world.proxy.post_admin("/pods/main/a/drain").await.status, 202);
        let sessions = world.proxy.sessions();
        let token = alice.token.clone().expect("a token");
        let b = world.proxy.pod("b").id;
        until("alice lives on the other pod", || match sessions.known.find(&token) {
            jellypin::sessions::SessionLookup::Active(session) => session.home().is_some_and(|home| home.pod == b),
            _ => false,
        })
        .await;
        assert_eq!(alice.post("/Sessions/Viewing", json!({})).await.status, 204);
        let listed = devices(&root.get("/Sessions").await.json());
        assert_eq!(listed.iter().filter(|listed| **listed == device(&alice)).count(), 1, "{listed:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_does_not_answer_is_left_out() {
    story(plan(3).probe_timeout(secs(5)), async |world| {
        let clients = one_on_each(world).await;
        let mut root = at_home(world, "root", "b").await;
        world.pod("c").hang(true);
        let began = Instant::now();
        let listed = devices(&root.get("/Sessions").await.json());
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        assert_eq!(set(&listed), BTreeSet::from([&*device(&clients[0]), &*device(&clients[1]), &*device(&root)]));
        world.pod("c").hang(false);
        let line = world.proxy.lines_of("/Sessions", 1).await.remove(0);
        assert!(line["fan_out"].as_str().expect("text").contains("c=timed_out"), "{line}");
        assert!(world.proxy.metric("jellypin_pod_calls_total", &[("pod", "c"), ("outcome", "timed_out")]).await > 0.0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_or_for_a_refused_caller_the_own_pod_alone_answers() {
    story(World::plan(2), async |world| {
        let mut root = at_home(world, "root", "a").await;
        at_home(world, "alice", "b").await;
        assert_eq!(devices(&root.get("/Sessions").await.json()), [device(&root)]);
    })
    .await;

    story(plan(2), async |world| {
        let mut nobody = world.client().device("nobody");
        nobody.token = Some("0123456789abcdef0123456789abcdef".to_owned());
        assert_eq!(nobody.get("/Sessions").await.status, 401);
        assert_eq!(world.client().get("/Sessions").await.status, 401);
        assert_eq!(asked_by_key(world), 0, "the key asks for nobody");
        let mut key = world.client().without_cookies();
        key.token = Some(world.cluster.api_key());
        at_home(world, "alice", "a").await;
        at_home(world, "bob", "b").await;
        assert_eq!(key.get("/Sessions").await.json().as_array().map(Vec::len), Some(2), "an API key sees all");
    })
    .await;
}
