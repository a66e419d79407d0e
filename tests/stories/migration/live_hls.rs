//! A film of unknown length, played by live HLS, goes on on another pod: under the same names, from where it was.

use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use http_body_util::BodyExt;
use jellyfin_sim::{FILM, Generation, Pod};

use super::{client_of, count, kill, plan, player::Player, start_again};
use crate::stories::world::{Client, Failed, Plan, World, body_of, secs, story};

pub(super) fn brisk(plan: Plan) -> Plan {
    plan.build(|pod| pod.live_segment_every(Duration::from_millis(100)))
}

pub(super) fn target(client: &Client) -> String {
    let token = client.token.as_deref().expect("a token");
    format!("/Videos/{FILM}/live.m3u8?DeviceId=sofa&PlaySessionId=ps1&ApiKey={token}")
}

/// Requests of the pod for live playlists.
pub(super) fn playlists(pod: &Pod) -> usize {
    count(pod, &format!("/Videos/{FILM}/live.m3u8"))
}

/// The pod that answers the film's segments.
pub(super) fn playing(world: &World) -> String {
    let segments =
        |pod: &&Pod| pod.seen().iter().filter(|seen| seen.path().contains("/hls/") && seen.status == 200).count();
    world.pods.iter().max_by_key(segments).expect("a pod").name().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_come_in_order_through_two_deaths() {
    story(brisk(plan(3)), async |world| {
        let (client, mut home) = client_of(world, "alice", "sofa").await;
        let mut player = Player::new(world, target(&client));
        for until in [8, 14] {
            player.play(until).await;
            world.pods.iter().for_each(Pod::clear_seen);
            world.pod(&home).kill().await;
            player.play(until + 2).await;
            let next = playing(world);
            assert_ne!(next, home);
            home = next;
        }
        player.play(20).await;
        player.look().await;
        assert!(player.has_ended && player.gaps == 0 && player.discontinuities == 0);
        println!("live HLS through two deaths: the longest wait for an answer was {:?}", player.longest);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_before_any_playlist_start_the_job() {
    story(brisk(plan(2)), async |world| {
        let (client, home) = client_of(world, "alice", "sofa").await;
        let mut player = Player::new(world, target(&client));
        player.play(8).await;
        kill(world, &home).await;
        let paths: Vec<String> = (4..8).map(|number| player.url(number)).collect();
        let asked = paths.iter().map(|path| {
            let mut client = world.client().without_cookies();
            async move { client.get(path).await.status }
        });
        assert_eq!(join_all(asked).await, [200; 4]);
        player.play(20).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_still_being_written_is_waited_for() {
    // So slowly that a client that asks again and again meets every segment half written.
    story(plan(2).build(|pod| pod.live_segment_every(Duration::from_millis(400))), async |world| {
        let (client, home) = client_of(world, "alice", "sofa").await;
        let mut player = Player::new(world, target(&client));
        player.look_until(8).await;
        kill(world, &home).await;
        player.play(8).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_come_in_order_on_10_11() {
    story(brisk(plan(2).build(|pod| pod.generation(Generation::V10_11))), async |world| {
        let (client, home) = client_of(world, "alice", "sofa").await;
        let mut player = Player::new(world, target(&client));
        player.play(6).await;
        world.pod(&home).kill().await;
        player.play(20).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_the_home_lacks_is_a_404() {
    story(plan(2), async |world| {
        let (mut client, _) = client_of(world, "alice", "sofa").await;
        let mut player = Player::new(world, target(&client));
        player.look().await;
        let beyond = player.url(0).replace("0.ts", "19.ts");
        assert_eq!(client.get(&beyond).await.status, 404, "as a pod says it");
        let request = client.request(Method::DELETE, "/Videos/ActiveEncodings?deviceId=sofa&playSessionId=ps1");
        assert_eq!(client.send(request, body_of("")).await.expect("an answer").status, 204);
        assert_eq!(client.get(&player.url(0)).await.status, 404, "the client has ended it");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_gets_a_broken_connection_instead_of_an_error() {
    story(brisk(World::plan(2)).hold(secs(1)), async |world| {
        let (client, home) = client_of(world, "alice", "sofa").await;
        let mut player = Player::new(world, target(&client));
        player.play(6).await;
        kill(world, &home).await;
        let mut asking = world.client().without_cookies();
        let request = asking.request(Method::GET, &player.url(5));
        let answer = asking.send(request, body_of("")).await;
        assert!(matches!(answer, Err(Failed::NoAnswer)), "{answer:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_single_pod_goes_on_with_the_film_without_a_key() {
    story(brisk(World::plan(1)), async |world| {
        let (client, home) = client_of(world, "alice", "sofa").await;
        let mut player = Player::new(world, target(&client));
        player.play(8).await;
        kill(world, &home).await;
        start_again(world, &home).await;
        player.play(20).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_and_the_pings_of_a_job_go_to_its_pod() {
    story(brisk(plan(2)), async |world| {
        let (mut client, home) = client_of(world, "alice", "sofa").await;
        let mut player = Player::new(world, target(&client));
        player.play(6).await;
        kill(world, &home).await;
        player.play(10).await;
        start_again(world, &home).await;
        let other = world.pods_but(&home).next().expect("another pod");
        let ping = client.request(Method::POST, "/Sessions/Playing/Ping?playSessionId=ps1");
        let ping = client.send(ping, body_of("")).await.expect("an answer");
        assert_eq!((ping.status, world.home(&ping)), (204, other.name()));
        let end = client.request(Method::DELETE, "/Videos/ActiveEncodings?deviceId=sofa&playSessionId=ps1");
        let end = client.send(end, body_of("")).await.expect("an answer");
        assert_eq!((end.status, world.home(&end)), (204, other.name()));
        assert_eq!(client.get(&player.url(0)).await.status, 404, "the job has ended");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_goes_to_the_pod_of_its_job_not_of_the_cookie() {
    story(brisk(plan(2)), async |world| {
        let mut browser = world.client().device("sofa");
        let log_in = browser.log_in("alice").await;
        let home = world.home(&log_in).to_owned();
        let mut player = Player::new(world, target(&browser));
        player.play(6).await;
        kill(world, &home).await;
        player.play(8).await;
        start_again(world, &home).await;
        let answer = browser.get(&player.url(7)).await;
        assert_eq!(answer.status, 200, "its cookie names the pod that came back");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_session_gets_no_job() {
    story(brisk(plan(2)).hold(secs(1)), async |world| {
        let (mut client, home) = client_of(world, "alice", "sofa").await;
        let mut player = Player::new(world, target(&client));
        player.play(6).await;
        assert_eq!(client.post("/Sessions/Logout", serde_json::json!({})).await.status, 204);
        kill(world, &home).await;
        let mut asking = world.client().without_cookies();
        let request = asking.request(Method::GET, &player.url(5));
        let answer = asking.open(request, body_of("").boxed_unsync()).await;
        assert!(matches!(answer, Err(Failed::NoAnswer)), "{answer:?}");
        let other = world.pods_but(&home).next().expect("another pod");
        assert_eq!(
            other.seen().iter().filter(|seen| seen.status == 200 && seen.path().contains("live.m3u8")).count(),
            0
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_of_an_unknown_job_is_looked_up_once() {
    story(brisk(plan(3)), async |world| {
        let replica = world.replica(|_| {}).await;
        let mut elsewhere = 0;
        for number in 0..6 {
            let (client, home) = client_of(world, &format!("user{number}"), &format!("device {number}")).await;
            let mut player = Player::new(world, target(&client).replace("ps1", &format!("ps{number}")));
            player.play(2).await;
            let mut stranger = replica.client().without_cookies();
            let first = stranger.get(&player.url(0)).await;
            assert_eq!(first.status, 200);
            let asked = world.saw(&first).len();
            elsewhere += usize::from(asked > 1);
            let second = stranger.get(&player.url(1)).await;
            assert_eq!((second.status, world.home(&second)), (200, &*home), "it is known by now");
        }
        assert!(elsewhere > 0, "somebody's hash names another pod");
        let nobody = format!("/Videos/{FILM}/hls/{0}/{0}0.ts", "0".repeat(32));
        let answer = replica.client().without_cookies().get(&nobody).await;
        assert_eq!((answer.status, answer.text()), (404, "\"Hls segment not found.\""), "as the last pod says it");
        assert_eq!(world.saw(&answer).len(), 3, "each was asked once");
    })
    .await;
}
