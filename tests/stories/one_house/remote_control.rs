//! Every session is controlled, on whatever pod it lives.

use std::sync::Arc;
use std::time::Instant;

use futures_util::{StreamExt, future::join_all};
use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::stories::{
    migration::{kill, plan, revocation::at_home, sockets::next_of, start_again},
    redis_server::RedisServer,
    replicas::{self, replica, until_up},
    world::{Client, Proxy, Socket, World, body_of, story, until},
};

const ITEM: &str = "f5c2a9d8e7b64c3a9d1e0f2b4a6c8d7e";

/// A client whose socket takes remote control, and what it has been told.
struct Receiver {
    client: Client,
    session: String,
    told: Arc<Mutex<Vec<Value>>>,
    _reading: tokio::task::JoinHandle<()>,
}

/// What this client is listed as.
async fn session_of(client: &mut Client) -> String {
    let device = client.device.clone().expect("a device");
    let list = client.get("/Sessions").await.json();
    let row = list.as_array().expect("a list").iter().find(|row| row["DeviceId"] == *device);
    row.and_then(|row| row["Id"].as_str()).expect("a session").to_owned()
}

async fn receiver(proxy: &Proxy, client: Client) -> Receiver {
    let mut client = client.moved_to(proxy);
    let path = format!("/socket?ApiKey={}", client.token.as_deref().expect("a token"));
    let mut socket = client.twin().socket(&path).await.expect("a socket");
    next_of(&mut socket, "ForceKeepAlive").await;
    let capabilities = json!({"SupportedCommands": ["DisplayMessage"], "SupportsMediaControl": true});
    assert_eq!(client.post("/Sessions/Capabilities/Full", capabilities).await.status, 204);
    let session = session_of(&mut client).await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = told.clone();
    let reading = tokio::spawn(async move { read(socket, &heard).await });
    Receiver { client, session, told, _reading: reading }
}

/// Keeps what the socket is told, until it ends.
async fn read(mut socket: Socket, told: &Mutex<Vec<Value>>) {
    while let Some(Ok(message)) = socket.next().await {
        let json: Value = message.to_text().ok().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        if matches!(json["MessageType"].as_str(), Some("GeneralCommand" | "Play" | "Playstate")) {
            told.lock().push(json);
        }
    }
}

impl Receiver {
    fn path(&self, rest: &str) -> String {
        format!("/Sessions/{}/{rest}", self.session)
    }

    /// How often it was told this text.
    fn heard(&self, text: &str) -> usize {
        self.told.lock().iter().filter(|message| message["Data"]["Arguments"]["Text"] == *text).count()
    }

    fn leave(self) {
        self._reading.abort();
    }
}

