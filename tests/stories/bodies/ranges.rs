//! Ranges and conditions are the pod's affair: its answers pass byte for byte.

use std::collections::BTreeSet;

use jellyfin_sim::{BULK, FILM};

use crate::stories::{
    wire::{self, Answer, End},
    world::{World, story},
};

/// Fields that differ from one answer of the pod to the next, or are the proxy's own.
const OWN: [&str; 3] = ["x-response-time-ms", "date", "set-cookie"];

/// What a request for this file gets over a fresh connection; the body as it came, without a look at its framing.
async fn raw_answer(mut end: End, method: &str, path: &str, headers: &str) -> (Vec<String>, Vec<u8>) {
    end.send(format!("{method} {path} HTTP/1.1\r\nHost: story\r\nConnection: close\r\n{headers}\r\n")).await;
    let head = end.head().await;
    let (body, _) = end.rest().await;
    let is_own = |line: &str| {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        OWN.contains(&&*name) || name == "connection"
    };
    let mut lines: Vec<String> = head.lines().filter(|line| !is_own(line)).map(str::to_ascii_lowercase).collect();
    lines.sort();
    (lines, body)
}

#[tokio::test]
async fn ranges_are_answered_by_the_pod() {
    story(World::plan(1).build(|pod| pod.bulk_size(300_000)).uncounted(), async |world| {
        let stream = format!("/Videos/{BULK}/stream?static=true");
        let modified = {
            let mut end = wire::client(world).await;
            end.send(format!("GET {stream} HTTP/1.1\r\nHost: story\r\n\r\n")).await;
            let whole: Answer = end.answer().await;
            assert_eq!(whole.body, jellyfin_sim::bulk_bytes(0, 300_000));
            whole.field("last-modified").expect("a date").to_owned()
        };
        let conditions = [
            String::new(),
            "Range: bytes=0-0\r\n".into(),
            "Range: bytes=100-70000\r\n".into(),
            "Range: bytes=299999-\r\n".into(),
            "Range: bytes=-5000\r\n".into(),
            "Range: bytes=300000-\r\n".into(),
            "Range: bytes=5-9,20-30\r\n".into(),
            "Range: lines=1-2\r\n".into(),
            format!("Range: bytes=5-9\r\nIf-Range: {modified}\r\n"),
            "Range: bytes=5-9\r\nIf-Range: Sun, 06 Nov 1994 08:49:37 GMT\r\n".into(),
            "Range: bytes=5-9\r\nIf-Range: \"tag\"\r\n".into(),
            format!("If-Modified-Since: {modified}\r\n"),
            "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n".into(),
        ];
        let mut statuses = BTreeSet::new();
        for method in ["GET", "HEAD"] {
            for headers in &conditions {
                let through = raw_answer(wire::client(world).await, method, &stream, headers).await;
                let direct = raw_answer(End::connect(world.pods[0].address()).await, method, &stream, headers).await;
                assert_eq!(through, direct, "{method} with {headers:?}");
                assert!(method == "GET" || through.1.is_empty(), "HEAD has no body");
                statuses.extend(
                    through.0.iter().filter_map(|line| line.strip_prefix("http/1.1 ")?.get(..3)?.parse::<u16>().ok()),
                );
            }
        }
        assert_eq!(statuses, BTreeSet::from([200, 206, 304, 412, 416]), "the table holds every case");
    })
    .await;
}

#[tokio::test]
async fn an_unknown_length_stays_unknown() {
    story(World::plan(1).uncounted(), async |world| {
        let path = format!("/Videos/{FILM}/stream");
        let mut end = wire::client(world).await;
        end.send(format!("GET {path} HTTP/1.1\r\nHost: story\r\n\r\n")).await;
        let through = end.answer().await;
        let mut end = End::connect(world.pods[0].address()).await;
        end.send(format!("GET {path} HTTP/1.1\r\nHost: story\r\n\r\n")).await;
        let direct = end.answer().await;
        assert_eq!(through.field("transfer-encoding"), Some("chunked"));
        assert_eq!(through.field("content-length"), None);
        assert_eq!(through.field("accept-ranges"), Some("none"));
        assert!(through.is_whole && through.body == direct.body);
        drop(end);
    })
    .await;
}
