//! Several pods of one service: which one gets a request, and what happens when one is gone.

use std::collections::BTreeSet;

use http::Method;

use super::{PUBLIC, beside_jellyfin, service::Service, state, visitor};
use crate::stories::world::{Program, body_of, story, until_so};

#[tokio::test]
async fn requests_are_shared_and_leave_a_dead_pod_at_once() {
    let (one, two) = (Service::start("one").await, Service::start("two").await);
    story(beside_jellyfin(&[&one, &two], ""), async |world| {
        let mut client = visitor(world);
        let mut names = BTreeSet::new();
        for _ in 0..20 {
            names.insert(client.get("/").await.text().to_owned());
        }
        assert_eq!(names.len(), 2, "both serve");

        one.kill();
        for number in 0..12 {
            let method = if number % 2 == 0 { Method::GET } else { Method::POST };
            let request = client.request(method, "/");
            let answer =
                client.send(request, body_of(if number % 2 == 0 { "" } else { "body" })).await.expect("an answer");
            assert_eq!((answer.status, answer.text()), (200, "two"));
        }
        until_so("the dead pod is down", async || state(world, "one").await == "down").await;

        two.kill();
        let answer = client.get("/").await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, "1"), "nothing is held");
        until_so("both are down", async || state(world, "two").await == "down").await;
        assert_eq!(world.proxy.ask_admin("/ready").await.status, 200, "Jellyfin's clients are served");
        assert_eq!(world.client().get(PUBLIC).await.status, 200);
        let gauge = [("pool", "photos"), ("pod", "two"), ("state", "down")];
        assert_eq!(world.proxy.metric("jellypin_pod_state", &gauge).await, 1.0);
        let overview = world.proxy.ask_admin("/overview").await.json();
        let sentence = &overview["overview"]["verdict"]["sentences"][0];
        assert_eq!(sentence["text"], "No pod of pool photos is ready", "{overview}");
        assert_eq!(sentence["more"], "requests get an error");
        let (code, said) = Program::check(world.settings(), world.folder());
        assert!(code == Some(1) && said.contains("[pools.photos] pod one: it does not answer at 127.0.0.1:"), "{said}");
    })
    .await;
}

#[tokio::test]
async fn what_a_pod_may_have_done_is_not_done_twice() {
    let (one, two) = (Service::start("one").await, Service::start("two").await);
    story(beside_jellyfin(&[&one, &two], ""), async |world| {
        let seen = || one.seen().iter().chain(&two.seen()).filter(|seen| seen.target == "/die").count();
        let mut client = visitor(world);
        for (method, body, times) in [("POST", "", 1), ("PUT", "body", 2), ("GET", "", 4), ("DELETE", "", 6)] {
            let request = client.request(method.parse().expect("a method"), "/die");
            let answer = client.send(request, body_of(body)).await.expect("an answer");
            assert_eq!((answer.status, seen()), (502, times), "{method} {body}");
            // Both are well again.
            until_so("both serve", async || {
                state(world, "one").await == "ready" && state(world, "two").await == "ready"
            })
            .await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_pod_whose_health_path_fails_gets_nothing_while_another_is_well() {
    let (one, two) = (Service::start("one").await, Service::start("two").await);
    let plan = beside_jellyfin(&[&one, &two], "");
    let plan = plan.changed(|settings| settings.set("pools.photos.health_path", "\"/ping\""));
    story(plan, async |world| {
        one.set_ping(500);
        until_so("it is down", async || state(world, "one").await == "down").await;
        let mut client = visitor(world);
        for _ in 0..10 {
            assert_eq!(client.get("/").await.text(), "two");
        }
        one.set_ping(302);
        until_so("it is back", async || state(world, "one").await == "ready").await;
        until_so("it serves", async || client.get("/").await.text() == "one").await;
    })
    .await;
}
