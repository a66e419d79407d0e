//! Users' data when a user comes to another pod, when a pod hangs, and by whose right it is told.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use http::Method;
use jellyfin_sim::Pod;
use jellypin::pod::State;
use serde_json::json;

use super::{act, assert_done, house, is_of_proxy, one_device_on_each, property};
use crate::stories::world::{story, until, until_so, until_within};

const TWO_HOURS: Duration = Duration::from_secs(7200);
const HOUR_IN_TICKS: i64 = 36_000_000_000;

/// The calls by which the proxy asked or told a pod.
fn calls(pod: &Pod) -> Vec<String> {
    let told = pod.seen().into_iter().filter(is_of_proxy).filter(|seen| seen.path().starts_with("/UserItems/"));
    told.map(|seen| format!("{} {}", seen.method, seen.path().split('/').next_back().unwrap_or_default())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_death_of_a_pod_the_first_read_on_the_next_one_is_right() {
    story(house(), async |world| {
        let film = world.cluster.add_film("Long", TWO_HOURS);
        let mut devices = one_device_on_each(world, "alice").await;
        for device in &mut devices {
            device.get(&format!("/Items/{film}")).await;
        }
        // Only one device is used from here on: the others have left old rows on their pods.
        let device = &mut devices[0];
        assert_done(&act(device, Method::POST, &format!("/UserFavoriteItems/{film}")).await);
        assert_done(&device.post("/Sessions/Playing", json!({"ItemId": film, "PositionTicks": 0})).await);
        let report = json!({"ItemId": film, "PositionTicks": HOUR_IN_TICKS});
        let answer = device.post("/Sessions/Playing/Progress", report).await;
        assert_done(&answer);
        let home = world.home(&answer).to_owned();
        world.pod(&home).kill().await;
        let next = device.get(&format!("/UserItems/{film}/UserData")).await;
        assert_eq!(next.status, 200);
        assert_eq!((property(&next, "/IsFavorite"), property(&next, "/PlayCount")), (json!(true), json!(1)));
        assert_eq!(property(&next, "/PlaybackPositionTicks"), HOUR_IN_TICKS);
        let row = world.cluster.user_data("alice", &film).expect("a row");
        assert_eq!((row.favorite, row.position, row.play_count), (true, HOUR_IN_TICKS, 1));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_report_that_the_next_pod_is_told_undoes_no_later_mark() {
    story(house(), async |world| {
        let film = world.cluster.add_film("Long", TWO_HOURS);
        let mut devices = one_device_on_each(world, "alice").await;
        for device in &mut devices {
            device.get(&format!("/Items/{film}")).await;
        }
        // The first device has paused the film; the user marks it as played on another one.
        let report = json!({"ItemId": film, "PositionTicks": HOUR_IN_TICKS, "IsPaused": true});
        assert_done(&devices[0].post("/Sessions/Playing", report.clone()).await);
        let answer = devices[0].post("/Sessions/Playing/Progress", report).await;
        let home = world.home(&answer).to_owned();
        assert_done(&act(&mut devices[1], Method::POST, &format!("/UserPlayedItems/{film}")).await);
        world.pod(&home).kill().await;
        let next = devices[0].get(&format!("/UserItems/{film}/UserData")).await;
        assert_eq!((property(&next, "/Played"), property(&next, "/PlaybackPositionTicks")), (json!(true), json!(0)));
        let row = world.cluster.user_data("alice", &film).expect("a row");
        assert_eq!((row.played, row.position), (true, 0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_on_other_pods_hear_of_a_change() {
    story(house().build(|pod| pod.keep_alive(Duration::from_secs(6))), async |world| {
        let film = world.cluster.add_film("Long", TWO_HOURS);
        let mut devices = one_device_on_each(world, "alice").await;
        let mut socket = devices[1].socket("/socket").await.expect("a socket");
        assert_done(&act(&mut devices[0], Method::POST, &format!("/UserFavoriteItems/{film}")).await);
        let heard = async {
            loop {
                let message = socket.next().await.expect("a message").expect("a message").into_text().expect("text");
                if message.contains("UserDataChanged") && message.contains(&film) {
                    return message.contains("\"IsFavorite\":true");
                }
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(10), heard).await.expect("in time"));
        drop(socket);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_favourite_costs_one_read_and_one_call_for_each_other_pod_and_a_film_no_more_than_its_ends() {
    story(house(), async |world| {
        let film = world.cluster.add_film("Long", TWO_HOURS);
        let mut device = world.client().without_cookies().device("sofa");
        device.log_in("alice").await;
        let answer = act(&mut device, Method::POST, &format!("/UserFavoriteItems/{film}")).await;
        let home = world.home(&answer).to_owned();
        until("both other pods are told", || world.pods_but(&home).all(|pod| calls(pod) == ["POST UserData"])).await;
        assert_eq!(calls(world.pod(&home)), ["GET UserData"]);
        world.pods.iter().for_each(Pod::clear_seen);

        let report = |minute: i64| json!({"ItemId": film, "PositionTicks": minute * HOUR_IN_TICKS / 60});
        assert_done(&device.post("/Sessions/Playing", report(0)).await);
        until("the play is counted everywhere", || world.pods_but(&home).all(|pod| !calls(pod).is_empty())).await;
        for minute in 10..40 {
            assert_done(&device.post("/Sessions/Playing/Progress", report(minute)).await);
        }
        assert_done(&device.post("/Sessions/Playing/Stopped", report(40)).await);
        let is_told =
            |pod: &Pod| pod.cached_user_data("alice", &film).is_some_and(|row| row.position == 40 * HOUR_IN_TICKS / 60);
        until("the position is known everywhere", || world.pods.iter().all(is_told)).await;
        let count: usize = world.pods.iter().map(|pod| calls(pod).len()).sum();
        println!("a film with 30 reports of progress on three pods: {count} calls");
        // A report that meets the telling of the begin lets the pods' rows be compared once more.
        assert!((6..=9).contains(&count), "{count}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pod_refuses_reaches_no_other_pod() {
    story(house(), async |world| {
        let film = world.cluster.add_film("Long", TWO_HOURS);
        let mut device = world.client().without_cookies().device("sofa");
        device.log_in("alice").await;
        let bob = world.cluster.user_id("bob").expect("bob");
        for (method, path) in [
            (Method::POST, format!("/UserFavoriteItems/{film}?userId={bob}")),
            (Method::DELETE, format!("/UserPlayedItems/{film}?userId={bob}")),
            (Method::POST, format!("/UserFavoriteItems/{bob}")),
            (Method::POST, format!("/Users/{bob}/FavoriteItems/{film}")),
        ] {
            let answer = act(&mut device, method, &path).await;
            assert!(answer.status >= 400, "{path}: {}", answer.status);
        }
        let mut stranger = world.client();
        stranger.token = Some("0123456789abcdef0123456789abcdef".to_owned());
        assert_eq!(act(&mut stranger, Method::POST, &format!("/UserFavoriteItems/{film}")).await.status, 401);
        // An administrator may write another user's data, and it reaches all.
        let mut root = world.client().device("desk");
        root.log_in("root").await;
        assert_done(&act(&mut root, Method::POST, &format!("/UserFavoriteItems/{film}?userId={bob}")).await);
        let is_told = |pod: &Pod| pod.cached_user_data("bob", &film).is_some_and(|row| row.favorite);
        until("it is known everywhere", || world.pods.iter().all(is_told)).await;
        let count: usize = world.pods.iter().map(|pod| calls(pod).len()).sum();
        assert_eq!(count, 3, "only the administrator's write was carried");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_hangs_keeps_no_other_pod_from_hearing_and_hears_later() {
    story(house(), async |world| {
        let film = world.cluster.add_film("Long", TWO_HOURS);
        let mut devices = one_device_on_each(world, "alice").await;
        let mut place = Vec::new();
        for device in &mut devices {
            let answer = device.get(&format!("/Items/{film}")).await;
            place.push(world.home(&answer).to_owned());
        }
        world.pod(&place[2]).hang(true);
        assert_done(&act(&mut devices[0], Method::POST, &format!("/UserFavoriteItems/{film}")).await);
        let began = Instant::now();
        let seen = devices[1].get(&format!("/Items/{film}")).await;
        assert_eq!(property(&seen, "/UserData/IsFavorite"), true);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        world.pod(&place[2]).hang(false);
        world.until_state(&place[2], State::Ready).await;
        let is_told = || world.pod(&place[2]).cached_user_data("alice", &film).is_some_and(|row| row.favorite);
        until_within(Duration::from_secs(40), "it hears later", is_told).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn switched_off_nothing_is_told() {
    story(house().in_step("off"), async |world| {
        let film = world.cluster.add_film("Long", TWO_HOURS);
        let mut devices = one_device_on_each(world, "alice").await;
        for device in &mut devices {
            device.get(&format!("/Items/{film}")).await;
        }
        assert_done(&act(&mut devices[0], Method::POST, &format!("/UserFavoriteItems/{film}")).await);
        let seen = devices[1].get(&format!("/Items/{film}")).await;
        assert_eq!(property(&seen, "/UserData/IsFavorite"), false, "as the pods are");
        assert!(world.pods.iter().all(|pod| calls(pod).is_empty()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_through_one_replica_is_read_through_another() {
    story(house().keys(&["0123456789abcdef0123456789abcdef"]), async |world| {
        let other = world.replica(|_| {}).await;
        let film = world.cluster.add_film("Long", TWO_HOURS);
        let mut devices = one_device_on_each(world, "alice").await;
        let mut elsewhere = Vec::new();
        for device in &mut devices {
            let mut moved = device.moved_to(&other);
            let answer = moved.get(&format!("/Items/{film}")).await;
            assert_eq!(property(&answer, "/UserData/IsFavorite"), false);
            elsewhere.push(moved);
        }
        let began = Instant::now();
        assert_done(&act(&mut devices[0], Method::POST, &format!("/UserFavoriteItems/{film}")).await);
        for device in &mut elsewhere {
            until_so("it is seen through the other replica", async || {
                property(&device.get(&format!("/Items/{film}")).await, "/UserData/IsFavorite") == true
            })
            .await;
        }
        println!("seen through another replica after {:?}", began.elapsed());
    })
    .await;
}
