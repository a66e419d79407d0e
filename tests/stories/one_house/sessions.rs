//! Sessions and remote control: each session is listed once, and reached, wherever it lives.

use futures_util::{SinkExt, StreamExt};
use http::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{act, assert_done, devices_of, house, seen_by};
use crate::stories::wire::within;
use crate::stories::world::{Answer, Client, DEADLINE, Socket, story, until_so};

const DEVICES: usize = 8;

/// Ids of the devices whose sessions a list shows, in alphabetical order.
pub(super) fn devices_in(list: &Value) -> Vec<String> {
    let sessions = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let ids = sessions.iter().filter_map(|session| session["DeviceId"].as_str().map(str::to_owned));
    let mut ids: Vec<String> = ids.collect();
    ids.sort();
    ids
}

fn names(user: &str, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |number| format!("{user}-{number}"))
}

/// Opens a socket and says what the player can do.
pub(super) async fn open(device: &mut Client) -> Socket {
    let id = device.device.clone().expect("a device");
    let socket = device.socket(&format!("/socket?deviceId={id}")).await.expect("a socket");
    let abilities = json!({
        "PlayableMediaTypes": ["Video"], "SupportedCommands": ["DisplayMessage"], "SupportsMediaControl": true,
    });
    assert_done(&device.post("/Sessions/Capabilities/Full", abilities).await);
    socket
}

/// The next message of a kind that comes over a socket.
pub(super) async fn message(socket: &mut Socket, kind: &str) -> Value {
    loop {
        let frame = within(DEADLINE, kind, socket.next()).await.expect("a message").expect("whole");
        let message: Value = serde_json::from_str(frame.to_text().expect("a text")).unwrap_or_default();
        if message["MessageType"] == kind {
            return message["Data"].clone();
        }
    }
}

#[tokio::test]
async fn an_administrator_sees_every_session_once_and_a_user_his_own() {
    story(house(), async |world| {
        let mut alices = devices_of(world, "alice", DEVICES).await;
        let mut bobs = devices_of(world, "bob", 2).await;
        let mut roots = devices_of(world, "root", 4).await;
        let mut all: Vec<String> = names("alice", DEVICES).chain(names("bob", 2)).chain(names("root", 4)).collect();
        all.sort();
        let sees = |wanted: Vec<String>| {
            move |answer: &Answer| {
                let seen = devices_in(&answer.json());
                seen == wanted
            }
        };
        assert_eq!(seen_by(&mut roots, "/Sessions", sees(all)).await, 4);
        assert_eq!(seen_by(&mut alices, "/Sessions", sees(names("alice", DEVICES).collect())).await, DEVICES);
        assert_eq!(seen_by(&mut bobs, "/Sessions", sees(names("bob", 2).collect())).await, 2);
        assert_eq!(seen_by(&mut roots, "/Sessions?deviceId=alice-3", sees(vec!["alice-3".to_owned()])).await, 4);
        assert_eq!(seen_by(&mut bobs, "/Sessions?deviceId=alice-3", sees(Vec::new())).await, 2);
    })
    .await;
}

#[tokio::test]
async fn a_message_and_a_film_reach_every_device() {
    story(house(), async |world| {
        let film = jellyfin_sim::FILM;
        let mut alices = devices_of(world, "alice", DEVICES).await;
        let mut roots = devices_of(world, "root", 1).await;
        let mut delivered = 0;
        let mut played = 0;
        for (number, device) in alices.iter_mut().enumerate() {
            let mut socket = open(device).await;
            let session = jellyfin_sim::session_id("Story", &format!("alice-{number}"));
            let text = format!("to {number}");
            let said = roots[0].post(&format!("/Sessions/{session}/Message"), json!({"Text": text})).await;
            if said.status == 204 {
                assert_eq!(message(&mut socket, "GeneralCommand").await["Arguments"]["Text"], text);
                delivered += 1;
            }
            let play = format!("/Sessions/{session}/Playing?playCommand=PlayNow&itemIds={film}");
            if roots[0].post(&play, Value::Null).await.status == 204 {
                assert_eq!(message(&mut socket, "Play").await["ItemIds"], json!([film]));
                played += 1;
            }
            close(socket).await;
        }
        assert_eq!((delivered, played), (DEVICES, DEVICES));
        let nobody = jellyfin_sim::session_id("Story", "nobody");
        let unknown = roots[0].post(&format!("/Sessions/{nobody}/Message"), json!({"Text": "x"})).await;
        assert_eq!((unknown.status, unknown.text()), (404, "Error processing request."));
    })
    .await;
}

#[tokio::test]
async fn a_socket_that_listens_is_told_of_every_session() {
    story(house(), async |world| {
        let mut roots = devices_of(world, "root", 1).await;
        let mut socket = open(&mut roots[0]).await;
        say(&mut socket, "SessionsStart", "0,50").await;
        let mut alices = devices_of(world, "alice", DEVICES).await;
        let mut all: Vec<String> = names("alice", DEVICES).chain(names("root", 1)).collect();
        all.sort();
        let film = jellyfin_sim::FILM;
        until_so("the list over the socket is whole", async || {
            // Something changes, so that a list is due.
            assert_done(
                &alices[0].post("/Sessions/Playing/Progress", json!({"ItemId": film, "PositionTicks": 1})).await,
            );
            devices_in(&message(&mut socket, "Sessions").await) == all
        })
        .await;
        close(socket).await;
    })
    .await;
}

#[tokio::test]
async fn every_device_is_told_of_a_favourite() {
    story(house(), async |world| {
        let film = jellyfin_sim::FILM;
        let mut devices = devices_of(world, "alice", DEVICES).await;
        let mut sockets = Vec::new();
        for device in &mut devices {
            sockets.push(open(device).await);
        }
        assert_done(&act(&mut devices[0], Method::POST, &format!("/UserFavoriteItems/{film}")).await);
        for socket in &mut sockets {
            let told = message(socket, "UserDataChanged").await;
            assert_eq!(told["UserDataList"][0]["IsFavorite"], true, "{told}");
        }
        for socket in sockets {
            close(socket).await;
        }
    })
    .await;
}

pub(super) async fn close(mut socket: Socket) {
    socket.close(None).await.expect("it closes");
    while socket.next().await.is_some_and(|message| message.is_ok()) {}
}

async fn say(socket: &mut Socket, kind: &str, data: &str) {
    let text = json!({"MessageType": kind, "Data": data}).to_string();
    socket.send(Message::text(text)).await.expect("it is sent");
}
