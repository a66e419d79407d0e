//! The pod's own id becomes the shown one in what a client can read, and in nothing else.

use std::io::Write;

use super::{OWN, SHOWN, answered, chunked, disguised};
use crate::stories::wire::{self, HandPod};
use crate::stories::world::story;

const JSON: &str = "Content-Type: application/json; charset=utf-8\r\n";

#[tokio::test]
async fn an_id_is_found_across_chunks() {
    let mut pod = HandPod::start().await;
    story(disguised(&pod), async |world| {
        let text = format!("[\"{OWN}\",\"{}\",\"{OWN}{OWN}\",\"{}\"]", &OWN[..20], &OWN[1..]);
        for cut in 0..=text.len() {
            let (before, behind) = text.split_at(cut);
            let head = format!("HTTP/1.1 200 OK\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n");
            // The last cut leaves the beginning of an id at the very end.
            let end = &OWN[..cut.min(31)];
            let answer = answered(world, &mut pod, "/x", (head + &chunked(&[before, behind, end])).as_bytes()).await;
            assert_eq!((answer.text(), answer.is_whole), (text.replace(OWN, SHOWN) + end, true), "cut at {cut}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_content_length_stays_true() {
    let mut pod = HandPod::start().await;
    story(disguised(&pod), async |world| {
        for kind in
            ["application/json", "text/json", "application/problem+json", "application/json; profile=\"CamelCase\""]
        {
            for body in [format!("{{\"Id\":\"{OWN}\"}}"), format!("\"{OWN}\"{}", &OWN[..31]), OWN[..7].to_owned()] {
                let length = body.len();
                let text = format!("HTTP/1.1 404 No\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}");
                let answer = answered(world, &mut pod, "/x", text.as_bytes()).await;
                assert_eq!(answer.field("content-length"), Some(&*length.to_string()));
                assert_eq!((answer.text(), answer.is_whole), (body.replace(OWN, SHOWN), true), "{kind}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn other_types_than_json_pass_unchanged() {
    let mut pod = HandPod::start().await;
    story(disguised(&pod), async |world| {
        let body = format!("{OWN}\n{OWN}");
        for kind in [
            "video/mp4",
            "audio/mpeg",
            "application/x-mpegURL",
            "application/vnd.apple.mpegurl",
            "image/jpeg",
            "text/vtt",
            "text/html",
            "text/javascript",
            "application/octet-stream",
        ] {
            let text =
                format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            assert_eq!(answered(world, &mut pod, "/x", text.as_bytes()).await.text(), body, "{kind}");
        }
        let film = "11f0c1a5e0b04d6e9d3a7c2f5b8e4d01";
        for path in
            [format!("/Videos/{film}/stream"), format!("/Videos/{film}/master.m3u8"), format!("/Items/{film}/Download")]
        {
            // Whatever a media path says of its type.
            let text = format!("HTTP/1.1 200 OK\r\n{JSON}Content-Length: {}\r\n\r\n{body}", body.len());
            assert_eq!(answered(world, &mut pod, &path, text.as_bytes()).await.text(), body, "{path}");
        }
    })
    .await;
}

#[tokio::test]
async fn pods_are_asked_for_uncompressed_json() {
    let mut pod = HandPod::start().await;
    story(disguised(&pod), async |world| {
        let rows = [
            ("/Items", Some("identity")),
            ("/Users/Me", Some("identity")),
            ("/Videos/11f0c1a5e0b04d6e9d3a7c2f5b8e4d01/master.m3u8", Some("gzip, br")),
            ("/web/main.js", Some("gzip, br")),
        ];
        for (path, expected) in rows {
            let mut end = wire::client(world).await;
            end.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\nAccept-Encoding: br\r\n\r\n"))
                .await;
            let mut call = pod.call().await;
            assert_eq!(call.all("accept-encoding").join(", "), expected.unwrap_or_default(), "{path}");
            call.reply("200 OK", "").await;
            assert_eq!(end.answer().await.status, 200);
        }
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
        packed.write_all(OWN.as_bytes()).expect("packed");
        let packed = packed.finish().expect("packed");
        let head =
            format!("HTTP/1.1 200 OK\r\n{JSON}Content-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", packed.len());
        let answer = answered(world, &mut pod, "/x", &[head.as_bytes(), &packed].concat()).await;
        assert!(answer.body == packed, "{answer:?}");
    })
    .await;
}

#[tokio::test]
async fn a_truncated_answer_stays_truncated() {
    let mut pod = HandPod::start().await;
    story(disguised(&pod).compresses("off"), async |world| {
        for framing in [
            format!("Content-Length: 100\r\n\r\n{{\"Id\":\"{}", &OWN[..9]),
            format!("Transfer-Encoding: chunked\r\n\r\n9\r\n{}\r\n", &OWN[..9]),
        ] {
            let answer =
                answered(world, &mut pod, "/x", format!("HTTP/1.1 200 OK\r\n{JSON}{framing}").as_bytes()).await;
            assert!(!answer.is_whole, "{answer:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn bodiless_answers_pass_unchanged() {
    let mut pod = HandPod::start().await;
    story(disguised(&pod), async |world| {
        let mut end = wire::client(world).await;
        for path in ["/x", "/System/Info"] {
            end.send(format!("HEAD {path} HTTP/1.1\r\nHost: h\r\n\r\n")).await;
            let mut call = pod.call().await;
            call.wire.send(format!("HTTP/1.1 200 OK\r\n{JSON}Content-Length: 77\r\nConnection: close\r\n\r\n")).await;
            let head = end.head().await;
            assert!(head.contains("content-length: 77\r\n"), "{path}: {head}");
        }
        let answer =
            answered(world, &mut pod, "/System/Info", b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n").await;
        assert_eq!((answer.status, answer.field("etag")), (304, Some("\"x\"")));
        drop(end);
    })
    .await;
}
