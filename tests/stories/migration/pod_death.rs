//! A pod dies under its clients.

use std::time::Duration;

use futures_util::future::join_all;
use jellyfin_sim::{CallTime, MintTimes, Pod, Seen};
use serde_json::json;

use super::{client_of, count, kill, plan, revocation::at_home, start_again};
use crate::stories::world::{how_often, story};

const MINT: &str = "/Users/AuthenticateWithQuickConnect";

/// Tokens that the pod has minted for the proxy.
fn mints(pod: &Pod) -> usize {
    pod.seen().iter().filter(|seen| seen.path() == MINT && seen.status == 200).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_keeps_its_token_on_a_pod_that_never_knew_it() {
    story(plan(2), async |world| {
        let (mut client, home) = client_of(world, "alice", "sofa").await;
        let capabilities =
            json!({"PlayableMediaTypes": ["Video"], "SupportedCommands": ["Play"], "SupportsMediaControl": true});
        assert_eq!(client.post("/Sessions/Capabilities/Full", capabilities).await.status, 204);
        world.pods.iter().for_each(|pod| pod.clear_seen());
        world.pod(&home).kill().await;
        let me = client.get("/Users/Me").await;
        assert_eq!((me.status, me.json()["Name"].as_str()), (200, Some("alice")));
        let other = world.pods_but(&home).next().expect("another pod");
        assert_eq!(mints(other), 1);
        let token = client.token.clone().expect("a token");
        assert!(other.seen().iter().all(|seen| !seen.target.contains(&token)));
        for path in ["/Items".to_owned(), format!("/Items?ApiKey={token}"), "/System/Info".to_owned()] {
            assert_eq!(client.get(&path).await.status, 200, "{path}");
        }
        let mut by_query = world.client().without_cookies();
        assert_eq!(by_query.get(&format!("/Users/Me?apikey={token}")).await.status, 200);
        assert_eq!(mints(other), 1, "minted once");
        other.until(|pod| count(pod, "/Sessions/Capabilities/Full") == 1).await;
        let lives = world.proxy.ask_admin("/sessions").await.json();
        assert_eq!((&lives[0]["why"], &lives[0]["from"]), (&json!("home_gone"), &json!(home)), "{lives}");
        let sessions = client.get("/Sessions").await.json();
        assert_eq!(sessions[0]["DeviceId"], "sofa");
        assert_eq!(sessions[0]["Capabilities"]["SupportedCommands"][0], "Play");
        let lines = world.proxy.lines_of("/Users/Me", 2).await;
        assert!(lines.iter().any(|line| line["decision.reason"] == "migrated"), "{lines:?}");
    })
    .await;
}

/// A code has six digits, and the pod does not look whether it is another's.
#[tokio::test(flavor = "multi_thread")]
async fn two_clients_with_equal_codes_stay_two_users() {
    story(plan(2), async |world| {
        let mut clients = [("alice", at_home(world, "alice", "a").await), ("bob", at_home(world, "bob", "a").await)];
        let b = world.pod("b");
        // Long enough that both have begun before either goes on.
        let initiate = CallTime { usual: Duration::from_millis(300), ..CallTime::default() };
        b.mint_times(MintTimes { initiate, ..MintTimes::default() });
        b.share_code(2);
        kill(world, "a").await;
        let asked = clients.iter_mut().map(async |(user, client)| {
            let me = client.get("/Users/Me").await;
            assert_eq!((me.status, me.json()["Name"].as_str()), (200, Some(*user)));
        });
        join_all(asked).await;
        let crossed =
            b.seen().iter().filter(|seen| seen.path() == "/QuickConnect/Authorize" && seen.status == 500).count();
        assert_eq!(crossed, 1, "the second finds its code authorized by the first");
        assert_eq!(mints(b), 2);
        assert_eq!(world.proxy.metric("jellypin_migrations_total", &[("outcome", "refused")]).await, 0.0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_sign_in_on_the_next_pod_is_held_for_the_first_one() {
    story(plan(2), async |world| {
        let mut key = world.client().without_cookies();
        key.token = Some(world.cluster.api_key());
        let mut elsewhere = world.client().without_cookies().device("elsewhere").at(world.pod("b"));
        elsewhere.log_in("bob").await;
        let mut clients = Vec::new();
        for (user, policy) in [
            ("alice", json!({"EnableAllDevices": false, "EnabledDevices": []})),
            ("bob", json!({"MaxActiveSessions": 1})),
        ] {
            clients.push(at_home(world, user, "a").await);
            let path = format!("/Users/{}/Policy", world.cluster.user_id(user).expect("a user"));
            assert_eq!(key.post(&path, policy).await.status, 204);
        }
        kill(world, "a").await;
        let asked = join_all(clients.iter_mut().map(|client| client.get("/Users/Me")));
        let returns = async {
            let is_refusal = |seen: &&Seen| seen.path() == "/QuickConnect/Authorize" && seen.status == 403;
            world.pod("b").until(|pod| pod.seen().iter().filter(is_refusal).count() == 2).await;
            start_again(world, "a").await;
        };
        let (answers, ()) = tokio::join!(asked, returns);
        for answer in &answers {
            assert_eq!((answer.status, world.saw(answer).first().copied()), (200, Some("a")));
        }
        assert_eq!(mints(world.pod("b")), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_parallel_requests_of_one_client_wait_for_one_mint() {
    story(plan(3), async |world| {
        let (client, home) = client_of(world, "alice", "sofa").await;
        world.pods.iter().for_each(|pod| pod.clear_seen());
        kill(world, &home).await;
        let requests = (0..50).map(|_| {
            let mut twin = client.twin();
            async move { twin.get("/Users/Me").await.status }
        });
        let statuses = join_all(requests).await;
        assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
        let mints: Vec<usize> = world.pods_but(&home).map(mints).collect();
        assert_eq!(mints.iter().sum::<usize>(), 1, "{mints:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_clients_of_a_dead_pod_all_migrate() {
    story(plan(3), async |world| {
        let mut clients = Vec::new();
        for number in 0..100 {
            clients.push(client_of(world, &format!("user{number}"), &format!("device {number}")).await);
        }
        kill(world, "a").await;
        let began = std::time::Instant::now();
        let asked = clients.iter_mut().map(|(client, _)| client.get("/System/Info"));
        let answers = join_all(asked).await;
        println!("100 clients, a third of them migrated: {:?}", began.elapsed());
        assert!(answers.iter().all(|answer| answer.status == 200));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_migrations_leave_few_rows() {
    story(plan(2), async |world| {
        let (mut client, mut home) = client_of(world, "alice", "sofa").await;
        let mut most_rows = 0;
        let turns = how_often("STORY_TURNS", 16);
        for turn in 0..turns {
            kill(world, &home).await;
            let me = client.get("/Users/Me").await;
            assert_eq!(me.status, 200, "turn {turn}");
            let now = world.saw(&me).last().expect("somebody answered").to_string();
            start_again(world, &home).await;
            home = now;
            most_rows = most_rows.max(world.cluster.tokens().len());
            assert_eq!(client.get("/Items").await.status, 200, "turn {turn}");
        }
        println!("{turns} fail-overs of one client: at most {most_rows} rows of its device");
        assert!(most_rows <= 3, "{most_rows}");
        assert_eq!(client.post("/Sessions/Capabilities/Full", json!({})).await.status, 204);
        let sessions = client.get("/Sessions").await.json();
        assert_eq!(sessions.as_array().map(Vec::len), Some(1));
    })
    .await;
}
