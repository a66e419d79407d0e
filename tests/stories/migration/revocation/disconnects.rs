//! A caller that disconnects at once has ended the sessions all the same.

use crate::stories::world::story;
use std::time::Duration;

use super::{Method, at_home, body_of, json, plan, until};

/// How long the pod takes, on which it is said. The client is gone long before.
const SLOW: Duration = Duration::from_millis(500);

/// What ends the session of `user1` on another pod.
async fn is_ended_everywhere(method: Method, target: &str, wish: serde_json::Value) {
    story(plan(2), async |world| {
        let victim = at_home(world, "user1", "a").await;
        let root = at_home(world, "root", "b").await;
        let token = victim.token.clone().expect("a token");
        let device = victim.device.as_deref().expect("a device").replace(' ', "%20");
        let user = world.cluster.user_id("user1").expect("a user");
        let target = target.replace("{device}", &device).replace("{user}", &user);
        let (a, b) = (world.pod("a"), world.pod("b"));
        b.clear_seen();
        b.slow_first_byte(SLOW);
        let mut leaver = root.twin();
        let path = target.split('?').next().expect("a path").to_owned();
        let said = tokio::spawn(async move {
            let request = leaver.request(method, &target).header("Content-Type", "application/json");
            let _ = leaver.send(request, body_of(wish.to_string())).await;
        });
        b.until(|pod| pod.seen().iter().any(|seen| seen.path() == path)).await;
        said.abort();
        until("the pod of the client was told", || !a.knows_token(&token)).await;
        assert_eq!(victim.twin().get("/Users/Me").await.status, 401);
        b.slow_first_byte(Duration::ZERO);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_deleted_on_every_pod_though_the_caller_disconnects() {
    is_ended_everywhere(Method::DELETE, "/Devices?id={device}", json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_changes_on_every_pod_though_the_caller_disconnects() {
    is_ended_everywhere(Method::POST, "/Users/Password?userId={user}", json!({"NewPw": "new"})).await;
}
