//! The next pod is told what a client plays, as long as that is true.

use jellyfin_sim::FILM;
use jellypin::sessions::SessionLookup;
use serde_json::{Value, json};

use super::{client_of, count, kill, plan};
use crate::stories::world::{Client, World, story};

fn report() -> Value {
    json!({"ItemId": FILM, "PositionTicks": 1})
}

/// What the client's session plays, as its pod shows it.
async fn now_playing(client: &mut Client) -> Value {
    client.get("/Sessions").await.json()[0]["NowPlayingItem"].clone()
}

/// A client that plays a film and can be controlled, whose pod has died.
async fn player(world: &World) -> (Client, String) {
    let (mut client, home) = client_of(world, "alice", "sofa").await;
    let capabilities = json!({"SupportedCommands": ["DisplayMessage"], "SupportsMediaControl": true});
    assert_eq!(client.post("/Sessions/Capabilities/Full", capabilities).await.status, 204);
    assert_eq!(client.post("/Sessions/Playing", report()).await.status, 204);
    kill(world, &home).await;
    (client, home)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_pod_knows_the_running_film() {
    story(plan(2), async |world| {
        let (mut client, _) = player(world).await;
        assert_eq!(now_playing(&mut client).await["Id"], FILM);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_film_that_ends_as_its_pod_dies_has_ended() {
    for _ in 0..5 {
        story(plan(2), async |world| {
            let (mut client, home) = player(world).await;
            assert_eq!(client.post("/Sessions/Playing/Stopped", report()).await.status, 204);
            let other = world.pods_but(&home).next().expect("another pod");
            other.until(|pod| count(pod, "/Sessions/Playing/Progress") == 1).await;
            assert_eq!(now_playing(&mut client).await, Value::Null);
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn capabilities_reported_as_a_pod_dies_are_kept() {
    for _ in 0..5 {
        story(plan(2), async |world| {
            let (mut client, home) = player(world).await;
            let capabilities = json!({"SupportedCommands": ["SetVolume"], "SupportsMediaControl": true});
            assert_eq!(client.post("/Sessions/Capabilities/Full", capabilities).await.status, 204);
            let other = world.pods_but(&home).next().expect("another pod");
            other.until(|pod| count(pod, "/Sessions/Playing/Progress") == 1).await;
            let sessions = client.get("/Sessions").await.json();
            assert_eq!(sessions[0]["SupportedCommands"], json!(["SetVolume"]));
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_film_runs_though_its_report_names_a_long_queue() {
    story(plan(2), async |world| {
        let (mut client, _) = client_of(world, "alice", "sofa").await;
        let known = world.proxy.shared().sessions.known.find(client.token.as_deref().expect("a token"));
        let SessionLookup::Active(session) = known else { panic!("the session is known") };
        let queued = (0..500).map(|number| json!({"Id": FILM, "PlaylistItemId": format!("playlistItem{number}")}));
        let report = json!({"ItemId": FILM, "PositionTicks": 1, "NowPlayingQueue": queued.collect::<Vec<_>>()});
        assert!(report.to_string().len() > 33 * 1024);
        assert_eq!(client.post("/Sessions/Playing", report.clone()).await.status, 204);
        assert!(session.calls.is_playing());
        assert_eq!(client.post("/Sessions/Playing/Stopped", report).await.status, 204);
        assert!(!session.calls.is_playing());
    })
    .await;
}
