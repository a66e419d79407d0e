//! Messages pass as they are, as fast as they are taken.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, protocol::Role};

use super::{Peer, accept, asks, opened, opened_by_hand, peer};
use crate::stories::{
    wire::{self, Counter, HandPod, pattern, within},
    world::{DEADLINE, World, story},
};

async fn next(peer: &mut Peer) -> Message {
    within(DEADLINE, "a message", peer.next()).await.expect("a message").expect("a whole one")
}

#[tokio::test]
async fn text_and_binary_pass_both_ways() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let (mut client, mut pod_side) = opened(world, &mut pod).await;
        let messages = [
            Message::text("{\"MessageType\":\"KeepAlive\"}"),
            Message::text(""),
            Message::text("Grüße, 世界"),
            Message::binary(pattern(0, 100_000)),
            Message::binary(Vec::new()),
        ];
        for message in messages {
            client.send(message.clone()).await.expect("sent");
            assert!(next(&mut pod_side).await == message, "the pod got something else than {message:.100}");
            pod_side.send(message.clone()).await.expect("sent");
            assert!(next(&mut client).await == message, "the client got something else than {message:.100}");
        }
        drop((client, pod_side));
    })
    .await;
}

#[tokio::test]
async fn a_message_in_fragments_arrives_as_one() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let mut end = wire::client(world).await;
        end.send(asks("/socket", "")).await;
        let mut pod_side = accept(pod.call().await).await;
        end.head().await;
        // "one" and "two" in two frames with a ping "p" between them, masked with zeros.
        end.send(b"\x01\x83\0\0\0\0one").await;
        end.send(b"\x89\x81\0\0\0\0p").await;
        assert_eq!(end.bytes(3).await, b"\x8a\x01p", "the pong does not wait for the message's end");
        end.send(b"\x80\x83\0\0\0\0two").await;
        assert_eq!(next(&mut pod_side).await, Message::text("onetwo"));
        drop((end, pod_side));
    })
    .await;
}

#[tokio::test]
async fn a_ping_gets_one_pong() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let (mut client, mut pod_side) = opened(world, &mut pod).await;
        client.send(Message::Ping("x".into())).await.expect("sent");
        assert_eq!(next(&mut client).await, Message::Pong("x".into()));
        client.send(Message::text("on")).await.expect("sent");
        assert_eq!(next(&mut pod_side).await, Message::text("on"), "a ping is of its own side");
        pod_side.send(Message::Ping("y".into())).await.expect("sent");
        assert_eq!(next(&mut pod_side).await, Message::Pong("y".into()));
        pod_side.send(Message::text("back")).await.expect("sent");
        assert_eq!(next(&mut client).await, Message::text("back"), "there was one pong");
        drop((client, pod_side));
    })
    .await;
}

#[tokio::test]
async fn a_message_beyond_the_limit_ends_the_socket() {
    // Of a client, which is bounded more narrowly than a pod.
    const LIMIT: usize = 1 << 20;
    const POD_LIMIT: usize = 16 << 20;
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let (mut client, mut pod_side) = opened(world, &mut pod).await;
        let largest = Message::binary(pattern(0, LIMIT));
        let (sent, got) = tokio::join!(client.send(largest.clone()), next(&mut pod_side));
        sent.expect("sent");
        assert!(got == largest);
        let largest = Message::binary(pattern(0, POD_LIMIT));
        let (sent, got) = tokio::join!(pod_side.send(largest.clone()), next(&mut client));
        sent.expect("sent");
        assert!(got == largest);
        // The socket may end before the message is sent whole.
        let _ = client.send(Message::binary(pattern(0, LIMIT + 1))).await;
        let end = within(DEADLINE, "the pod's end", pod_side.next()).await;
        assert!(matches!(end, Some(Ok(Message::Close(_)))), "the pod gets nothing of it but a farewell: {end:?}");

        let (mut client, mut pod_side) = opened(world, &mut pod).await;
        let _ = pod_side.send(Message::binary(pattern(0, POD_LIMIT + 1))).await;
        drop(pod_side);
        // Another side is attached, and the client has heard nothing of it.
        let mut pod_side = accept(pod.call().await).await;
        pod_side.send(Message::text("after")).await.expect("sent");
        assert_eq!(next(&mut client).await, Message::text("after"));
        drop((client, pod_side));

        let (mut client, mut pod_side) = opened(world, &mut pod).await;
        client.send(Message::text("the proxy lives")).await.expect("sent");
        assert_eq!(next(&mut pod_side).await, Message::text("the proxy lives"));
        drop((client, pod_side));
    })
    .await;
}

