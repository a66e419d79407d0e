//! The controls of a pod do what they say, seen from the other end of a connection.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{BULK, Cluster, FILM, Generation, PhaseLengths, Pod, StartUp, bulk_bytes};

const LOG_IN: &str = "MediaBrowser Client=\"Story\", Device=\"Sofa\", DeviceId=\"d1\", Version=\"1.0\"";

async fn connect(pod: &Pod) -> io::Result<TcpStream> {
    TcpStream::connect(pod.address()).await
}

/// Sends one request on a connection of its own and reads to the end of it.
pub(super) async fn ask(pod: &Pod, line: &str, headers: &[(&str, &str)], body: &str) -> io::Result<(u16, String)> {
    let mut stream = connect(pod).await?;
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let request =
        format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.get(9..12).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    Ok((status, answer))
}

async fn get(pod: &Pod, path: &str) -> io::Result<(u16, String)> {
    ask(pod, &format!("GET {path}"), &[], "").await
}

pub(super) async fn log_in(pod: &Pod) -> io::Result<String> {
    let body = r#"{"Username":"alice","Pw":"alice-pw"}"#;
    let (_, answer) = ask(pod, "POST /Users/AuthenticateByName", &[("Authorization", LOG_IN)], body).await?;
    let token = answer.split("\"AccessToken\":\"").nth(1).and_then(|rest| rest.get(..32));
    Ok(token.ok_or(io::ErrorKind::InvalidData)?.to_owned())
}

#[tokio::test]
async fn a_token_is_known_to_its_pod_alone_until_the_other_starts_again() -> io::Result<()> {
    let cluster = Cluster::new();
    let a = Pod::builder(&cluster).name("a").start().await?;
    let b = Pod::builder(&cluster).name("b").start().await?;
    let token = log_in(&a).await?;
    let me = format!("/Users/Me?ApiKey={token}");
    assert_eq!(get(&a, &me).await?.0, 200);
    assert_eq!(get(&b, &me).await?.0, 401);
    assert!(a.knows_token(&token) && !b.knows_token(&token));
    let address = b.address();
    b.kill().await;
    b.start_again().await?;
    assert_eq!(b.address(), address);
    assert_eq!(get(&b, &me).await?.0, 200);
    assert_eq!(get(&b, &format!("/System/Info?ApiKey={}", cluster.api_key())).await?.0, 200);
    Ok(())
}

#[tokio::test]
async fn a_kill_resets_what_is_open_and_refuses_what_comes() -> io::Result<()> {
    let pod = Pod::builder(&Cluster::new()).start().await?;
    let mut open = connect(&pod).await?;
    pod.until(|pod| pod.open_connections() == 1).await;
    pod.kill().await;
    let ended = open.read_u8().await.err().map(|error| error.kind());
    assert_eq!(ended, Some(io::ErrorKind::ConnectionReset));
    let refused = connect(&pod).await.err().map(|error| error.kind());
    assert_eq!(refused, Some(io::ErrorKind::ConnectionRefused));
    assert!(!pod.is_running());
    Ok(())
}

#[tokio::test]
async fn refusing_leaves_open_connections_alone() -> io::Result<()> {
    let pod = Pod::builder(&Cluster::new()).start().await?;
    let mut open = connect(&pod).await?;
    pod.until(|pod| pod.open_connections() == 1).await;
    pod.refuse(true);
    assert!(connect(&pod).await.is_err());
    open.write_all(b"GET /System/Ping HTTP/1.1\r\nHost: x\r\n\r\n").await?;
    let mut start = [0; 12];
    open.read_exact(&mut start).await?;
    assert_eq!(&start, b"HTTP/1.1 200");
    pod.refuse(false);
    assert_eq!(get(&pod, "/System/Ping").await?.0, 200);
    Ok(())
}

