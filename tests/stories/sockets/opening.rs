//! The handshake.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::{Message, protocol::Role};

use super::{accept, asks, peer};
use crate::stories::{
    wire::{self, End, HandPod, fields, within},
    world::{DEADLINE, World, story},
};

/// A tunnel that opened too early would have done so within this time.
const AT_ONCE: Duration = Duration::from_millis(200);

#[tokio::test]
async fn the_tunnel_opens_only_after_the_pods_101() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let mut end = wire::client(world).await;
        end.send(asks(
            "/socket?ApiKey=t&deviceId=d%20",
            "Sec-WebSocket-Extensions: permessage-deflate\r\nOrigin: http://h\r\n",
        ))
        .await;
        let call = pod.call().await;
        assert!(call.head.starts_with("GET /socket?ApiKey=t&deviceId=d%20 HTTP/1.1\r\n"), "{}", call.head);
        assert_eq!(call.field("upgrade"), Some("websocket"));
        assert_eq!(call.field("connection"), Some("Upgrade"));
        assert_eq!(call.field("origin"), Some("http://h"));
        assert_eq!(call.field("sec-websocket-extensions"), None, "no extension is offered to the pod");
        let early = tokio::time::timeout(AT_ONCE, end.try_head()).await;
        assert!(early.is_err(), "the pod has not answered: {early:?}");
        let mut pod_side = accept(call).await;
        let head = end.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(fields(&head, "sec-websocket-extensions").is_empty(), "none is taken up: {head}");
        assert_eq!(fields(&head, "upgrade"), ["websocket"]);
        let mut client = peer(end, Role::Client).await;
        client.send(Message::text("hello")).await.expect("sent");
        let got = within(DEADLINE, "the message", pod_side.next()).await;
        assert_eq!(got.expect("a message").expect("whole"), Message::text("hello"));
        drop((client, pod_side));
    })
    .await;
}

#[tokio::test]
async fn messages_sent_before_the_101_arrive() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let mut end = wire::client(world).await;
        // A masked text frame "hi" with a mask of zeros stands behind the handshake in the same bytes.
        end.send([asks("/socket", "").as_bytes(), b"\x81\x82\0\0\0\0hi"].concat()).await;
        let mut pod_side = accept(pod.call().await).await;
        let got = within(DEADLINE, "the message", pod_side.next()).await;
        assert_eq!(got.expect("a message").expect("whole"), Message::text("hi"));
        drop((end, pod_side));
    })
    .await;
}

#[tokio::test]
async fn a_refusal_passes_and_keeps_the_connection() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let mut end = wire::client(world).await;
        end.send(asks("/socket", "")).await;
        let mut call = pod.call().await;
        call.reply("403 Forbidden", "Error processing request.").await;
        let answer = end.answer().await;
        assert_eq!((answer.status, answer.text().as_str()), (403, "Error processing request."));
        end.send("GET /next HTTP/1.1\r\nHost: story\r\n\r\n").await;
        let mut call = pod.call().await;
        call.reply("200 OK", "next").await;
        assert_eq!(end.answer().await.text(), "next");
        drop((end, call));
    })
    .await;
}

#[tokio::test]
async fn a_101_with_a_wrong_accept_key_opens_nothing() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        for accept in ["Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n", ""] {
            let mut end = wire::client(world).await;
            end.send(asks("/socket", "")).await;
            let mut call = pod.call().await;
            call.wire
                .send(format!(
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{accept}\r\n"
                ))
                .await;
            assert_eq!(end.answer().await.status, 502);
            call.wire.ended(DEADLINE).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_pods_refusal_of_a_socket_passes_unchanged() {
    story(World::plan(1).uncounted(), async |world| {
        let mut through = wire::client(world).await;
        through.send(asks("/socket", "")).await;
        let through = through.answer().await;
        let mut end = End::connect(world.pods[0].address()).await;
        end.send(asks("/socket", "")).await;
        let direct = end.answer().await;
        assert_eq!((through.status, through.text()), (direct.status, direct.text()));
        assert_eq!(through.status, 403);
        drop(end);
    })
    .await;
}

#[tokio::test]
async fn a_socket_counts_as_a_connection() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod).max_connections(2), async |world| {
        let one = super::opened(world, &mut pod).await;
        let _other = super::opened(world, &mut pod).await;
        let mut third = wire::client(world).await;
        // It may be closed before all is sent.
        let _ = third.try_send(asks("/socket?ApiKey=t", "")).await;
        assert_eq!(within(DEADLINE, "the end", third.try_head()).await, None, "there is no room");
        drop(one);
        while world.proxy.metric("jellypin_client_connections", &[]).await > 1.0 {
            tokio::task::yield_now().await;
        }
        super::opened(world, &mut pod).await;
    })
    .await;
}
