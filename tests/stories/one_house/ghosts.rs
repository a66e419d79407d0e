//! Players without a socket (audio apps, players that only report progress) are seen and controlled where they live, and
//! leave nothing behind where they lived.

use jellyfin_sim::session_id;
use jellypin::pod::State;
use serde_json::{Value, json};

use super::house;
use crate::stories::{
    migration::{plan, revocation::at_home},
    world::{Client, World, secs, story, until_so},
};

/// In ticks.
const MINUTE: i64 = 600_000_000;

const TWO_HOURS: std::time::Duration = secs(7200);

async fn plays(client: &mut Client, film: &str, ticks: i64) {
    let report = json!({"ItemId": film, "PositionTicks": ticks});
    assert_eq!(client.post("/Sessions/Playing/Progress", report).await.status, 204);
}

/// What an administrator sees of a device: its rows.
async fn rows_of(root: &mut Client, device: &str) -> Vec<Value> {
    let list = root.get("/Sessions").await.json();
    let rows = list.as_array().expect("a list").iter();
    rows.filter(|row| row["DeviceId"] == *device).cloned().collect()
}

async fn until_gone_from(world: &World, pod: &str, device: &str) {
    world.pod(pod).until(|pod| !pod.session_devices().iter().any(|id| id == device)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_without_a_socket_is_seen_and_controlled_and_leaves_no_ghost() {
    story(house(), async |world| {
        let film = world.cluster.add_film("Long", TWO_HOURS);
        let mut radio = at_home(world, "alice", "a").await;
        let device = radio.device.clone().expect("a device");
        let mut root = at_home(world, "root", "b").await;
        let list = root.get("/Sessions").await.json();
        let row = list.as_array().expect("a list").iter().find(|row| row["DeviceId"] == *device).expect("a row");
        let id = row["Id"].as_str().expect("an id").to_owned();
        assert_eq!(id, session_id("Story", &device));
        plays(&mut radio, &film, 10 * MINUTE).await;
        let rows = rows_of(&mut root, &device).await;
        assert!(rows.len() == 1 && rows[0]["NowPlayingItem"]["Id"] == *film, "{rows:?}");
        // A pod accepts a command for it, although nobody hears that.
        assert_eq!(root.post(&format!("/Sessions/{id}/Message"), json!({"Text": "x"})).await.status, 204);

        // It moves while it plays, and the old pod lives on.
        assert_eq!(world.proxy.post_admin("/pods/main/a/drain").await.status, 202);
        until_gone_from(world, "a", &device).await;
        plays(&mut radio, &film, 20 * MINUTE).await;
        let rows = rows_of(&mut root, &device).await;
        assert!(rows.len() == 1 && rows[0]["NowPlayingItem"]["Id"] == *film, "{rows:?}");
        assert_eq!(root.post(&format!("/Sessions/{id}/Message"), json!({"Text": "x"})).await.status, 204);
        // What the old pod does by itself afterwards changes nothing.
        world.pod("a").stop_idle_players();
        assert_eq!(world.cluster.user_data("alice", &film).map(|row| row.position), Some(20 * MINUTE));
        assert!(world.cluster.tokens().contains(radio.token.as_ref().expect("a token")), "its row is kept");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_only_hung_keeps_no_ghost() {
    story(plan(2), async |world| {
        let film = world.cluster.add_film("Long", TWO_HOURS);
        let mut radio = at_home(world, "alice", "a").await;
        let device = radio.device.clone().expect("a device");
        plays(&mut radio, &film, 10 * MINUTE).await;
        world.pod("a").hang(true);
        world.until_state("a", State::Down).await;
        until_so("it plays on the other pod", async || {
            let report = json!({"ItemId": film, "PositionTicks": 20 * MINUTE});
            let answer = radio.post("/Sessions/Playing/Progress", report).await;
            answer.status == 204 && world.home(&answer) == "b"
        })
        .await;
        world.pod("a").hang(false);
        world.until_state("a", State::Ready).await;
        until_gone_from(world, "a", &device).await;
        assert!(world.pod("b").session_devices().contains(&device));
    })
    .await;
}

/// A player at a live channel of a pod, which drains; and its report. Its channel would end with the pod's session.
async fn at_live_channel_of_draining_pod(world: &World) -> (Client, Value) {
    let film = world.cluster.add_film("Long", TWO_HOURS);
    let mut radio = at_home(world, "alice", "a").await;
    let report = json!({"ItemId": film, "PositionTicks": 0, "LiveStreamId": "tuner_1"});
    assert_eq!(radio.post("/Sessions/Playing", report.clone()).await.status, 204);
    assert_eq!(world.proxy.post_admin("/pods/main/a/drain").await.status, 202);
    until_so("it lives elsewhere", async || world.home(&radio.get("/Users/Me").await) != "a").await;
    (radio, report)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_channel_keeps_its_session_until_it_is_stopped() {
    story(house(), async |world| {
        let (mut radio, report) = at_live_channel_of_draining_pod(world).await;
        let device = radio.device.clone().expect("a device");
        assert!(world.pod("a").session_devices().contains(&device), "its channel would end");
        assert_eq!(radio.post("/Sessions/Playing/Stopped", report).await.status, 204);
        until_gone_from(world, "a", &device).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_never_was_on_the_old_pod_keeps_no_ghost_there() {
    story(house(), async |world| {
        let (mut radio, report) = at_live_channel_of_draining_pod(world).await;
        let device = radio.device.clone().expect("a device");
        // Its channel keeps the session on the old pod, and so it has a socket before that ends.
        let mut socket = radio.socket("/socket").await.expect("a socket");
        assert!(world.pod("a").session_devices().contains(&device), "its channel would end");
        assert_eq!(radio.post("/Sessions/Playing/Stopped", report).await.status, 204);
        until_gone_from(world, "a", &device).await;
        socket.close(None).await.expect("an open socket");
    })
    .await;
}
