//! `Expect: 100-continue`: a body is not sent before somebody wants it.

use std::time::Duration;

use crate::stories::{
    wire::{self, HandPod},
    world::{DEADLINE, story},
};

const ASK: &str = "POST /up HTTP/1.1\r\nHost: story\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";

/// A client that is told to go on at once would be told within this time.
const AT_ONCE: Duration = Duration::from_millis(200);

#[tokio::test]
async fn the_client_gets_100_only_from_the_pod() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let mut end = wire::client(world).await;
        end.send(ASK).await;
        let mut call = pod.call().await;
        assert_eq!(call.field("expect"), Some("100-continue"), "the pod is asked");
        let early = tokio::time::timeout(AT_ONCE, end.try_head()).await;
        assert!(early.is_err(), "the pod has not spoken yet: {early:?}");
        call.wire.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        assert!(end.head().await.starts_with("HTTP/1.1 100 "));
        end.send("body").await;
        assert_eq!(call.wire.bytes(4).await, b"body");
        call.reply("201 Created", "made").await;
        let answer = end.answer().await;
        assert_eq!((answer.status, answer.text().as_str()), (201, "made"), "one 100 and then the answer");
        drop((end, call));
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_refuses_at_once_leaves_the_body_unsent() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        for status in ["401 Unauthorized", "413 Content Too Large"] {
            let mut end = wire::client(world).await;
            end.send(ASK).await;
            let mut call = pod.call().await;
            call.reply(status, "").await;
            let answer = end.answer().await;
            assert_eq!(
                answer.status.to_string(),
                status[..3],
                "the refusal comes without a 100 before it: {}",
                answer.head
            );
            end.finish().await;
            let (rest, _) = end.rest().await;
            assert!(rest.is_empty(), "nothing comes after it: {:?}", String::from_utf8_lossy(&rest));
            // A connection on which a body is still due serves no other request.
            let (body, _) = wire::within(DEADLINE, "the end of the pod's connection", call.wire.rest()).await;
            assert!(body.is_empty(), "the pod got a body that it did not want: {:?}", String::from_utf8_lossy(&body));
        }
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_never_says_100_gets_the_body() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let mut end = wire::client(world).await;
        end.send(ASK).await;
        let mut call = pod.call().await;
        assert!(end.head().await.starts_with("HTTP/1.1 100 "), "after a second the proxy no longer waits for the pod");
        end.send("body").await;
        assert_eq!(call.wire.bytes(4).await, b"body");
        call.reply("200 OK", "").await;
        assert_eq!(end.answer().await.status, 200);
        drop((end, call));
    })
    .await;
}

#[tokio::test]
async fn a_body_sent_before_the_100_passes() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let mut end = wire::client(world).await;
        end.send(format!("{ASK}body")).await;
        let mut call = pod.call().await;
        call.wire.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        assert_eq!(call.wire.bytes(4).await, b"body");
        call.reply("200 OK", "").await;
        let mut head = end.head().await;
        if head.starts_with("HTTP/1.1 100 ") {
            head = end.head().await;
        }
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        drop((end, call));
    })
    .await;
}
