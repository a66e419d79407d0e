//! Chunks, trailers, the end of a connection: whatever frames a body, it arrives as it was meant.

use crate::stories::wire::{self, HandPod, pattern};
use crate::stories::world::story;

#[tokio::test]
async fn chunks_and_trailers_pass_both_ways() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let mut end = wire::client(world).await;
        end.send(
            "POST /echo HTTP/1.1\r\nHost: story\r\nTE: trailers\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n\
             5\r\nhello\r\n1;name=value\r\n,\r\n6\r\n world\r\n0\r\nX-Sum: 12\r\n\r\n",
        )
        .await;
        let mut call = pod.call().await;
        assert_eq!(call.field("transfer-encoding"), Some("chunked"), "{}", call.head);
        assert_eq!(call.field("te"), Some("trailers"), "{}", call.head);
        let (body, trailers, is_whole) = call.wire.chunks().await;
        assert_eq!((&*body, trailers.to_lowercase().as_str(), is_whole), (&b"hello, world"[..], "x-sum: 12\r\n", true));
        call.wire
            .send(
                "HTTP/1.1 200 OK\r\nTrailer: X-Back\r\nTransfer-Encoding: chunked\r\n\r\n\
                 3\r\none\r\n3\r\ntwo\r\n0\r\nX-Back: 6\r\n\r\n",
            )
            .await;
        let answer = end.answer().await;
        assert_eq!((answer.text().as_str(), answer.is_whole), ("onetwo", true));
        assert_eq!(answer.trailers.to_lowercase(), "x-back: 6\r\n");

        // Both connections go on after it.
        end.send("GET /next HTTP/1.1\r\nHost: story\r\n\r\n").await;
        assert!(call.wire.head().await.starts_with("GET /next "), "the pod's connection was kept");
        call.reply("200 OK", "next").await;
        assert_eq!(end.answer().await.text(), "next");
        drop((end, call));
    })
    .await;
}

#[tokio::test]
async fn trailers_reach_only_those_who_take_them() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let mut end = wire::client(world).await;
        end.send("GET /x HTTP/1.1\r\nHost: story\r\n\r\n").await;
        let mut call = pod.call().await;
        assert_eq!(call.field("te"), None);
        call.wire
            .send(
                "HTTP/1.1 200 OK\r\nTrailer: X-Back\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Back: 6\r\n\r\n",
            )
            .await;
        let answer = end.answer().await;
        assert_eq!((answer.text().as_str(), answer.is_whole, answer.trailers.as_str()), ("ok", true, ""));
        drop((end, call));
    })
    .await;
}

#[tokio::test]
async fn an_endless_answer_is_streamed() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let mut end = wire::client(world).await;
        end.send("GET /LiveTv/LiveStreamFiles/1/stream.ts HTTP/1.1\r\nHost: story\r\n\r\n").await;
        let mut call = pod.call().await;
        call.wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        assert!(end.head().await.starts_with("HTTP/1.1 200 "), "the head does not wait for a body");
        for piece in ["a", "second", "third one"] {
            call.wire.send(format!("{:x}\r\n{piece}\r\n", piece.len())).await;
            assert_eq!(end.chunk().await, piece.as_bytes(), "each piece comes before the next is sent");
        }
        drop((end, call));
    })
    .await;
}

#[tokio::test]
async fn an_upload_is_streamed() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let mut end = wire::client(world).await;
        end.send("POST /up HTTP/1.1\r\nHost: story\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        let mut call = pod.call().await;
        for piece in ["a", "second", "third one"] {
            end.send(format!("{:x}\r\n{piece}\r\n", piece.len())).await;
            assert_eq!(call.wire.chunk().await, piece.as_bytes(), "each piece comes before the next is sent");
        }
        // The pod may answer before it has all.
        call.reply("200 OK", "early").await;
        assert_eq!(end.answer().await.text(), "early");
        drop((end, call));
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_is_whole() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let mut end = wire::client(world).await;
        end.send("GET /old HTTP/1.1\r\nHost: story\r\n\r\n").await;
        let mut call = pod.call().await;
        call.wire.send("HTTP/1.0 200 OK\r\n\r\n").await;
        call.wire.send(pattern(0, 100_000)).await;
        drop(call);
        let answer = end.answer().await;
        assert!(answer.is_whole && answer.body == pattern(0, 100_000));
        assert_eq!(answer.field("transfer-encoding"), Some("chunked"), "the client's connection need not end for it");
        drop(end);
    })
    .await;
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_what_it_can_read() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        for (request, expected_host) in
            [("GET /old HTTP/1.0\r\nHost: story\r\n\r\n", Some("story")), ("GET /old HTTP/1.0\r\n\r\n", None)]
        {
            let mut end = wire::client(world).await;
            end.send(request).await;
            let mut call = pod.call().await;
            assert!(call.head.starts_with("GET /old HTTP/1.1\r\n"), "{}", call.head);
            assert_eq!(
                call.all("host").len(),
                1,
                "a request of HTTP/1.1 has a Host, or Kestrel refuses it: {}",
                call.head
            );
            if expected_host.is_some() {
                assert_eq!(call.field("host"), expected_host);
            }
            call.wire
                .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
                .await;
            let answer = end.answer().await;
            assert!(answer.head.starts_with("HTTP/1.0 200 OK\r\n"), "{}", answer.head);
            assert_eq!(answer.field("transfer-encoding"), None, "HTTP/1.0 knows no chunks");
            assert_eq!((answer.text().as_str(), answer.is_whole), ("onetwo", true));
            drop(call);
        }
    })
    .await;
}

#[tokio::test]
async fn requests_sent_ahead_are_answered_in_order() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let mut end = wire::client(world).await;
        end.send(
            "GET /one HTTP/1.1\r\nHost: story\r\n\r\nPOST /two HTTP/1.1\r\nHost: story\r\nContent-Length: 4\r\n\r\nbody\
             GET /three HTTP/1.1\r\nHost: story\r\n\r\n",
        )
        .await;
        let mut call = pod.call().await;
        assert!(call.head.starts_with("GET /one "), "{}", call.head);
        call.reply("200 OK", "first").await;
        assert!(call.wire.head().await.starts_with("POST /two "));
        assert_eq!(call.wire.bytes(4).await, b"body");
        call.reply("200 OK", "second").await;
        assert!(call.wire.head().await.starts_with("GET /three "));
        call.reply("200 OK", "third").await;
        for expected in ["first", "second", "third"] {
            assert_eq!(end.answer().await.text(), expected);
        }
        drop((end, call));
    })
    .await;
}

#[tokio::test]
async fn broken_chunks_get_a_400_and_reach_no_pod_as_a_whole_body() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        // The second is read before a pod is asked, and so reaches none.
        for (path, reaches_pod) in [("/up", true), ("/Users/AuthenticateByName", false)] {
            let mut end = wire::client(world).await;
            end.send(format!(
                "POST {path} HTTP/1.1\r\nHost: story\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
            ))
            .await;
            if reaches_pod {
                let mut call = pod.call().await;
                assert_eq!(call.wire.chunk().await, b"hello");
                end.send("nonsense\r\n").await;
                assert!(!call.wire.chunks().await.2, "the pod sees that it is not whole");
            } else {
                end.send("nonsense\r\n").await;
            }
            let answer = end.answer().await;
            assert_eq!((answer.status, answer.field("connection")), (400, Some("close")), "{path}: {}", answer.head);
        }
    })
    .await;
}
