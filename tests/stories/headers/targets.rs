//! Path and query reach the pod byte for byte.

use crate::stories::wire::{self, Ended, HandPod};
use crate::stories::world::{DEADLINE, World};

/// The request line that reached the pod, or the status that the client got instead.
async fn reached(pod: &mut HandPod, world: &World, target: &[u8]) -> Result<String, u16> {
    let mut end = wire::client(world).await;
    end.send([b"GET ", target, b" HTTP/1.1\r\nHost: story\r\n\r\n"].concat()).await;
    tokio::select! {
        mut call = pod.call() => {
            call.reply("200 OK", "").await;
            assert_eq!(end.answer().await.status, 200);
            let line = call.head.split("\r\n").next().unwrap_or_default();
            let target = line.strip_prefix("GET ").and_then(|line| line.strip_suffix(" HTTP/1.1"));
            Ok(target.unwrap_or_else(|| panic!("{line}")).to_owned())
        }
        answer = end.answer() => Err(answer.status),
    }
}

#[tokio::test]
async fn targets_pass_byte_for_byte() {
    let mut pod = HandPod::start().await;
    let world = wire::before(&pod).await;
    let hls = format!("/videos/1/hls1/main/5.ts?{}", "SubtitleCodec=a%2Cb&".repeat(360));
    assert!(hls.len() > 7 * 1024);
    let targets = [
        "/",
        "/a/../b/./c",
        "//double//slashes",
        "/%2e%2e/%2F%2f/%00/%E2%82%AC/%zz/%",
        "/a;b=c/d+e/~f/g@h:i/j,k/$&'()*!",
        "/a?b=c%20d+e&&f==g&h=/?:@;,$-_.!~*'()",
        "/a?",
        "/a??b",
        "/a?ApiKey=1&apikey=2",
        "/a\\b",
        "/a|b{c}\"d\"^e[f]",
        "/a?b=[c]|{d}^`",
        "/a?b=Küche\\",
        "/Küche/a?DeviceId=Küche",
        &hls,
    ];
    for target in targets {
        let bytes: String = target.bytes().map(char::from).collect();
        assert_eq!(reached(&mut pod, &world, target.as_bytes()).await, Ok(bytes), "{target}");
    }
    world.stop().await;
}

/// Kestrel takes these in clear as well. The parser of the proxy's HTTP library does not, and no client is known to send them so.
#[tokio::test]
async fn malformed_requests_get_an_http_answer() {
    let mut pod = HandPod::start().await;
    let world = wire::before(&pod).await;
    for target in [&b"/a<b"[..], b"/a>b", b"/a`b", b"/a?b=\"", b"/a?b=<", b"/a?b=>", b"/a?b=\xff"] {
        assert_eq!(reached(&mut pod, &world, target).await, Err(400), "{}", String::from_utf8_lossy(target));
    }
    world.stop().await;
}

#[tokio::test]
async fn a_head_may_be_as_long_as_jellyfin_allows() {
    let mut pod = HandPod::start().await;
    let world = wire::before(&pod).await;
    let line = |length: usize| format!("GET /{} HTTP/1.1\r\n", "x".repeat(length - "GET / HTTP/1.1\r\n".len()));
    let fields = |count: usize| "X: y\r\n".repeat(count - 1);
    let long = |length: usize| format!("X: {}\r\n", "x".repeat(length));
    for (what, line, fields) in [
        ("a line of 8 KiB", line(8192), String::new()),
        ("100 fields", line(20), fields(100)),
        ("fields of 32 KiB behind a line of 7 KiB", line(7 << 10), long((32 << 10) - 40)),
    ] {
        let mut end = wire::client(&world).await;
        end.send(format!("{line}Host: story\r\n{fields}\r\n")).await;
        pod.call().await.reply("200 OK", "").await;
        assert_eq!(end.answer().await.status, 200, "{what}");
    }
    for (what, status, line, fields) in [
        ("a line of 8 KiB and a byte", 414, line(8193), String::new()),
        ("101 fields", 431, line(20), fields(101)),
        ("200 fields", 431, line(20), fields(200)),
        ("fields of 80 KiB", 431, line(20), long(80 << 10)),
        ("fields of 4 MiB", 431, line(20), long(4 << 20)),
    ] {
        for _ in 0..5 {
            let mut end = wire::client(&world).await;
            let head = format!("{line}Host: story\r\n{fields}\r\n");
            end.try_send(head).await.expect("what is too long is thrown away");
            let answer = end.answer().await;
            assert_eq!((answer.status, answer.is_whole), (status, true), "{what}");
            end.finish().await;
            assert_eq!(end.ended(DEADLINE).await, Ended::Closed, "{what}");
        }
    }
    assert!(pod.is_idle());
    world.stop().await;
}

#[tokio::test]
async fn fields_too_long_for_jellyfin_get_its_refusal() {
    let world = wire::start(World::plan(1)).await;
    for _ in 0..5 {
        let mut end = wire::client(&world).await;
        let long = "x".repeat(36 << 10);
        end.send(format!("GET /System/Info/Public HTTP/1.1\r\nHost: story\r\nX: {long}\r\n\r\n")).await;
        assert_eq!(end.answer().await.status, 431);
    }
    world.stop().await;
}
