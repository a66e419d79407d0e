//! Who logs out is logged out, whatever becomes of the pods meanwhile: clients erase their token and never ask again.

use std::time::Duration;

use jellypin::pod::State;

use super::{Client, World, at_home, client_of, delete, json, kill, plan, start_again, until};
use crate::stories::{
    migration::minted,
    world::{has_ended, secs, story},
};

const LOG_OUT: &str = "/Sessions/Logout";

fn token_of(client: &Client) -> String {
    client.token.clone().expect("a token")
}

/// The token is of no use any more: not now, and not when its home is back.
async fn is_dead(world: &World, client: &mut Client, home: &str) {
    let (token, before) = (token_of(client), minted(world));
    assert_eq!(client.get("/Users/Me").await.status, 401, "at once");
    start_again(world, home).await;
    until("its row is gone", || !world.cluster.tokens().contains(&token)).await;
    assert_eq!(client.get("/Users/Me").await.status, 401, "with its home again");
    assert_eq!(minted(world), before, "nothing was minted for it");
}

/// Logs out, and kills the home while that is under way.
async fn log_out_in_its_homes_last_moment(world: &World, client: &Client, home: &str) -> u16 {
    world.pod(home).hang(true);
    let mut leaver = client.twin();
    let leaving = tokio::spawn(async move { leaver.post(LOG_OUT, json!({})).await.status });
    until("the pod is told", || world.proxy.pod(home).load.total() > 0).await;
    kill(world, home).await;
    leaving.await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_survives_the_death_of_its_pod() {
    story(plan(2), async |world| {
        let mut client = at_home(world, "user1", "a").await;
        assert_eq!(log_out_in_its_homes_last_moment(world, &client, "a").await, 204);
        is_dead(world, &mut client, "a").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_survives_the_death_of_its_pod_without_a_key() {
    story(World::plan(2), async |world| {
        let mut client = at_home(world, "user1", "a").await;
        assert_eq!(client.get("/Users/Me").await.status, 200);
        assert_eq!(log_out_in_its_homes_last_moment(world, &client, "a").await, 204);
        is_dead(world, &mut client, "a").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_does_not_wait_for_a_restarting_pod() {
    story(plan(1).hold(secs(1)), async |world| {
        let (mut client, _) = client_of(world, "user1", "sofa").await;
        kill(world, "a").await;
        assert_eq!(client.post(LOG_OUT, json!({})).await.status, 204);
        is_dead(world, &mut client, "a").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_counts_though_its_client_disconnects() {
    story(plan(1), async |world| {
        let (mut client, _) = client_of(world, "user1", "sofa").await;
        kill(world, "a").await;
        {
            let mut tab = client.twin();
            // Whether it was answered, nobody looks any more.
            let _ = tokio::time::timeout(Duration::from_millis(500), tab.post(LOG_OUT, json!({}))).await;
        }
        // Another request would be held.
        let token = token_of(&client);
        start_again(world, "a").await;
        until("its row is gone", || !world.cluster.tokens().contains(&token)).await;
        assert_eq!(client.get("/Users/Me").await.status, 401);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_cannot_migrate_can_be_logged_out() {
    story(plan(2), async |world| {
        let mut root = at_home(world, "root", "b").await;
        let mut client = at_home(world, "user1", "a").await;
        let key = world.cluster.api_key();
        assert_eq!(delete(&mut root, &format!("/Auth/Keys/{key}")).await, 204);
        kill(world, "a").await;
        assert_eq!(client.post(LOG_OUT, json!({})).await.status, 204);
        is_dead(world, &mut client, "a").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_made_up_token_ends_no_session() {
    story(plan(2), async |world| {
        let mut client = at_home(world, "user1", "a").await;
        let mut stranger = client.twin();
        stranger.token = Some("00000000000000000000000000000abc".to_owned());
        for home in [State::Ready, State::Down] {
            if home == State::Down {
                kill(world, "b").await;
            }
            assert_eq!(stranger.post(LOG_OUT, json!({})).await.status, 401);
            assert_eq!(client.get("/Users/Me").await.status, 200);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_ends_the_clients_socket() {
    story(plan(2), async |world| {
        let mut client = at_home(world, "user1", "a").await;
        kill(world, "b").await;
        start_again(world, "b").await;
        let token = token_of(&client);
        let mut socket = client.socket(&format!("/socket?ApiKey={token}")).await.expect("a socket");
        world.pod("a").until(|pod| pod.open_sockets() == 1).await;
        let dialled = || world.pods.iter().map(|pod| crate::stories::migration::count(pod, "/socket")).sum::<usize>();
        let before = dialled();
        let answer = client.post(LOG_OUT, json!({})).await;
        assert_eq!(answer.status, 204);
        assert!(has_ended(&mut socket).await, "the socket stayed open");
        assert_eq!(dialled(), before);
        assert!(world.pods.iter().all(|pod| !pod.knows_token(&token)), "every pod was told");
        // At the begin of its new life the other pod gets the log-outs that are pending. If that was
        // first, it does not know the token any more.
        let was_told = |fan_out: &serde_json::Value| fan_out == "b=204" || fan_out == "b=401";
        let is_of_it = |line: &serde_json::Value| line["pod.name"] == "a" && was_told(&line["fan_out"]);
        until("the access line tells of it", || world.proxy.lines().iter().any(is_of_it)).await;
    })
    .await;
}

/// jellyfin-vue signs its user out when it reads a 401, and takes an answer that it may not read for a bad line.
#[tokio::test(flavor = "multi_thread")]
async fn a_logout_answers_cross_origin_pages() {
    story(plan(2), async |world| {
        let (client, _) = client_of(world, "user1", "sofa").await;
        assert_eq!(client.twin().post(LOG_OUT, json!({})).await.status, 204);
        let refused = client.twin().get_with("/Users/Me", &[("origin", "https://vue.example")]).await;
        assert_eq!((refused.status, refused.header("access-control-allow-origin")), (401, "*"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_key_is_not_logged_out() {
    for plan in [plan(2), World::plan(2)] {
        story(plan, async |world| {
            let key = world.cluster.api_key();
            let mut tool = world.client().without_cookies();
            tool.token = Some(key);
            assert_eq!(tool.get("/System/Info").await.status, 200);
            assert_eq!(tool.post(LOG_OUT, json!({})).await.status, 204);
            assert_eq!(tool.get("/System/Info").await.status, 200, "a key lives on");
        })
        .await;
    }
}
