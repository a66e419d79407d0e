//! A live channel goes on on another pod: opened there, and behind a discontinuity in the list that the player has.

use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use jellyfin_sim::{CHANNEL, Pod};
use serde_json::json;

use super::{client_of, count, kill, live_hls::playing, plan, player::Player};
use crate::stories::world::{Client, Failed, body_of, story};

pub(super) fn brisk(pods: usize) -> crate::stories::world::Plan {
    plan(pods).build(|pod| pod.live_segment_every(Duration::from_millis(100)))
}

/// Opens the channel as an app does, and gives the playlist's address.
pub(super) async fn open(client: &mut Client) -> String {
    let info = client.post(&info(), json!({"AutoOpenLiveStream": true})).await.json();
    playlist_in(&info, client.token.as_deref().expect("a token"))
}

pub(super) fn playlist_in(info: &serde_json::Value, token: &str) -> String {
    let source = &info["MediaSources"][0];
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    let (stream, id, play_session) = (text(&source["LiveStreamId"]), text(&source["Id"]), text(&info["PlaySessionId"]));
    format!(
        "/videos/{CHANNEL}/live.m3u8?DeviceId=sofa&MediaSourceId={id}&PlaySessionId={play_session}&ApiKey={token}\
         &LiveStreamId={stream}"
    )
}

