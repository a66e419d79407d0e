//! The shown id becomes the pod's own in what a client asks: in path, query, body and messages.

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;

use super::{OWN, SHOWN, disguised};
use crate::stories::{
    sockets,
    wire::{self, Call, End, HandPod, within},
    world::{DEADLINE, World, story},
};

/// What reaches the pod of a request, and the client that waits for its answer.
async fn reached(world: &World, pod: &mut HandPod, pieces: &[&str]) -> (End, Call) {
    let mut end = wire::client(world).await;
    for piece in pieces {
        end.send(piece).await;
    }
    let call = pod.call().await;
    (end, call)
}

#[tokio::test]
async fn path_and_query_reach_the_pod_with_its_own_id() {
    let mut pod = HandPod::start().await;
    story(disguised(&pod), async |world| {
        for path in ["/Servers/{}", "/Items?serverId={}&a={}", "/Videos/1/stream?DeviceId={}", "/x/{}?Küche=%2F{}"] {
            let request = format!("GET {} HTTP/1.1\r\nHost: h\r\n\r\n", path.replace("{}", SHOWN));
            let (_client, call) = reached(world, &mut pod, &[&request]).await;
            let line: String = call.head.chars().take_while(|c| *c != '\r').collect();
            let bytes: String = path.replace("{}", OWN).bytes().map(char::from).collect();
            assert_eq!(line, format!("GET {bytes} HTTP/1.1"));
        }
    })
    .await;
}

#[tokio::test]
async fn a_json_body_reaches_the_pod_with_its_own_id() {
    let mut pod = HandPod::start().await;
    story(disguised(&pod), async |world| {
        let body = format!("{{\"ServerId\":\"{SHOWN}\",\"Other\":\"{}\"}}{}", &SHOWN[..30], &SHOWN[..12]);
        let expected = body.replace(SHOWN, OWN);
        for cut in [0, 12, 13, 14, 20, 30, 44, 45, 46, body.len() - 12, body.len()] {
            let (before, behind) = body.split_at(cut);
            let head = "POST /Items HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n";
            let sized = format!("{head}Content-Length: {}\r\n\r\n{before}", body.len());
            let (_client, mut call) = reached(world, &mut pod, &[&sized, behind]).await;
            assert_eq!(call.field("content-length"), Some(&*body.len().to_string()));
            assert_eq!(call.wire.bytes(body.len()).await, expected.as_bytes(), "cut at {cut}");
            let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{}", super::chunked(&[before, behind]));
            let (_client, mut call) = reached(world, &mut pod, &[&chunked]).await;
            let (got, _, is_whole) = call.wire.chunks().await;
            assert_eq!((String::from_utf8_lossy(&got).as_ref(), is_whole), (&*expected, true), "cut at {cut}");
        }
        let other = format!(
            "POST /ClientLog/Document HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\nContent-Length: 32\r\n\r\n{SHOWN}"
        );
        let (client, mut call) = reached(world, &mut pod, &[&other]).await;
        assert_eq!(call.wire.bytes(32).await, SHOWN.as_bytes(), "what is no JSON passes as it is");
        drop((client, call));
    })
    .await;
}

#[tokio::test]
async fn text_messages_are_rewritten_both_ways() {
    let mut pod = HandPod::start().await;
    story(disguised(&pod), async |world| {
        let (mut client, mut pod_side) = sockets::opened(world, &mut pod).await;
        let text = |id: &str| Message::text(format!("{{\"MessageType\":\"Play\",\"ServerId\":\"{id}\"}}"));
        client.send(text(SHOWN)).await.expect("sent");
        let got = within(DEADLINE, "a message", pod_side.next()).await.expect("a message").expect("a whole one");
        assert_eq!(got, text(OWN));
        pod_side.send(text(OWN)).await.expect("sent");
        let got = within(DEADLINE, "a message", client.next()).await.expect("a message").expect("a whole one");
        assert_eq!(got, text(SHOWN));
        pod_side.send(Message::binary(OWN)).await.expect("sent");
        let got = within(DEADLINE, "a message", client.next()).await.expect("a message").expect("a whole one");
        assert_eq!(got, Message::binary(OWN));
        drop((client, pod_side));
    })
    .await;
}
