//! A client's capabilities follow it to the next pod, whatever device it has logged in as.

use futures_util::SinkExt;
use jellyfin_sim::FILM;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{
    client_of, kill, plan,
    sockets::{next_of, socket_of},
    start_again,
};
use crate::stories::world::{Client, World, story, until};

fn can(command: &str) -> Value {
    json!({"SupportedCommands": [command], "SupportsMediaControl": true})
}

/// The same token, on a device of this id.
fn on(client: &Client, device: &str) -> Client {
    client.twin().device(device)
}

/// The session of a device, as its pod shows it.
async fn session_of(client: &mut Client, device: &str) -> Value {
    let sessions = client.get("/Sessions").await.json();
    let sessions = sessions.as_array().cloned().unwrap_or_default();
    sessions.into_iter().find(|session| session["DeviceId"] == device).unwrap_or_default()
}

/// What it can do, and what it plays.
async fn standing(client: &mut Client, device: &str) -> (Value, Value) {
    let session = session_of(client, device).await;
    (session["SupportedCommands"].clone(), session["NowPlayingItem"]["Id"].clone())
}

/// Android TV logs in as the device of a name, and is the device of a user's id from then on; Roku is likewise another.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_renames_itself_after_login_is_kept() {
    story(plan(2), async |world| {
        let (client, home) = client_of(world, "alice", "tv of alice").await;
        let mut tv = on(&client, "tv of 0123");
        assert_eq!(tv.post("/Sessions/Capabilities/Full", can("DisplayMessage")).await.status, 204);
        assert_eq!(tv.post("/Sessions/Playing", json!({"ItemId": FILM, "PositionTicks": 1})).await.status, 204);
        kill(world, &home).await;
        assert_eq!(standing(&mut tv, "tv of 0123").await, (json!(["DisplayMessage"]), json!(FILM)));
        let at_log_in = session_of(&mut tv, "tv of alice").await;
        assert_eq!(at_log_in["NowPlayingItem"], Value::Null, "nobody plays there, and nobody would say when it ends");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_renames_itself_is_kept_without_a_key() {
    story(World::plan(2), async |world| {
        let (client, home) = client_of(world, "alice", "tv of alice").await;
        let mut tv = on(&client, "tv of 0123");
        assert_eq!(tv.post("/Sessions/Capabilities/Full", can("DisplayMessage")).await.status, 204);
        let other = world.pods_but(&home).next().expect("another pod");
        kill(world, other.name()).await;
        start_again(world, other.name()).await;
        kill(world, &home).await;
        assert_eq!(tv.get("/Users/Me").await.status, 200);
        other.until(|pod| pod.seen().iter().any(|seen| seen.path() == "/Sessions/Capabilities/Full")).await;
        assert_eq!(standing(&mut tv, "tv of 0123").await.0, json!(["DisplayMessage"]));
    })
    .await;
}

/// A telephone gives its token to the receiver that it casts to, which reports in its own name.
#[tokio::test(flavor = "multi_thread")]
async fn two_devices_with_one_token_are_told_apart() {
    story(plan(2), async |world| {
        let (mut phone, home) = client_of(world, "alice", "phone").await;
        assert_eq!(phone.post("/Sessions/Capabilities/Full", can("SetVolume")).await.status, 204);
        let mut receiver = on(&phone, "receiver");
        assert_eq!(receiver.post("/Sessions/Capabilities/Full", can("Play")).await.status, 204);
        assert_eq!(receiver.post("/Sessions/Playing", json!({"ItemId": FILM, "PositionTicks": 1})).await.status, 204);
        // The telephone plays no more, which is nothing to the receiver.
        assert_eq!(phone.post("/Sessions/Playing/Stopped", json!({"ItemId": FILM})).await.status, 204);
        kill(world, &home).await;
        assert_eq!(standing(&mut phone, "phone").await, (json!(["SetVolume"]), Value::Null));
        assert_eq!(standing(&mut phone, "receiver").await, (json!(["Play"]), json!(FILM)));
    })
    .await;
}

/// The proxy has not seen the log-in, as when it has just taken another's place: what it hears first of the client is what
/// it can do.
#[tokio::test(flavor = "multi_thread")]
async fn capabilities_reported_before_the_login_are_kept() {
    story(plan(2), async |world| {
        let (mut client, home) = stranger(world, "sofa").await;
        assert_eq!(client.post("/Sessions/Capabilities/Full", can("DisplayMessage")).await.status, 204);
        until_known(world).await;
        kill(world, &home).await;
        assert_eq!(client.get("/Users/Me").await.status, 200);
        assert_eq!(standing(&mut client, "sofa").await.0, json!(["DisplayMessage"]));
    })
    .await;
}

/// A client whose log-in the proxy has not seen, and the pod that it was at.
async fn stranger(world: &World, device: &str) -> (Client, String) {
    let mut direct = world.client().without_cookies().device(device).at(world.pod("a"));
    direct.log_in("alice").await;
    (direct.moved(world.client().without_cookies()), "a".to_owned())
}

async fn until_known(world: &World) {
    let sessions = &world.proxy.shared().sessions;
    until("the client is known", || sessions.known.count() == 1).await;
}

/// Swiftfin and the web client keep their device's id when another user signs in, and the token of the one before.
#[tokio::test(flavor = "multi_thread")]
async fn two_users_of_one_device_both_go_on() {
    story(plan(2), async |world| {
        let (mut alice, mut home) = client_of(world, "alice", "tablet").await;
        let (mut bob, _) = client_of(world, "bob", "tablet").await;
        let mut sockets = Vec::new();
        for user in [&alice, &bob] {
            sockets.push(socket_of(world, user.token.as_deref().expect("a token")).await);
        }
        for _ in 0..3 {
            kill(world, &home).await;
            for (user, name) in [(&mut alice, "alice"), (&mut bob, "bob")] {
                let me = user.get("/Users/Me").await;
                assert_eq!((me.status, me.json()["Name"].as_str()), (200, Some(name)));
            }
            for socket in &mut sockets {
                socket.send(Message::text(r#"{"MessageType":"KeepAlive"}"#)).await.expect("sent");
                next_of(socket, "KeepAlive").await;
            }
            let next = world.pods_but(&home).next().expect("another pod").name().to_owned();
            start_again(world, &home).await;
            home = next;
        }
        drop(sockets);
    })
    .await;
}
