//! When one side disconnects, the other side's connection ends within a second.

use crate::stories::wire::{self, HandPod, SOON, pattern, within};
use crate::stories::world::story;

#[tokio::test]
async fn a_client_that_disconnects_while_waiting_ends_its_request() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let mut end = wire::client(world).await;
        end.send("GET /slow HTTP/1.1\r\nHost: story\r\n\r\n").await;
        let mut call = pod.call().await;
        drop(end);
        call.wire.ended(SOON).await;
    })
    .await;
}

#[tokio::test]
async fn a_client_that_disconnects_ends_its_download() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        for leaves_with_reset in [false, true] {
            let mut end = wire::client(world).await;
            end.send("GET /film HTTP/1.1\r\nHost: story\r\n\r\n").await;
            let mut call = pod.call().await;
            call.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nsome bytes").await;
            end.head().await;
            end.bytes(10).await;
            if leaves_with_reset {
                end.reset();
            } else {
                drop(end);
            }
            call.wire.ended(SOON).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_disconnects_ends_its_upload() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        for framing in ["Content-Length: 1000000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n4\r\n"] {
            let mut end = wire::client(world).await;
            end.send(format!("POST /up HTTP/1.1\r\nHost: story\r\n{framing}body")).await;
            let mut call = pod.call().await;
            if framing.contains("chunked") {
                assert_eq!(call.wire.bytes(7).await, b"4\r\nbody");
            } else {
                assert_eq!(call.wire.bytes(4).await, b"body");
            }
            drop(end);
            let (rest, _) = within(SOON, "the end of the upload", call.wire.rest()).await;
            let rest = String::from_utf8_lossy(&rest).into_owned();
            assert!(!rest.contains("0\r\n\r\n"), "an upload that broke off must not look whole: {rest:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_truncated_answer_is_truncated_for_the_client() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let bodies = ["Content-Length: 1000000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n4e20\r\n"];
        for (body, with_reset) in bodies.iter().flat_map(|body| [(body, false), (body, true)]) {
            let mut end = wire::client(world).await;
            end.send("GET /film HTTP/1.1\r\nHost: story\r\n\r\n").await;
            let mut call = pod.call().await;
            call.wire.send(format!("HTTP/1.1 200 OK\r\n{body}")).await;
            call.wire.send(pattern(0, 20_000)).await;
            end.head().await;
            if with_reset {
                call.wire.reset();
            } else {
                drop(call);
            }
            let (got, ended) = within(SOON, "the end of the answer", end.rest()).await;
            let is_chunked = body.contains("chunked");
            assert!(!is_chunked || !got.ends_with(b"0\r\n\r\n"), "an answer that broke off must not look whole");
            assert!(got.len() < 1_000_000, "{ended:?}");
        }
    })
    .await;
}
