//! What a stranger can make a pod say teaches the proxy nothing.

use http::Method;
use serde_json::json;

use crate::stories::{
    migration::plan,
    world::{World, body_of, story},
};

async fn pins(world: &World) -> f64 {
    world.proxy.metric("jellypin_pins", &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn public_answers_pin_no_made_up_token() {
    story(plan(2), async |world| {
        let before = pins(world).await;
        for number in 0..50 {
            for (method, path) in [
                (Method::OPTIONS, "/Users/Me"),
                (Method::OPTIONS, "/Items"),
                (Method::POST, "/System/Ping"),
                (Method::GET, "/System/Info/Public"),
                (Method::GET, "/QuickConnect/Enabled"),
            ] {
                let mut client = world.client().without_cookies();
                client.token = Some(format!("{number:032x}"));
                let request = client.request(method, path);
                let request =
                    request.header("origin", "http://x.example").header("access-control-request-method", "GET");
                let answer = client.send(request, body_of("")).await.expect("an answer");
                assert!(answer.status < 300, "{path}: {}", answer.status);
            }
        }
        assert_eq!(pins(world).await, before);
    })
    .await;
}

/// An answer that has the shape of a log-in.
fn log_in_of(user: &str, token: &str) -> serde_json::Value {
    json!({
        "User": {"Id": user, "Name": "bob"},
        "SessionInfo": {"UserId": user, "Client": "Story", "DeviceName": "Test", "DeviceId": "sofa", "ApplicationVersion": "1.0"},
        "AccessToken": token,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn only_confirmed_logins_are_learned() {
    let (path, configured): (_, [&[&str]; 2]) = ("/Echo", [&[], &["/echo"]]);
    for log_in_paths in configured {
        story(plan(2).log_in_paths(log_in_paths), async |world| {
            let bob = world.cluster.user_id("bob").expect("bob");
            let mut mallory = world.client().without_cookies().device("sofa");
            let token = "0123456789abcdef0123456789abcdef";
            let before = pins(world).await;
            let answer = mallory.post(path, log_in_of(&bob, token)).await;
            assert_eq!((answer.status, &answer.json()["AccessToken"]), (200, &json!(token)));
            // Its device may be pinned where it is a log-in; its token is not.
            let learnt = pins(world).await - before;
            assert!(learnt <= f64::from(u8::from(!log_in_paths.is_empty())), "{log_in_paths:?}: {learnt}");
            mallory.token = Some(token.to_owned());
            assert_eq!(mallory.get("/Users/Me").await.status, 401);
            assert_eq!(world.proxy.ask_admin("/sessions").await.json(), json!([]), "{log_in_paths:?}");
            for pod in ["a", "b"] {
                crate::stories::migration::kill(world, pod).await;
                let answer = mallory.get("/Items").await;
                assert_eq!(answer.status, 401, "it is carried to no other pod");
                crate::stories::migration::start_again(world, pod).await;
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_login_path_signs_users_in() {
    story(plan(2).log_in_paths(&["/echo"]), async |world| {
        // A token that the pods know: what a plug-in would have made.
        let mut known = world.client().without_cookies().device("phone").at(world.pod("a"));
        known.log_in("bob").await;
        let token = known.token.clone().expect("a token");
        drop(known);
        let bob = world.cluster.user_id("bob").expect("bob");
        let mut homes = Vec::new();
        while !homes.contains(&"a".to_owned()) {
            assert!(homes.len() < 64, "every device is placed on b");
            let mut client = world.client().without_cookies().device(&format!("sofa {}", homes.len()));
            let answer = client.post("/Echo", log_in_of(&bob, &token)).await;
            homes.push(world.home(&answer).to_owned());
            let sessions = world.proxy.ask_admin("/sessions").await.json();
            let known = usize::from(homes.last().is_some_and(|home| home == "a"));
            assert_eq!(
                sessions.as_array().map(Vec::len),
                Some(known),
                "kept before the client has its answer, by the pod's word"
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_who_joins_a_group_pins_no_device() {
    // Without an API key the device of a client that joins is pinned to the leader.
    story(World::plan(2), async |world| {
        let before = pins(world).await;
        for number in 0..50 {
            let mut client = world.client().without_cookies().device(&format!("made up {number}"));
            client.token = (number % 2 == 0).then(|| format!("{number:032x}"));
            for path in ["/SyncPlay/Join", "/SyncPlay/New"] {
                let answer = client.post(path, json!({"GroupId": "00000000000000000000000000000001"})).await;
                assert!(matches!(answer.status, 400 | 401), "{path}: {}", answer.status);
            }
        }
        assert_eq!(pins(world).await, before);
    })
    .await;
}
