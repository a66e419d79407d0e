//! What the pod sees of a request's fields.

use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::stories::wire::{self, Call, HandPod};
use crate::stories::world::story;

/// The fields that reached the pod, in order of their names, but for the mark of the proxy itself.
fn lines(call: &Call) -> Vec<&str> {
    let lines = call.head.split("\r\n").skip(1).filter(|line| !line.is_empty());
    let (marks, mut lines): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.starts_with("via: 1.1 jellypin-"));
    assert_eq!(marks.len(), 1, "{marks:?}");
    lines.sort_unstable();
    lines
}

/// Sends these fields and gives what reached the pod.
async fn passed(fields: &str) -> Call {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| passed_through(world, &mut pod, fields).await).await
}

async fn passed_through(world: &crate::stories::world::World, pod: &mut HandPod, fields: &str) -> Call {
    let mut end = wire::client(world).await;
    end.send(format!("GET /x HTTP/1.1\r\n{fields}\r\n")).await;
    let mut call = pod.call().await;
    call.reply("200 OK", "").await;
    assert_eq!(end.answer().await.status, 200);
    call
}

#[tokio::test]
async fn a_plain_request_gains_three_fields_and_a_mark() {
    let call = passed(
        "Host: Media.Example.org:8096\r\nUser-Agent: Player/1.0 (odd; \"quotes\")\r\nAccept-Language: de-AT, en;q=0.5\r\n\
         Accept-Encoding: gzip, br\r\nRange: bytes=5-9\r\nAuthorization: MediaBrowser Token=\"t\", Client=\"a, b\"\r\n\
         X-Emby-Token: t\r\nAccept: a/b\r\nAccept: c/d\r\n",
    )
    .await;
    let expected = [
        "accept-encoding: gzip, br",
        "accept-language: de-AT, en;q=0.5",
        "accept: a/b",
        "accept: c/d",
        "authorization: MediaBrowser Token=\"t\", Client=\"a, b\"",
        "host: Media.Example.org:8096",
        "range: bytes=5-9",
        "user-agent: Player/1.0 (odd; \"quotes\")",
        "x-emby-token: t",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: Media.Example.org:8096",
        "x-forwarded-proto: http",
    ];
    assert_eq!(lines(&call), expected);
}

#[tokio::test]
async fn a_client_without_a_user_agent_gets_none() {
    let call = passed("Host: story\r\n").await;
    assert_eq!(call.field("user-agent"), None, "Jellyfin keys its transcodes by it");
}

#[tokio::test]
async fn hop_by_hop_fields_of_requests_end_here() {
    let call = passed(
        "Host: story\r\nConnection: keep-alive, X-Of-This-Hop\r\nX-Of-This-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic x\r\nTE: gzip\r\nUpgrade: h2c\r\nX-Stays: 1\r\n",
    )
    .await;
    let expected = [
        "host: story",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: story",
        "x-forwarded-proto: http",
        "x-stays: 1",
    ];
    assert_eq!(lines(&call), expected);
}

