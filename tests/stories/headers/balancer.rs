//! A load balancer says by the PROXY protocol whose a connection is.

use crate::stories::wire::{self, HandPod, SOON};
use crate::stories::world::{story, until, until_so};
use jellypin::limits::Kind;

const REQUEST: &str = "GET /x HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n";

#[tokio::test]
async fn a_named_balancer_tells_who_its_client_is() {
    let mut pod = HandPod::start().await;
    let plan = wire::before(&pod).proxy_protocol(&["127.0.0.1"]);
    story(plan, async |world| {
        let v2 = [
            &b"\r\n\r\n\0\r\nQUIT\n\x21\x21\x00\x24"[..],
            &[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7],
            &[0; 16],
            &[0xdc, 4, 1, 187],
        ];
        for (header, address) in [
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n".to_vec(), "192.0.2.7"),
            (v2.concat(), "2001:db8::7"),
            (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        ] {
            let mut end = wire::client(world).await;
            end.send([&header[..], REQUEST.as_bytes()].concat()).await;
            let mut call = pod.call().await;
            assert_eq!(call.all("x-forwarded-for"), [address], "the client's own word is not believed");
            call.reply("200 OK", "").await;
            assert_eq!(end.answer().await.status, 200);
        }
        // Without a header nobody knows whose connection it is.
        let mut end = wire::client(world).await;
        end.send(REQUEST).await;
        end.ended(SOON).await;
        assert_eq!(world.proxy.metric("jellypin_rejected_total", &[("why", "proxy_protocol")]).await, 1.0);
    })
    .await;
}

#[tokio::test]
async fn nobody_else_may_say_who_it_is() {
    let pod = HandPod::start().await;
    story(wire::before(&pod).proxy_protocol(&["192.0.2.1"]), async |world| {
        let mut end = wire::client(world).await;
        end.send(format!("PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n{REQUEST}")).await;
        assert_eq!(end.answer().await.status, 400);
    })
    .await;
}

#[tokio::test]
async fn connections_of_a_balancer_count_before_they_say_whose_they_are() {
    let mut pod = HandPod::start().await;
    let plan = wire::before(&pod).proxy_protocol(&["127.0.0.1"]).max_connections(2);
    story(plan, async |world| {
        let silent = [wire::client(world).await, wire::client(world).await, wire::client(world).await];
        let rejected = async || world.proxy.metric("jellypin_rejected_total", &[("why", "connections")]).await;
        until_so("one is too many", async || rejected().await == 1.0).await;
        drop(silent);
        let is_free = || world.proxy.shared().limits.in_progress(Kind::Connections) == 0;
        until("there is room again", is_free).await;
        let mut end = wire::client(world).await;
        end.send(format!("PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n{REQUEST}")).await;
        pod.call().await.reply("200 OK", "").await;
        assert_eq!(end.answer().await.status, 200);
        assert_eq!(world.proxy.shared().limits.in_progress(Kind::Connections), 1, "it is counted once");
    })
    .await;
}
