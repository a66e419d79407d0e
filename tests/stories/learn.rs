//! Pods' answers teach where later requests belong that identify nothing by themselves.

use http::Method;
use serde_json::{Value, json};

use super::world::{World, body_of, story};

#[tokio::test(flavor = "multi_thread")]
async fn a_logins_token_is_learned_from_any_encoding() {
    // Pods with ids of their own are asked for nothing that is packed.
    story(World::plan(5).build(|pod| pod.server_id(Some("5a1e0f3d9c7b48268f4d2a6b1c3e5f70"))), async |world| {
        for (i, encoding) in ["identity", "gzip", "gzip, deflate, br"].into_iter().cycle().take(12).enumerate() {
            let mut client = world.client().without_cookies().device(&format!("device {i}"));
            let body = json!({"Username": format!("user{i}"), "Pw": "pw"}).to_string();
            let request = client.request(Method::POST, "/Users/AuthenticateByName");
            let request = request.header("content-type", "application/json").header("accept-encoding", encoding);
            let log_in = client.send(request, body_of(body)).await.expect("an answer");
            let home = world.home(&log_in);
            let token = token_in(&log_in.body, log_in.header("content-encoding"));
            let mut anybody = world.client().without_cookies();
            let first = anybody.get(&format!("/Users/Me?ApiKey={token}")).await;
            assert_eq!((first.status, world.saw(&first)), (200, vec![home]), "{encoding}: no other pod was asked");
        }
    })
    .await;
}

fn token_in(body: &[u8], encoding: &str) -> String {
    let text = match encoding {
        "gzip" => std::io::read_to_string(flate2::read::GzDecoder::new(body)).expect("gzip"),
        _ => String::from_utf8_lossy(body).into_owned(),
    };
    let json: Value = serde_json::from_str(&text).expect("JSON");
    json["AccessToken"].as_str().expect("a token").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn live_segments_find_their_pod_without_query_or_cookie() {
    story(World::plan(5), async |world| {
        for i in 0..8 {
            let mut client = world.client().without_cookies().device(&format!("device {i}"));
            client.log_in(&format!("user{i}")).await;
            let token = client.token.clone().expect("a token");
            let query =
                format!("DeviceId=device%20{i}&PlaySessionId=ps{i}&ApiKey={token}&VideoCodec=h264&SegmentContainer=ts");
            let mut player = world.client().without_cookies();
            let playlist = player.get(&format!("/Videos/{}/live.m3u8?{query}", jellyfin_sim::FILM)).await;
            assert_eq!(playlist.status, 200);
            let segment = playlist.text().lines().find(|line| line.starts_with("hls/")).expect("a segment").to_owned();
            let mut player = world.client().without_cookies();
            let first = player.get(&format!("/Videos/{}/{segment}", jellyfin_sim::FILM)).await;
            assert_eq!((first.status, world.home(&first)), (200, world.home(&playlist)), "client {i}");
        }
    })
    .await;
}
