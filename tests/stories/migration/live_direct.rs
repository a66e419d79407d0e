//! A channel is played directly: its file is found on whichever pod has it, and the stream is opened again where its client goes.

use futures_util::future::join_all;
use http::Method;
use jellyfin_sim::{CHANNEL, Pod};
use serde_json::{Value, json};

use super::{
    client_of, count, kill, live_drain::drain, live_tv, plan, player::Player, revocation::at_home, start_again,
};
use crate::stories::world::{Client, body_of, story};

/// Opens the channel, as a player does that can play it as it is.
async fn open(client: &mut Client) -> Value {
    client.post(&live_tv::info(), json!({"AutoOpenLiveStream": true})).await.json()
}

/// The path of the file that the player is told to play.
fn file(info: &Value) -> String {
    let address = info["MediaSources"][0]["Path"].as_str().expect("an address");
    format!("/LiveTv/{}", address.split_once("/LiveTv/").expect("a live file").1)
}

fn stream_id(info: &Value) -> String {
    info["MediaSources"][0]["LiveStreamId"].as_str().expect("a stream").to_owned()
}

/// The status of an answer that may have no end.
async fn status(client: &mut Client, path: &str) -> u16 {
    let request = client.request(Method::GET, path);
    client.open(request, body_of("")).await.expect("an answer").status().as_u16()
}

