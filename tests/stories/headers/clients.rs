//! Requests of real clients: the proxy refuses none of them, and changes none.

use http::{Method, header};
use jellyfin_sim::Generation;
use serde_json::json;

use crate::stories::world::{Client, World, body_of, story};

const REQUESTS: &str = include_str!("clients.txt");

/// The method and target of each request.
fn requests(world: &World, client: &Client) -> Vec<(Method, String)> {
    let user = world.cluster.user_id("alice").expect("alice");
    let values = [
        ("{user}", user.as_str()),
        ("{item}", "1c32a08c1352488727c1c454a9eea6be"),
        ("{token}", client.token.as_deref().expect("a token")),
        ("{device}", "TW96aWxsYS81LjAgKFgxMTsp"),
        ("{session}", "e7c9a3b2d1f04e5f8a9b0c1d2e3f4a5b"),
    ];
    let lines = REQUESTS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let request = |line: &str| {
        let (method, target) = line.split_once(' ').expect("a method and a target");
        let target = values.iter().fold(target.to_owned(), |target, (name, value)| target.replace(name, value));
        (method.parse().expect("a method"), target)
    };
    lines.map(request).collect()
}

/// What reached the pod of a request; `None` if the proxy answered it alone.
async fn reached(world: &World, client: &mut Client, method: Method, target: &str) -> Option<String> {
    let request = client.request(method, target).header(header::CONTENT_TYPE, "application/json");
    // A log-in that fails: it ends nobody's session.
    let body = json!({"Username": "nobody", "Pw": "wrong"}).to_string();
    world.pod("a").clear_seen();
    let answer = client.send(request, body_of(body)).await.expect("an answer");
    world.saw(&answer).first()?;
    world.pod("a").seen().into_iter().find(|seen| seen.header("x-story-request").is_some()).map(|seen| seen.target)
}

#[tokio::test]
async fn what_real_clients_send_reaches_the_pod_as_it_was_sent() {
    for generation in [Generation::V12, Generation::V10_11] {
        let plan = World::plan(1).build(move |pod| pod.generation(generation).single_sign_on(true));
        story(plan, async |world| {
            let mut client = world.client();
            client.log_in("alice").await;
            let requests = requests(world, &client);
            assert!(requests.len() >= 80, "{}", requests.len());
            for (method, target) in requests {
                // Pods of 10.11 take old prefixes away, and so does the proxy where it acts upon the request.
                let plain = target.replacen("/emby/", "/", 1).replacen("/mediabrowser/", "/", 1);
                let arrived = reached(world, &mut client, method.clone(), &target).await;
                let is_whole = arrived.as_ref().is_some_and(|arrived| {
                    *arrived == target || (generation == Generation::V10_11 && *arrived == plain)
                });
                assert!(is_whole, "{generation:?}: {method} {target}: {arrived:?}");
            }
        })
        .await;
    }
}

/// An app that joins its address and its path with two slashes (Swiftfin 1.1) is told by the pod that there is no such page.
#[tokio::test]
async fn a_doubled_slash_is_the_pods_to_answer_where_nothing_is_acted_upon() {
    story(World::plan(1), async |world| {
        let mut client = world.client();
        for target in ["//System/Info/Public", "//web/", "/web//index.html"] {
            let arrived = reached(world, &mut client, Method::GET, target).await;
            assert_eq!(arrived.as_deref(), Some(target));
        }
    })
    .await;
}
