//! Path and query reach the pod byte for byte.

use crate::stories::wire::{self, HandPod};

/// The request line that reached the pod, or the status that the client got instead.
async fn reached(pod: &mut HandPod, world: &crate::stories::world::World, target: &[u8]) -> Result<String, u16> {
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
        "/Küche/a?DeviceId=Küche",
        &hls,
    ];
    for target in targets {
        let bytes: String = target.bytes().map(char::from).collect();
        assert_eq!(reached(&mut pod, &world, target.as_bytes()).await, Ok(bytes), "{target}");
    }
    world.stop().await;
}