#[tokio::test]
async fn a_hanging_pod_accepts_and_says_nothing_until_it_goes_on() -> io::Result<()> {
    let pod = Pod::builder(&Cluster::new()).start().await?;
    pod.hang(true);
    let mut answer = Box::pin(get(&pod, "/health"));
    let silence = tokio::time::timeout(Duration::from_millis(100), &mut answer).await;
    assert!(silence.is_err(), "a hanging pod must not answer");
    pod.hang(false);
    assert_eq!(answer.await?.0, 200);
    Ok(())
}

#[tokio::test]
async fn a_dark_pod_neither_takes_nor_refuses_connections() -> io::Result<()> {
    let pod = Pod::builder(&Cluster::new()).start().await?;
    pod.go_dark(true);
    let mut answer = Box::pin(get(&pod, "/health"));
    let silence = tokio::time::timeout(Duration::from_millis(500), &mut answer).await;
    assert!(silence.is_err(), "nothing comes back");
    let refused = std::net::TcpStream::connect_timeout(&pod.address(), Duration::from_millis(200));
    assert_eq!(refused.expect_err("no connection").kind(), io::ErrorKind::TimedOut);
    pod.go_dark(false);
    assert_eq!(get(&pod, "/health").await?.0, 200);
    Ok(())
}

