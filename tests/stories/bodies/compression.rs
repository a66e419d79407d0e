//! Text goes out compressed where the pod sends it as it is, and everything else stays what it was.

use std::io::Read;

use crate::stories::{
    wire::{self, HandPod, SOON, within},
    world::{Answer, Plan, World, secs, story},
};

/// Lists long enough to be worth it.
const LIST: &str = "/Items?recursive=true&limit=100";

/// Pods that a client calls by https, as they know from the proxy: then they do not compress.
fn behind_https() -> Plan {
    World::plan(1).build(|pod| pod.known_proxies(true)).trusted_proxies(&["127.0.0.1"])
}

const HTTPS: (&str, &str) = ("x-forwarded-proto", "https");

fn plain(answer: &Answer) -> Vec<u8> {
    let mut plain = Vec::new();
    let bytes = &answer.body[..];
    match answer.header("content-encoding") {
        "zstd" => zstd::stream::read::Decoder::new(bytes).expect("zstd").read_to_end(&mut plain),
        "br" => brotli_decompressor::Decompressor::new(bytes, 4096).read_to_end(&mut plain),
        "gzip" => flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain),
        _ => std::io::Cursor::new(bytes).read_to_end(&mut plain),
    }
    .expect("a whole body");
    plain
}

#[tokio::test]
async fn a_list_over_https_is_compressed_as_the_client_asks() {
    story(behind_https(), async |world| {
        let mut client = world.client();
        client.log_in("alice").await;
        let whole = client.get_with(LIST, &[HTTPS, ("accept-encoding", "identity")]).await;
        assert_eq!((whole.status, whole.header("content-encoding")), (200, ""));
        for (accepted, coding) in [("gzip, deflate, br, zstd", "zstd"), ("gzip, deflate, br", "br"), ("gzip", "gzip")] {
            let answer = client.get_with(LIST, &[HTTPS, ("accept-encoding", accepted)]).await;
            assert_eq!((answer.status, answer.header("content-encoding")), (200, coding));
            assert_eq!(answer.header("vary"), "Accept-Encoding");
            assert!(answer.body.len() * 2 < whole.body.len(), "{coding}: {} bytes", answer.body.len());
            assert!(plain(&answer) == whole.body, "{coding}: other bytes");
            println!("{coding}: {} of {} bytes", answer.body.len(), whole.body.len());
        }
        let unasked = client.get_with(LIST, &[HTTPS]).await;
        assert_eq!((unasked.header("content-encoding"), unasked.body.len()), ("", whole.body.len()));
    })
    .await;
}

#[tokio::test]
async fn short_answers_stay_as_they_are() {
    story(behind_https(), async |world| {
        let mut client = world.client();
        let all = [HTTPS, ("accept-encoding", "gzip, br, zstd")];
        client.log_in("alice").await;
        for path in ["/System/Info/Public", "/QuickConnect/Enabled"] {
            let answer = client.get_with(path, &all).await;
            assert_eq!((answer.status, answer.header("content-encoding")), (200, ""), "{path}");
            plain(&answer);
        }
        let answer = client.get_with(LIST, &all).await;
        assert_eq!(answer.header("content-encoding"), "zstd");
    })
    .await;
}

#[tokio::test]
async fn compression_can_be_switched_off() {
    let plan = behind_https().compresses("off");
    story(plan, async |world| {
        let mut client = world.client();
        client.log_in("alice").await;
        let answer = client.get_with(LIST, &[HTTPS, ("accept-encoding", "gzip")]).await;
        assert_eq!((answer.header("content-encoding"), answer.header("vary")), ("", ""));
    })
    .await;
}

