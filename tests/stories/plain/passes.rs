//! What passes: heads, bodies, upgrades.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream};
use http::{Method, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};
use tokio_tungstenite::tungstenite::Message;

use super::{PHOTOS, PUBLIC, beside_jellyfin, service::Service, visitor};
use crate::stories::{
    wire::pattern,
    world::{body_of, has_ended, story},
};

#[tokio::test]
async fn a_service_gets_requests_as_they_are_and_jellyfin_none_of_them() {
    let service = Service::answering("immich", |_| {
        let answer = Response::builder().status(201).header("set-cookie", "session=2").header("x-own", "1");
        answer.body("made".into()).expect("an answer")
    })
    .await;
    story(beside_jellyfin(&[&service], "response_headers = { X-Route = \"photos\" }"), async |world| {
        // What a browser has of Jellyfin, and of jellypin.
        let mut browser = visitor(world);
        browser.host = "media.example.org".to_owned();
        assert_eq!(browser.get(PUBLIC).await.status, 200);
        assert!(browser.pin().is_some(), "a cookie of jellypin");
        browser.host = PHOTOS.to_owned();
        browser.cookies.get_or_insert_default().insert("session".to_owned(), "1".to_owned());

        let target = "/Users/Me//%41;c?api_key=x%20&x=1&x=2";
        let headers = [
            ("authorization", "Bearer of-the-service"),
            ("x-real-ip", "10.0.0.1"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
        ];
        let answer = browser.get_with(target, &headers).await;
        assert_eq!((answer.status, answer.text(), answer.header("x-own")), (201, "made", "1"));
        assert_eq!((answer.set_cookie(), answer.header("x-route")), (Some("session=2"), "photos"));
        assert!(world.saw(&answer).is_empty(), "no Jellyfin");

        let seen = service.last();
        assert_eq!((&seen.method, &*seen.target), (&Method::GET, target));
        assert_eq!((seen.header("host"), seen.header("cookie")), (PHOTOS, "session=1"));
        assert_eq!(seen.header("authorization"), "Bearer of-the-service");
        assert_eq!((seen.header("x-forwarded-for"), seen.header("x-forwarded-proto")), ("127.0.0.1", "http"));
        assert_eq!((seen.header("x-forwarded-host"), seen.header("x-real-ip"), seen.header("x-hop")), (PHOTOS, "", ""));
        assert!(seen.header("via").starts_with("1.1 jellypin-"));
        let line = world.proxy.lines_of("/Users/Me//%41;c", 1).await.remove(0);
        assert_eq!((&line["pool"], &line["pod.name"]), (&"photos".into(), &"immich".into()), "{line}");
    })
    .await;
}

#[tokio::test]
async fn bodies_pass_both_ways_while_they_come() {
    let service = Service::start("immich").await;
    story(beside_jellyfin(&[&service], ""), async |world| {
        let mut client = visitor(world);
        let (sender, receiver) = mpsc::channel::<Bytes>(1);
        let pieces = stream::unfold(receiver, async |mut receiver| {
            let piece = receiver.recv().await?;
            Some((Ok(Frame::data(piece)), receiver))
        });
        let request = client.request(Method::POST, "/echo");
        let sends = async {
            sender.send(Bytes::from_static(b"first")).await.expect("it is read");
            let answer =
                client.open(request, StreamBody::new(Box::pin(pieces)).boxed_unsync()).await.expect("an answer");
            let mut body = answer.into_body();
            let mut next = async || body.frame().await.map(|frame| frame.expect("a piece").into_data().expect("data"));
            assert_eq!(next().await.expect("a piece"), "first", "it comes back before the rest is sent");
            sender.send(Bytes::from_static(b"last")).await.expect("it is read");
            assert_eq!(next().await.expect("a piece"), "last");
            drop(sender);
            assert!(next().await.is_none());
        };
        timeout(Duration::from_secs(10), sends).await.expect("nothing waits for the whole body");

        let long = pattern(0, 3 << 20);
        let request = client.request(Method::PUT, "/echo");
        let answer = client.send(request, body_of(long.clone())).await.expect("an answer");
        assert!(answer.status == 200 && answer.body == long, "{} bytes", answer.body.len());
    })
    .await;
}

#[tokio::test]
async fn a_web_socket_and_any_other_protocol_pass() {
    let service = Service::start("immich").await;
    story(beside_jellyfin(&[&service], "").uncounted(), async |world| {
        let mut client = visitor(world);
        let mut socket = client.socket("/live").await.expect("a socket");
        socket.send(Message::text("hello")).await.expect("it is sent");
        assert_eq!(socket.next().await.expect("a message").expect("a message"), Message::text("hello"));
        socket.close(None).await.expect("it is closed");
        assert!(has_ended(&mut socket).await);

        let mut raw = TcpStream::connect(world.proxy.address).await.expect("a connection");
        let head =
            format!("GET /raw HTTP/1.1\r\nhost: {PHOTOS}\r\nconnection: Upgrade\r\nupgrade: house/1\r\n\r\nearly");
        raw.write_all(head.as_bytes()).await.expect("it is sent");
        let mut read = Vec::new();
        while !read.ends_with(b"early") {
            assert!(raw.read_buf(&mut read).await.expect("bytes") > 0, "{:?}", String::from_utf8_lossy(&read));
        }
        let head = String::from_utf8_lossy(&read).to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 101") && head.contains("\r\nupgrade: house/1\r\n"), "{head}");
        raw.write_all(b"later").await.expect("it is sent");
        let mut later = [0; 5];
        raw.read_exact(&mut later).await.expect("bytes");
        assert_eq!(&later, b"later");
        drop(raw);
        let line = world.proxy.lines_of("/raw", 1).await.remove(0);
        assert_eq!((&line["http.status"], &line["outcome"]), (&101.into(), &"client_gone".into()), "{line}");
    })
    .await;
}
