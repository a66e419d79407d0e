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
    world::{DEADLINE, World, until},
};

/// What a side hears last.
async fn last(peer: &mut Peer) -> Option<Result<Message, Error>> {
    within(SOON, "the end of the socket", peer.next()).await
}

/// An end without a farewell.
fn is_abnormal(end: &Option<Result<Message, Error>>) -> bool {
    matches!(end, None | Some(Err(_)))
}

#[tokio::test]
async fn code_and_reason_of_a_farewell_pass_both_ways() {
    let mut pod = HandPod::start().await;
    let world = wire::before(&pod).await;
    let farewells = [
        Some(CloseFrame { code: CloseCode::Normal, reason: "System Shutdown".into() }),
        Some(CloseFrame { code: CloseCode::Library(4321), reason: "".into() }),
        None,
    ];
    for farewell in farewells {
        for is_from_client in [true, false] {
            let (client, pod_side) = opened(&world, &mut pod).await;
            let (mut one, mut other) = if is_from_client { (client, pod_side) } else { (pod_side, client) };
            one.send(Message::Close(farewell.clone())).await.expect("sent");
            let heard = last(&mut other).await.expect("a farewell").expect("a whole one");
            assert_eq!(heard, Message::Close(farewell.clone()));
            let echo = last(&mut one).await.expect("an echo").expect("a whole one");
            assert!(echo.is_close(), "a farewell is answered: {echo:?}");
            drop((one, other));
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn an_end_without_a_farewell_stays_one() {
    let mut pod = HandPod::start().await;
    let world = wire::before(&pod).await;
    for is_from_client in [true, false] {
        for with_reset in [true, false] {
            let (client, pod_side) = opened(&world, &mut pod).await;
            let (mut one, mut other) = if is_from_client { (client, pod_side) } else { (pod_side, client) };
            one.send(Message::text("last words")).await.expect("sent");
            assert_eq!(last(&mut other).await.expect("a message").expect("whole"), Message::text("last words"));
            if with_reset {
                one.get_ref().set_zero_linger().expect("a socket");
            }
            drop(one);
            let end = last(&mut other).await;
            assert!(is_abnormal(&end), "from the client: {is_from_client}, reset: {with_reset}: {end:?}");
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn last_words_before_an_end_without_a_farewell_arrive() {
    let mut pod = HandPod::start().await;
    let world = wire::before(&pod).await;
    let (mut client, mut pod_side) = opened(&world, &mut pod).await;
    for number in 0..20 {
        pod_side.send(Message::text(number.to_string())).await.expect("sent");
    }
    drop(pod_side);
    for number in 0..20 {
        assert_eq!(last(&mut client).await.expect("a message").expect("whole"), Message::text(number.to_string()));
    }
    assert!(is_abnormal(&last(&mut client).await));
    drop(client);
    world.stop().await;
}

#[tokio::test]
async fn what_is_no_message_ends_the_socket() {
    let mut pod = HandPod::start().await;
    let world = wire::before(&pod).await;
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
        let mut end = wire::client(&world).await;
        end.send(super::asks("/socket", "")).await;
        let mut pod_side = super::accept(pod.call().await).await;
        end.head().await;
        end.send(bytes).await;
        let heard = last(&mut pod_side).await;
        end.ended(SOON).await;
        assert!(is_abnormal(&heard), "{what}: the pod got {heard:?}");
    }
    world.stop().await;
}

#[tokio::test]
async fn two_hundred_sockets_open_and_close_and_are_counted() {
    const SOCKETS: usize = 200;
    let world = World::plan(2).start().await;
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
    let mut left = 1.0;
    for _ in 0..200 {
        left = world.proxy.metric("jellypin_pod_sockets", &[]).await;
        if left == 0.0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(left, 0.0);
    assert!(world.proxy.metric("jellypin_socket_messages_total", &[]).await >= SOCKETS as f64);
    world.stop().await;
}
