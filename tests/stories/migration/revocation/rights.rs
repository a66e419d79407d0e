//! A caller without the right to end a session does not get it ended by the proxy's key.

use super::{Generation, at_home, client_of, delete, json, kill, plan, start_again};
use crate::stories::world::{Client, World, story};

/// A client whose row another pod has deleted: its next request by another version of the program is one 500, before the pod
/// looks at its rights.
async fn stale_client(world: &World) -> Client {
    let client = at_home(world, "alice", "a").await;
    let key = world.cluster.api_key();
    // A pod that has read the row, and deletes it.
    world.pod("b").kill().await;
    start_again(world, "b").await;
    let device = client.device.clone().expect("a device").replace(' ', "%20");
    let mut by_key = world.client().without_cookies().at(world.pod("b"));
    assert_eq!(delete(&mut by_key, &format!("/Devices?id={device}&ApiKey={key}")).await, 204);
    client
}

/// Sends as a program of a new version, which is one 500 of a stale row.
async fn as_new_version(client: &Client, method: http::Method, path: &str, body: serde_json::Value) -> u16 {
    let mut bare = client.twin();
    let (token, device) = (bare.token.take().expect("a token"), bare.device.take().expect("a device"));
    let authorization = format!(
        "MediaBrowser Client=\"Story\", Device=\"Test\", Version=\"2.0\", DeviceId=\"{device}\", Token=\"{token}\""
    );
    let request = bare.request(method, path).header("authorization", authorization);
    let request = request.header("content-type", "application/json");
    bare.send(request, super::body_of(body.to_string())).await.expect("an answer").status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_request_does_not_use_the_key() {
    for generation in [Generation::V12, Generation::V10_11] {
        story(plan(2).build(move |pod| pod.generation(generation)), async |world| {
            let (mut root, _) = client_of(world, "root", "throne").await;
            let id = world.cluster.user_id("root").expect("root");
            let wish = json!({"CurrentPw": "wrong", "NewPw": "stolen"});
            for (method, path) in [
                (http::Method::DELETE, "/Devices?id=throne".to_owned()),
                (http::Method::POST, format!("/Users/Password?userId={id}")),
                (http::Method::POST, format!("/Users/{id}/Password")),
                (http::Method::DELETE, format!("/Users/{id}")),
            ] {
                let mallory = stale_client(world).await;
                let status = as_new_version(&mallory, method.clone(), &path, wish.clone()).await;
                assert!(matches!(status, 403 | 500), "{method} {path}: {status}");
                assert_eq!(root.get("/Users/Me").await.status, 200, "{method} {path}");
            }
            let (mut again, _) = client_of(world, "root", "other throne").await;
            assert_eq!(again.get("/Users/Me").await.status, 200, "the password is what it was");
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_stored_by_a_failing_10_11_ends_all_sessions() {
    story(plan(2).build(|pod| pod.generation(Generation::V10_11)), async |world| {
        let mut client = at_home(world, "user1", "a").await;
        let others = [at_home(world, "user1", "a").await, at_home(world, "user1", "b").await];
        // Pod a knows a token whose row pod b has deleted.
        let gone = at_home(world, "user1", "a").await;
        kill(world, "b").await;
        start_again(world, "b").await;
        let mut by_key = world.client().without_cookies().at(world.pod("b"));
        let device = gone.device.clone().expect("a device").replace(' ', "%20");
        let key = world.cluster.api_key();
        assert_eq!(delete(&mut by_key, &format!("/Devices?id={device}&ApiKey={key}")).await, 204);
        let answer = client.post("/Users/Password", json!({"CurrentPw": "pw", "NewPw": "new"})).await;
        assert_eq!(answer.status, 204, "what is done is told as done");
        for mut other in others.into_iter().chain([gone]) {
            assert_eq!(other.get("/Users/Me").await.status, 401);
            // Neither do the pods themselves take it.
            for pod in &world.pods {
                let mut past = other.twin().at(pod);
                assert_eq!(past.get("/Users/Me").await.status, 401, "{}", pod.name());
            }
        }
        assert_eq!(client.get("/Users/Me").await.status, 200, "the caller goes on");
        for pod in ["a", "b", "a"] {
            kill(world, pod).await;
            assert_eq!(client.get("/Users/Me").await.status, 200, "without {pod}");
            start_again(world, pod).await;
            assert_eq!(client.get("/Users/Me").await.status, 200, "with {pod} again");
        }
    })
    .await;
}