async fn say(from: &mut Client, to: &Receiver, text: &str) -> u16 {
    from.post(&to.path("Message"), json!({"Header": "h", "Text": text, "TimeoutMs": 1000})).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_another_pod_is_controlled_as_on_one_server() {
    story(plan(2), async |world| {
        let mut alice = at_home(world, "alice", "a").await;
        let bob = at_home(world, "bob", "b").await;
        let bob = receiver(&world.proxy, bob).await;
        let id = world.cluster.user_id("alice").expect("a user");
        let acts = [
            (bob.path(&format!("Playing?playCommand=PlayNow&itemIds={ITEM}")), "Play", json!(id)),
            (bob.path("Playing/Pause"), "Playstate", json!(id)),
            (bob.path("Playing/Seek?seekPositionTicks=70"), "Playstate", json!(id)),
            (bob.path("Command/Mute"), "GeneralCommand", json!(id)),
            (bob.path("System/GoHome"), "GeneralCommand", json!(id)),
        ];
        for (number, (path, kind, by)) in acts.iter().enumerate() {
            let answer = alice.post(path, json!({})).await;
            assert_eq!(answer.status, 204, "{path}");
            until("bob is told", || bob.told.lock().len() > number).await;
            let told = bob.told.lock()[number].clone();
            assert_eq!((&told["MessageType"], &told["Data"]["ControllingUserId"]), (&json!(kind), by), "{told}");
        }
        assert_eq!(say(&mut alice, &bob, "supper").await, 204);
        until("bob reads it", || bob.heard("supper") == 1).await;
        // The caller's visit leaves no trace.
        let device = alice.device.clone().expect("a device");
        world.pod("b").until(|pod| !pod.session_devices().contains(&device)).await;
        let still = alice.get("/Users/Me").await;
        assert_eq!((still.status, world.home(&still)), (200, "a"), "alice lives where she lived");
        let line = world.proxy.lines_of(&bob.path("Message"), 1).await.remove(0);
        assert_eq!((&line["pod.name"], &line["decision.reason"]), (&json!("b"), &json!("session")), "{line}");

        let unknown = "/Sessions/0123456789abcdef0123456789abcdef/Message";
        assert_eq!(alice.post(unknown, json!({"Text": "x"})).await.status, 404);
        let mut nobody = world.client();
        assert_eq!(nobody.post(&bob.path("Message"), json!({"Text": "x"})).await.status, 401);
        bob.leave();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_key_and_a_stranger_control_clients_on_any_pod() {
    story(plan(2), async |world| {
        let mut receivers = Vec::new();
        for (user, pod) in [("alice", "a"), ("bob", "b")] {
            let client = at_home(world, user, pod).await;
            receivers.push(receiver(&world.proxy, client).await);
        }
        let mut key = world.client().without_cookies();
        key.token = Some(world.cluster.api_key());
        // A client of which jellypin knows nothing but a token that one pod knows.
        let mut stranger = world.client().without_cookies().device("stranger").at(world.pod("a"));
        stranger.log_in("user1").await;
        stranger = stranger.moved_to(&world.proxy);
        stranger.device = None;
        for (who, caller) in [("key", &mut key), ("stranger", &mut stranger)] {
            for receiver in &receivers {
                assert_eq!(say(caller, receiver, who).await, 204, "{who}");
                until("it is told", || receiver.heard(who) == 1).await;
            }
        }
        receivers.into_iter().for_each(Receiver::leave);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_single_pod_refuses_or_does_is_refused_or_done() {
    story(plan(2), async |house| {
        story(plan(1), async |single| {
            let mut statuses = Vec::new();
            for world in [house, single] {
                let last = world.pods.last().expect("a pod").name();
                let target = at_home(world, "bob", last).await;
                let target = receiver(&world.proxy, target).await;
                let (mut callers, user) = (Vec::new(), world.cluster.user_id("user5"));
                for name in ["alice", "user1", "user2", "user3", "root"] {
                    callers.push(at_home(world, name, "a").await);
                }
                // Plain, hidden, controlling others, not to be controlled by others, administrator.
                for (user, policy) in [
                    ("user1", json!({"IsHidden": true})),
                    ("user2", json!({"EnableRemoteControlOfOtherUsers": true})),
                    ("user3", json!({"EnableSharedDeviceControl": false})),
                ] {
                    let path = format!("/Users/{}/Policy", world.cluster.user_id(user).expect("a user"));
                    let root = callers.last_mut().expect("root");
                    assert_eq!(root.post(&path, policy).await.status, 204);
                }
                let mut key = world.client().without_cookies();
                key.token = Some(world.cluster.api_key());
                callers.push(key);
                callers.push(world.client().without_cookies());
                callers.push(target.client.twin());
                let rest = [
                    "Message".to_owned(),
                    "Playing".to_owned(),
                    "Playing?playCommand=Whatever".to_owned(),
                    format!("Playing?playCommand=PlayNow&itemIds={ITEM}"),
                    "Playing/Stop".to_owned(),
                    "Command".to_owned(),
                    "Command/Mute".to_owned(),
                    "System/Mute".to_owned(),
                    "Nothing".to_owned(),
                    format!("User/{}", user.as_deref().unwrap_or("x")),
                ];
                let ids = [target.session.clone(), target.session.to_uppercase(), "f".repeat(32), "zz".to_owned()];
                let mut of_world = Vec::new();
                for (number, caller) in callers.iter_mut().enumerate() {
                    for (of, id) in ids.iter().enumerate() {
                        for (act, rest) in rest.iter().enumerate() {
                            for method in [Method::POST, Method::DELETE, Method::GET] {
                                let request = caller.request(method.clone(), &format!("/Sessions/{id}/{rest}"));
                                let request = request.header("content-type", "application/json");
                                let body = json!({"Text": "x", "Name": "Mute"}).to_string();
                                let answer = caller.send(request, body_of(body)).await.expect("an answer");
                                of_world.push((number, of, act, method, answer.status));
                            }
                        }
                    }
                }
                // What was told before has come when the last words have.
                assert_eq!(say(&mut callers[4], &target, "the last").await, 204);
                until("bob reads the last", || target.heard("the last") == 1).await;
                let told =
                    target.told.lock().iter().map(|message| message["MessageType"].to_string()).collect::<Vec<_>>();
                statuses.push((of_world, told.len()));
                target.leave();
            }
            let differences: Vec<_> =
                statuses[0].0.iter().zip(&statuses[1].0).filter(|(house, single)| house != single).collect();
            println!("{} acts, differences: {}", statuses[0].0.len(), differences.len());
            assert!(differences.is_empty(), "{differences:#?}");
            assert_eq!(statuses[0].1, statuses[1].1, "messages that came");
        })
        .await;
    })
    .await;
}

/// A caller and a receiver that live on different pods.
struct Pair {
    caller: Client,
    receiver: Receiver,
}

async fn pairs(world: &World, callers_at: &str, receivers_at: &[&str], count: usize) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for number in 0..count {
        let caller = at_home(world, &format!("user{}", 2 * number), callers_at).await;
        let there = receivers_at[number % receivers_at.len()];
        let receiver = receiver(&world.proxy, at_home(world, &format!("user{}", 2 * number + 1), there).await).await;
        pairs.push(Pair { caller, receiver });
    }
    pairs
}

/// Every caller plays, pauses and writes to its receiver once; gives how many acts were accepted.
async fn all_act(pairs: &mut [Pair], text: &str) -> usize {
    let acts = pairs.iter_mut().map(async |Pair { caller, receiver }| {
        let play = receiver.path(&format!("Playing?playCommand=PlayNow&itemIds={ITEM}"));
        let mut accepted = 0;
        accepted += usize::from(caller.post(&play, json!({})).await.status == 204);
        accepted += usize::from(caller.post(&receiver.path("Playing/Pause"), json!({})).await.status == 204);
        accepted + usize::from(say(caller, receiver, text).await == 204)
    });
    join_all(acts).await.into_iter().sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twelve_pairs_on_different_pods_reach_each_other_before_during_and_after_a_kill() {
    const PAIRS: usize = 12;
    story(plan(3), async |world| {
    let mut pairs = pairs(world, "a", &["b", "c"], PAIRS).await;
    let delivered = |pairs: &[Pair]| pairs.iter().map(|pair| pair.receiver.told.lock().len()).sum::<usize>();
    assert_eq!(all_act(&mut pairs, "before").await, 3 * PAIRS);
    until("all are told", || delivered(&pairs) == 3 * PAIRS).await;
    let before = delivered(&pairs);

    let began = Instant::now();
    let (accepted, ()) = tokio::join!(all_act(&mut pairs, "during"), world.pod("b").kill());
    let took = began.elapsed();
    until("all have the message", || pairs.iter().all(|pair| pair.receiver.heard("during") > 0)).await;
    let during = delivered(&pairs) - before;

    let accepted_after = all_act(&mut pairs, "after").await;
    until("all are told", || pairs.iter().all(|pair| pair.receiver.heard("after") == 1)).await;
    println!(
        "{PAIRS} pairs, delivered of tried: before {before}/{}, during {during}/{} (accepted {accepted}, {took:.1?}), after {accepted_after}/{}",
        3 * PAIRS,
        3 * PAIRS,
        3 * PAIRS
    );
    assert_eq!((accepted, accepted_after), (3 * PAIRS, 3 * PAIRS));
    assert!(during >= 3 * PAIRS, "{during}");
    pairs.into_iter().for_each(|pair| pair.receiver.leave());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_a_killed_pod_is_controlled_at_its_next_pod() {
    story(plan(2), async |world| {
        let mut alice = at_home(world, "alice", "a").await;
        let bob = at_home(world, "bob", "b").await;
        let bob = receiver(&world.proxy, bob).await;
        kill(world, "b").await;
        assert_eq!(say(&mut alice, &bob, "now").await, 204);
        until("bob reads it", || bob.heard("now") == 1).await;
        start_again(world, "b").await;
        assert_eq!(say(&mut alice, &bob, "then").await, 204);
        until("bob reads it", || bob.heard("then") == 1).await;
        bob.leave();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replicas_client_is_controlled_through_another() {
    let redis = RedisServer::start();
    story(replicas::plan(2, &redis).with_api_key(), async |world| {
        until_up(&world.proxy).await;
        let other = replica(world, |_| {}).await;
        let bob = at_home(world, "bob", "b").await;
        let bob = receiver(&world.proxy, bob).await;
        // This one has never been at the first replica, nor bob at the second.
        let mut alice = at_home(world, "alice", "a").await.moved_to(&other);
        assert_eq!(say(&mut alice, &bob, "hello").await, 204);
        until("bob reads it", || bob.heard("hello") == 1).await;
        let mut root = at_home(world, "root", "a").await.moved_to(&other);
        let list = root.get("/Sessions").await.json();
        assert!(list.as_array().expect("a list").iter().any(|row| row["Id"] == *bob.session), "{list}");
        bob.leave();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_client_misses_no_message() {
    story(plan(2), async |world| {
        let mut alice = at_home(world, "alice", "a").await;
        let bob = at_home(world, "bob", "b").await;
        let bob = receiver(&world.proxy, bob).await;
        assert_eq!(world.proxy.post_admin("/pods/main/b/drain").await.status, 202);
        for number in 0..40 {
            let text = format!("message {number}");
            assert_eq!(say(&mut alice, &bob, &text).await, 204);
            until("bob reads it", || bob.heard(&text) > 0).await;
        }
        let twice = (0..40).filter(|number| bob.heard(&format!("message {number}")) > 1).count();
        assert!(twice <= 1, "{twice}");
        bob.leave();
    })
    .await;
}
