//! Bodies that nobody could keep in memory: whole, and never faster than the other side takes them.

use std::time::Duration;

use jellyfin_sim::{BULK, bulk_bytes};

use crate::stories::{
    wire::{self, Counter, HandPod, pattern, within},
    world::{World, story},
};

const SIZE: usize = 100 << 20;
const STEP: usize = 1 << 20;

/// Longest time for a body of this size, on a machine that does other things too.
const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_hundred_megabytes_come_down_whole() {
    story(World::plan(1).build(|pod| pod.bulk_size(SIZE as u64)).uncounted(), async |world| {
        let mut end = wire::client(world).await;
        end.send(format!("GET /Videos/{BULK}/stream?static=true HTTP/1.1\r\nHost: story\r\n\r\n")).await;
        let head = end.head().await;
        assert!(head.contains(&format!("content-length: {SIZE}\r\n")), "{head}");
        within(LONG, "the download", async {
            for at in (0..SIZE).step_by(STEP) {
                assert!(end.bytes(STEP).await == bulk_bytes(at as u64, STEP), "the bytes from {at} on are others");
            }
        })
        .await;
        drop(end);
    })
    .await;
}

#[tokio::test]
async fn a_hundred_megabytes_go_up_whole() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let mut end = wire::client(world).await;
        let send = async {
            end.send(format!("POST /up HTTP/1.1\r\nHost: story\r\nContent-Length: {SIZE}\r\n\r\n")).await;
            let step = pattern(0, STEP);
            for _ in (0..SIZE).step_by(STEP) {
                end.send(&step).await;
            }
            end.answer().await
        };
        let take = async {
            let mut call = pod.call().await;
            assert_eq!(call.field("content-length"), Some(&*SIZE.to_string()));
            assert_eq!(call.field("transfer-encoding"), None);
            let step = pattern(0, STEP);
            for at in (0..SIZE).step_by(STEP) {
                assert!(call.wire.bytes(STEP).await == step, "the bytes from {at} on are others");
            }
            call.reply("200 OK", "whole").await;
            call
        };
        let (answer, call) = within(LONG, "the upload", async { tokio::join!(send, take) }).await;
        assert_eq!((answer.status, answer.text()), (200, "whole".into()));
        drop((end, call));
    })
    .await;
}

/// How much may be under way between the two ends: the kernel's buffers of four sockets, and the proxy's own.
const UNDER_WAY: usize = 24 << 20;

const TOO_MUCH: usize = 64 << 20;

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_pod() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let mut end = wire::client(world).await;
        end.take_little();
        end.send("GET /down HTTP/1.1\r\nHost: story\r\n\r\n").await;
        let mut call = pod.call().await;
        let sent = Counter::default();
        let counted = sent.clone();
        let sending = tokio::spawn(async move {
            call.wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {TOO_MUCH}\r\n\r\n")).await;
            let step = pattern(0, 64 << 10);
            for _ in 0..TOO_MUCH / step.len() {
                call.wire.send(&step).await;
                counted.add(step.len());
            }
            call
        });
        let held = sent.stands_still(UNDER_WAY).await;
        println!("a client that does not read: the pod was stopped after {held} bytes");
        end.head().await;
        within(LONG, "the rest of the download", async {
            let step = pattern(0, 64 << 10);
            for _ in 0..TOO_MUCH / step.len() {
                assert!(end.bytes(step.len()).await == step, "what was held back is whole");
            }
        })
        .await;
        drop((end, sending.await.expect("the pod sent all")));
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_does_not_read_stops_the_client() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let mut end = wire::client(world).await;
        let sent = Counter::default();
        let counted = sent.clone();
        let sending = tokio::spawn(async move {
            end.send(format!("POST /up HTTP/1.1\r\nHost: story\r\nContent-Length: {TOO_MUCH}\r\n\r\n")).await;
            let step = pattern(0, 64 << 10);
            for _ in 0..TOO_MUCH / step.len() {
                end.send(&step).await;
                counted.add(step.len());
            }
            end
        });
        let mut call = pod.call().await;
        let held = sent.stands_still(UNDER_WAY).await;
        println!("a pod that does not read: the client was stopped after {held} bytes");
        within(LONG, "the rest of the upload", async {
            let step = pattern(0, 64 << 10);
            for _ in 0..TOO_MUCH / step.len() {
                assert!(call.wire.bytes(step.len()).await == step, "what was held back is whole");
            }
        })
        .await;
        call.reply("200 OK", "").await;
        let mut end = sending.await.expect("the client sent all");
        assert_eq!(end.answer().await.status, 200);
        drop((end, call));
    })
    .await;
}
