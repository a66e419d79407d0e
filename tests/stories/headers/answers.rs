//! What the client sees of an answer's fields.

use crate::stories::wire::{self, HandPod};
use crate::stories::world::story;

#[tokio::test]
async fn hop_by_hop_fields_of_answers_end_here() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let mut end = wire::client(world).await;
        end.send("GET /x HTTP/1.1\r\nHost: story\r\n\r\n").await;
        let mut call = pod.call().await;
        call.wire
            .send(
                "HTTP/1.1 200 Fine\r\nConnection: X-Of-This-Hop, keep-alive\r\nX-Of-This-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
                 Proxy-Authenticate: Basic\r\nUpgrade: h2c\r\nServer: Kestrel\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                 X-Response-Time-ms: 1.5\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nVary: Accept\r\nETag: \"x\"\r\n\
                 Location: http://10.0.0.1:8096/web/?a=%20\r\nCache-Control: public, max-age=60\r\nContent-Length: 2\r\n\r\nok",
            )
            .await;
        let answer = end.answer().await;
        assert_eq!(answer.text(), "ok");
        let mut lines: Vec<String> = answer.head.split("\r\n").skip(1).map(str::to_lowercase).collect();
        lines.retain(|line| !line.is_empty());
        lines.sort_unstable();
        let expected = [
            "cache-control: public, max-age=60",
            "content-length: 2",
            "date: sun, 06 nov 1994 08:49:37 gmt",
            "etag: \"x\"",
            "location: http://10.0.0.1:8096/web/?a=%20",
            "server: kestrel",
            "set-cookie: a=1",
            "set-cookie: b=2",
            "vary: accept",
            "x-response-time-ms: 1.5",
        ];
        assert_eq!(lines, expected);
        drop((end, call));
    })
    .await;
}

#[tokio::test]
async fn a_bodiless_answer_keeps_its_length() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let mut end = wire::client(world).await;
        end.send("HEAD /film HTTP/1.1\r\nHost: story\r\n\r\nGET /next HTTP/1.1\r\nHost: story\r\n\r\n").await;
        let mut call = pod.call().await;
        call.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n").await;
        let head = end.head().await;
        assert!(head.contains("content-length: 10737418240\r\n"), "{head}");
        assert!(call.wire.head().await.starts_with("GET /next "), "the connection goes on");
        call.wire.send("HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\nETag: \"x\"\r\n\r\n").await;
        let answer = end.answer().await;
        assert_eq!((answer.status, answer.field("etag")), (304, Some("\"x\"")));
        end.send("GET /last HTTP/1.1\r\nHost: story\r\n\r\n").await;
        assert!(call.wire.head().await.starts_with("GET /last "), "a 304 has no body, whatever length it tells");
        call.reply("204 No Content", "").await;
        assert_eq!(end.answer().await.status, 204);
        drop((end, call));
    })
    .await;
}

#[tokio::test]
async fn early_hints_are_not_the_answer() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let mut end = wire::client(world).await;
        end.send("GET /x HTTP/1.1\r\nHost: story\r\n\r\n").await;
        let mut call = pod.call().await;
        call.wire.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n").await;
        call.reply("200 OK", "answer").await;
        let mut answer = end.answer().await;
        while answer.status < 200 {
            answer = end.answer().await;
        }
        assert_eq!((answer.status, answer.text().as_str()), (200, "answer"));
        drop((end, call));
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_is_not_http_becomes_a_502() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let answers = [
            "nonsense\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nBad Name: 1\r\n\r\n",
            "HTTP/1.1 99999 OK\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        ];
        for answer in answers {
            let mut end = wire::client(world).await;
            // What cannot be done twice is not tried elsewhere, and so its failure shows.
            end.send("POST /x HTTP/1.1\r\nHost: story\r\nContent-Length: 0\r\n\r\n").await;
            let mut call = pod.call().await;
            call.wire.send(answer).await;
            drop(call);
            assert_eq!(end.answer().await.status, 502, "{answer:?}");
        }
    })
    .await;
}
