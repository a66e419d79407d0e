//! Every pair of writes of one user on two pods, in every order, ends as on a single pod.

use std::time::Duration;

use http::Method;
use jellyfin_sim::{Generation, UserData};
use serde_json::json;

use super::{act, assert_done, house, one_device_on_each, property};
use crate::stories::world::{Client, Plan, World, story, until};

const TWO_HOURS: Duration = Duration::from_secs(7200);
const HOUR_IN_TICKS: i64 = 36_000_000_000;

/// A kind of write of a user's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Favourite,
    Like,
    NoRating,
    Played,
    Unplayed,
    Start,
    Progress,
    Stop,
    Update,
}

use Kind::{Favourite, Like, NoRating, Played, Progress, Start, Stop, Unplayed, Update};

const KINDS: [Kind; 9] = [Favourite, Like, NoRating, Played, Unplayed, Start, Progress, Stop, Update];

async fn write(device: &mut Client, kind: Kind, film: &str) {
    let at = |ticks: i64| json!({"ItemId": film, "PositionTicks": ticks});
    let answer = match kind {
        Favourite => act(device, Method::POST, &format!("/UserFavoriteItems/{film}")).await,
        Like => act(device, Method::POST, &format!("/UserItems/{film}/Rating?likes=true")).await,
        NoRating => act(device, Method::DELETE, &format!("/UserItems/{film}/Rating")).await,
        Played => act(device, Method::POST, &format!("/UserPlayedItems/{film}")).await,
        Unplayed => act(device, Method::DELETE, &format!("/UserPlayedItems/{film}")).await,
        Start => device.post("/Sessions/Playing", at(0)).await,
        Progress => device.post("/Sessions/Playing/Progress", at(HOUR_IN_TICKS)).await,
        Stop => device.post("/Sessions/Playing/Stopped", at(HOUR_IN_TICKS / 2)).await,
        Update => {
            let update = json!({"IsFavorite": true, "PlaybackPositionTicks": HOUR_IN_TICKS / 3, "Rating": 3.0});
            device.post(&format!("/UserItems/{film}/UserData"), update).await
        }
    };
    assert_done(&answer);
}

/// The row but for the time of the last play, which no two worlds share.
fn timeless(row: Option<UserData>) -> UserData {
    let row = row.unwrap_or_default();
    UserData { last_played: row.last_played.map(|_| "then".to_owned()), ..row }
}

/// Every pair, and the devices by which it is written.
fn pairs() -> impl Iterator<Item = (Kind, Kind, [usize; 2])> {
    let of = |first: Kind| KINDS.into_iter().map(move |second| (first, second));
    let pairs = KINDS.into_iter().flat_map(of);
    pairs.flat_map(|(first, second)| [[0, 0], [0, 1]].map(|places| (first, second, places)))
}

/// The rows that a single pod has after each pair.
async fn on_one_pod() -> Vec<UserData> {
    story(World::plan(1).with_api_key(), async |world| {
        let mut devices = one_device_on_each(world, "alice").await;
        let mut rows = Vec::new();
        for (first, second, places) in pairs() {
            let film = world.cluster.add_film(&format!("{first:?} {second:?} {places:?}"), TWO_HOURS);
            for kind in [first, second] {
                write(&mut devices[0], kind, &film).await;
            }
            rows.push(timeless(world.cluster.user_data("alice", &film)));
        }
        rows
    })
    .await
}

async fn every_pair(plan: Plan) {
    let expected = on_one_pod().await;
    story(plan, async |world| {
        let mut devices = one_device_on_each(world, "alice").await;
        let mut films = Vec::new();
        for ((first, second, places), expected) in pairs().zip(&expected) {
            let name = format!("{first:?}, then {second:?}, by {places:?}");
            let film = world.cluster.add_film(&name, TWO_HOURS);
            // Every pod has the row in memory, from which it would write an old one.
            for device in &mut devices {
                device.get(&format!("/Items/{film}")).await;
            }
            for (kind, place) in [(first, places[0]), (second, places[1])] {
                write(&mut devices[place], kind, &film).await;
            }
            films.push((film, name, expected));
        }
        for (film, name, expected) in &films {
            // The next read is right on each pod.
            for device in &mut devices {
                let row = device.get(&format!("/UserItems/{film}/UserData")).await;
                assert_eq!(property(&row, "/IsFavorite"), expected.favorite, "{name}");
                assert_eq!(property(&row, "/Played"), expected.played, "{name}");
                assert_eq!(property(&row, "/PlaybackPositionTicks"), expected.position, "{name}");
                assert_eq!(property(&row, "/PlayCount"), expected.play_count, "{name}");
                assert_eq!(property(&row, "/Rating").as_f64(), expected.rating, "{name}");
            }
            assert_eq!(&&timeless(world.cluster.user_data("alice", film)), expected, "{name}");
            until(name, || {
                let stored = world.cluster.user_data("alice", film);
                world.pods.iter().all(|pod| pod.cached_user_data("alice", film) == stored)
            })
            .await;
        }
        // A later play on any pod leaves the rest as it is.
        for (film, name, expected) in films.iter().step_by(7) {
            for device in &mut devices {
                write(device, Start, film).await;
                write(device, Stop, film).await;
            }
            let row = timeless(world.cluster.user_data("alice", film));
            let played = UserData {
                play_count: expected.play_count + 3,
                position: HOUR_IN_TICKS / 2,
                played: false,
                last_played: Some("then".to_owned()),
                ..(*expected).clone()
            };
            assert_eq!(row, played, "{name}");
        }
        println!("{} pairs of writes end as on one pod", films.len());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pair_of_writes_on_two_pods_ends_as_on_one() {
    every_pair(house()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pair_of_writes_on_two_pods_of_10_11_ends_as_on_one() {
    every_pair(house().build(|pod| pod.generation(Generation::V10_11))).await;
}
