//! How one side ends is how the other hears of it.

use futures_util::{SinkExt, StreamExt};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::{
    Error, Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use super::{Peer, opened};
use crate::stories::{
    wire::{self, HandPod, SOON, within},
    world::{DEADLINE, World, story, until, until_so},
};

/// What a side hears last.
async fn last(peer: &mut Peer) -> Option<Result<Message, Error>> {
    within(SOON, "the end of the socket", peer.next()).await
}

/// An end without a farewell.
fn is_abnormal(end: &Option<Result<Message, Error>>) -> bool {
    matches!(end, None | Some(Err(_)))
}

/// The pod is asked once more, and does not know the client any more.
async fn refuse_again(pod: &mut HandPod) {
    let mut call = pod.call().await;
    call.reply("403 Forbidden", "Error processing request.").await;
}

#[tokio::test]
async fn a_clients_close_code_and_reason_reach_the_pod() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let farewells = [
            Some(CloseFrame { code: CloseCode::Normal, reason: "going".into() }),
            Some(CloseFrame { code: CloseCode::Library(4321), reason: "".into() }),
            None,
        ];
        for farewell in farewells {
            let (mut client, mut pod_side) = opened(world, &mut pod).await;
            client.send(Message::Close(farewell.clone())).await.expect("sent");
            assert_eq!(last(&mut pod_side).await.expect("a farewell").expect("whole"), Message::Close(farewell));
            let echo = last(&mut client).await.expect("an echo").expect("a whole one");
            assert!(echo.is_close(), "a farewell is answered: {echo:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_is_gone_leaves_no_socket() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        for with_reset in [true, false] {
            let (mut client, mut pod_side) = opened(world, &mut pod).await;
            client.send(Message::text("last words")).await.expect("sent");
            assert_eq!(last(&mut pod_side).await.expect("a message").expect("whole"), Message::text("last words"));
            if with_reset {
                client.get_ref().set_zero_linger().expect("a socket");
            }
            drop(client);
            let end = last(&mut pod_side).await.expect("a farewell").expect("whole");
            assert!(
                matches!(end, Message::Close(Some(frame)) if frame.code == CloseCode::Normal),
                "reset: {with_reset}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn a_pods_close_frame_does_not_reach_the_client() {
    for with_farewell in [true, false] {
        let mut pod = HandPod::start().await;
        story(wire::before(&pod), async |world| {
            let (mut client, mut pod_side) = opened(world, &mut pod).await;
            if with_farewell {
                let frame = CloseFrame { code: CloseCode::Normal, reason: "System Shutdown".into() };
                pod_side.send(Message::Close(Some(frame))).await.expect("sent");
                let echo = last(&mut pod_side).await.expect("an echo").expect("a whole one");
                assert!(echo.is_close(), "a farewell is answered: {echo:?}");
            }
            drop(pod_side);
            // The same pod is asked for the same socket.
            let mut next = super::accept(pod.call().await).await;
            next.send(Message::text("here again")).await.expect("sent");
            assert_eq!(last(&mut client).await.expect("a message").expect("whole"), Message::text("here again"));
            drop(next);
            refuse_again(&mut pod).await;
            let end = last(&mut client).await;
            assert!(is_abnormal(&end), "{end:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn messages_before_an_abnormal_end_arrive() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let (mut client, mut pod_side) = opened(world, &mut pod).await;
        for number in 0..20 {
            pod_side.send(Message::text(number.to_string())).await.expect("sent");
        }
        drop(pod_side);
        refuse_again(&mut pod).await;
        for number in 0..20 {
            assert_eq!(last(&mut client).await.expect("a message").expect("whole"), Message::text(number.to_string()));
        }
        assert!(is_abnormal(&last(&mut client).await));
        drop(client);
    })
    .await;
}

#[tokio::test]
async fn a_malformed_frame_ends_the_socket() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let long_ping = [&b"\x89\xfe\x00\x7e\0\0\0\0"[..], &[b'x'; 126]].concat();
        let nonsense: [(&str, &[u8]); 6] = [
            ("a frame without a mask", b"\x81\x02hi"),
            ("an unknown opcode", b"\x83\x80\0\0\0\0"),
            ("a bit of an extension that nobody agreed on", b"\xc1\x82\0\0\0\0hi"),
            ("a text that is no UTF-8", b"\x81\x82\0\0\0\0\xff\xff"),
            ("a ping of more than 125 bytes", &long_ping),
            ("a continuation of nothing", b"\x80\x82\0\0\0\0hi"),
        ];
        for (what, bytes) in nonsense {
            let mut end = wire::client(world).await;
            end.send(super::asks("/socket", "")).await;
            let mut pod_side = super::accept(pod.call().await).await;
            end.head().await;
            end.send(bytes).await;
            let heard = last(&mut pod_side).await;
            end.ended(SOON).await;
            assert!(matches!(&heard, Some(Ok(Message::Close(_)))), "{what}: the pod got {heard:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn two_hundred_sockets_open_and_close_and_are_counted() {
    const SOCKETS: usize = 200;
    story(World::plan(2), async |world| {
        let mut clients = JoinSet::new();
        for number in 0..SOCKETS {
            let mut client = world.client();
            clients.spawn(async move {
                let answer = client.log_in(&format!("user{number}")).await;
                assert_eq!(answer.status, 200);
                let token = client.token.clone().expect("a token");
                client.socket(&format!("/socket?ApiKey={token}&deviceId=d{number}")).await.expect("a socket")
            });
        }
        let mut sockets = clients.join_all().await;
        for socket in &mut sockets {
            let first = within(DEADLINE, "the greeting", socket.next()).await.expect("a message").expect("whole");
            assert!(first.to_text().is_ok_and(|text| text.contains("ForceKeepAlive")), "{first:?}");
        }
        let at_pods = || world.pods.iter().map(|pod| pod.open_sockets()).sum::<usize>();
        assert_eq!(at_pods(), SOCKETS);
        assert_eq!(world.proxy.metric("jellypin_pod_sockets", &[]).await, SOCKETS as f64);
        let rest = sockets.split_off(SOCKETS / 2);
        for mut socket in sockets {
            socket.close(None).await.expect("a farewell");
        }
        until("half of the sockets are open", || at_pods() == SOCKETS / 2).await;
        // The others end without a farewell.
        drop(rest);
        until("no socket is open", || at_pods() == 0).await;
        let left = async || world.proxy.metric("jellypin_pod_sockets", &[]).await;
        until_so("no socket is counted", async || left().await == 0.0).await;
        assert!(world.proxy.metric("jellypin_socket_messages_total", &[]).await >= SOCKETS as f64);
    })
    .await;
}
