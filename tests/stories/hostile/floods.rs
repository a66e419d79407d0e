//! Floods over HTTP/2: each ends its connection, and clients beside it are served all the while.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use super::frames::{END_HEADERS, END_STREAM, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, block, frame};
use crate::stories::{
    wire::{self, End, within},
    world::{DEADLINE, World, millis, story, until},
};
use jellyfin_sim::BULK;

fn request(stream: u32, path: &str) -> Vec<u8> {
    let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "h"), (":path", path)];
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&fields))
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

/// Reads whatever comes, until the connection ends.
async fn until_ended(end: &mut End) {
    within(DEADLINE, "the end of the connection", async { while end.try_bytes(1).await.is_some() {} }).await;
}

/// A client at work until it is told that it is over. Every answer must be good.
async fn neighbour(world: &World, is_over: Arc<AtomicBool>, served: Arc<AtomicUsize>) {
    let mut client = world.client();
    while !is_over.load(Ordering::Relaxed) {
        assert_eq!(client.get("/System/Info/Public").await.status, 200);
        served.fetch_add(1, Ordering::Relaxed);
    }
}

/// Sends one flood after the other beside a client that must be served before and after each.
async fn beside_a_neighbour(world: &World, flood: impl AsyncFn()) {
    let (is_over, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let count = || served.load(Ordering::Relaxed);
    let attack = async {
        flood().await;
        let before = count();
        until("the neighbour is served", || count() > before + 3).await;
        is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(neighbour(world, is_over.clone(), served.clone()), attack);
}

/// Sends these frames again and again, and reads what comes, until the connection ends.
async fn flood(world: &World, first: Vec<u8>, mut next: impl FnMut() -> Vec<u8>) {
    let (mut read, mut write) = wire::client(world).await.into_parts().0.into_split();
    let reading = async {
        let mut sink = tokio::io::sink();
        // How it ends is no matter.
        let _ = tokio::io::copy(&mut read, &mut sink).await;
    };
    let writing = async {
        use tokio::io::AsyncWriteExt;
        let mut bytes = [PREFACE, &setting(3, 100), &first].concat();
        while write.write_all(&bytes).await.is_ok() {
            bytes = next();
            tokio::task::yield_now().await;
        }
    };
    within(DEADLINE, "the end of the flood", async { tokio::join!(reading, writing) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_frames_ends_only_its_connection() {
    story(World::plan(1).uncounted(), async |world| {
        let upload = [(":method", "POST"), (":scheme", "http"), (":authority", "h"), (":path", "/_sim/sink")];
        let upload = frame(HEADERS, END_HEADERS, 1, &block(&upload));
        let floods = [
            ("pings", request(1, "/x"), frame(PING, 0, 0, &[0; 8]).repeat(64)),
            ("settings", request(1, "/x"), setting(4, 65_535).repeat(64)),
            ("empty frames", upload, frame(0, 0, 1, &[]).repeat(64)),
        ];
        for (what, first, frames) in floods {
            let before = world.proxy.metric("jellypin_limited_total", &[("what", "http2_frames")]).await;
            beside_a_neighbour(world, async || flood(world, first.clone(), || frames.clone()).await).await;
            let after = world.proxy.metric("jellypin_limited_total", &[("what", "http2_frames")]).await;
            // h2 may be quicker where it has a bound of its own.
            let counted = if what == "empty frames" { after >= before } else { after == before + 1.0 };
            assert!(counted, "{what}: {before}, {after}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rapid_resets_end_their_connection() {
    story(World::plan(1).uncounted(), async |world| {
        let mut stream = 1;
        let next = || {
            let batch: Vec<u8> = (0..10)
                .flat_map(|_| {
                    stream += 2;
                    [request(stream, "/x"), frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
                })
                .collect();
            batch
        };
        let next = std::cell::RefCell::new(next);
        beside_a_neighbour(world, async || flood(world, Vec::new(), || (next.borrow_mut())()).await).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_window_ends_its_connection() {
    story(World::plan(1).client_header(millis(300)).uncounted(), async |world| {
        beside_a_neighbour(world, async || {
            let mut end = wire::client(world).await;
            let film = format!("/Videos/{BULK}/stream?static=true");
            let streams: Vec<u8> = (0..20).flat_map(|number| request(number * 2 + 1, &film)).collect();
            end.send([PREFACE, &setting(4, 0), &streams].concat()).await;
            until_ended(&mut end).await;
        })
        .await;
        assert_eq!(world.proxy.metric("jellypin_limited_total", &[("what", "stalls")]).await, 1.0);
    })
    .await;
}

#[tokio::test]
async fn streams_of_a_connection_are_limited() {
    story(World::plan(1).http2_streams(7).uncounted(), async |world| {
        let mut end = wire::client(world).await;
        end.send([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
        let head = end.bytes(9).await;
        let settings = end.bytes(usize::from(head[2])).await;
        let told = settings.chunks(6).find(|setting| setting[..2] == [0, 3]).expect("SETTINGS_MAX_CONCURRENT_STREAMS");
        assert_eq!(told[2..], 7_u32.to_be_bytes());
        drop(end);
    })
    .await;
}
