//! The life of a socket, seen by its client.

use std::io;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::{Cluster, Generation, Pod};

type Client = WebSocketStream<TcpStream>;

/// Sends a request by hand and reads the head of its answer, byte by byte so that nothing after it is taken.
async fn head(stream: &mut TcpStream, request: &str) -> io::Result<String> {
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

async fn post(pod: &Pod, path: &str, body: &Value) -> io::Result<String> {
    let mut stream = TcpStream::connect(pod.address()).await?;
    let body = body.to_string();
    let authorization = "MediaBrowser Client=\"Story\", Device=\"Sofa\", DeviceId=\"w1\", Version=\"1.0\"";
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {authorization}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

async fn log_in(pod: &Pod) -> io::Result<String> {
    let answer = post(pod, "/Users/AuthenticateByName", &json!({"Username": "alice", "Pw": "alice-pw"})).await?;
    let token = answer.split("\"AccessToken\":\"").nth(1).and_then(|rest| rest.get(..32));
    Ok(token.ok_or(io::ErrorKind::InvalidData)?.to_owned())
}

async fn open(pod: &Pod, token: &str) -> io::Result<Client> {
    let mut stream = TcpStream::connect(pod.address()).await?;
    let request = format!(
        "GET /socket?ApiKey={token} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let head = head(&mut stream, &request).await?;
    if !head.starts_with("HTTP/1.1 101") {
        return Err(io::Error::other(head));
    }
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    Ok(WebSocketStream::from_raw_socket(stream, Role::Client, None).await)
}

/// The kind of the next message, or how the socket ended.
async fn next(client: &mut Client) -> String {
    match client.next().await {
        Some(Ok(Message::Text(text))) => {
            let message: Value = serde_json::from_str(&text).unwrap_or_default();
            message["MessageType"].as_str().unwrap_or_default().to_owned()
        }
        Some(Ok(Message::Close(Some(frame)))) => format!("closed {} {}", u16::from(frame.code), frame.reason),
        Some(Ok(other)) => format!("{other:?}"),
        Some(Err(_)) | None => "broken".to_owned(),
    }
}

async fn say(client: &mut Client, text: impl Into<String>) {
    // A socket that is gone shows itself at the next read.
    let _ = client.send(Message::text(text.into())).await;
}

#[tokio::test]
async fn a_socket_is_greeted_answers_keep_alive_and_ends_with_its_session() -> io::Result<()> {
    let pod = Pod::builder(&Cluster::new()).start().await?;
    let token = log_in(&pod).await?;
    let mut client = open(&pod, &token).await?;
    assert_eq!(next(&mut client).await, "ForceKeepAlive");
    say(&mut client, KEEP_ALIVE).await;
    assert_eq!(next(&mut client).await, "KeepAlive");
    assert_eq!(pod.heard(), [KEEP_ALIVE]);
    pod.until(|pod| pod.open_sockets() == 1).await;
    drop(client);
    pod.until(|pod| pod.open_sockets() == 0).await;
    let answer = post(&pod, &format!("/SyncPlay/Pause?ApiKey={token}"), &json!({})).await?;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    Ok(())
}

#[tokio::test]
async fn without_a_known_token_the_socket_is_refused_with_403() -> io::Result<()> {
    let pod = Pod::builder(&Cluster::new()).start().await?;
    let refused = open(&pod, "00000000000000000000000000000000").await.err().map(|error| error.to_string());
    assert!(refused.is_some_and(|head| head.starts_with("HTTP/1.1 403") && head.contains("text/plain")));
    Ok(())
}

#[tokio::test]
async fn a_graceful_stop_is_announced_and_a_kill_is_not() -> io::Result<()> {
    let cluster = Cluster::new();
    let pod = Pod::builder(&cluster).start().await?;
    let token = log_in(&pod).await?;
    let mut client = open(&pod, &token).await?;
    assert_eq!(next(&mut client).await, "ForceKeepAlive");
    let (ends, ()) = tokio::join!(async { [next(&mut client).await, next(&mut client).await] }, pod.stop());
    assert_eq!(ends, ["ServerShuttingDown", "closed 1000 System Shutdown"]);
    pod.start_again().await?;
    let mut client = open(&pod, &token).await?;
    assert_eq!(next(&mut client).await, "ForceKeepAlive");
    pod.kill().await;
    assert_eq!(next(&mut client).await, "broken");
    Ok(())
}

/// The first message that is no reminder.
async fn next_but_reminders(client: &mut Client) -> String {
    loop {
        let kind = next(client).await;
        if kind != "ForceKeepAlive" {
            return kind;
        }
    }
}

const KEEP_ALIVE: &str = r#"{"MessageType":"KeepAlive"}"#;

#[tokio::test]
async fn a_silent_socket_is_lost_in_12_0() -> io::Result<()> {
    let cluster = Cluster::new();
    let pod = Pod::builder(&cluster).keep_alive(Duration::from_millis(200)).start().await?;
    let token = log_in(&pod).await?;
    let mut client = open(&pod, &token).await?;
    pod.until(|pod| pod.open_sockets() == 1).await;
    pod.until(|pod| pod.open_sockets() == 0).await;
    assert_eq!(pod.open_connections(), 1, "the pod does not end the connection itself");
    say(&mut client, KEEP_ALIVE).await;
    let session = crate::session_id("Story", "w1");
    let message = format!("/Sessions/{session}/Message?ApiKey={}", cluster.api_key());
    let answer = post(&pod, &message, &json!({"Text": "hello"})).await?;
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    assert_eq!(next_but_reminders(&mut client).await, "broken");
    Ok(())
}

#[tokio::test]
async fn a_silent_socket_works_on_in_10_11() -> io::Result<()> {
    let pod = Pod::builder(&Cluster::new())
        .generation(Generation::V10_11)
        .keep_alive(Duration::from_millis(200))
        .start()
        .await?;
    let token = log_in(&pod).await?;
    let mut client = open(&pod, &token).await?;
    for _ in 0..3 {
        assert_eq!(next(&mut client).await, "ForceKeepAlive");
    }
    say(&mut client, KEEP_ALIVE).await;
    assert_eq!(next_but_reminders(&mut client).await, "KeepAlive");
    assert_eq!(pod.open_sockets(), 1);
    Ok(())
}

#[tokio::test]
async fn an_empty_message_closes_and_a_very_long_one_stalls() -> io::Result<()> {
    let pod = Pod::builder(&Cluster::new()).start().await?;
    let token = log_in(&pod).await?;
    let mut client = open(&pod, &token).await?;
    assert_eq!(next(&mut client).await, "ForceKeepAlive");
    say(&mut client, "").await;
    assert_eq!(next(&mut client).await, "closed 1000 ");

    let mut client = open(&pod, &token).await?;
    assert_eq!(next(&mut client).await, "ForceKeepAlive");
    say(&mut client, "x".repeat(64 * 1024)).await;
    say(&mut client, KEEP_ALIVE).await;
    let silence = tokio::time::timeout(Duration::from_millis(100), next(&mut client)).await;
    assert!(silence.is_err(), "a stalled socket must not answer: {silence:?}");
    Ok(())
}

#[tokio::test]
async fn a_socket_dialled_after_the_shutdown_notice_is_never_served() -> io::Result<()> {
    let late = Duration::from_millis(700);
    let pod = Pod::builder(&Cluster::new()).listens_on(Duration::from_millis(300)).late_socket(late).start().await?;
    let token = log_in(&pod).await?;
    let mut first = open(&pod, &token).await?;
    let began = std::time::Instant::now();
    let dialled = async {
        loop {
            match first.next().await {
                Some(Ok(Message::Text(text))) if text.contains("ServerShuttingDown") => break,
                Some(Ok(_)) => {}
                other => panic!("no farewell: {other:?}"),
            }
        }
        let mut second = open(&pod, &token).await?;
        pod.until(|pod| pod.late_sockets() == 1).await;
        // Neither a greeting nor an end before the process has ended.
        Ok::<_, io::Error>(second.next().await)
    };
    let (second, ()) = tokio::join!(dialled, pod.stop());
    assert!(!matches!(second?, Some(Ok(Message::Text(_)))), "it was greeted");
    assert!(began.elapsed() >= late, "the process did not wait");
    Ok(())
}

#[tokio::test]
async fn a_session_without_a_socket_is_forgotten_after_some_time() -> io::Result<()> {
    let pod = Pod::builder(&Cluster::new()).session_idle(Duration::from_millis(200)).start().await?;
    let token = log_in(&pod).await?;
    let socket = open(&pod, &token).await?;
    pod.until(|pod| pod.open_sockets() == 1).await;
    let began = std::time::Instant::now();
    pod.until(|_| began.elapsed() > Duration::from_millis(300)).await;
    assert_eq!(pod.session_devices(), ["w1"], "it has a socket");
    drop(socket);
    pod.until(|pod| pod.session_devices().is_empty()).await;
    log_in(&pod).await?;
    assert_eq!(pod.session_devices(), ["w1"]);
    pod.until(|pod| pod.session_devices().is_empty()).await;
    Ok(())
}
