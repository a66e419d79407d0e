//! What is sent again, and what never is.

use http::Method;
use jellyfin_sim::Pod;

use super::browser_at;
use crate::stories::wire::{self, HandPod};
use crate::stories::world::{Answer, Bytes, Client, DEADLINE, Failed, World, body_of, story};

/// Sends a body to the sink of the pod `a`, which dies when it has the request and before it has answered.
async fn send_to_a_dying_pod(world: &World, method: Method, length: usize) -> Result<Answer, Failed> {
    let mut client: Client = browser_at(world, "a").await;
    let pod = world.pod("a");
    pod.slow_first_byte(DEADLINE);
    let request = client.request(method, "/_sim/sink");
    let has_it = |pod: &Pod| pod.seen().iter().any(|seen| seen.path() == "/_sim/sink");
    let killed = async {
        pod.until(has_it).await;
        pod.kill().await;
    };
    tokio::join!(client.send(request, body_of(vec![7; length])), killed).0
}

fn times_seen(world: &World) -> usize {
    world.pods.iter().flat_map(|pod| pod.seen()).filter(|seen| seen.path() == "/_sim/sink").count()
}

#[tokio::test]
async fn a_post_that_may_have_run_is_not_sent_again() {
    story(World::plan(2), async |world| {
        let answer = send_to_a_dying_pod(world, Method::POST, 100).await.expect("an answer");
        assert_eq!((answer.status, answer.header("content-type")), (502, "text/plain; charset=utf-8"));
        assert_eq!(times_seen(world), 1);
    })
    .await;
}

#[tokio::test]
async fn a_put_is_sent_again_whole_to_another_pod() {
    story(World::plan(2), async |world| {
        let answer = send_to_a_dying_pod(world, Method::PUT, 60_000).await.expect("an answer");
        assert_eq!((answer.status, answer.json()["bytes"].as_u64()), (200, Some(60_000)));
        assert_eq!(times_seen(world), 2);
    })
    .await;
}

#[tokio::test]
async fn a_body_above_the_replay_limit_is_not_sent_twice() {
    story(World::plan(2), async |world| {
        let answer = send_to_a_dying_pod(world, Method::PUT, 70_000).await.expect("an answer");
        assert_eq!(answer.status, 502);
        assert_eq!(times_seen(world), 1);
    })
    .await;
}

#[tokio::test]
async fn the_replay_limit_can_be_set() {
    story(World::plan(2).replay_body(Bytes(128 * 1024)), async |world| {
        let answer = send_to_a_dying_pod(world, Method::PUT, 70_000).await.expect("an answer");
        assert_eq!((answer.status, answer.json()["bytes"].as_u64()), (200, Some(70_000)));
    })
    .await;
}

/// Makes the proxy keep a connection to a pod, then sends this over it; the pod reads it and ends the connection. What comes
/// over fresh connections after that is answered. Gives the client's status and how often the pod had the request.
async fn send_over_a_stale_connection(method: Method) -> (u16, usize) {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod).workers(1), async |world| {
        let mut client = world.client();
        let first = client.request(Method::GET, "/first");
        let stale = async {
            let mut call = pod.call().await;
            call.reply("200 OK", "").await;
            // The next request over this connection is read, and the connection ends without an answer.
            call.wire.try_head().await.expect("a second request over the kept connection")
        };
        let sent = async {
            client.send(first, body_of("")).await.expect("an answer");
            let second = client.request(method, "/second");
            client.send(second, body_of("")).await.expect("an answer").status
        };
        let mut sent = std::pin::pin!(sent);
        let head = tokio::select! {
            head = stale => head,
            status = &mut sent => panic!("answered with {status} before the pod had it"),
        };
        assert!(head.contains("/second"));
        let mut times = 1;
        let status = loop {
            tokio::select! {
                status = &mut sent => break status,
                mut call = pod.call() => {
                    assert!(call.head.contains("/second"));
                    times += 1;
                    call.reply("200 OK", "").await;
                }
            }
        };
        (status, times)
    })
    .await
}

#[tokio::test]
async fn a_get_on_a_stale_connection_is_sent_again() {
    assert_eq!(send_over_a_stale_connection(Method::GET).await, (200, 2));
}

#[tokio::test]
async fn a_post_on_a_stale_connection_runs_at_most_once() {
    assert_eq!(send_over_a_stale_connection(Method::POST).await, (502, 1));
}