/// What a pod answers, and whether its client then gets it compressed.
#[tokio::test]
async fn only_whole_text_that_may_be_changed_is_compressed() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let body = "text and text again. ".repeat(200);
        let mut end = wire::client(world).await;
        let x = "/x";
        for (path, fields, asked, is_compressed) in [
            (x, "Content-Type: text/html\r\nETag: \"a\"\r\nAccept-Ranges: bytes\r\n", "", true),
            (x, "Content-Type: application/json\r\n", "", true),
            (x, "Content-Type: image/jpeg\r\n", "", false),
            (x, "Content-Type: video/mp4\r\n", "", false),
            (x, "Content-Type: text/event-stream\r\n", "", false),
            (x, "Content-Type: application/vnd.apple.mpegurl\r\n", "", false),
            (x, "Content-Type: text/html\r\nContent-Encoding: br\r\n", "", false),
            (x, "Content-Type: text/html\r\nCache-Control: no-transform\r\n", "", false),
            (x, "Content-Type: text/html\r\n", "Range: bytes=0-9\r\n", false),
            (x, "", "", false),
            ("/Auth/Keys", "Content-Type: application/json\r\n", "", false),
        ] {
            let asked = format!("GET {path} HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n{asked}\r\n");
            end.send(asked).await;
            let mut call = pod.call().await;
            let length = body.len();
            call.wire
                .send(format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{fields}Content-Length: {length}\r\n\r\n{body}"))
                .await;
            let answer = end.answer().await;
            assert_eq!(answer.all("content-encoding").contains(&"gzip"), is_compressed, "{fields}");
            let announced = answer.field("content-length").map(str::to_owned);
            assert_eq!(announced, (!is_compressed).then(|| length.to_string()), "{fields}");
            if is_compressed {
                let mut plain = String::new();
                flate2::read::GzDecoder::new(&answer.body[..]).read_to_string(&mut plain).expect("gzip");
                assert_eq!((plain, answer.field("accept-ranges")), (body.clone(), None), "{fields}");
                assert!(matches!(answer.field("etag"), None | Some("W/\"a\"")));
            } else {
                assert_eq!(answer.text(), body, "{fields}");
            }
            drop(call);
        }
        drop(end);
    })
    .await;
}

#[tokio::test]
async fn what_a_pod_has_sent_is_not_held_back() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let mut end = wire::client(world).await;
        end.send("GET /x HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n").await;
        let mut call = pod.call().await;
        call.wire.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        let mut compressed = Vec::new();
        let mut expected = String::new();
        for line in ["the first line\n", "the second line\n"] {
            call.wire.send(format!("{:x}\r\n{line}\r\n", line.len())).await;
            if expected.is_empty() {
                let head = end.head().await;
                assert_eq!(wire::fields(&head, "content-encoding"), ["gzip"]);
            }
            expected += line;
            let seen = async {
                loop {
                    compressed.extend(end.chunk().await);
                    let mut plain = Vec::new();
                    // The answer has not ended, so that the decoder breaks off after what is there.
                    let _ = flate2::read::GzDecoder::new(&compressed[..]).read_to_end(&mut plain);
                    if plain == expected.as_bytes() {
                        return;
                    }
                }
            };
            within(secs(5), line, seen).await;
        }
        call.wire.send("0\r\n\r\n").await;
        let (rest, _, is_whole) = end.chunks().await;
        compressed.extend(rest);
        let mut plain = String::new();
        flate2::read::GzDecoder::new(&compressed[..]).read_to_string(&mut plain).expect("a whole answer");
        assert_eq!((plain, is_whole), (expected, true));

        // An answer that breaks off stays broken.
        end.send("GET /x HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n").await;
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5000\r\n\r\nhalf of it";
        drop(call);
        let mut call = pod.call().await;
        call.wire.send(head).await;
        drop(call);
        assert!(!end.answer().await.is_whole);
        let _ = end.ended(SOON).await;
    })
    .await;
}

#[tokio::test]
async fn a_browser_with_a_compressed_file_asks_whether_it_is_fresh() {
    story(behind_https(), async |world| {
        let mut client = world.client();
        let all = [HTTPS, ("accept-encoding", "gzip")];
        let answer = client.get_with("/web/main.jellyfin.bundle.js", &all).await;
        let tag = answer.header("etag").to_owned();
        assert_eq!((answer.status, answer.header("content-encoding")), (200, "gzip"));
        assert!(tag.starts_with("W/"), "{tag}");
        let again = client.get_with("/web/main.jellyfin.bundle.js", &[all[0], all[1], ("if-none-match", &tag)]).await;
        assert_eq!((again.status, again.header("etag"), again.body.len()), (304, tag.as_str(), 0));
    })
    .await;
}
