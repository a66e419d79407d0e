//! A viewer leaves a living pod: the film goes on, and its pod still gets the viewer's reports.

use std::time::{Duration, Instant};

use http::Method;
use jellyfin_sim::{FILM, Pod};
use serde_json::{Value, json};

use super::{client_of, count, kill, live_hls, live_tv, plan, player::Player, sockets::socket_of};
use crate::stories::world::{Client, World, body_of, story, until};

/// Drains the pod at once, and waits until nobody lives there.
pub(super) async fn drain(world: &World, pod: &str) {
    assert_eq!(world.proxy.post_admin(&format!("/pods/main/{pod}/drain")).await.status, 202);
    let shared = world.proxy.shared();
    let drained = world.proxy.pod(pod);
    until("nobody lives there", || shared.sessions.known.of_pod(&drained).is_empty()).await;
}

/// Requests of the pod for this path that bear all of this in their query, by their status.
fn asked(pod: &Pod, path: &str, query: &[&str]) -> Vec<u16> {
    let seen = pod.seen().into_iter();
    let is_meant = |target: &str| target.starts_with(path) && query.iter().all(|part| target.contains(part));
    seen.filter(|seen| is_meant(&seen.target)).map(|seen| seen.status).collect()
}

/// Playlists of the channel that the pod has given.
fn channels_at(pod: &Pod) -> usize {
    let seen = pod.seen().into_iter();
    seen.filter(|seen| seen.path().ends_with("/live.m3u8") && seen.status == 200).count()
}

fn id_in(target: &str) -> &str {
    target.split("LiveStreamId=").nth(1).expect("a live stream")
}

