//! Path and query reach the pod byte for byte.

use crate::stories::wire::{self, Ended, HandPod};
use crate::stories::world::{DEADLINE, World, story};

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
    story(wire::before(&pod), async |world| {
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
            assert_eq!(reached(&mut pod, world, target.as_bytes()).await, Ok(bytes), "{target}");
        }
    })
    .await;
}

/// Kestrel takes these in clear as well. The parser of the proxy's HTTP library does not, and what keeps to the URL standard sends
/// them as %XX (WHATWG URL, path and query percent-encode sets).
#[tokio::test]
async fn an_illegal_character_is_named_in_a_400() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let rows: [(&[u8], &str); 8] = [
            (b"/a<b", "the character < of the address must be written as %3C"),
            (b"/a>b", "the character > of the address must be written as %3E"),
            (b"/a`b?c", "the character ` of the address must be written as %60"),
            (b"/a?b=\"", "the character \" of the address must be written as %22"),
            (b"/a?b=<", "the character < of the address must be written as %3C"),
            (b"/a?b=>", "the character > of the address must be written as %3E"),
            (b"/a?b=\xff", "the address is not UTF-8"),
            (b"/\xff", "the address is not UTF-8"),
        ];
        for (target, why) in rows {
            for is_first in [true, false] {
                let mut end = wire::client(world).await;
                if !is_first {
                    end.send("GET /before HTTP/1.1\r\nHost: story\r\n\r\n").await;
                    pod.call().await.reply("200 OK", "").await;
                    assert_eq!(end.answer().await.status, 200);
                }
                // What comes behind it on the same connection is read by nobody.
                end.send(
                    [b"GET ", target, b" HTTP/1.1\r\nHost: story\r\n\r\nGET /behind HTTP/1.1\r\nHost: story\r\n\r\n"]
                        .concat(),
                )
                .await;
                let answer = end.answer().await;
                assert_eq!(
                    (answer.status, answer.text(), answer.is_whole),
                    (400, format!("Bad request: {why}.\n"), true)
                );
                assert_eq!(answer.field("connection"), Some("close"));
                end.finish().await;
                assert_eq!(end.ended(DEADLINE).await, Ended::Closed, "{why}");
            }
        }
        assert!(pod.is_idle());
        assert_eq!(reached(&mut pod, world, b"/after").await, Ok("/after".to_owned()));
    })
    .await;
}

/// A pod's own 400 stays the pod's, whatever stands in the client's header fields.
#[tokio::test]
async fn a_pods_400_passes_as_it_is() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let mut end = wire::client(world).await;
        for _ in 0..2 {
            end.send("GET /a HTTP/1.1\r\nHost: story\r\nReferer: http://x/<`>\r\n\r\n").await;
            pod.call().await.reply("400 Bad Request", "").await;
            let answer = end.answer().await;
            assert_eq!((answer.status, answer.text().as_str(), answer.field("connection")), (400, "", None));
        }
        drop(end);
    })
    .await;
}

#[tokio::test]
async fn a_head_may_be_as_long_as_jellyfin_allows() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let line = |length: usize| format!("GET /{} HTTP/1.1\r\n", "x".repeat(length - "GET / HTTP/1.1\r\n".len()));
        let fields = |count: usize| "X: y\r\n".repeat(count - 1);
        let long = |length: usize| format!("X: {}\r\n", "x".repeat(length));
        for (what, line, fields) in [
            ("a line of 8 KiB", line(8192), String::new()),
            ("100 fields", line(20), fields(100)),
            ("fields of 32 KiB behind a line of 7 KiB", line(7 << 10), long((32 << 10) - 40)),
        ] {
            let mut end = wire::client(world).await;
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
                let mut end = wire::client(world).await;
                let head = format!("{line}Host: story\r\n{fields}\r\n");
                end.try_send(head).await.expect("what is too long is thrown away");
                let answer = end.answer().await;
                assert_eq!((answer.status, answer.is_whole), (status, true), "{what}");
                end.finish().await;
                assert_eq!(end.ended(DEADLINE).await, Ended::Closed, "{what}");
            }
        }
        assert!(pod.is_idle());
    })
    .await;
}

#[tokio::test]
async fn fields_too_long_for_jellyfin_get_its_refusal() {
    story(World::plan(1).uncounted(), async |world| {
        for _ in 0..5 {
            let mut end = wire::client(world).await;
            let long = "x".repeat(36 << 10);
            end.send(format!("GET /System/Info/Public HTTP/1.1\r\nHost: story\r\nX: {long}\r\n\r\n")).await;
            assert_eq!(end.answer().await.status, 431);
        }
    })
    .await;
}

/// Jellyfin takes 100 fields, and the proxy says more of the client than the client did.
#[tokio::test]
async fn as_many_fields_as_jellyfin_takes_reach_it() {
    story(World::plan(1).uncounted(), async |world| {
        let distinct = |count: usize| (0..count).map(|number| format!("X-{number}: y\r\n")).collect::<String>();
        for (what, fields, status) in [
            ("98 of different names", distinct(97), 200),
            ("100, some of one name", distinct(95) + "Accept: a/b\r\nAccept: c/d\r\nVia: x\r\nVia: y\r\n", 200),
            ("100, some of this hop", distinct(97) + "Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n", 200),
            ("100 of one name", "X: y\r\n".repeat(99), 200),
            // Nothing of these can be left out: the pod itself refuses them.
            ("99 of different names", distinct(98), 431),
            ("100 of different names", distinct(99), 431),
        ] {
            let mut end = wire::client(world).await;
            end.send(format!("GET /System/Info/Public HTTP/1.1\r\nHost: story\r\n{fields}\r\n")).await;
            assert_eq!(end.answer().await.status, status, "{what}");
        }
    })
    .await;
}

#[tokio::test]
async fn joined_fields_keep_their_values_and_tokens_stay_apart() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let mut end = wire::client(world).await;
        let many: String = (0..92).map(|number| format!("X-{number}: y\r\n")).collect();
        let repeated =
            "Accept: a/b\r\nAccept: c/d\r\nX-Emby-Token: s\r\nX-Emby-Token: t\r\nCookie: a=1\r\nCookie: b=2\r\n";
        end.send(format!("GET /Branding/Css HTTP/1.1\r\nHost: story\r\n{many}{repeated}\r\n")).await;
        let mut call = pod.call().await;
        call.reply("200 OK", "").await;
        assert_eq!(end.answer().await.status, 200);
        assert_eq!(call.all("accept"), ["a/b, c/d"]);
        assert_eq!(call.all("x-emby-token"), ["s", "t"]);
        assert_eq!(call.all("cookie"), ["a=1; b=2"]);
        assert_eq!((call.field("x-forwarded-for"), call.field("x-forwarded-host")), (Some("127.0.0.1"), None));
        drop((end, call));
    })
    .await;
}
