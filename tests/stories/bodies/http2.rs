//! HTTP/2 by prior knowledge: many exchanges on one connection, none of which harms another.

use std::net::Shutdown;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full, combinators::BoxBody};
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use jellyfin_sim::{BULK, bulk_bytes};
use tokio::{net::TcpStream, task::JoinSet};

use crate::stories::{
    wire::{self, HandPod, SOON, pattern, within},
    world::{DEADLINE, World, story},
};

type Requests = SendRequest<BoxBody<Bytes, std::convert::Infallible>>;

async fn connect(world: &World) -> Requests {
    over(TcpStream::connect(world.proxy.address).await.expect("a connection")).await
}

async fn over(stream: TcpStream) -> Requests {
    let (requests, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("a handshake");
    // The tests see how exchanges end; how the connection does follows from that.
    tokio::spawn(async move { drop(connection.await) });
    requests
}

fn get(world: &World, path: &str) -> Request<BoxBody<Bytes, std::convert::Infallible>> {
    let uri = format!("http://{}{path}", world.proxy.address);
    Request::get(uri).body(Empty::new().boxed()).expect("a request")
}

async fn whole(answer: Response<Incoming>) -> Bytes {
    answer.into_body().collect().await.expect("a whole body").to_bytes()
}

#[tokio::test]
async fn many_streams_share_a_connection() {
    story(World::plan(2).uncounted(), async |world| {
        let requests = connect(world).await;
        let mut streams = JoinSet::new();
        for number in 0..100_u64 {
            let (mut requests, from) = (requests.clone(), number * 1000);
            let mut request = get(world, &format!("/Videos/{BULK}/stream?static=true"));
            let range = format!("bytes={from}-{}", from + 99_999).parse().expect("a range");
            request.headers_mut().insert("range", range);
            streams.spawn(async move {
                let answer = requests.send_request(request).await.expect("an answer");
                assert_eq!(answer.status(), 206);
                assert!(whole(answer).await == bulk_bytes(from, 100_000), "stream {number} got other bytes");
            });
        }
        while let Some(stream) = within(DEADLINE, "all streams", streams.join_next()).await {
            stream.expect("a stream");
        }
        drop(requests);
    })
    .await;
}

#[tokio::test]
async fn a_reset_stream_ends_only_its_own_request() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let mut requests = connect(world).await;
        let (left, stays) = (requests.send_request(get(world, "/left")), requests.send_request(get(world, "/stays")));
        let left = tokio::spawn(left);
        let stays = tokio::spawn(stays);
        let mut calls = [pod.call().await, pod.call().await];
        calls.sort_by_key(|call| !call.head.starts_with("GET /left "));
        let [mut left_call, mut stays_call] = calls;

        // One waits for its head, and is given up.
        left.abort();
        left_call.wire.ended(SOON).await;
        // Another is given up in the middle of its body.
        let broken = tokio::spawn(requests.send_request(get(world, "/broken")));
        let mut broken_call = pod.call().await;
        broken_call.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nsome bytes").await;
        let mut broken = broken.await.expect("no panic").expect("an answer").into_body();
        assert!(broken.frame().await.is_some_and(|frame| frame.is_ok()));
        drop(broken);
        broken_call.wire.ended(SOON).await;

        stays_call.reply("200 OK", "still there").await;
        let answer = stays.await.expect("no panic").expect("an answer");
        assert_eq!(whole(answer).await, "still there");
        drop((requests, stays_call));
    })
    .await;
}

#[tokio::test]
async fn a_truncated_answer_resets_only_its_own_stream() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let mut requests = connect(world).await;
        let broken = tokio::spawn(requests.send_request(get(world, "/broken")));
        let mut broken_call = pod.call().await;
        let stays = tokio::spawn(requests.send_request(get(world, "/stays")));
        let mut stays_call = pod.call().await;
        broken_call.wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n").await;
        let broken = broken.await.expect("no panic").expect("an answer");
        drop(broken_call);
        let body = within(DEADLINE, "the end of the body", broken.into_body().collect()).await;
        assert!(body.is_err(), "an answer that broke off must not look whole");
        stays_call.reply("200 OK", "still there").await;
        assert_eq!(whole(stays.await.expect("no panic").expect("an answer")).await, "still there");
        drop((requests, stays_call));
    })
    .await;
}

#[tokio::test]
async fn an_upload_arrives_whole() {
    const SIZE: usize = 10 << 20;
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let mut requests = connect(world).await;
        let body = Bytes::from(pattern(0, SIZE));
        let request = Request::post(format!("http://{}/up", world.proxy.address))
            .body(Full::new(body.clone()).boxed())
            .expect("a request");
        let answer = tokio::spawn(requests.send_request(request));
        let mut call = pod.call().await;
        assert_eq!(call.field("content-length"), Some(&*SIZE.to_string()), "{}", call.head);
        assert!(call.wire.bytes(SIZE).await == body);
        call.reply("200 OK", "whole").await;
        assert_eq!(whole(answer.await.expect("no panic").expect("an answer")).await, "whole");
        drop((requests, call));
    })
    .await;
}

#[tokio::test]
async fn a_client_that_disconnects_ends_all_its_requests_at_the_pod() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let stream = TcpStream::connect(world.proxy.address).await.expect("a connection").into_std().expect("a socket");
        let twin = stream.try_clone().expect("a second handle");
        let mut requests = over(TcpStream::from_std(stream).expect("a socket")).await;
        let answers = [requests.send_request(get(world, "/a")), requests.send_request(get(world, "/b"))];
        let answers = answers.map(tokio::spawn);
        let mut calls = [pod.call().await, pod.call().await];
        twin.shutdown(Shutdown::Both).expect("an open connection");
        for call in &mut calls {
            call.wire.ended(SOON).await;
        }
        drop((requests, answers));
    })
    .await;
}
