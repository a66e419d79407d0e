//! The address that a client is told is the proxy's own, however it came.

use super::{OWN, SHOWN, answered, chunked, disguised};
use crate::stories::{
    wire::{self, HandPod},
    world::{Client, World, story},
};

const PUBLIC: &str = "/System/Info/Public";

fn at(world: &World, host: &str) -> Client {
    let mut client = world.client();
    client.host = host.to_owned();
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_show_the_address_that_the_client_called() {
    for id in [None, Some(OWN)] {
        story(World::plan(2).build(move |pod| pod.server_id(id)), async |world| {
            let mut client = at(world, "media.example.org:8096");
            client.log_in("root").await;
            for path in [PUBLIC, "/System/Info", "/system/info/PUBLIC"] {
                let answer = client.get_with(path, &[("accept-encoding", "gzip, br")]).await;
                assert_eq!(answer.json()["LocalAddress"], "http://media.example.org:8096", "{path}");
                assert_eq!(answer.header("content-length"), answer.body.len().to_string());
                assert_eq!((answer.header("content-encoding"), answer.header("transfer-encoding")), ("", ""));
            }
            let claims = [("x-forwarded-host", "evil.example.org"), ("x-forwarded-proto", "https")];
            let answer = client.get_with(PUBLIC, &claims).await;
            assert_eq!(answer.json()["LocalAddress"], "http://media.example.org:8096", "a stranger is not believed");
            drop(client);
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_show_the_address_that_a_trusted_proxy_forwards() {
    let plan = World::plan(1).build(|pod| pod.base_url("/jf")).base_path("/jf");
    story(plan.trusted_proxies(&["127.0.0.1"]), async |world| {
        let claims = [("x-forwarded-host", "media.example.org, inner"), ("x-forwarded-proto", "https, http")];
        let answer = world.client().get_with("/jf/System/Info/Public", &claims).await;
        assert_eq!(answer.json()["LocalAddress"], "https://media.example.org/jf");
        let junk = [("x-forwarded-host", "\"evil\"/")];
        let answer = world.client().get_with("/jf/System/Info/Public", &junk).await;
        assert_eq!(answer.json()["LocalAddress"], format!("http://{}/jf", world.pod("a").address()), "junk is no host");
        world.restart(|settings| settings.public_url("HTTPS://Films.example.org:8443/jf/")).await;
        let answer = world.client().get_with("/jf/System/Info/Public", &claims).await;
        assert_eq!(
            answer.json()["LocalAddress"],
            "https://films.example.org:8443/jf",
            "what is configured counts first"
        );
    })
    .await;
}

#[tokio::test]
async fn the_set_up_server_shows_the_address_in_its_own_casing() {
    let mut pod = HandPod::start().await;
    story(disguised(&pod), async |world| {
        let body =
            format!("{{\"localAddress\":\"http://10.0.0.1:8096\",\"id\":\"{OWN}\",\"startupWizardCompleted\":false}}");
        let text = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = answered(world, &mut pod, "/system/info/public", text.as_bytes()).await;
        let expected = format!(
            "{{\"localAddress\":\"http://media.example.org\",\"id\":\"{SHOWN}\",\"startupWizardCompleted\":false}}"
        );
        assert_eq!(answer.text(), expected);
    })
    .await;
}

#[tokio::test]
async fn only_short_and_readable_answers_are_rewritten() {
    let mut pod = HandPod::start().await;
    story(disguised(&pod).compresses("off"), async |world| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\n";
        let json = |filler: usize| {
            format!("{{\"LocalAddress\":\"http://pod\",\"F\":\"{}\",\"Id\":\"{OWN}\"}}", "x".repeat(filler))
        };
        let told = |json: &str| json.replace(OWN, SHOWN).replace("http://pod", "http://media.example.org");
        for (filler, is_told) in [(0, true), (60_000, true), (70_000, false), (300_000, false)] {
            let body = json(filler);
            let expected = if is_told { told(&body) } else { body.replace(OWN, SHOWN) };
            let sized = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
            let answer = answered(world, &mut pod, "/System/Info", sized.as_bytes()).await;
            assert!(answer.is_whole && answer.text() == expected, "{filler}: {:.200?}", answer);
            let (before, behind) = body.split_at(body.len() - 20);
            let text = format!("{head}Transfer-Encoding: chunked\r\n\r\n{}", chunked(&[before, behind]));
            let answer = answered(world, &mut pod, "/System/Info", text.as_bytes()).await;
            assert!(answer.is_whole && answer.text() == expected, "{filler}: {:.200?}", answer);
        }
        for (path, head) in [
            ("/System/Information", head.to_owned()),
            ("/System/Info/Storage", head.to_owned()),
            ("/System/Info", head.replace("200 OK", "404 No")),
        ] {
            let body = json(0);
            let text = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
            let answer = answered(world, &mut pod, path, text.as_bytes()).await;
            assert!(answer.text().contains("http://pod"), "{path}: {answer:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_truncated_answer_is_a_failed_attempt() {
    let mut pod = HandPod::start().await;
    story(disguised(&pod), async |world| {
        let mut end = wire::client(world).await;
        end.send("GET /System/Info HTTP/1.1\r\nHost: h\r\n\r\n").await;
        let mut call = pod.call().await;
        call.wire.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{\"Local").await;
        drop(call);
        assert!(end.try_head().await.is_none(), "the connection ends, as it would have in mid-body");
    })
    .await;
}
