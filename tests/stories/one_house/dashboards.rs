//! A dashboard hears what one single server would tell it, whatever pod does it: entries of the activity log, and tasks.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::stories::{
    migration::{
        kill, plan,
        revocation::at_home,
        sockets::{next_of, socket_of},
    },
    world::story,
    world::{Client, Socket, World, until},
};

const SCAN: &str = "7738148ffcd07979c7ceb148e06b3aed";

async fn listening(world: &World, client: &Client, kind: &str) -> Socket {
    let mut socket = socket_of(world, client.token.as_deref().expect("a token")).await;
    let text = format!(r#"{{"MessageType":"{kind}Start","Data":"0,300"}}"#);
    socket.send(Message::text(text)).await.expect("sent");
    socket
}

/// Requests for a path that came by the API key.
fn asked_by_key(world: &World, path: &str) -> usize {
    let key = world.cluster.api_key();
    let is_by_key = |seen: &&jellyfin_sim::Seen| {
        seen.path() == path && seen.header("authorization").is_some_and(|line| line.contains(&key))
    };
    world.pods.iter().map(|pod| pod.seen().iter().filter(is_by_key).count()).sum()
}

/// Waits until the pool has been asked for news, so that what comes is new.
async fn until_asked(world: &World, path: &str) {
    let before = asked_by_key(world, path);
    until("the pool is asked", || asked_by_key(world, path) > before + 1).await;
}

const LOG: &str = "/System/ActivityLog/Entries";

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_any_pod_writes_is_told() {
    story(plan(3), async |world| {
        let mut root = at_home(world, "root", "b").await;
        let mut socket = listening(world, &root, "ActivityLogEntry").await;
        until_asked(world, LOG).await;
        // The log-in is written by another pod, and by the dashboard's own.
        for pod in ["c", "b"] {
            at_home(world, "alice", pod).await;
            let told = next_of(&mut socket, "ActivityLogEntry").await;
            assert_eq!(told["Data"], json!([]), "the dashboard is to read the log again");
            let newest = root.get(&format!("{LOG}?limit=1")).await.json();
            assert_eq!(newest["Items"][0]["Type"], "AuthenticationSucceeded", "{newest}");
        }
        until_asked(world, LOG).await;
        socket.send(Message::text(r#"{"MessageType":"ActivityLogEntryStop"}"#)).await.expect("sent");
        world.pod("b").until(|pod| pod.heard().iter().any(|text| text.contains("EntryStop"))).await;
        // What was on its way may still come.
        socket.send(Message::text(r#"{"MessageType":"KeepAlive"}"#)).await.expect("sent");
        kinds_until(&mut socket, "KeepAlive").await;
        at_home(world, "bob", "a").await;
        socket.send(Message::text(r#"{"MessageType":"KeepAlive"}"#)).await.expect("sent");
        assert!(!kinds_until(&mut socket, "KeepAlive").await.contains(&"ActivityLogEntry".to_owned()));
    })
    .await;
}

/// The kinds of messages that come before one of this kind.
async fn kinds_until(socket: &mut Socket, last: &str) -> Vec<String> {
    let mut kinds = Vec::new();
    loop {
        let message = socket.next().await.expect("open").expect("whole");
        let json: Value = serde_json::from_str(message.to_text().expect("a text")).unwrap_or_default();
        let kind = json["MessageType"].as_str().unwrap_or_default().to_owned();
        if kind == last {
            return kinds;
        }
        kinds.push(kind);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_of_the_leader_is_shown_as_it_runs() {
    story(plan(3), async |world| {
        let leader = world.leader().await;
        let elsewhere = ["a", "b", "c"].into_iter().find(|pod| *pod != leader).expect("another pod");
        let mut root = at_home(world, "root", elsewhere).await;
        let mut socket = listening(world, &root, "ScheduledTasksInfo").await;
        until_asked(world, "/ScheduledTasks").await;
        world.pod(&leader).hold_tasks(true);
        assert_eq!(root.post(&format!("/ScheduledTasks/Running/{SCAN}"), json!({})).await.status, 204);
        let state = |told: &Value| {
            let tasks = told["Data"].as_array().expect("a list").clone();
            tasks.into_iter().find(|task| task["Id"] == SCAN).expect("the scan")["State"].clone()
        };
        assert_eq!(state(&next_of(&mut socket, "ScheduledTasksInfo").await), "Running");
        // What runs on the dashboard's own pod is nobody's: the list shows the leader's.
        let own = world.client().without_cookies().device("at the pod").at(world.pod(elsewhere));
        let mut own = own;
        own.log_in("root").await;
        assert_eq!(own.post(&format!("/ScheduledTasks/Running/{SCAN}"), json!({})).await.status, 204);
        world.pod(&leader).hold_tasks(false);
        assert_eq!(state(&next_of(&mut socket, "ScheduledTasksInfo").await), "Idle");
        drop(own);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dashboard_goes_on_hearing_after_its_pod_has_died() {
    story(plan(3), async |world| {
        let root = at_home(world, "root", "b").await;
        let mut socket = listening(world, &root, "ActivityLogEntry").await;
        until_asked(world, LOG).await;
        kill(world, "b").await;
        until_asked(world, LOG).await;
        while_told(world, &mut socket).await;
    })
    .await;
}

/// Somebody signs in, and the socket is told.
async fn while_told(world: &World, socket: &mut Socket) {
    at_home(world, "alice", "c").await;
    next_of(socket, "ActivityLogEntry").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_administrator_causes_questions_and_none_are_left() {
    story(plan(2), async |world| {
        let alice = at_home(world, "alice", "a").await;
        let mut own = listening(world, &alice, "ActivityLogEntry").await;
        let root = at_home(world, "root", "b").await;
        let mut socket = listening(world, &root, "ActivityLogEntry").await;
        until_asked(world, LOG).await;
        socket.send(Message::text(r#"{"MessageType":"ActivityLogEntryStop"}"#)).await.expect("sent");
        let (mut last, mut since) = (asked_by_key(world, LOG), std::time::Instant::now());
        until("nobody is asked", || {
            let now = asked_by_key(world, LOG);
            if now != last {
                (last, since) = (now, std::time::Instant::now());
            }
            since.elapsed() > std::time::Duration::from_secs(1)
        })
        .await;
        own.send(Message::text(r#"{"MessageType":"KeepAlive"}"#)).await.expect("sent");
        assert!(!kinds_until(&mut own, "KeepAlive").await.contains(&"ActivityLogEntry".to_owned()));
    })
    .await;
}
