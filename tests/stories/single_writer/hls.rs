//! A film by HLS whose pod dies, where pods hold leases of transcodes: the player notices nothing.

use std::time::{Duration, Instant};

use http::Method;
use jellyfin_sim::{FILM, Pod};
use serde_json::json;

use super::{build, send};
use crate::stories::world::{Client, World, secs, story};

/// What a player has ahead, as a rule.
const BUFFERED: Duration = secs(10);

const PLAY_SESSION: &str = "0123456789abcdef0123456789abcdef";

/// A film, and the longest time that a request of it took.
struct Film {
    client: Client,
    query: String,
    longest: Duration,
}

impl Film {
    fn new(client: Client) -> Film {
        let token = client.token.clone().expect("a token");
        let query = format!("DeviceId=desk&MediaSourceId={FILM}&PlaySessionId={PLAY_SESSION}&ApiKey={token}");
        Film { client, query, longest: Duration::ZERO }
    }

    async fn get(&mut self, file: &str) -> String {
        let began = Instant::now();
        let answer = self.client.get(&format!("/Videos/{FILM}/{file}?{}", self.query)).await;
        assert_eq!(answer.status, 200, "{file}: {}", answer.text());
        self.longest = self.longest.max(began.elapsed());
        if file.ends_with(".ts") { String::new() } else { answer.text().to_owned() }
    }

    async fn play(&mut self, segments: std::ops::Range<usize>) {
        for number in segments {
            self.get(&format!("hls1/main/{number}.ts")).await;
        }
    }
}

/// The ids under which a pod was asked for segments with success.
fn ids(pod: &Pod) -> Vec<String> {
    let served = pod.seen().into_iter().filter(|seen| seen.path().contains("/hls1/") && seen.status == 200);
    let id = |target: &str| target.split("PlaySessionId=").nth(1)?.split('&').next().map(str::to_owned);
    let mut ids: Vec<String> = served.filter_map(|seen| id(&seen.target)).collect();
    ids.dedup();
    ids
}

async fn plays_on(world: &World, kill: impl AsyncFn(&Pod)) {
    let mut client = world.client().without_cookies().device("desk");
    let first = world.home(&client.log_in("alice").await).to_owned();
    let mut film = Film::new(client);
    let playlist = film.get("main.m3u8").await;
    film.play(0..6).await;
    assert_eq!(ids(world.pod(&first)), [PLAY_SESSION]);

    kill(world.pod(&first)).await;
    film.play(6..12).await;
    let second = world.pods.iter().find(|pod| pod.is_running() && !ids(pod).is_empty()).expect("another pod");
    let renamed = ids(second);
    assert!(renamed.len() == 1 && renamed[0] != PLAY_SESSION && renamed[0].len() == 32, "{renamed:?}");
    // Back to the beginning, and the same list as before.
    film.play(0..2).await;
    let is_of_client = |text: &str| text.contains(PLAY_SESSION) && !text.contains(&renamed[0]);
    let (main, master) = (film.get("main.m3u8").await, film.get("master.m3u8").await);
    assert!(main.lines().count() == playlist.lines().count() && is_of_client(&main) && is_of_client(&master));

    // The new pod hears of its own play session.
    let report = json!({"ItemId": FILM, "PlaySessionId": PLAY_SESSION, "PositionTicks": 1});
    assert_eq!(film.client.post("/Sessions/Playing/Progress", report.clone()).await.status, 204);
    let ping = format!("/Sessions/Playing/Ping?playSessionId={PLAY_SESSION}");
    assert_eq!(film.client.post(&ping, json!({})).await.status, 204);
    assert_eq!(film.client.post("/Sessions/Playing/Stopped", report).await.status, 204);
    let end = format!("/Videos/ActiveEncodings?deviceId=desk&playSessionId={PLAY_SESSION}");
    assert_eq!(send(&mut film.client, Method::DELETE, &end, "application/json", "").await.status, 204);
    let heard = second.reported_play_sessions();
    assert_eq!(heard[heard.len() - 4..], vec![renamed[0].clone(); 4][..], "{heard:?}");

    // Once more.
    let second_name = second.name().to_owned();
    world.pod(&first).start_again().await.expect("its own port");
    world.until_state(&first, jellypin::pod::State::Ready).await;
    film.play(12..15).await;
    world.pod(&second_name).kill().await;
    film.play(15..20).await;
    let stall = film.longest.saturating_sub(BUFFERED);
    println!("HLS with leases: the longest wait was {:?}; stall with 10 s buffered {stall:?}, 5xx 0", film.longest);
    assert!(film.longest < secs(8), "the lease of 30 s was not waited for: {:?}", film.longest);
}

#[tokio::test]
async fn a_film_whose_pod_is_killed_goes_on_without_an_error() {
    story(build(2), async |world| plays_on(world, async |pod| pod.kill().await).await).await;
}

#[tokio::test]
async fn a_film_whose_pod_is_stopped_goes_on_without_an_error() {
    story(build(2), async |world| plays_on(world, async |pod| pod.stop().await).await).await;
}
