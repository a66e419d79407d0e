//! Favourites, what was played, and positions: seen by all devices of a user, and lost by none.

use std::time::Duration;

use http::Method;
use jellyfin_sim::Pod;
use serde_json::json;

use super::{act, assert_done, devices_of, house, one_device_on_each, property, seen_by};
use crate::stories::{
    wire,
    world::{Client, story, until, until_within},
};

const DEVICES: usize = 8;
const TWO_HOURS: Duration = Duration::from_secs(7200);
const HOUR_IN_TICKS: i64 = 36_000_000_000;

#[tokio::test]
async fn a_favourite_is_seen_by_every_device() {
    story(house(), async |world| {
        let film = world.cluster.add_film("Long", TWO_HOURS);
        let mut devices = devices_of(world, "alice", DEVICES).await;
        let (by_id, in_list) = (format!("/Items/{film}"), format!("/Items?ids={film}"));
        for device in &mut devices {
            assert_eq!(property(&device.get(&by_id).await, "/UserData/IsFavorite"), false);
            assert_eq!(property(&device.get(&in_list).await, "/Items/0/UserData/IsFavorite"), false);
        }
        assert_done(&act(&mut devices[0], Method::POST, &format!("/UserFavoriteItems/{film}")).await);
        let count = seen_by(&mut devices, &by_id, |answer| property(answer, "/UserData/IsFavorite") == true).await;
        let listed = |answer: &_| property(answer, "/Items/0/UserData/IsFavorite") == true;
        let in_lists = seen_by(&mut devices, &in_list, listed).await;
        assert_eq!((count, in_lists), (DEVICES, DEVICES));
    })
    .await;
}

#[tokio::test]
async fn a_favourite_survives_playback_on_every_device() {
    story(house(), async |world| {
        let film = world.cluster.add_film("Long", TWO_HOURS);
        let mut devices = devices_of(world, "alice", DEVICES).await;
        for device in &mut devices {
            device.get(&format!("/Items/{film}")).await;
        }
        assert_done(&act(&mut devices[0], Method::POST, &format!("/UserFavoriteItems/{film}")).await);
        for device in &mut devices[1..] {
            assert_done(&device.post("/Sessions/Playing", json!({"ItemId": film, "PositionTicks": 0})).await);
            let stop = json!({"ItemId": film, "PositionTicks": HOUR_IN_TICKS});
            assert_done(&device.post("/Sessions/Playing/Stopped", stop).await);
        }
        let row = world.cluster.user_data("alice", &film).expect("a row");
        assert!(row.favorite, "{row:?}");
        assert_eq!((row.position, row.play_count), (HOUR_IN_TICKS, DEVICES as i64 - 1));
    })
    .await;
}

#[tokio::test]
async fn a_played_mark_is_seen_by_every_device() {
    story(house(), async |world| {
        let film = world.cluster.add_film("Long", TWO_HOURS);
        let mut devices = devices_of(world, "alice", DEVICES).await;
        let path = format!("/UserItems/{film}/UserData");
        for device in &mut devices {
            device.get(&path).await;
        }
        assert_done(&act(&mut devices[1], Method::POST, &format!("/UserPlayedItems/{film}")).await);
        assert_eq!(seen_by(&mut devices, &path, |answer| property(answer, "/Played") == true).await, DEVICES);
        assert_done(&act(&mut devices[2], Method::DELETE, &format!("/UserPlayedItems/{film}")).await);
        let is_unplayed = |answer: &_| property(answer, "/Played") == false && property(answer, "/PlayCount") == 0;
        assert_eq!(seen_by(&mut devices, &path, is_unplayed).await, DEVICES);
    })
    .await;
}

#[tokio::test]
async fn a_pods_own_stop_of_an_idle_player_loses_nothing() {
    story(house(), async |world| {
        let film = world.cluster.add_film("Long", TWO_HOURS);
        let mut devices = devices_of(world, "alice", DEVICES).await;
        let begin = json!({"ItemId": film, "PositionTicks": HOUR_IN_TICKS / 4, "IsPaused": true});
        assert_done(&devices[0].post("/Sessions/Playing", begin.clone()).await);
        assert_done(&devices[0].post("/Sessions/Playing/Progress", begin).await);
        // The device's app is gone without a word, and the user marks the film elsewhere, on another pod if there is one.
        let first = devices[0].device.clone().expect("a device");
        let home = world.pods.iter().find(|pod| pod.session_devices().contains(&first)).expect("its pod");
        let is_there = |device: &Client| device.device.as_ref().is_some_and(|id| home.session_devices().contains(id));
        let elsewhere = devices.iter().position(|device| !is_there(device)).unwrap_or(1);
        assert_done(&act(&mut devices[elsewhere], Method::POST, &format!("/UserFavoriteItems/{film}")).await);
        let is_told = |pod: &Pod| pod.cached_user_data("alice", &film).is_some_and(|row| row.favorite);
        until("every pod knows it", || world.pods.iter().all(is_told)).await;
        for pod in &world.pods {
            pod.stop_idle_players();
        }
        assert!(world.cluster.user_data("alice", &film).is_some_and(|row| row.favorite));
    })
    .await;
}

#[tokio::test]
async fn who_names_another_user_keeps_no_pod_from_hearing_of_that_users_writes() {
    story(house().spread_users(&["alice"]).uncounted(), async |world| {
        let film = world.cluster.add_film("Long", TWO_HOURS);
        let mut devices = one_device_on_each(world, "alice").await;
        let mut bob = world.client().device("tv");
        let logged_in = bob.log_in("bob").await;
        let home = world.pod(world.home(&logged_in));
        let (alice, token) = (world.cluster.user_id("alice").expect("alice"), bob.token.clone().expect("a token"));
        // Its body does not end.
        let mut open = wire::client(world).await;
        let path = format!("/UserItems/{film}/UserData");
        let target = format!("{path}?userId={alice}");
        let fields = format!("Authorization: MediaBrowser Token=\"{token}\"\r\nContent-Type: application/json\r\n");
        open.send(format!("POST {target} HTTP/1.1\r\nHost: h\r\n{fields}Content-Length: 1000\r\n\r\n ")).await;
        home.until(|pod| pod.seen().iter().any(|seen| seen.path() == path)).await;
        let elsewhere = world.pods.iter().position(|pod| pod.name() != home.name()).expect("another pod");
        assert_done(&act(&mut devices[elsewhere], Method::POST, &format!("/UserFavoriteItems/{film}")).await);
        let is_told = || home.cached_user_data("alice", &film).is_some_and(|row| row.favorite);
        until_within(Duration::from_secs(2), "bob's pod knows it", is_told).await;
        drop(open);
    })
    .await;
}
