//! WebSockets by Autobahn's cases, before a pod that echoes and takes no wrong frame.
//!
//! `kosoku` runs the case files of Autobahn's test suite; `tests/install` installs it. Its groups 12 and 13 are about
//! compression, which jellypin does not negotiate. `PROTOCOL_ALL=1` adds group 9, which moves megabytes.

use std::{
    collections::BTreeMap,
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::spawn_blocking,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        error::ProtocolError,
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};

use super::program::Program;

/// A message that is echoed before a wrong frame ends the socket need not have come back through a relay (3 to 5), and text
/// is checked by the frame, not by the byte (6).
#[rustfmt::skip]
const NON_STRICT: [&str; 12] = [
    "3.2", "3.3", "3.4", "4.1.3", "4.1.4", "4.1.5", "4.2.3", "4.2.4", "4.2.5", "5.15", "6.4.3", "6.4.4",
];

/// Their messages are longer than the 1 MiB that a client may send, and end the socket.
const TOO_LONG: [&str; 8] = ["9.1.4", "9.1.5", "9.1.6", "9.2.4", "9.2.5", "9.2.6", "9.3.", "9.4."];

#[tokio::test]
async fn the_cases_of_autobahn_hold() {
    let (pod, wrong) = echo_pod().await;
    let program = Program::start(pod, "[limits]\nsockets_per_address = 1000\n").await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(kosoku());
    command.args(["-m", "fuzzingclient", "-p", "32", "-x", "12.*", "-x", "13.*"]).arg("-o").arg(folder.path());
    let is_all = env::var_os("PROTOCOL_ALL").is_some();
    if !is_all {
        // They move megabytes.
        command.args(["-x", "9.*"]);
    }
    command.arg(format!("ws://{}", program.address)).stdin(Stdio::null());
    let run = spawn_blocking(move || command.output()).await.expect("no panic");
    let output = run.expect("kosoku runs; tests/install installs it");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let cases = results(folder.path()).unwrap_or_else(|| panic!("no report: {said}"));
    let of = |kind: &str| {
        cases.iter().filter(|(_, behavior)| *behavior == kind).map(|(name, _)| &**name).collect::<Vec<_>>()
    };
    let non_strict = of("NON-STRICT");
    let failed: Vec<_> = cases
        .iter()
        .filter(|(name, behavior)| match &***behavior {
            "OK" | "INFORMATIONAL" => false,
            "NON-STRICT" => !NON_STRICT.contains(&&***name),
            _ => !TOO_LONG.iter().any(|too_long| name.starts_with(too_long)),
        })
        .collect();
    println!(
        "{} cases of Autobahn: {} not strict {non_strict:?}, {} failed",
        cases.len(),
        non_strict.len(),
        failed.len()
    );
    assert!(cases.len() > 200, "{said}");
    assert!(failed.is_empty(), "{failed:?}");
    let wrong = wrong.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(wrong.is_empty(), "the pod got wrong frames: {wrong:?}");
}

/// Where `tests/install` has put the program.
fn kosoku() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients/venv/bin/kosoku")
}

/// How each case ended, by the report: how the frames were, and how the end was.
fn results(folder: &Path) -> Option<BTreeMap<String, String>> {
    let report: Value = serde_json::from_str(&fs::read_to_string(folder.join("index.json")).ok()?).ok()?;
    let agent = report.as_object()?.values().next()?.as_object()?;
    let result = |case: &Value| {
        let behaviors = [case["behavior"].as_str()?, case["behaviorClose"].as_str()?];
        Some(behaviors.into_iter().find(|behavior| *behavior != "OK").unwrap_or("OK").to_owned())
    };
    agent.iter().map(|(name, case)| Some((name.clone(), result(case)?))).collect()
}

/// What a pod got that is no valid frame.
type Wrong = Arc<Mutex<Vec<String>>>;

/// A pod whose sockets echo every message.
async fn echo_pod() -> (SocketAddr, Wrong) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let wrong = Wrong::default();
    let noted = wrong.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, noted.clone()));
        }
    });
    (address, wrong)
}

async fn serve(mut stream: TcpStream, wrong: Wrong) {
    let mut read = Vec::new();
    loop {
        let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else {
            match stream.read_buf(&mut read).await {
                Ok(1..) => continue,
                _ => return,
            }
        };
        let head: Vec<u8> = read.drain(..end + 4).collect();
        let head = String::from_utf8_lossy(&head).into_owned();
        if let Some(key) = key(&head) {
            let accept = derive_accept_key(key.as_bytes());
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
            );
            if stream.write_all(answer.as_bytes()).await.is_ok() {
                echo(stream, read, wrong).await;
            }
            return;
        }
        let body = match head.split(' ').nth(1) {
            Some("/health") => "Healthy",
            _ => r#"{"Id":"5a1e0f3d9c7b48268f4d2a6b1c3e5f70","Version":"12.0.0"}"#,
        };
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn key(head: &str) -> Option<&str> {
    let mut fields = head.split("\r\n").filter_map(|line| line.split_once(": "));
    fields.find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key")).map(|(_, value)| value)
}

async fn echo(stream: TcpStream, read: Vec<u8>, wrong: Wrong) {
    let limits = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    let mut socket = WebSocketStream::from_partially_read(stream, read, Role::Server, Some(limits)).await;
    while let Some(message) = socket.next().await {
        match message {
            Ok(message @ (Message::Text(_) | Message::Binary(_))) => {
                if socket.send(message).await.is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(
                Error::ConnectionClosed | Error::Io(_) | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake),
            ) => return,
            Err(error) => {
                wrong.lock().unwrap_or_else(PoisonError::into_inner).push(error.to_string());
                return;
            }
        }
    }
}
