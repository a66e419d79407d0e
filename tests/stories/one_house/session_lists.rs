//! Every session is seen, on whatever pod it lives.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt, future::join_all};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::stories::{
    migration::{
        drain::tell,
        plan,
        revocation::at_home,
        sockets::{next_of, socket_of},
    },
    wire::within,
    world::{Answer, Client, DEADLINE, Program, Socket, World, secs, story, until},
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

async fn listen(socket: &mut Socket, milliseconds: u32) {
    let text = format!(r#"{{"MessageType":"SessionsStart","Data":"0,{milliseconds}"}}"#);
    socket.send(Message::text(text)).await.expect("sent");
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
        assert_eq!(tell(world, "/pods/main/a/drain").await.status, 202);
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

/// Status and users of an answer, to compare.
fn shown(answer: &Answer) -> (u16, Vec<String>) {
    let list: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let rows = list.as_array().cloned().unwrap_or_default();
    let mut users: Vec<_> = rows.iter().map(|row| row["UserName"].to_string()).collect();
    users.sort();
    (answer.status, users)
}

/// One of each kind: plain, controlling others, with few devices, not to be controlled by others,
/// administrator, hidden.
const USERS: [&str; 6] = ["alice", "bob", "user0", "user1", "root", "user2"];

/// What each caller sees of each list: the question's number, the caller's, and the answer.
async fn lists_seen(world: &World) -> Vec<(usize, usize, (u16, Vec<String>))> {
    let (mut callers, mut sockets) = (Vec::new(), Vec::new());
    for (user, pod) in USERS.iter().zip(world.pods.iter().cycle()) {
        let mut client = at_home(world, user, pod.name()).await;
        sockets.push(token_socket(world, &client).await);
        let abilities = json!({"SupportsMediaControl": true, "SupportsPersistentIdentifier": true});
        assert_eq!(client.post("/Sessions/Capabilities/Full", abilities).await.status, 204);
        callers.push(client);
    }
    let of_bob = device(&callers[1]);
    let ids = USERS.map(|name| world.cluster.user_id(name).expect("a user"));
    let policies = [
        (1, json!({"EnableRemoteControlOfOtherUsers": true})),
        (2, json!({"EnableRemoteControlOfOtherUsers": true, "EnableAllDevices": false, "EnabledDevices": [of_bob]})),
        (3, json!({"EnableSharedDeviceControl": false})),
        (5, json!({"IsHidden": true})),
    ];
    for (user, policy) in policies {
        let path = format!("/Users/{}/Policy", ids[user]);
        assert_eq!(callers[4].post(&path, policy).await.status, 204);
    }
    // Alice watches with bob.
    let list = callers[4].get("/Sessions").await.json();
    let row = list.as_array().expect("a list").iter().find(|row| row["UserName"] == "bob").expect("bob's");
    let added = format!("/Sessions/{}/User/{}", row["Id"].as_str().expect("an id"), ids[0]);
    assert_eq!(callers[4].post(&added, json!({})).await.status, 204);
    let mut key = world.client().without_cookies();
    key.token = Some(world.cluster.api_key());
    callers.extend([key, world.client().without_cookies()]);
    let mut questions: Vec<String> = ["", "?activeWithinSeconds=900", "?controllableByUserId=", "?deviceId=nobody's"]
        .iter()
        .map(|query| format!("/Sessions{query}"))
        .collect();
    questions.extend(
        [of_bob.clone(), of_bob.to_uppercase()].map(|id| format!("/Sessions?deviceId={}", id.replace(' ', "%20"))),
    );
    questions.extend(
        USERS.map(|name| format!("/Sessions?controllableByUserId={}", world.cluster.user_id(name).expect("a user"))),
    );
    let mut of_world = Vec::new();
    for (number, question) in questions.iter().enumerate() {
        for (caller, client) in callers.iter_mut().enumerate() {
            of_world.push((number, caller, shown(&client.get(question).await)));
        }
    }
    drop(sockets);
    of_world
}

#[tokio::test(flavor = "multi_thread")]
async fn every_caller_sees_what_one_single_pod_would_show() {
    let mut seen = Vec::new();
    for pods in [3, 1] {
        seen.push(story(plan(pods), async |world| lists_seen(world).await).await);
    }
    let differences: Vec<_> = seen[0].iter().zip(&seen[1]).filter(|(house, single)| house != single).collect();
    println!("{} lists, differences: {}", seen[0].len(), differences.len());
    assert!(differences.is_empty(), "{differences:#?}");
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
