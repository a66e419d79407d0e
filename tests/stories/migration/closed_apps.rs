//! An app that was closed comes back on no other pod, until it is opened again.

use jellyfin_sim::FILM;
use serde_json::{Value, json};

use super::{client_of, drain::page, kill, plan, sockets::socket_of};
use crate::stories::world::{World, secs, story, until_so};

fn report() -> Value {
    json!({"ItemId": FILM, "PositionTicks": 1})
}

/// Waits until the proxy shows this of the session on a device.
async fn until_shown(world: &World, device: &str, key: &str, value: Value) {
    until_so("the session is shown so", async || {
        let sessions = world.proxy.ask_admin("/sessions").await.json();
        let of_device = sessions.as_array().expect("sessions").iter().find(|page| page["device_id"] == device).cloned();
        of_device.is_some_and(|page| page[key] == value)
    })
    .await;
}

/// The app was closed without a word, and is opened again after its pod has died.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_closed_app_played_is_not_replayed() {
    for farewell in [true, false] {
        story(plan(2), async |world| {
            let (mut client, home) = client_of(world, "alice", "sofa").await;
            let mut socket = socket_of(world, client.token.as_deref().expect("a token")).await;
            assert_eq!(client.post("/Sessions/Playing", report()).await.status, 204);
            until_shown(world, "sofa", "playing", json!(true)).await;
            if farewell {
                socket.close(None).await.expect("a farewell");
            }
            drop(socket);
            until_shown(world, "sofa", "playing", json!(false)).await;
            kill(world, &home).await;
            let sessions = client.get("/Sessions").await.json();
            assert_eq!(sessions[0]["NowPlayingItem"], Value::Null, "{sessions}");
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_film_goes_on_after_its_socket_was_dialled_again() {
    story(plan(2), async |world| {
        let (mut client, home) = client_of(world, "alice", "sofa").await;
        let token = client.token.clone().expect("a token");
        let first = socket_of(world, &token).await;
        assert_eq!(client.post("/Sessions/Playing", report()).await.status, 204);
        let second = socket_of(world, &token).await;
        drop(first);
        until_shown(world, "sofa", "sockets", json!(1)).await;
        kill(world, &home).await;
        let sessions = client.get("/Sessions").await.json();
        assert_eq!(sessions[0]["NowPlayingItem"]["Id"], FILM);
        drop(second);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_moves_no_absent_client() {
    story(plan(2).drain_absent(secs(1)), async |world| {
        let (alice, home) = client_of(world, "alice", "sofa").await;
        let mut bob = None;
        for number in 0..50 {
            let (client, at) = client_of(world, "bob", &format!("phone {number}")).await;
            if at == home {
                bob = Some((client, format!("phone {number}")));
                break;
            }
        }
        let (mut bob, phone) = bob.expect("a phone on the same pod");
        assert_eq!(bob.post("/Sessions/Playing", report()).await.status, 204);
        let socket = socket_of(world, alice.token.as_deref().expect("a token")).await;
        until_so("only who has a socket is there", async || page(world, &home).await["sessions"] == 1).await;
        assert_eq!(world.proxy.post_admin(&format!("/pods/main/{home}/drain")).await.status, 202);
        until_so("nobody is there", async || page(world, &home).await["sessions"] == 0).await;
        let other = world.pods_but(&home).next().expect("another pod");
        other.until(|pod| pod.open_sockets() == 1).await;
        assert!(!other.session_devices().contains(&phone), "an app that is closed");
        // The user is there again, and leaves the pod that drains.
        assert_eq!(bob.get("/Users/Me").await.status, 200);
        until_so("the user lives on the other pod", async || {
            let me = bob.get("/Users/Me").await;
            assert_eq!(me.status, 200);
            world.home(&me) == other.name()
        })
        .await;
        drop(socket);
    })
    .await;
}
