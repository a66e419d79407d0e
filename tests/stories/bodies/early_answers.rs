//! An answer comes before the request's body: the client reads it, and its next request works.

use crate::stories::{
    wire::{self, End, HandPod, pattern, within},
    world::{DEADLINE, World, elapse, millis, story},
};

/// A token that no pod knows.
const DEAD: &str = "dddddddddddddddddddddddddddddddd";

#[tokio::test]
async fn a_refusal_during_an_upload_reaches_the_client() {
    const LENGTH: usize = 4 << 20;
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        for status in ["413 Payload Too Large", "401 Unauthorized", "400 Bad Request"] {
            for round in 0..10 {
                let mut end = wire::client(world).await;
                let upload = async {
                    let head = format!("POST /up{round} HTTP/1.1\r\nHost: story\r\nContent-Length: {LENGTH}\r\n\r\n");
                    // It reads nothing before it has sent everything, as most clients do.
                    end.try_send(head).await.expect("sent");
                    end.try_send(pattern(0, LENGTH)).await.expect("the pod takes the rest after its answer");
                };
                let refusal = async {
                    let mut call = pod.call().await;
                    call.wire.bytes(100_000).await;
                    call.wire
                        .send(format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno"))
                        .await;
                    // The pod closes with bytes unread, and the kernel makes a reset of it.
                    drop(call);
                };
                within(DEADLINE, "the upload", async { tokio::join!(upload, refusal) }).await;
                let answer = end.answer().await;
                assert_eq!((answer.status.to_string(), answer.text().as_str()), (status[..3].to_owned(), "no"));
                assert_eq!(answer.field("connection"), Some("close"), "{status}");
                end.finish().await;
                assert_eq!(end.ended(DEADLINE).await, wire::Ended::Closed, "{status}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn an_upload_too_long_for_jellyfin_gets_its_413() {
    story(World::plan(1).uncounted(), async |world| {
        let key = world.pod("a").cluster().api_key();
        for _ in 0..20 {
            let mut end = wire::client(world).await;
            let line = format!("POST /ClientLog/Document?ApiKey={key} HTTP/1.1\r\nHost: story\r\n");
            end.send(format!("{line}Content-Type: text/plain\r\nContent-Length: 3000000\r\n\r\n")).await;
            within(DEADLINE, "the upload", end.try_send(pattern(0, 3_000_000))).await.expect("it is taken");
            assert_eq!(end.answer().await.status, 413);
        }
    })
    .await;
}

/// A report with a token that no pod knows.
fn report(length: usize, more: &str) -> String {
    let token = format!("Authorization: MediaBrowser Token=\"{DEAD}\"\r\n");
    let kind = "Content-Type: application/json\r\n";
    format!("POST /Sessions/Playing HTTP/1.1\r\nHost: story\r\n{token}{kind}{more}Content-Length: {length}\r\n\r\n")
}

/// Whether a request works on this connection.
async fn works(end: &mut End) -> bool {
    if end.try_send("GET /System/Info/Public HTTP/1.1\r\nHost: story\r\n\r\n").await.is_err() {
        return false;
    }
    within(DEADLINE, "an answer", end.try_answer()).await.is_some_and(|answer| answer.status == 200)
}

/// A world whose pods have refused the token already: the proxy answers by itself.
async fn world_that_knows_the_dead() -> World {
    let world = World::plan(1).workers(1).uncounted().start().await;
    let mut end = wire::client(&world).await;
    end.send(report(2, "")).await;
    end.send("{}").await;
    assert_eq!(end.answer().await.status, 401);
    world.pod("a").clear_seen();
    world
}

#[tokio::test]
async fn the_proxys_own_refusal_keeps_the_connection() {
    story(world_that_knows_the_dead().await, async |world| {
        let no_host = "POST /x HTTP/1.1\r\nContent-Length: 300\r\n\r\n".to_owned();
        let too_long = format!("POST /{} HTTP/1.1\r\nHost: story\r\nContent-Length: 300\r\n\r\n", "x".repeat(9000));
        for (what, head, length, status) in [
            ("a dead token", report(300, ""), 300, 401),
            ("a dead token and 64 KiB", report(64 << 10, ""), 64 << 10, 401),
            ("no Host", no_host, 300, 400),
            ("a long target", too_long, 300, 414),
        ] {
            for is_late in [false, true] {
                let mut end = wire::client(world).await;
                let mut worked = 0;
                for _ in 0..30 {
                    let body = pattern(0, length);
                    if is_late {
                        end.send(&head).await;
                        // A client that sends its head and its body in two steps, as many do.
                        elapse(millis(20)).await;
                        end.send(body).await;
                    } else {
                        end.send([head.as_bytes(), &body].concat()).await;
                    }
                    assert_eq!(end.answer().await.status, status, "{what}");
                    worked += usize::from(works(&mut end).await);
                }
                assert_eq!(worked, 30, "{what}, late: {is_late}");
            }
        }
        assert!(world.pod("a").seen().iter().all(|seen| seen.path() != "/Sessions/Playing"), "no pod is asked");
    })
    .await;
}

#[tokio::test]
async fn a_refusal_without_a_pod_keeps_the_connection() {
    story(World::plan(1).hold(millis(1)).uncounted(), async |world| {
        let mut end = wire::client(world).await;
        assert!(works(&mut end).await);
        world.pod("a").kill().await;
        for _ in 0..30 {
            end.send("POST /Sessions/Playing HTTP/1.1\r\nHost: story\r\nContent-Length: 4\r\n\r\n").await;
            end.send("body").await;
            let status = end.answer().await.status;
            assert!(matches!(status, 502 | 503), "{status}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_long_unread_body_ends_the_connection_after_the_answer() {
    story(world_that_knows_the_dead().await, async |world| {
        for framing in ["Content-Length", "Transfer-Encoding"] {
            for _ in 0..10 {
                let mut end = wire::client(world).await;
                let length = 1 << 20;
                let head = match framing {
                    "Content-Length" => report(length, ""),
                    _ => report(0, "").replace("Content-Length: 0", "Transfer-Encoding: chunked") + "100000\r\n",
                };
                end.send(head).await;
                within(DEADLINE, "the body", end.try_send(pattern(0, length)))
                    .await
                    .expect("it is taken, and thrown away");
                let answer = end.answer().await;
                assert_eq!((answer.status, answer.field("connection")), (401, Some("close")), "{framing}");
                end.finish().await;
                assert_eq!(end.ended(DEADLINE).await, wire::Ended::Closed);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_refusal_sends_no_100_continue() {
    story(world_that_knows_the_dead().await, async |world| {
        let mut end = wire::client(world).await;
        end.send(report(300, "Expect: 100-continue\r\n")).await;
        let answer = end.answer().await;
        assert_eq!((answer.status, answer.field("connection")), (401, Some("close")), "{}", answer.head);
        assert_eq!(end.ended(DEADLINE).await, wire::Ended::Closed);
    })
    .await;
}
