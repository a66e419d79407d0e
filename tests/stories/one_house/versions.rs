//! Versions of a film, and items that keep their positions in other ways than films.

use std::time::Duration;

use http::Method;
use jellyfin_sim::{Pod, UserData};
use serde_json::json;

use super::{act, assert_done, house, one_device_on_each, property};
use crate::stories::world::{Client, World, story, until};

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: i64 = 10_000_000;
const HOUR_IN_TICKS: i64 = 3600 * SECOND;

/// A film of two hours with a second version, both in the memory of every pod.
async fn film_and_version(world: &World, name: &str, devices: &mut [Client]) -> (String, String) {
    let film = world.cluster.add_film(name, HOUR * 2);
    let version = world.cluster.add_version(&film, "another").expect("the film");
    for device in devices {
        for item in [&film, &version] {
            assert_eq!(device.get(&format!("/Items/{item}")).await.status, 200);
        }
    }
    (film, version)
}

/// The row that a living pod shows is the database's, and is as it should be.
fn is_everywhere(world: &World, item: &str, is_right: impl Fn(&UserData) -> bool) -> bool {
    let stored = world.cluster.user_data("alice", item);
    let has = |pod: &Pod| !pod.is_running() || pod.cached_user_data("alice", item) == stored;
    stored.as_ref().is_some_and(is_right) && world.pods.iter().all(has)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_plays_keeps_its_own_position_when_its_pod_dies() {
    story(house(), async |world| {
        let mut devices = one_device_on_each(world, "alice").await;
        let (film, version) = film_and_version(world, "Long", &mut devices).await;
        let device = &mut devices[0];
        let report = json!({"ItemId": film, "MediaSourceId": version, "PositionTicks": HOUR_IN_TICKS});
        assert_done(&device.post("/Sessions/Playing", report.clone()).await);
        assert_done(&device.post("/Sessions/Playing/Progress", report).await);
        world.pods[0].kill().await;
        let row = device.get(&format!("/UserItems/{version}/UserData")).await;
        assert_eq!(
            (property(&row, "/PlaybackPositionTicks"), property(&row, "/PlayCount")),
            (HOUR_IN_TICKS.into(), 1.into())
        );
        let is_right = |row: &UserData| (row.position, row.play_count, row.played) == (HOUR_IN_TICKS, 1, false);
        until("all pods have the version's position", || is_everywhere(world, &version, is_right)).await;
        let untouched = world.cluster.user_data("alice", &film).unwrap_or_default();
        assert_eq!(untouched, UserData::default(), "the film itself did not play");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_film_is_the_end_of_its_other_versions_on_every_pod() {
    story(house(), async |world| {
        let mut devices = one_device_on_each(world, "alice").await;
        for how in ["played to its end", "marked", "played to its end on a pod that dies"] {
            let (film, version) = film_and_version(world, how, &mut devices).await;
            // The version was begun on the second pod, and all know it.
            let begun = json!({"ItemId": film, "MediaSourceId": version, "PositionTicks": HOUR_IN_TICKS / 2});
            assert_done(&devices[1].post("/Sessions/Playing/Stopped", begun).await);
            let is_begun = |row: &UserData| row.position == HOUR_IN_TICKS / 2;
            until("it is begun everywhere", || is_everywhere(world, &version, is_begun)).await;

            let ended = json!({"ItemId": film, "MediaSourceId": film, "PositionTicks": HOUR_IN_TICKS * 2 - SECOND});
            assert_done(&match how {
                "marked" => act(&mut devices[0], Method::POST, &format!("/UserPlayedItems/{film}")).await,
                _ => devices[0].post("/Sessions/Playing/Stopped", ended).await,
            });
            if how.ends_with("dies") {
                world.pods[0].kill().await;
            }
            // A pod with the old row would write it over the new one.
            assert_done(&act(&mut devices[1], Method::POST, &format!("/UserFavoriteItems/{version}")).await);
            let is_over = |row: &UserData| row.played && row.position == 0;
            until(&format!("{how}: the film is over everywhere"), || is_everywhere(world, &film, is_over)).await;
            let is_kept = |row: &UserData| is_over(row) && row.favorite;
            until(&format!("{how}: so is its version"), || is_everywhere(world, &version, is_kept)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn music_audio_books_and_what_has_no_length_keep_what_the_server_keeps_when_their_pod_dies() {
    story(house(), async |world| {
        let song = world.cluster.add_song("Song", Duration::from_secs(600));
        let [begun, ended] = ["One", "Two"].map(|name| world.cluster.add_audio_book(name, HOUR));
        let endless = world.cluster.add_film_without_length("Endless");
        let mut devices = one_device_on_each(world, "alice").await;
        let rows = [
            ("a song", &song, 300, 0, true),
            ("an audio book six minutes before its end", &begun, 3240, 3240 * SECOND, false),
            ("an audio book four minutes before its end", &ended, 3360, 0, true),
            ("a film without a length", &endless, 300, 0, true),
        ];
        for (_, item, seconds, ..) in rows {
            for device in &mut devices {
                device.get(&format!("/Items/{item}")).await;
            }
            let at = |seconds: i64| json!({"ItemId": item, "PositionTicks": seconds * SECOND});
            assert_done(&devices[0].post("/Sessions/Playing", at(0)).await);
            assert_done(&devices[0].post("/Sessions/Playing/Progress", at(seconds)).await);
        }
        world.pods[0].kill().await;
        for (what, item, _, position, played) in rows {
            let row = devices[0].get(&format!("/UserItems/{item}/UserData")).await;
            let seen = ["/PlaybackPositionTicks", "/Played", "/PlayCount"].map(|name| property(&row, name));
            assert_eq!(seen, [json!(position), json!(played), json!(1)], "{what}");
            let is_right = |row: &UserData| (row.position, row.played) == (position, played);
            until(what, || is_everywhere(world, item, is_right)).await;
        }
    })
    .await;
}