/// A long text of the kind that 10.11 sends when many sessions are open.
fn sessions(length: usize) -> String {
    let mut text = String::from("{\"MessageType\":\"Sessions\",\"Data\":[");
    while text.len() < length {
        text += "{\"DeviceName\":\"Küche 世界\",\"ServerId\":\"5a1e0f3d9c7b48268f4d2a6b1c3e5f70\"},";
    }
    text + "{}]}"
}

#[tokio::test]
async fn a_long_message_is_streamed_between_short_ones() {
    const SHOWN: &str = "0123456789abcdef0123456789abcdef";
    for shown in [None, Some(SHOWN)] {
        let mut pod = HandPod::start().await;
        let mut plan = wire::before(&pod);
        if let Some(shown) = shown {
            plan = plan.server_id(shown);
        }
        story(plan, async |world| {
            let (mut client, mut pod_side) = opened(world, &mut pod).await;
            for length in [1000, 60_000, 70_000, 200_000, 1 << 20, 5 << 20] {
                let text = sessions(length);
                let expected = shown.map_or(text.clone(), |id| text.replace("5a1e0f3d9c7b48268f4d2a6b1c3e5f70", id));
                let (sent, got) = tokio::join!(
                    async {
                        pod_side.send(Message::text(text)).await?;
                        pod_side.send(Message::Ping("p".into())).await?;
                        pod_side.send(Message::text("short")).await
                    },
                    next(&mut client)
                );
                sent.expect("sent");
                assert!(got == Message::text(expected), "{length} bytes");
                assert_eq!(next(&mut client).await, Message::text("short"));
            }
            client.send(Message::text("still here")).await.expect("sent");
            while next(&mut pod_side).await != Message::text("still here") {}
            drop((client, pod_side));
        })
        .await;
    }
}

#[tokio::test]
async fn a_long_message_is_forwarded_before_it_is_whole() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let (mut end, mut call) = opened_by_hand(world, &mut pod).await;
        // One frame of 8 MiB, of which a part comes, and then the rest.
        const LENGTH: usize = 8 << 20;
        const PIECE: usize = 64 << 10;
        call.wire.send([&b"\x82\x7f"[..], &(LENGTH as u64).to_be_bytes()].concat()).await;
        call.wire.send(pattern(0, 2 * PIECE)).await;
        for (number, first) in [(0, 0x02), (1, 0x00)] {
            let header = [&[first, 0x7f][..], &(PIECE as u64).to_be_bytes()].concat();
            assert_eq!(end.bytes(10).await, header, "a fragment that is not the last");
            assert!(end.bytes(PIECE).await == pattern(number * PIECE, PIECE));
        }
        let rest = async {
            call.wire.send(pattern(2 * PIECE, LENGTH - 2 * PIECE)).await;
        };
        let read = async {
            for number in 2..LENGTH / PIECE {
                let is_last = (number + 1) * PIECE == LENGTH;
                assert_eq!(end.bytes(10).await[0], if is_last { 0x80 } else { 0 });
                assert!(end.bytes(PIECE).await == pattern(number * PIECE, PIECE));
            }
        };
        tokio::join!(rest, read);
        drop((end, call));
    })
    .await;
}

#[tokio::test]
async fn a_client_that_got_half_a_message_of_a_dying_pod_dials_again() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let (mut end, mut call) = opened_by_hand(world, &mut pod).await;
        call.wire.send([&b"\x82\x7f"[..], &(1_u64 << 20).to_be_bytes(), &pattern(0, 100_000)].concat()).await;
        end.bytes(10 + (64 << 10)).await;
        drop(call);
        let (rest, _) = within(DEADLINE, "the end", end.rest()).await;
        assert!(!rest.starts_with(b"\x80") && rest.len() < 100_000, "half a message does not look whole");
        assert!(pod.is_idle(), "no other side goes on with it");
    })
    .await;
}