/// Times that the pod was told to open the channel.
fn openings(pod: &Pod) -> usize {
    let is_opening = |seen: &&jellyfin_sim::Seen| seen.target.contains("autoOpenLiveStream=true");
    pod.seen().iter().filter(is_opening).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_file_is_found_by_its_path_alone() {
    story(plan(3), async |world| {
        for number in 0..8 {
            let (mut client, home) = client_of(world, &format!("user{number}"), &format!("device {number}")).await;
            let path = file(&open(&mut client).await);
            assert_eq!(status(&mut world.client().without_cookies(), &path).await, 200, "user{number}");
            let saw: Vec<_> = world.pods.iter().filter(|pod| count(pod, &path) > 0).map(Pod::name).collect();
            assert_eq!(saw, [&home], "no other pod was asked");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_file_plays_on_where_it_is_when_its_viewer_lives_elsewhere() {
    story(plan(2), async |world| {
        let (mut client, home) = client_of(world, "alice", "sofa").await;
        let path = format!("{}?ApiKey={}", file(&open(&mut client).await), client.token.as_deref().expect("a token"));
        drain(world, &home).await;
        assert_eq!(status(&mut world.client().without_cookies(), &path).await, 200);
        assert_eq!(status(&mut client, &path).await, 200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_replica_finds_a_live_stream_and_its_file_by_asking() {
    story(plan(3), async |world| {
        let replica = world.replica(|_| {}).await;
        let mut stranger = replica.client().without_cookies();
        for pod in ["a", "b", "c"] {
            let mut client = at_home(world, "alice", pod).await;
            let opened = open(&mut client).await;
            let (id, path) = (stream_id(&opened), file(&opened));
            assert_eq!(status(&mut stranger, &path).await, 200, "on {pod}");
            world.pods.iter().for_each(Pod::clear_seen);
            assert_eq!(status(&mut stranger, &path).await, 200);
            assert_eq!(world.pods.iter().map(|pod| count(pod, &path)).sum::<usize>(), 1, "it is known by now");
            let stream = format!("/Videos/{CHANNEL}/stream.ts?static=true&liveStreamId={id}");
            assert_eq!(status(&mut stranger, &stream).await, 200, "on {pod}");
            let closed = client.post(&format!("/LiveStreams/Close?liveStreamId={id}"), json!({})).await;
            assert_eq!(closed.status, 204);
        }
        let nowhere = format!("/LiveTv/LiveStreamFiles/{}/stream.ts", "0".repeat(32));
        assert_eq!(status(&mut stranger, &nowhere).await, 404);
        assert_eq!(
            world.pods.iter().map(|pod| count(pod, &nowhere)).collect::<Vec<_>>(),
            [1; 3],
            "each was asked once"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_is_found_on_the_pod_that_records() {
    story(plan(3), async |world| {
        let mut player = world.client().without_cookies();
        for pod in &world.pods {
            pod.record(pod.name());
            let path = format!("/LiveTv/LiveRecordings/{}/stream", pod.name());
            assert_eq!(status(&mut player, &path).await, 200, "on {}", pod.name());
        }
        assert_eq!(status(&mut player, "/LiveTv/LiveRecordings/none/stream").await, 404);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_begins_although_its_pod_dies_before_the_first_playlist() {
    story(live_tv::brisk(2), async |world| {
        let (mut client, home) = client_of(world, "alice", "sofa").await;
        let target = live_tv::open(&mut client).await;
        let master = target.replace("live.m3u8", "master.m3u8");
        kill(world, &home).await;
        let asked = (0..4).map(|_| {
            let (mut twin, master) = (client.twin(), &master);
            async move { twin.get(master).await }
        });
        for answer in join_all(asked).await {
            assert_eq!((answer.status, answer.text().contains("\nlive.m3u8?")), (200, true), "{}", answer.text());
        }
        let other = world.pods_but(&home).next().expect("another pod");
        assert_eq!(openings(other), 1, "once for all");
        Player::new(world, target.clone()).play(4).await;
        let close = format!("/LiveStreams/Close?liveStreamId={}", target.split("LiveStreamId=").nth(1).expect("an id"));
        assert_eq!(client.post(&close, json!({})).await.status, 204);
        assert_eq!(client.get(&master).await.status, 404, "what its client has closed stays closed");
        assert_eq!(openings(other), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_is_played_another_way_after_its_pods_death() {
    story(plan(2), async |world| {
        for is_by_query in [false, true] {
            let (mut client, home) = client_of(world, "alice", "sofa").await;
            let opened = open(&mut client).await;
            let (id, source) = (stream_id(&opened), &opened["MediaSources"][0]["Id"]);
            kill(world, &home).await;
            world.pods.iter().for_each(Pod::clear_seen);
            let again = if is_by_query {
                let query = format!("LiveStreamId={id}&MediaSourceId={}", source.as_str().expect("an id"));
                client.post(&format!("{}?{query}", live_tv::info()), json!({})).await
            } else {
                let body = json!({"LiveStreamId": id, "MediaSourceId": source, "EnableDirectPlay": false});
                client.post(&live_tv::info(), body).await
            };
            assert_eq!((again.status, stream_id(&again.json())), (200, id.clone()), "by query: {is_by_query}");
            assert_eq!(openings(world.pods_but(&home).next().expect("another pod")), 1);
            assert_eq!(status(&mut world.client().without_cookies(), &file(&again.json())).await, 200);
            let closed = client.post(&format!("/LiveStreams/Close?liveStreamId={id}"), json!({})).await;
            assert_eq!(closed.status, 204);
            start_again(world, &home).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_names_its_client_begins_again_on_another_pod() {
    story(plan(2), async |world| {
        let (mut client, home) = client_of(world, "alice", "sofa").await;
        let id = stream_id(&open(&mut client).await);
        let token = client.token.clone().expect("a token");
        let stream = format!("/Videos/{CHANNEL}/stream.ts?static=true&LiveStreamId={id}&ApiKey={token}");
        kill(world, &home).await;
        let mut player = world.client().without_cookies();
        assert_eq!(status(&mut player, &stream).await, 200);
        assert_eq!(openings(world.pods_but(&home).next().expect("another pod")), 1);
        let unsigned = stream.replace(&token, "00000000000000000000000000000abc").replace(&id, "none");
        assert_eq!(status(&mut player, &unsigned).await, 404, "nobody's stream is opened for nobody");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_goes_on_from_the_media_source_that_was_chosen() {
    story(live_tv::brisk(2), async |world| {
        let (mut client, home) = client_of(world, "alice", "sofa").await;
        let sources = client.post(&live_tv::info(), json!({})).await.json();
        let native = &sources["MediaSources"][1]["Id"];
        assert!(native.as_str().is_some_and(|id| id.starts_with("native_")), "{native}");
        let chosen = json!({"AutoOpenLiveStream": true, "MediaSourceId": native});
        let opened = client.post(&live_tv::info(), chosen).await.json();
        let mut player = Player::new(world, live_tv::playlist_in(&opened, client.token.as_deref().expect("a token")));
        player.play(6).await;
        kill(world, &home).await;
        player.play(10).await;
        assert_eq!(player.discontinuities, 1);
    })
    .await;
}