/// What a player of this channel reports.
fn report(target: &str) -> Value {
    json!({"ItemId": jellyfin_sim::CHANNEL, "PositionTicks": 1, "LiveStreamId": id_in(target)})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_starts_on_the_new_pod_before_its_viewer_leaves() {
    story(live_tv::brisk(2), async |world| {
        let (mut client, home) = client_of(world, "alice", "sofa").await;
        let socket = socket_of(world, client.token.as_deref().expect("a token")).await;
        let target = live_tv::open(&mut client).await;
        let mut player = Player::new(world, target.clone());
        player.play(6).await;
        assert_eq!(client.post("/Sessions/Playing/Progress", report(&target)).await.status, 204);
        drain(world, &home).await;
        world.pod(&home).until(|pod| pod.open_sockets() == 0).await;
        let other = world.pods_but(&home).next().expect("another pod");
        assert_eq!(channels_at(other), 1, "the player has not asked since, and need not wait");
        player.play(16).await;
        assert_eq!((player.discontinuities, count(other, &live_tv::info())), (1, 1));
        assert!(world.pod(&home).is_running());
        drop(socket);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_playlist_of_the_old_pod_does_not_win() {
    story(live_tv::brisk(2), async |world| {
        let (mut client, home) = client_of(world, "alice", "sofa").await;
        let socket = socket_of(world, client.token.as_deref().expect("a token")).await;
        let mut player = Player::new(world, live_tv::open(&mut client).await);
        player.play(6).await;
        let (left, other) = (world.pod(&home), world.pods_but(&home).next().expect("another pod"));
        let before = channels_at(left);
        left.slow_first_byte(Duration::from_secs(4));
        let leaves = async {
            left.until(|pod| asked(pod, "/videos/", &["LiveStreamId"]).len() > before).await;
            drain(world, &home).await;
            other.until(|pod| channels_at(pod) == 1).await;
            assert_eq!(channels_at(left), before, "its answer is still on its way");
        };
        tokio::join!(player.look(), leaves);
        assert_eq!(player.discontinuities, 1, "it is the other one's that the player has got");
        assert!(player.longest < Duration::from_secs(10));
        left.slow_first_byte(Duration::ZERO);
        player.play(16).await;
        assert_eq!(player.discontinuities, 1);
        drop(socket);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_closed_by_its_pod_is_opened_on_the_home() {
    story(live_tv::brisk(2), async |world| {
        let (mut client, home) = client_of(world, "alice", "sofa").await;
        let target = live_tv::open(&mut client).await;
        let mut player = Player::new(world, target.clone());
        player.play(6).await;
        drain(world, &home).await;
        player.play(8).await;
        assert_eq!(player.discontinuities, 0, "without a socket nothing ends there");
        // As that pod does when the last socket there ends, of which another replica knows.
        let mut direct = client.twin().at(world.pod(&home));
        let close = format!("/LiveStreams/Close?liveStreamId={}", id_in(&target));
        assert_eq!(direct.post(&close, json!({})).await.status, 204);
        drop(direct);
        player.play(16).await;
        assert_eq!(player.discontinuities, 1);
        // On the viewer's home the viewer may close it.
        assert_eq!(client.post(&close, json!({})).await.status, 204);
        assert_eq!(client.get(&target).await.status, 404);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_goes_on_when_its_viewer_joins_a_group_on_the_leader() {
    story(live_tv::brisk(3), async |world| {
        let pods = world.proxy.ask_admin("/pods").await.json();
        let leads = pods.as_array().expect("pods").iter().find(|pod| pod["leads"] == true).expect("a leader");
        let leader = leads["name"].as_str().expect("a name").to_owned();
        let mut viewer = None;
        for number in 0.. {
            let (client, home) = client_of(world, &format!("user{number}"), &format!("device {number}")).await;
            if home != leader {
                viewer = Some((client, home));
                break;
            }
        }
        let (mut client, home) = viewer.expect("somebody lives elsewhere");
        let socket = socket_of(world, client.token.as_deref().expect("a token")).await;
        let mut player = Player::new(world, live_tv::open(&mut client).await);
        player.play(6).await;
        assert_eq!(client.post("/SyncPlay/New", json!({"GroupName": "evening"})).await.status, 200);
        world.pod(&home).until(|pod| pod.open_sockets() == 0).await;
        player.play(16).await;
        assert_eq!(player.discontinuities, 1);
        drop(socket);
    })
    .await;
}

/// A client that plays a film of unknown length, which stays on its pod when the client lives on another.
async fn with_film_on_old_pod(world: &World) -> (Client, Player, String) {
    let (client, home) = client_of(world, "alice", "sofa").await;
    let mut player = Player::new(world, live_hls::target(&client));
    player.play(6).await;
    drain(world, &home).await;
    player.play(8).await;
    (client, player, home)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_film_stays_on_its_pod_until_that_ends() {
    story(live_hls::brisk(plan(2)), async |world| {
        let (_client, mut player, home) = with_film_on_old_pod(world).await;
        let other = world.pods_but(&home).next().expect("another pod");
        assert_eq!(live_hls::playlists(other), 0);
        kill(world, &home).await;
        player.play(20).await;
        player.look().await;
        assert!(player.has_ended && player.gaps == 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_playback_report_reaches_the_pod_that_transcodes() {
    let idle = Duration::from_secs(3);
    story(live_hls::brisk(plan(2)).build(move |pod| pod.job_idle(idle)), async |world| {
        let (mut client, mut player, home) = with_film_on_old_pod(world).await;
        let other = world.pods_but(&home).next().expect("another pod").name().to_owned();
        let report = json!({"ItemId": FILM, "PlaySessionId": "ps1", "PositionTicks": 1, "IsPaused": true});
        let (ping, end) = ("/Sessions/Playing/Ping", "/Videos/ActiveEncodings");
        let (paused, mut pings) = (Instant::now(), 0);
        while paused.elapsed() < idle * 2 {
            let progress = client.post("/Sessions/Playing/Progress", report.clone()).await;
            assert_eq!((progress.status, world.home(&progress)), (204, &*other));
            pings += 1;
            world.pod(&home).until(|pod| asked(pod, ping, &["playSessionId=ps1"]) == vec![204; pings]).await;
        }
        player.play(10).await;
        assert_eq!(live_hls::playlists(world.pods_but(&home).next().expect("it")), 0, "its job has outlived the pause");
        let another = json!({"ItemId": FILM, "PlaySessionId": "ps2", "PositionTicks": 1});
        assert_eq!(client.post("/Sessions/Playing/Stopped", another).await.status, 204);
        let stopped = client.post("/Sessions/Playing/Stopped", report).await;
        assert_eq!((stopped.status, world.home(&stopped)), (204, &*other));
        world.pod(&home).until(|pod| asked(pod, end, &["deviceId=sofa", "playSessionId=ps1"]) == [204]).await;
        assert_eq!(asked(world.pod(&home), end, &[]), [204], "of that film alone");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_stream_is_closed_where_it_was_opened() {
    story(live_tv::brisk(2), async |world| {
        let (mut client, home) = client_of(world, "alice", "sofa").await;
        let target = live_tv::open(&mut client).await;
        drain(world, &home).await;
        // Another viewer has the same stream open, under the same id, where the first one lives now.
        let (mut second, other) = client_of(world, "bob", "kitchen").await;
        assert_ne!(other, home);
        let same = live_tv::open(&mut second).await;
        assert_eq!(id_in(&same), id_in(&target));
        let close = format!("/LiveStreams/Close?liveStreamId={}", id_in(&target));
        let request = client.request(Method::POST, &close);
        let closed = client.send(request, body_of("")).await.expect("an answer");
        assert_eq!((closed.status, world.home(&closed)), (204, &*home));
        assert_eq!(second.get(&same.replace("sofa", "kitchen")).await.status, 200, "the other one watches on");
    })
    .await;
}