#[tokio::test]
async fn connection_cannot_remove_the_proxys_fields() {
    let call = passed(
        "Host: story\r\nConnection: X-Forwarded-For, X-Forwarded-Proto, Host, Cookie, close\r\nCookie: other=1\r\n",
    )
    .await;
    assert_eq!(call.field("host"), Some("story"));
    assert_eq!(call.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(call.field("x-forwarded-proto"), Some("http"));
}

#[tokio::test]
async fn forwarded_fields_count_only_from_trusted_peers() {
    let claims = "Host: story\r\nX-Forwarded-For: 198.51.100.7\r\nX-Forwarded-Proto: https\r\n\
                  X-Forwarded-Host: media.example.org\r\nForwarded: for=198.51.100.7\r\nX-Real-IP: 198.51.100.7\r\n";
    let call = passed(claims).await;
    let expected = ["host: story", "x-forwarded-for: 127.0.0.1", "x-forwarded-host: story", "x-forwarded-proto: http"];
    assert_eq!(lines(&call), expected);

    let mut pod = HandPod::start().await;
    story(wire::before(&pod).trusted_proxies(&["127.0.0.0/8"]), async |world| {
        let of_socket = passed_through(world, &mut pod, "Host: story\r\nX-Forwarded-Proto: wss\r\n").await;
        assert_eq!(of_socket.field("x-forwarded-proto"), Some("https"), "some proxies name a socket's protocol");
        drop(of_socket);
        let call = passed_through(world, &mut pod, claims).await;
        assert_eq!(call.field("x-forwarded-for"), Some("198.51.100.7"));
        assert_eq!(call.field("x-forwarded-proto"), Some("https"));
        assert_eq!(call.field("x-forwarded-host"), Some("media.example.org"));
    })
    .await;
}

#[tokio::test]
async fn only_the_affinity_cookie_stays_here() {
    for (sent, expected) in [
        ("jellyfin_server_id=abc", None),
        ("a=1; jellyfin_server_id=abc; b=2", Some("a=1; b=2")),
        (".AspNetCore.Culture=c%3Dde; jellyfin_server_id=x", Some(".AspNetCore.Culture=c%3Dde")),
        (
            "my_jellyfin_server_id=kept; jellyfin_server_id2=kept",
            Some("my_jellyfin_server_id=kept; jellyfin_server_id2=kept"),
        ),
        ("a=\"quoted; no\"", Some("a=\"quoted; no\"")),
    ] {
        let call = passed(&format!("Host: story\r\nCookie: {sent}\r\n")).await;
        assert_eq!(call.field("cookie"), expected, "{sent}");
    }
}

#[tokio::test]
async fn values_with_non_ascii_bytes_pass() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let mut end = wire::client(world).await;
        let value: Vec<u8> = (0x80..=0xff).collect();
        let mut request = b"GET /x HTTP/1.1\r\nHost: story\r\nX-Device: ".to_vec();
        request.extend(&value);
        request.extend(b"\tend\r\n\r\n");
        end.send(request).await;
        let mut call = pod.call().await;
        let got: Vec<u8> = call.field("x-device").expect("the field").chars().map(|c| c as u8).collect();
        assert_eq!(got, [&value[..], b"\tend"].concat());
        let mut answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Name: ".to_vec();
        answer.extend(&value);
        answer.extend(b"\r\n\r\n");
        call.wire.send(answer).await;
        let answer = end.answer().await;
        let got: Vec<u8> = answer.field("x-name").expect("the field").chars().map(|c| c as u8).collect();
        assert_eq!(got, value);
        drop((end, call));
    })
    .await;
}

#[tokio::test]
async fn a_request_of_http_2_becomes_one_of_http_1() {
    let mut pod = HandPod::start().await;
    story(wire::before(&pod), async |world| {
        let stream = TcpStream::connect(world.proxy.address).await.expect("a connection");
        let (mut requests, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("a handshake");
        tokio::spawn(async move { drop(connection.await) });
        let request = http::Request::get("http://media.example.org/x?q=1")
            .header("cookie", "a=1")
            .header("cookie", "jellyfin_server_id=x")
            .header("cookie", "b=2")
            .header("te", "trailers")
            .body(Empty::<bytes::Bytes>::new())
            .expect("a request");
        let answer = tokio::spawn(requests.send_request(request));
        let mut call = pod.call().await;
        assert!(call.head.starts_with("GET /x?q=1 HTTP/1.1\r\n"), "{}", call.head);
        let expected = [
            "cookie: a=1; b=2",
            "host: media.example.org",
            "te: trailers",
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-host: media.example.org",
            "x-forwarded-proto: http",
        ];
        assert_eq!(lines(&call), expected);
        let answered =
            "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nX-Stays: 1\r\nContent-Length: 0\r\n\r\n";
        call.wire.send(answered).await;
        let answer = answer.await.expect("no panic").expect("an answer that HTTP/2 allows");
        assert_eq!(answer.status(), 200);
        assert!(answer.headers().contains_key("x-stays"));
        assert!(!answer.headers().contains_key("keep-alive") && !answer.headers().contains_key("connection"));
        drop((requests, call));
    })
    .await;
}
