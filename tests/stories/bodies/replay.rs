//! A body is sent to a second pod while it still arrives.

use crate::stories::{
    wire::{self, Call, HandPod},
    world::{DEADLINE, story, until},
};

const REFUSAL: &str = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

async fn first(a: &mut HandPod, b: &mut HandPod) -> (Call, bool) {
    tokio::select! {
        call = a.call() => (call, true),
        call = b.call() => (call, false),
    }
}

#[tokio::test]
async fn a_body_is_whole_after_a_pod_refused_it_early() {
    let (mut a, mut b) = (HandPod::start().await, HandPod::start().await);
    let plan = wire::before(&a).pod("b", b.address);
    story(plan, async |world| {
        for framing in ["Content-Length: 9\r\n\r\nhalf,", "Transfer-Encoding: chunked\r\n\r\n5\r\nhalf,\r\n"] {
            let mut end = wire::client(world).await;
            end.send(format!(
                "POST /Sessions/Capabilities/Full HTTP/1.1\r\nHost: story\r\n\
                 Authorization: MediaBrowser Token=\"{:032x}\"\r\n{framing}",
                framing.len()
            ))
            .await;
            let is_chunked = framing.contains("chunked");
            let expected = if is_chunked { "5\r\nhalf,\r\n" } else { "half," };
            let (mut refusing, is_a) = first(&mut a, &mut b).await;
            assert_eq!(refusing.wire.bytes(expected.len()).await, expected.as_bytes());
            refusing.wire.send(REFUSAL).await;
            let mut taking = if is_a { b.call().await } else { a.call().await };
            assert_eq!(taking.wire.bytes(expected.len()).await, expected.as_bytes(), "it begins from the first byte");
            // The refusing pod goes away after the other has begun to read.
            refusing.wire.finish().await;
            refusing.wire.ended(DEADLINE).await;
            drop(refusing);
            end.send(if is_chunked { "4\r\nrest\r\n0\r\n\r\n" } else { "rest" }).await;
            if is_chunked {
                assert_eq!(taking.wire.chunks().await.0, b"rest");
            } else {
                assert_eq!(taking.wire.bytes(4).await, b"rest");
            }
            taking.reply("200 OK", "taken").await;
            let answer = end.answer().await;
            assert_eq!((answer.status, answer.text().as_str()), (200, "taken"));
        }
        until("nothing is left at the pods", || a.is_idle() && b.is_idle()).await;
    })
    .await;
}
