//! Whatever a client asks of whichever pod, it sees one id.

use std::collections::BTreeMap;

use futures_util::{SinkExt, StreamExt};
use jellyfin_sim::{BULK, FILM};
use jellypin::pod::State;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::stories::{
    wire::within,
    world::{Answer, Client, DEADLINE, World, story},
};

/// A signed-in client of each pod.
async fn one_of_each(world: &World) -> BTreeMap<String, Client> {
    let mut clients = BTreeMap::new();
    for number in 0..200 {
        let mut client = world.client().device(&format!("device {number}"));
        let answer = client.log_in("root").await;
        let home = world.home(&answer).to_owned();
        assert_one_id(world, "the log-in", &answer);
        clients.entry(home).or_insert(client);
        if clients.len() == world.pods.len() {
            return clients;
        }
    }
    panic!("no pod but {:?} got a client", clients.keys());
}

/// The shown id is that of the first pod; no other shows.
#[track_caller]
fn assert_one_id(world: &World, what: &str, answer: &Answer) {
    assert_no_other_id(world, what, &read(answer));
}

/// The text of an answer: the pod whose own id is shown packs it as ever.
fn read(answer: &Answer) -> String {
    match answer.header("content-encoding") {
        "gzip" => std::io::read_to_string(flate2::read::GzDecoder::new(&answer.body[..])).expect("gzip"),
        _ => answer.text().to_owned(),
    }
}

#[track_caller]
fn assert_no_other_id(world: &World, what: &str, text: &str) {
    for pod in world.pods_but("a") {
        assert!(!text.contains(pod.server_id()), "{what} shows the id of {}: {text}", pod.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_shows_one_id() {
    story(World::plan(3).compresses("off"), async |world| {
        let shown = world.pod("a").server_id();
        for (home, client) in &mut one_of_each(world).await {
            let packed = [("accept-encoding", "gzip, deflate, br")];
            let named = [
                "/System/Info/Public",
                "/System/Info",
                "/Users/Me",
                "/Users",
                "/Sessions",
                "/Items",
                &format!("/Items/{FILM}"),
                "/UserViews",
            ];
            for path in named {
                let answer = client.get_with(path, &packed).await;
                assert_eq!((answer.status, world.home(&answer)), (200, home.as_str()), "{path}");
                assert_one_id(world, path, &answer);
                assert!(read(&answer).contains(shown), "{path} of {home} shows no id: {}", read(&answer));
            }
            let camel = [("accept", "application/json; profile=\"CamelCase\""), packed[0]];
            let answer = client.get_with("/System/Info/Public", &camel).await;
            assert_eq!(answer.json()["id"], shown);
            for path in [
                "/DisplayPreferences/usersettings?client=emby",
                "/Devices",
                "/System/Logs",
                "/Items/0",
                "/Branding/Configuration",
            ] {
                assert_one_id(world, path, &client.get_with(path, &packed).await);
            }
            let info = client.post(&format!("/Items/{FILM}/PlaybackInfo"), json!({"ServerId": shown})).await;
            assert_eq!(info.status, 200);
            assert_one_id(world, "PlaybackInfo", &info);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_socket_message_shows_one_id() {
    story(World::plan(3), async |world| {
        let shown = world.pod("a").server_id();
        for (home, client) in &mut one_of_each(world).await {
            let token = client.token.clone().expect("a token");
            let mut socket = client.socket(&format!("/socket?ApiKey={token}")).await.expect("a socket");
            let start = json!({"MessageType": "SessionsStart", "Data": "0,100", "ServerId": shown});
            socket.send(Message::text(start.to_string())).await.expect("sent");
            let own = world.pod(home).server_id();
            world
                .pod(home)
                .until(|pod| pod.heard().iter().any(|text| text.contains("SessionsStart") && text.contains(own)))
                .await;
            // A session that begins is a change, which is told.
            let mut other = client.twin().device(&format!("another of {home}"));
            other.log_in("root").await;
            let report = json!({"ItemId": FILM, "PlaySessionId": "p", "MediaSourceId": FILM, "PositionTicks": 0});
            client.post("/Sessions/Playing", report).await;
            loop {
                let message =
                    within(DEADLINE, "sessions", socket.next()).await.expect("a message").expect("a whole one");
                let text = message.to_text().expect("a text");
                assert_no_other_id(world, &format!("a message of {home}"), text);
                if text.contains("\"Sessions\"") {
                    assert!(text.contains(shown), "{text}");
                    break;
                }
            }
            drop(socket);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn media_pass_unchanged() {
    story(World::plan(3), async |world| {
        for (home, client) in &mut one_of_each(world).await {
            let token = client.token.clone().expect("a token");
            let mut there = world.client().at(world.pod(home));
            there.token = client.token.clone();
            let paths = [
                format!("/Videos/{BULK}/stream?static=true"),
                format!(
                    "/Videos/{FILM}/master.m3u8?ApiKey={token}&DeviceId={}&PlaySessionId=p",
                    world.pod(home).server_id()
                ),
                format!("/Items/{FILM}/Images/Primary"),
            ];
            for path in &paths {
                let range = [("range", "bytes=0-99999"), ("accept-encoding", "gzip")];
                let (through, direct) = (client.get_with(path, &range).await, there.get_with(path, &range).await);
                assert_eq!(through.status, direct.status, "{path}");
                assert!(through.body == direct.body && !direct.body.is_empty(), "{path}");
                assert_eq!(through.header("content-encoding"), direct.header("content-encoding"), "{path}");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migrated_client_sees_the_same_server() {
    story(World::plan(3), async |world| {
        let mut client = world.client().device("d");
        let home = world.home(&client.log_in("root").await).to_owned();
        let before = client.get("/System/Info/Public").await;
        world.pod(&home).kill().await;
        world.proxy.until_state(&home, State::Down).await;
        let after = client.get("/System/Info/Public").await;
        assert_ne!(world.home(&after), home);
        assert_eq!(after.json()["Id"], before.json()["Id"]);
    })
    .await;
}