pub(super) fn info() -> String {
    format!("/Items/{CHANNEL}/PlaybackInfo")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_goes_on_through_two_deaths_in_one_playlist() {
    story(brisk(3), async |world| {
        let (mut client, mut home) = client_of(world, "alice", "sofa").await;
        let mut player = Player::new(world, open(&mut client).await);
        for (number, until) in [8, 16].into_iter().enumerate() {
            player.play(until).await;
            world.pods.iter().for_each(Pod::clear_seen);
            world.pod(&home).kill().await;
            player.play(until + 4).await;
            assert_eq!(player.discontinuities, number + 1);
            let next = playing(world);
            assert_ne!(next, home);
            assert_eq!(count(world.pod(&next), &info()), 1, "opened there once");
            home = next;
        }
        player.play(30).await;
        assert!(player.gaps >= 16, "what is gone is marked: {}", player.gaps);
        println!("live TV through two deaths: the longest wait for an answer was {:?}", player.longest);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_is_opened_once_for_parallel_playlists() {
    story(brisk(2), async |world| {
        let (mut client, home) = client_of(world, "alice", "sofa").await;
        let target = open(&mut client).await;
        Player::new(world, target.clone()).play(4).await;
        kill(world, &home).await;
        let asked = (0..4).map(|_| {
            let (mut client, target) = (world.client().without_cookies(), &target);
            async move { client.get(target).await.status }
        });
        assert_eq!(join_all(asked).await, [200; 4]);
        let other = world.pods_but(&home).next().expect("another pod");
        assert_eq!(count(other, &info()), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_lost_with_its_pod_breaks_off() {
    story(brisk(2), async |world| {
        let (mut client, home) = client_of(world, "alice", "sofa").await;
        let mut player = Player::new(world, open(&mut client).await);
        player.play(4).await;
        kill(world, &home).await;
        let gone = player.url(3);
        for _ in 0..2 {
            let mut asking = world.client().without_cookies();
            let request = asking.request(Method::GET, &gone);
            let answer = asking.send(request, body_of("")).await;
            assert!(matches!(answer, Err(Failed::NoAnswer)), "{answer:?}");
        }
        player.play(10).await;
        assert_eq!(player.discontinuities, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_closed_by_its_client_stays_closed() {
    story(brisk(2), async |world| {
        let (mut client, _) = client_of(world, "alice", "sofa").await;
        let target = open(&mut client).await;
        let mut player = Player::new(world, target.clone());
        player.play(4).await;
        let stream = target.split("LiveStreamId=").nth(1).expect("an id").to_owned();
        let closed = client.post(&format!("/LiveStreams/Close?liveStreamId={stream}"), json!({})).await;
        assert_eq!(closed.status, 204);
        assert_eq!(client.get(&target).await.status, 404);
        assert_eq!(world.pods.iter().map(|pod| count(pod, &info())).sum::<usize>(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_viewers_of_one_channel_keep_their_own_pods() {
    story(brisk(2), async |world| {
        let mut players = Vec::new();
        for number in 0..8 {
            let (mut client, home) = client_of(world, &format!("user{number}"), &format!("device {number}")).await;
            players.push((Player::new(world, open(&mut client).await), home));
        }
        let (victim, _) = (players[0].1.clone(), ());
        for (player, _) in &mut players {
            player.play(3).await;
        }
        kill(world, &victim).await;
        for (player, home) in &mut players {
            player.play(6).await;
            assert_eq!(player.discontinuities, usize::from(*home == victim));
        }
    })
    .await;
}

/// Clients of old put `/emby` before every path, and 10.11 takes it off.
#[tokio::test(flavor = "multi_thread")]
async fn a_channel_under_the_old_path_goes_on() {
    story(
        plan(2).build(|pod| {
            pod.generation(jellyfin_sim::Generation::V10_11).live_segment_every(Duration::from_millis(100))
        }),
        async |world| {
            let (mut client, home) = client_of(world, "alice", "sofa").await;
            let target = open(&mut client).await;
            let mut player = Player::new(world, format!("/emby{}", target.replace("ApiKey=", "api_key=")));
            player.play(8).await;
            let token = client.token.clone().expect("a token");
            let mut socket =
                super::sockets::socket_of_path(world, &format!("/emby/socket?api_key={token}&deviceId=sofa")).await;
            let can = json!({"SupportedCommands": ["SetVolume"], "SupportsMediaControl": true});
            assert_eq!(client.post("/emby/Sessions/Capabilities/Full", can).await.status, 204);
            let report = json!({"ItemId": CHANNEL, "PositionTicks": 1});
            assert_eq!(client.post("/EMBY/Sessions/Playing", report).await.status, 204);
            kill(world, &home).await;
            player.play(12).await;
            super::sockets::next_of(&mut socket, "ForceKeepAlive").await;
            let mut remote = world.client().without_cookies();
            let sessions = remote.get_with("/mediabrowser/Sessions", &[("x-emby-token", &token)]).await;
            assert_eq!(sessions.status, 200);
            let session = &sessions.json()[0];
            assert_eq!(
                (&session["SupportedCommands"], &session["NowPlayingItem"]["Id"]),
                (&json!(["SetVolume"]), &json!(CHANNEL))
            );
            drop(socket);
        },
    )
    .await;
}

/// A server that is mounted below a path is no other for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_channel_below_a_base_url_goes_on() {
    let plan = plan(2).base_path("/jf");
    let plan = plan.build(|pod| pod.base_url("/jf").live_segment_every(Duration::from_millis(100)));
    story(plan, async |world| {
        let mut client = world.client().without_cookies().device("sofa");
        let log_in = client.post("/jf/Users/AuthenticateByName", json!({"Username": "alice", "Pw": "alice-pw"})).await;
        let home = world.home(&log_in).to_owned();
        client.token = log_in.json()["AccessToken"].as_str().map(str::to_owned);
        let token = client.token.clone().expect("a token");
        let opened = client.post(&format!("/jf{}", info()), json!({"AutoOpenLiveStream": true})).await.json();
        let mut player = Player::new(world, format!("/jf{}", playlist_in(&opened, &token)));
        player.play(8).await;
        let mut socket = super::sockets::socket_of_path(world, &format!("/jf/socket?ApiKey={token}")).await;
        let can = json!({"SupportedCommands": ["SetVolume"], "SupportsMediaControl": true});
        assert_eq!(client.post("/jf/Sessions/Capabilities/Full", can).await.status, 204);
        let report = json!({"ItemId": CHANNEL, "PositionTicks": 1});
        assert_eq!(client.post("/jf/Sessions/Playing", report).await.status, 204);
        kill(world, &home).await;
        player.play(12).await;
        super::sockets::next_of(&mut socket, "ForceKeepAlive").await;
        let sessions = client.get("/jf/Sessions").await.json();
        let told = (&sessions[0]["SupportedCommands"], &sessions[0]["NowPlayingItem"]["Id"]);
        assert_eq!(told, (&json!(["SetVolume"]), &json!(CHANNEL)));
        assert_eq!(client.post("/jf/Sessions/Logout", json!({})).await.status, 204);
        assert_eq!(client.get("/jf/Users/Me").await.status, 401);
        drop(socket);
    })
    .await;
}