#[tokio::test]
async fn invalid_utf8_ends_the_pods_side() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let (mut end, mut call) = opened_by_hand(world, &mut pod).await;
        let mut text = vec![b'x'; 200_000];
        text[100_000] = 0xff;
        call.wire.send([&b"\x81\x7f"[..], &(200_000_u64).to_be_bytes(), &text].concat()).await;
        let (rest, _) = within(DEADLINE, "the end", end.rest()).await;
        assert!(!rest.contains(&0xff) && rest.len() < 100_000);
    })
    .await;
}

/// What may be under way when one side does not read: the kernel's buffers, and a few messages.
const UNDER_WAY: usize = 24 << 20;

#[tokio::test]
async fn a_side_that_does_not_read_stops_the_other() {
    const MESSAGE: usize = 64 << 10;
    const COUNT: usize = (64 << 20) / MESSAGE;
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        for is_client_slow in [true, false] {
            let (client, pod_side) = opened(world, &mut pod).await;
            let (mut slow, mut fast) = if is_client_slow { (client, pod_side) } else { (pod_side, client) };
            let sent = Counter::default();
            let counted = sent.clone();
            let sending = tokio::spawn(async move {
                let message = Message::binary(pattern(0, MESSAGE));
                for _ in 0..COUNT {
                    fast.send(message.clone()).await.expect("sent");
                    counted.add(MESSAGE);
                }
                fast
            });
            let count = sent.stands_still(UNDER_WAY).await;
            let who = if is_client_slow { "client" } else { "pod" };
            println!("a {who} that reads nothing of its socket: the other was stopped after {count} bytes");
            for _ in 0..COUNT {
                assert_eq!(next(&mut slow).await.len(), MESSAGE);
            }
            drop((slow, sending.await.expect("all was sent")));
        }
    })
    .await;
}

fn kind(message: &Message) -> String {
    let value: Value = serde_json::from_str(message.to_text().expect("a text")).expect("JSON");
    value["MessageType"].as_str().expect("a kind").to_owned()
}

#[tokio::test]
async fn jellyfins_keep_alive_passes() {
    story(World::plan(2).build(|pod| pod.keep_alive(Duration::from_secs(2))), async |world| {
        let mut client = world.client();
        assert_eq!(client.log_in("user1").await.status, 200);
        let token = client.token.clone().expect("a token");
        let mut socket = client.socket(&format!("/socket?ApiKey={token}&deviceId=d1")).await.expect("a socket");
        let mut read = async || within(DEADLINE, "a message", socket.next()).await.expect("a message").expect("whole");
        assert_eq!(kind(&read().await), "ForceKeepAlive");
        // The pod reminds a silent client, which answers, and so the socket lives.
        assert_eq!(kind(&read().await), "ForceKeepAlive");
        socket.send(Message::text(json!({"MessageType": "KeepAlive"}).to_string())).await.expect("sent");
        loop {
            let message = within(DEADLINE, "the answer", socket.next()).await.expect("a message").expect("whole");
            if kind(&message) == "KeepAlive" {
                break;
            }
        }
        drop(socket);
    })
    .await;
}

#[tokio::test]
async fn messages_sent_with_the_101_arrive() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let mut end = wire::client(world).await;
        end.send(asks("/socket", "")).await;
        let call = pod.call().await;
        let pod_side = tokio::spawn(async move {
            let mut pod_side = accept(call).await;
            // The pod's first words may come in the same bytes as its yes.
            for number in 0..100 {
                pod_side.send(Message::text(number.to_string())).await.expect("sent");
            }
            pod_side
        });
        end.head().await;
        let mut client = peer(end, Role::Client).await;
        for number in 0..100 {
            assert_eq!(next(&mut client).await, Message::text(number.to_string()));
        }
        drop((client, pod_side.await.expect("all was sent")));
    })
    .await;
}
