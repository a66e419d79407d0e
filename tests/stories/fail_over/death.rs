//! A pod is killed: its clients move within the very request that finds it out, and nobody else does.

use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use jellypin::pod::State;

use super::{PUBLIC, browser_at, browsers};
use crate::stories::world::{DEADLINE, World, body_of, story};

#[tokio::test]
async fn a_killed_pod_fails_no_request_of_twenty_clients() {
    story(World::plan(3), async |world| {
        let before = browsers(world, 20).await;
        let at_a = before.iter().filter(|(_, home)| home == "a").count();

        // Every client has a request under way when the pod dies.
        world.pod("a").slow_first_byte(DEADLINE);
        world.pod("a").clear_seen();
        let asked = before.into_iter().map(|(mut client, home)| async move {
            let answer = client.get("/Branding/Configuration").await;
            (client, home, answer)
        });
        let killed = async {
            let waiting = |pod: &jellyfin_sim::Pod| {
                pod.seen().iter().filter(|seen| seen.path() == "/Branding/Configuration").count() == at_a
            };
            world.pod("a").until(waiting).await;
            world.pod("a").kill().await;
        };
        let (after, ()) = tokio::join!(join_all(asked), killed);

        let mut clients = Vec::new();
        for (client, home, answer) in after {
            assert_eq!(answer.status, 200);
            let moved = home == "a";
            assert_eq!(answer.set_cookie().is_some(), moved, "a cookie of the new home, and only for those who moved");
            let pods = world.saw(&answer);
            let now = pods.iter().rfind(|pod| **pod != "a").expect("a living pod answered").to_string();
            assert!(moved || now == home, "a client of {home} was moved to {now}");
            clients.push((client, now));
        }
        let rounds = clients.iter_mut().map(async |(client, home)| {
            for _ in 0..10 {
                let answer = client.get(PUBLIC).await;
                assert_eq!((answer.status, answer.set_cookie()), (200, None));
                assert_eq!(world.home(&answer), home);
            }
        });
        join_all(rounds).await;

        // The access lines say who moved and why, and the metrics count the same.
        let lines = world.proxy.lines_of("/Branding/Configuration", 20).await;
        let moved: Vec<_> = lines.iter().filter(|line| line["moved.from"] == "a").collect();
        assert_eq!(moved.len(), at_a);
        for line in &moved {
            assert!(["refused", "broken", "lost"].iter().any(|why| line["moved.why"] == *why), "{line}");
            assert!(line["attempts"] == 2 && line["pod.name"] != "a" && line["http.status"] == 200, "{line}");
        }
        assert_eq!(world.proxy.metric("jellypin_moves_total", &[("from", "a")]).await, at_a as f64);
        assert_eq!(world.proxy.metric("jellypin_moves_total", &[]).await, at_a as f64, "nobody else moved");
        world.pod("a").slow_first_byte(Duration::ZERO);
    })
    .await;
}

#[tokio::test]
async fn constant_requests_survive_a_pods_death_and_return() {
    story(World::plan(3), async |world| {
        let mut clients = browsers(world, 20).await;
        let deaths = async {
            for pod in ["a", "b"] {
                world.pod(pod).kill().await;
                world.until_state(pod, State::Down).await;
                world.pod(pod).start_again().await.expect("a start");
                world.until_state(pod, State::Ready).await;
            }
        };
        let over = tokio::sync::watch::Sender::new(false);
        let busy = clients.iter_mut().map(|(client, _)| {
            let over = over.subscribe();
            async move {
                let mut count = 0;
                while !*over.borrow() {
                    assert_eq!(client.get(PUBLIC).await.status, 200);
                    count += 1;
                }
                count
            }
        });
        let (counts, ()) = tokio::join!(join_all(busy), async {
            deaths.await;
            over.send_replace(true);
        });
        println!("{} requests over two deaths, none failed", counts.iter().sum::<usize>());
    })
    .await;
}

#[tokio::test]
async fn a_restarted_pod_gets_new_clients_only() {
    story(World::plan(2), async |world| {
        let mut client = browser_at(world, "a").await;
        let before = world.proxy.pod("a").status().epoch;
        world.pod("a").kill().await;
        world.until_state("a", State::Down).await;
        assert_eq!(world.home(&client.get(PUBLIC).await), "b");

        world.pod("a").start_again().await.expect("a start");
        world.until_state("a", State::Ready).await;
        assert_eq!(world.proxy.pod("a").status().epoch.0, before.0 + 1);
        let answer = client.get(PUBLIC).await;
        assert_eq!((world.home(&answer), answer.set_cookie()), ("b", None), "who has moved stays where it is");
        browser_at(world, "a").await;
    })
    .await;
}

#[tokio::test]
async fn a_post_whose_connection_is_refused_goes_to_another_pod() {
    // Connections to pods are not kept, so that each request meets the closed port.
    let plan = World::plan(2).pod_idle(Duration::from_micros(1)).rise(1000);
    story(plan, async |world| {
        let mut client = browser_at(world, "a").await;
        world.pod("a").refuse(true);
        let request = client.request(Method::POST, "/_sim/sink");
        let answer = client.send(request, body_of("what is posted")).await.expect("an answer");
        assert_eq!((answer.status, answer.json()["bytes"].as_u64()), (200, Some(14)));
        assert_eq!(world.saw(&answer), ["b"]);
        assert!(answer.set_cookie().is_some());
        // Its checks go over a connection that is open still: it was the request that took it out.
        assert_eq!(world.proxy.pod("a").status().state, State::Down, "a pod that refuses a connection is out at once");
        let lines = world.proxy.lines_of("/_sim/sink", 1).await;
        assert_eq!((&lines[0]["moved.from"], &lines[0]["moved.why"]), (&"a".into(), &"refused".into()));
        world.pod("a").refuse(false);
    })
    .await;
}
