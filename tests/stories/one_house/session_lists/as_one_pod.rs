//! Every caller sees in a list of sessions what one single pod would show.

use serde_json::{Value, json};

use super::{device, token_socket};
use crate::stories::{
    migration::{plan, revocation::at_home},
    world::{Answer, World, story},
};

/// Status and users of an answer, to compare.
fn shown(answer: &Answer) -> (u16, Vec<String>) {
    let list: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let rows = list.as_array().cloned().unwrap_or_default();
    let mut users: Vec<_> = rows.iter().map(|row| row["UserName"].to_string()).collect();
    users.sort();
    (answer.status, users)
}

/// One of each kind: plain, controlling others, with few devices, not to be controlled by others,
/// administrator, hidden.
const USERS: [&str; 6] = ["alice", "bob", "user0", "user1", "root", "user2"];

/// What each caller sees of each list: the question's number, the caller's, and the answer.
async fn lists_seen(world: &World) -> Vec<(usize, usize, (u16, Vec<String>))> {
    let (mut callers, mut sockets) = (Vec::new(), Vec::new());
    for (user, pod) in USERS.iter().zip(world.pods.iter().cycle()) {
        let mut client = at_home(world, user, pod.name()).await;
        sockets.push(token_socket(world, &client).await);
        let abilities = json!({"SupportsMediaControl": true, "SupportsPersistentIdentifier": true});
        assert_eq!(client.post("/Sessions/Capabilities/Full", abilities).await.status, 204);
        callers.push(client);
    }
    let of_bob = device(&callers[1]);
    let ids = USERS.map(|name| world.cluster.user_id(name).expect("a user"));
    let policies = [
        (1, json!({"EnableRemoteControlOfOtherUsers": true})),
        (2, json!({"EnableRemoteControlOfOtherUsers": true, "EnableAllDevices": false, "EnabledDevices": [of_bob]})),
        (3, json!({"EnableSharedDeviceControl": false})),
        (5, json!({"IsHidden": true})),
    ];
    for (user, policy) in policies {
        let path = format!("/Users/{}/Policy", ids[user]);
        assert_eq!(callers[4].post(&path, policy).await.status, 204);
    }
    // Alice watches with bob.
    let list = callers[4].get("/Sessions").await.json();
    let row = list.as_array().expect("a list").iter().find(|row| row["UserName"] == "bob").expect("bob's");
    let added = format!("/Sessions/{}/User/{}", row["Id"].as_str().expect("an id"), ids[0]);
    assert_eq!(callers[4].post(&added, json!({})).await.status, 204);
    let mut key = world.client().without_cookies();
    key.token = Some(world.cluster.api_key());
    callers.extend([key, world.client().without_cookies()]);
    let mut questions: Vec<String> = ["", "?activeWithinSeconds=900", "?controllableByUserId=", "?deviceId=nobody's"]
        .iter()
        .map(|query| format!("/Sessions{query}"))
        .collect();
    questions.extend(
        [of_bob.clone(), of_bob.to_uppercase()].map(|id| format!("/Sessions?deviceId={}", id.replace(' ', "%20"))),
    );
    questions.extend(
        USERS.map(|name| format!("/Sessions?controllableByUserId={}", world.cluster.user_id(name).expect("a user"))),
    );
    let mut of_world = Vec::new();
    for (number, question) in questions.iter().enumerate() {
        for (caller, client) in callers.iter_mut().enumerate() {
            of_world.push((number, caller, shown(&client.get(question).await)));
        }
    }
    drop(sockets);
    of_world
}

#[tokio::test(flavor = "multi_thread")]
async fn every_caller_sees_what_one_single_pod_would_show() {
    let mut seen = Vec::new();
    for pods in [3, 1] {
        seen.push(story(plan(pods), async |world| lists_seen(world).await).await);
    }
    let differences: Vec<_> = seen[0].iter().zip(&seen[1]).filter(|(house, single)| house != single).collect();
    println!("{} lists, differences: {}", seen[0].len(), differences.len());
    assert!(differences.is_empty(), "{differences:#?}");
}