#[tokio::test]
async fn a_cut_body_arrives_so_far_and_no_further() -> io::Result<()> {
    let pod = Pod::builder(&Cluster::new()).start().await?;
    pod.cut_bodies_after(Some(100_000));
    let mut stream = connect(&pod).await?;
    let request = format!("GET /Videos/{BULK}/stream?static=true HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    let ended = stream.read_to_end(&mut answer).await.err().map(|error| error.kind());
    assert_eq!(ended, Some(io::ErrorKind::ConnectionReset));
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_default() + 4;
    assert_eq!(answer[head..], bulk_bytes(0, 100_000));
    pod.cut_bodies_after(None);
    let (_, whole) = get(&pod, &format!("/Items/{FILM}/Images/Primary")).await?;
    assert!(whole.len() > 6000);
    Ok(())
}

#[tokio::test]
async fn a_client_that_leaves_is_seen_to_have_gone() -> io::Result<()> {
    let pod = Pod::builder(&Cluster::new()).start().await?;
    let mut stream = connect(&pod).await?;
    let request = format!("GET /Videos/{BULK}/stream?static=true HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.read_u8().await?;
    assert!(!pod.seen()[0].client_gone);
    drop(stream);
    pod.until(|pod| pod.seen()[0].client_gone).await;
    assert_eq!(get(&pod, "/System/Ping").await?.0, 200);
    let seen = pod.seen();
    assert!(seen[1].path() == "/System/Ping" && seen[1].status == 200 && !seen[1].client_gone);
    pod.clear_seen();
    assert!(pod.seen().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_phased_start_shows_its_phases_in_order() -> io::Result<()> {
    let short = Duration::from_millis(200);
    let lengths =
        PhaseLengths { refused: short, setup: short, host_after: short / 2, info_wait: short, gap: short, core: short };
    let pod = Pod::builder(&Cluster::new()).start_up(StartUp::Phased(lengths)).start().await?;
    let mut seen: Vec<String> = Vec::new();
    while !pod.is_ready() || seen.last().is_none_or(|last| !last.ends_with("Healthy")) {
        let now = match get(&pod, "/health").await {
            Err(_) => "refused".to_owned(),
            Ok((status, answer)) => {
                let word = answer.lines().find(|line| matches!(*line, "Degraded" | "Healthy")).unwrap_or_default();
                format!("{status} {word}")
            }
        };
        if seen.last() != Some(&now) {
            seen.push(now);
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(seen, ["refused", "200 Degraded", "refused", "503 ", "200 Healthy"]);
    Ok(())
}

#[tokio::test]
async fn health_follows_the_controls() -> io::Result<()> {
    let pod = Pod::builder(&Cluster::new()).start().await?;
    pod.degrade(true);
    let (status, answer) = get(&pod, "/health").await?;
    assert!(status == 200 && answer.contains("Degraded"));
    pod.database_down(true);
    let (status, answer) = get(&pod, "/health").await?;
    assert!(status == 503 && answer.contains("Unhealthy"));
    Ok(())
}

#[tokio::test]
async fn paths_outside_the_base_url_are_sent_into_it() -> io::Result<()> {
    let pod = Pod::builder(&Cluster::new()).base_url("/jf").start().await?;
    let location = |answer: &str| {
        let line = answer.lines().find(|line| line.to_ascii_lowercase().starts_with("location:"));
        line.and_then(|line| line.split_once(": ")).map(|(_, value)| value.to_owned())
    };
    for (path, to) in [("/health", "/jf/health"), ("/System/Ping", "/jf/web/"), ("/jf/", "web/")] {
        let (status, answer) = get(&pod, path).await?;
        assert_eq!((status, location(&answer).as_deref()), (302, Some(to)), "{path}");
    }
    assert_eq!(get(&pod, "/jf/System/Ping").await?.0, 200);
    Ok(())
}

#[tokio::test]
async fn only_10_11_takes_the_old_prefixes_away() -> io::Result<()> {
    let cluster = Cluster::new();
    let new = Pod::builder(&cluster).start().await?;
    let old = Pod::builder(&cluster).generation(Generation::V10_11).start().await?;
    assert_eq!(get(&new, "/emby/System/Ping").await?.0, 404);
    assert_eq!(get(&old, "/EMBY/System/Ping").await?.0, 200);
    assert_eq!(get(&old, "/mediabrowser/System/Ping").await?.0, 200);
    assert_eq!(get(&old, "/embyfoo").await?.0, 400);
    Ok(())
}

#[tokio::test]
async fn bodies_beyond_the_limits_are_refused_and_the_sink_has_none() -> io::Result<()> {
    let pod = Pod::builder(&Cluster::new()).start().await?;
    let token = log_in(&pod).await?;
    let large = "x".repeat(1_000_001);
    let line = format!("POST /ClientLog/Document?ApiKey={token}");
    assert_eq!(ask(&pod, &line, &[], &large[1..]).await?.0, 200);
    assert_eq!(ask(&pod, &line, &[], &large).await?.0, 413);
    let (status, answer) = ask(&pod, "PUT /_sim/sink", &[], &large).await?;
    assert!(status == 200 && answer.contains("\"bytes\":1000001"));
    Ok(())
}

#[tokio::test]
async fn an_upload_that_is_refused_is_answered_and_the_connection_kept() -> io::Result<()> {
    let pod = Pod::builder(&Cluster::new()).start().await?;
    let mut stream = connect(&pod).await?;
    let length = 5_000_000;
    let head = format!("POST /Sessions/Playing HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&vec![b'x'; length]).await?;
    stream.write_all(b"GET /System/Ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await?;
    assert!(answers.starts_with("HTTP/1.1 401") && answers.contains("HTTP/1.1 200"), "{answers}");
    Ok(())
}

#[tokio::test]
async fn an_echo_sends_the_trailers_back() -> io::Result<()> {
    let pod = Pod::builder(&Cluster::new()).start().await?;
    let mut stream = connect(&pod).await?;
    let request = "POST /_sim/echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTE: trailers\r\nTrailer: x-sum\r\n\
                   Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let answer = answer.to_ascii_lowercase();
    assert!(answer.contains("\r\n3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n"), "{answer}");
    Ok(())
}

#[test]
fn pods_go_from_thread_to_thread() {
    fn is_send<T: Send + Sync>(_: &T) {}
    fn check(pod: &Pod) {
        is_send(pod);
        is_send(pod.cluster());
        fn futures(future: impl Future<Output = ()> + Send) {
            drop(future);
        }
        futures(pod.kill());
        futures(pod.stop());
        futures(pod.until(|pod| pod.is_ready()));
        futures(async { drop(pod.start_again().await) });
    }
    let _ = check;
}
